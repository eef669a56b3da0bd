"""Where the bytes of a model are, what of it is eligible, and why the rest is not. Runs nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from onnx_dalr.graph.layers import Skipped, find
from onnx_dalr.graph.model import load, metadata


@dataclass(frozen=True)
class LayerFacts:
    """One Layer of a model.

    Attributes:
        name: Layer name.
        weight: Name of the weight.
        op: Operator.
        uses: Nodes that use the weight.
        m: Outputs.
        n: Inputs.
        dtype: Element type.
        params: m·n.
        bytes: Bytes of the weight.
        share: Of the file.
        break_even: The largest rank that saves parameters, with an adjusted bias.
    """

    name: str
    weight: str
    op: str
    uses: int
    m: int
    n: int
    dtype: str
    params: int
    bytes: int
    share: float
    break_even: int


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found. `str()` is the table, `to_json()` the same facts.

    Attributes:
        path: Path of the model, None for a ModelProto.
        bytes: Size of the whole artifact.
        params: Floating constants.
        opsets: Operator sets by domain; "" is ONNX itself.
        layers: Eligible layers, largest first.
        skipped: Nodes that look like one and are not.
        optimized: What an earlier run of this tool wrote into the model, or None.
    """

    path: Path | None
    bytes: int
    params: int
    opsets: dict[str, int]
    layers: tuple[LayerFacts, ...]
    skipped: tuple[Skipped, ...]
    optimized: str | None

    def __str__(self) -> str:
        from onnx_dalr.report.inspection import inspection_view  # noqa: PLC0415
        from onnx_dalr.report.text import as_text  # noqa: PLC0415

        return as_text(inspection_view(self))

    def to_json(self) -> str:
        """The same facts as JSON text."""
        from onnx_dalr.report.json import to_json  # noqa: PLC0415

        return to_json(self)


def inspect(model: str | os.PathLike[str] | ModelProto) -> Inspection:
    """Lists the layers of a model by size, and what is no layer with the reason.

    Raises:
        InputError: It is not a model.
    """
    found = load(model)
    layers, skipped = find(found)
    size = found.size
    facts = [
        LayerFacts(
            name=layer.name,
            weight=layer.weight,
            op=layer.op,
            uses=len(layer.uses),
            m=layer.m,
            n=layer.n,
            dtype=layer.dtype.name,
            params=layer.params,
            bytes=layer.params * layer.dtype.itemsize,
            share=layer.params * layer.dtype.itemsize / size,
            break_even=layer.break_even(compensated=True),
        )
        for layer in layers
    ]
    return Inspection(
        path=found.path,
        bytes=size,
        params=found.params,
        opsets={entry.domain: entry.version for entry in found.proto.opset_import},
        layers=tuple(sorted(facts, key=lambda entry: -entry.bytes)),
        skipped=tuple(skipped),
        optimized=metadata(found.proto),
    )
