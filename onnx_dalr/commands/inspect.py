"""Where the bytes of a model are, what of it is eligible, and why the rest is not. Runs nothing, reads no weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from onnx import ModelProto

from onnx_dalr.ahead.reachable import reachable
from onnx_dalr.factorize import METHODS
from onnx_dalr.graph.contents import Content, contents
from onnx_dalr.graph.layers import Layer, Skipped, find, node_name
from onnx_dalr.graph.roles import in_general, role
from onnx_dalr.graph.storage.model import load, metadata
from onnx_dalr.request.options import PathLike
from onnx_dalr.results.inspect import (
    OTHER,
    SMALL,
    Inspection,
    KindFacts,
    LayerFacts,
    TensorFacts,
    is_small,
)


def inspect(model: PathLike | ModelProto) -> Inspection:
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
        reachable=reachable([layer for layer in layers if layer.weight in names], size, METHODS["dalr"]),
        kinds=_kinds(tensors, size),
        tensors=tensors,
        other_bytes=stock.other,
        remark_bytes=stock.remarks,
        unclaimed_bytes=stock.unclaimed,
    )


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
        format=tensor.packed.format if tensor.packed else None,
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
