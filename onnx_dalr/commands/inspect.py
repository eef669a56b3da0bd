"""Where the bytes of a model are and its multiply-adds, what is eligible, why the rest is not. It runs nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from onnx import ModelProto

from onnx_dalr.ahead.reachable import reachable
from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.commands.inventory import fewer_bits, files, formats, made_before, operators
from onnx_dalr.factorize import METHODS, UNTOUCHED
from onnx_dalr.files import PathLike
from onnx_dalr.graph.contents import Content, contents
from onnx_dalr.graph.in_words import domain_of, grain, in_words
from onnx_dalr.graph.layers import Layer, Skipped, find, node_name
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.graph.roles import in_general, role
from onnx_dalr.graph.storage.model import Model, load, metadata
from onnx_dalr.look.macs import as_declared
from onnx_dalr.results.inspect import (
    OTHER,
    SMALL,
    Inspection,
    KindFacts,
    LayerFacts,
    StructureFacts,
    TensorFacts,
    is_small,
)

_COMPUTED = "both operands are computed"


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
    declared = as_declared(found)
    counted = declared.counted if declared is not None and not declared.counted.unknown else None
    work = None if counted is None else _Work(dict(counted.by_node))
    facts = tuple(sorted(_layers(layers, size, counted), key=lambda entry: -entry.bytes))
    tensors = _tensors(stock.tensors, facts, skipped, size, work)
    note = metadata(found.proto)
    return Inspection(
        path=found.path,
        bytes=size,
        params=found.params,
        opsets={entry.domain: entry.version for entry in found.proto.opset_import},
        layers=facts,
        skipped=tuple(skipped),
        optimized=note,
        reachable=reachable([layer for layer in layers if layer.weight in names], size, METHODS["dalr"]),
        kinds=(*_kinds(tensors, size), *_without_weights(found, work)),
        tensors=tensors,
        other_bytes=stock.other,
        remark_bytes=stock.remarks,
        unclaimed_bytes=stock.unclaimed,
        macs=None if counted is None else counted.whole,
        counted_as_one=declared.open_axes if declared is not None and counted is not None else (),
        operators=operators(found, tensors, None if counted is None else counted.by_node, size),
        formats=formats(tensors, size),
        files=files(found, tensors),
        made=made_before(note, stock.tensors),
        fewer_bits=fewer_bits(found, size),
    )


class _Work:
    """Multiply-adds of nodes, each to be taken once: a recurrent node has two weights."""

    def __init__(self, left: dict[str, int]) -> None:
        self.left = left

    def take(self, made: Iterable[str]) -> int:
        """Of those nodes that are left, by the name of what a node makes first."""
        return sum(self.left.pop(name, 0) for name in made)


def _layers(layers: Sequence[Layer], size: int, counted: MultiplyAdds | None) -> Iterator[LayerFacts]:
    known: dict[object, tuple[int, tuple[StructureFacts, ...]]] = {}  # layers that are alike: models have hundreds
    for layer in layers:
        alike = layer.shape, layer.growth(compensated=True), tuple(structure.name for structure in layer.structures)
        if alike not in known:
            known[alike] = layer.break_even(compensated=True), tuple(_ways(layer))
        break_even, structures = known[alike]
        yield LayerFacts(
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
            break_even=break_even,
            macs=None if counted is None else round(macs_of(layer, UNTOUCHED, counted)),
            structures=structures,
        )


def _ways(layer: Layer) -> Iterator[StructureFacts]:
    for structure in layer.structures:
        ranks = structure.ranks(layer.shape, layer.params - layer.growth(compensated=True))
        yield StructureFacts(structure.name, tuple(ranks[-1]) if ranks else ())


def _tensors(
    stored: Iterable[Content], layers: Sequence[LayerFacts], skipped: Sequence[Skipped], size: int, work: _Work | None
) -> tuple[TensorFacts, ...]:
    by_weight = {layer.weight: layer for layer in layers}
    reasons = {(entry.op, entry.name): entry.reason for entry in skipped}
    facts = [_tensor(tensor, by_weight, reasons, size, work) for tensor in stored]
    return tuple(sorted(facts, key=lambda entry: -entry.bytes))


def _tensor(
    tensor: Content,
    layers: Mapping[str, LayerFacts],
    reasons: Mapping[tuple[str, str], str],
    size: int,
    work: _Work | None,
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
        break_even=layer.break_even if layer else None,
        reason=found.reason,
        format=tensor.packed.format if tensor.packed else None,
        macs=None if work is None else _taken(work, tensor) if found.weight else 0,
        numbers=tensor.numbers,
        grain=grain(tensor.packed) if tensor.packed else "",
        aside=tensor.aside,
        domain=domain_of(found.reader.node) if found.reader else "",
        says=words.said if found.reader and (words := in_words(found.reader.node)) else None,
    )


def _taken(work: _Work, tensor: Content) -> int:
    """Of the nodes that multiply by a tensor."""
    return work.take(name for reader in tensor.readers for name in reader.node.output[:1])


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
            macs=None if None in (all_macs := [tensor.macs for tensor in found]) else sum(filter(None, all_macs)),
        )
        for (kind, eligible, reason), found in groups.items()
    ]
    return tuple(sorted(made, key=lambda entry: (not entry.eligible, -entry.bytes)))


def _without_weights(model: Model, work: _Work | None) -> tuple[KindFacts, ...]:
    """Nodes that multiply by nothing that is stored, by operator: what no weight has taken of the multiply-adds."""
    groups: dict[str, list[int]] = defaultdict(list)
    for node in model.proto.graph.node if work is not None else ():
        if work is not None and (macs := work.take(node.output[:1])):
            groups[node.op_type].append(macs)
    made = [KindFacts(op, False, _COMPUTED, len(each), 0, 0.0, sum(each)) for op, each in groups.items()]
    return tuple(sorted(made, key=lambda entry: -(entry.macs or 0)))
