"""How small a file can get by rank alone: what is in layers, and what would be left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from onnx_dalr.candidate.forms import bytes_of, forms_of
from onnx_dalr.factorize import Method
from onnx_dalr.graph.layers import Layer
from onnx_dalr.units import format_bytes


@dataclass(frozen=True)
class Reachable:
    """What ranks reach. `str()` is the line that commands print.

    Attributes:
        layers: Number of eligible layers.
        bytes: Of the artifact.
        eligible: Bytes in weights of layers.
        at_best: Bytes of the artifact with every layer at its smallest rank; new nodes and names are not counted.
    """

    layers: int
    bytes: int
    eligible: int
    at_best: int

    def __str__(self) -> str:
        if not self.layers:
            return f"eligible: nothing of {format_bytes(self.bytes)}; no rank makes this file smaller"
        share = 100 * self.eligible / max(self.bytes, 1)
        where = f"{self.layers} layer{'s' if self.layers > 1 else ''}"
        return (
            f"eligible: {format_bytes(self.eligible)} of {format_bytes(self.bytes)} ({share:.0f} %) in {where}; "
            f"at best the file becomes {format_bytes(self.at_best)}"
        )


def reachable(layers: Sequence[Layer], size: int, method: Method, least: int = 1) -> Reachable:
    """What forms can do for an artifact.

    Args:
        layers: The layers that may get one.
        size: Bytes of the artifact.
        method: Of the factorization: biases that it adds count.
        least: The smallest rank a layer may get.
    """
    eligible = left = 0
    known: dict[object, int] = {}  # layers that are alike: models have hundreds
    for layer in layers:
        growth = layer.growth(compensated=True), layer.growth(compensated=False)
        alike = layer.shape, layer.dtype, growth, tuple(structure.name for structure in layer.structures)
        if alike not in known:
            known[alike] = _at_best(layer, method, least)
        eligible += layer.params * layer.dtype.itemsize
        left += known[alike]
    return Reachable(len(layers), size, eligible, size - eligible + left)


def _at_best(layer: Layer, method: Method, least: int) -> int:
    """Bytes of a layer in its smallest form: of every structure that is its first, they come with the fewest first."""
    allowed = (form for form in forms_of(layer, method) if form.untouched or min(form.rank, default=least) >= least)
    firsts = (next(forms) for _, forms in groupby(allowed, key=lambda form: form.structure))
    return min(bytes_of(layer, form, method) for form in firsts)
