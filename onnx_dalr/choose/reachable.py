"""How small a file can get by rank alone: what is in layers, and what would be left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def reachable(layers: Sequence[Layer], size: int, *, compensated: bool = True, least: int = 1) -> Reachable:
    """What ranks can do for an artifact.

    Args:
        layers: Those that may get a rank.
        size: Bytes of the artifact.
        compensated: Biases are corrected, and new ones added where there are none.
        least: The smallest rank a layer may get.
    """
    eligible = left = 0
    for layer in layers:
        dense = layer.params
        thin = least * (layer.m + layer.n) + layer.growth(compensated=compensated)
        eligible += dense * layer.dtype.itemsize
        left += min(dense, thin) * layer.dtype.itemsize
    return Reachable(len(layers), size, eligible, size - eligible + left)
