"""Where the bytes of a model are, what of it is eligible, and why the rest is not. Runs nothing, reads no weights."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import ModelProto

from onnx_dalr.choose.reachable import Reachable, reachable
from onnx_dalr.graph.contents import Content, contents
from onnx_dalr.graph.layers import Layer, Skipped, find, node_name
from onnx_dalr.graph.roles import in_general, role
from onnx_dalr.graph.storage.model import load, metadata
from onnx_dalr.request.wording import in_python
from onnx_dalr.shown import Shown
from onnx_dalr.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

SMALL = "small constants"
OTHER = "other constants"
_SMALL_SHARE = 1000
_SMALL_BYTES = 1000
"""A constant that is no weight is small with at most so many bytes, or a thousandth of the file."""


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
class TensorFacts:
    """One tensor stored in a model.

    Attributes:
        name: Of the tensor; of one in an attribute, the node's and the attribute's.
        also: Names of further tensors at the same place of a data file.
        where: The body or function it is stored in, empty for the main graph.
        op: Operator of the node that reads it, of several the one that says what it is; empty where none does.
        node: Name of that node.
        ops: Operators of all that read it, each once, that one first.
        uses: Nodes that read it.
        dtype: Element type.
        shape: Its shape.
        bytes: What its values take in the file.
        share: Of the file.
        file: The data file it lies in, None for the model file.
        kind: What it is: "Gemm", "3×3 Conv", "embedding", "bias", …
        layer: Name of the Layer it is the weight of, or None.
        break_even: Of that layer.
        reason: Why a weight is in no layer; None for what is in one, and for biases, shapes and the like.
    """

    name: str
    also: tuple[str, ...]
    where: str
    op: str
    node: str
    ops: tuple[str, ...]
    uses: int
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    share: float
    file: str | None
    kind: str
    layer: str | None
    break_even: int | None
    reason: str | None

    @property
    def is_weight(self) -> bool:
        """Whether it is something that is multiplied or looked up."""
        return self.layer is not None or self.reason is not None


@dataclass(frozen=True)
class KindFacts:
    """All tensors of a kind that are, or are not, eligible for one reason.

    Attributes:
        kind: As of its tensors; constants that are no weights are in two kinds, the small and the others.
        eligible: They are weights of layers.
        reason: Why not, without what holds for a single node.
        count: How many.
        bytes: Together.
        share: Of the file.
    """

    kind: str
    eligible: bool
    reason: str | None
    count: int
    bytes: int
    share: float


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """What `inspect` found. `str()` is the table, `to_json()` the same facts.

    The bytes of all tensors, `other_bytes` and `unclaimed_bytes` add up to the size of the artifact.

    Attributes:
        path: Path of the model, None for a ModelProto.
        bytes: Size of the whole artifact.
        params: Floating constants.
        opsets: Operator sets by domain; "" is ONNX itself.
        layers: Eligible layers, largest first.
        skipped: Nodes that look like one and are not.
        optimized: What an earlier run of this tool wrote into the model, or None.
        reachable: What is in layers, and how small the file becomes at best.
        kinds: The tensors summed up by kind, largest first.
        tensors: Everything that is stored, largest first.
        other_bytes: What is no tensor: nodes, names, shapes, metadata.
        remark_bytes: What of it are doc strings and metadata, which runtimes do not read.
        unclaimed_bytes: What lies in data files and belongs to no tensor.
    """

    path: Path | None
    bytes: int
    params: int
    opsets: dict[str, int]
    layers: tuple[LayerFacts, ...]
    skipped: tuple[Skipped, ...]
    optimized: str | None
    reachable: Reachable
    kinds: tuple[KindFacts, ...]
    tensors: tuple[TensorFacts, ...]
    other_bytes: int
    remark_bytes: int
    unclaimed_bytes: int

    def _view(self, width: int) -> RenderableType:
        from onnx_dalr.report.inspection import inspection_view  # noqa: PLC0415 - reads this module

        return inspection_view(self, width, words=in_python)

    def _brief(self) -> str:
        share = sum(layer.share for layer in self.layers)
        eligible = f"{len(self.layers)} eligible layers, {100 * share:.1f} % of the file"
        return f"{self.path.name if self.path else 'in memory'}: {format_bytes(self.bytes)}, {eligible}"

    def to_text(self, *, top: int | None = 20, width: int = 120) -> str:
        """The table as `str()` has it, or with more or fewer tensors.

        Args:
            top: So many tensors, the largest; None for all but the small constants.
            width: Characters a line has.

        Returns:
            Plain text.
        """
        from onnx_dalr.report.inspection import inspection_view  # noqa: PLC0415 - reads this module
        from onnx_dalr.report.text import as_text  # noqa: PLC0415 - heavy: rich

        return as_text(inspection_view(self, width, top=top, words=in_python), width)

    def to_json(self) -> str:
        """The same facts as JSON text."""
        from onnx_dalr.results.json import to_json  # noqa: PLC0415

        return to_json(self)


def inspect(model: str | os.PathLike[str] | ModelProto) -> Inspection:
    """Accounts for every byte of a model: its layers, what is no layer with the reason, and the rest.

    Args:
        model: Path of the model, or a ModelProto.

    Returns:
        What was found: `print(result)` is the table.

    Raises:
        InputError: It is not a model.
    """
    found = load(model)
    layers, skipped = find(found)
    size, stock = found.size, contents(found)
    names = {tensor.name for tensor in stock.tensors if not tensor.where}
    tensors = _tensors(stock.tensors, layers, skipped, size)
    return Inspection(
        path=found.path,
        bytes=size,
        params=found.params,
        opsets={entry.domain: entry.version for entry in found.proto.opset_import},
        layers=tuple(sorted((_layer(layer, size) for layer in layers), key=lambda entry: -entry.bytes)),
        skipped=tuple(skipped),
        optimized=metadata(found.proto),
        reachable=reachable([layer for layer in layers if layer.weight in names], size),
        kinds=_kinds(tensors, size),
        tensors=tensors,
        other_bytes=stock.other,
        remark_bytes=stock.remarks,
        unclaimed_bytes=stock.unclaimed,
    )


def is_small(tensor: TensorFacts, size: int) -> bool:
    """Whether a tensor is no weight in use and hardly counts in a file of this size."""
    return (not tensor.is_weight or not tensor.uses) and tensor.bytes <= max(_SMALL_BYTES, size // _SMALL_SHARE)


def _layer(layer: Layer, size: int) -> LayerFacts:
    return LayerFacts(
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


def _tensors(
    stored: Iterable[Content], layers: Sequence[Layer], skipped: Sequence[Skipped], size: int
) -> tuple[TensorFacts, ...]:
    by_weight = {layer.weight: layer for layer in layers}
    reasons = {(entry.op, entry.name): entry.reason for entry in skipped}
    facts = [_tensor(tensor, by_weight, reasons, size) for tensor in stored]
    return tuple(sorted(facts, key=lambda entry: -entry.bytes))


def _tensor(
    tensor: Content, layers: Mapping[str, Layer], reasons: Mapping[tuple[str, str], str], size: int
) -> TensorFacts:
    found = role(tensor, layers, reasons)
    layer = None if found.reason or not found.weight else layers.get(tensor.name)
    op = found.reader.node.op_type if found.reader else ""
    return TensorFacts(
        name=tensor.name,
        also=tensor.also,
        where=tensor.where,
        op=op,
        node=node_name(found.reader.node) if found.reader else "",
        ops=tuple(dict.fromkeys((op, *(reader.node.op_type for reader in tensor.readers)))) if op else (),
        uses=tensor.uses,
        dtype=tensor.dtype,
        shape=tensor.shape,
        bytes=tensor.bytes,
        share=tensor.bytes / size,
        file=tensor.file,
        kind=found.kind,
        layer=layer.name if layer else None,
        break_even=layer.break_even(compensated=True) if layer else None,
        reason=found.reason,
    )


def _kinds(tensors: Iterable[TensorFacts], size: int) -> tuple[KindFacts, ...]:
    groups: dict[tuple[str, bool, str | None], list[TensorFacts]] = defaultdict(list)
    for tensor in tensors:
        small = is_small(tensor, size)
        kind = SMALL if small else tensor.kind if tensor.is_weight else OTHER
        reason = in_general(tensor.reason) if tensor.reason and not small else None
        groups[kind, tensor.layer is not None, reason].append(tensor)
    made = [
        KindFacts(
            kind=kind,
            eligible=eligible,
            reason=reason,
            count=len(found),
            bytes=sum(tensor.bytes for tensor in found),
            share=sum(tensor.bytes for tensor in found) / size,
        )
        for (kind, eligible, reason), found in groups.items()
    ]
    return tuple(sorted(made, key=lambda entry: (not entry.eligible, -entry.bytes)))
