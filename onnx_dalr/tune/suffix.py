"""Student and teacher behind what both compute alike: that is run once, and kept (methods.md §10.3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto, helper
from onnx.inliner import inline_local_functions

from onnx_dalr.gradient.facts import Facts, facts_about
from onnx_dalr.gradient.order import in_order
from onnx_dalr.graph.probe import names_read


def inlined(proto: ModelProto) -> ModelProto:
    """The model without functions of its own, in whose nodes gradients do not go."""
    return inline_local_functions(proto) if proto.functions else proto


@dataclass(frozen=True, eq=False)
class Shared:
    """What two models compute alike.

    Attributes:
        tensors: Names of tensors that hold the same in both, whatever is fed: inputs and constants among them.
        constants: Those of them that are constants.
    """

    tensors: frozenset[str]
    constants: frozenset[str]


def shared(student: ModelProto, teacher: ModelProto) -> Shared:
    """Compares two models node by node: a tensor is the same where name, node and all that enters it are."""
    stored = {tensor.name: tensor for tensor in teacher.graph.initializer}
    constants = {
        tensor.name for tensor in student.graph.initializer if tensor.name in stored and tensor == stored[tensor.name]
    }
    own = {tensor.name for tensor in student.graph.initializer}
    fed = {value.name for value in teacher.graph.input} - stored.keys()
    known = {*constants, *(value.name for value in student.graph.input if value.name in fed and value.name not in own)}
    makers = {output: node for node in teacher.graph.node for output in node.output if output}
    for node in in_order(student):
        if not any(node.output) or not names_read(node) - {""} <= known:
            continue
        other = makers.get(next(name for name in node.output if name))
        if other is not None and _same_node(node, other):
            known |= set(node.output) - {""}
            constants |= set(node.output) - {""} if not names_read(node) - {""} - constants else set()
    return Shared(frozenset(known), frozenset(constants))


def _same_node(one: NodeProto, other: NodeProto) -> bool:
    return (
        one.op_type == other.op_type
        and one.domain == other.domain
        and list(one.input) == list(other.input)
        and list(one.output) == list(other.output)
        and sorted(a.SerializeToString(deterministic=True) for a in one.attribute)
        == sorted(a.SerializeToString(deterministic=True) for a in other.attribute)
    )


def frontier(protos: Iterable[ModelProto], tensors: Sequence[str], known: Shared, held: Collection[str]) -> list[str]:
    """Shared tensors that nodes behind them read, on the way to some tensors: what has to be fed to compute these.

    Args:
        protos: Student and teacher.
        tensors: The tensors to be computed.
        known: What both compute alike.
        held: Shared tensors that may not be fed, and so are computed of those before them.
    """
    found: dict[str, None] = {}
    for proto in protos:
        makers = {output: node for node in proto.graph.node for output in node.output if output}
        waiting, seen = list(tensors), set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen or name in known.constants or not name:
                continue
            seen.add(name)
            if name in known.tensors and (name not in held or name not in makers):
                found[name] = None
            elif name in makers:
                waiting += sorted(names_read(makers[name]))
    return list(found)


def behind(proto: ModelProto, fed: Sequence[str], tensors: Sequence[str]) -> ModelProto:
    """The part of a model that computes tensors from others; external data is still only referred to.

    Args:
        proto: Left as it is.
        fed: Tensors that become its inputs.
        tensors: Its outputs.
    """
    facts = facts_about(proto, in_order(proto))
    makers = {output: node for node in proto.graph.node for output in node.output if output}
    needed, waiting, kept = set(fed), list(tensors), set[int]()
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers and id(makers[name]) not in kept:
            kept.add(id(makers[name]))
            waiting += names_read(makers[name])
    made = ModelProto(ir_version=max(proto.ir_version, 4), opset_import=proto.opset_import)
    made.graph.name = "behind"
    made.graph.node.extend(node for node in in_order(proto) if id(node) in kept)
    made.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in needed - set(fed))
    made.graph.sparse_initializer.extend(s for s in proto.graph.sparse_initializer if s.values.name in needed)
    given = {value.name: value for value in proto.graph.input}
    made.graph.input.extend(_input(name, given, facts) for name in fed)
    types = {value.name: value for value in (*proto.graph.output, *proto.graph.value_info)}
    made.graph.output.extend(types.get(name) or ValueInfoProto(name=name) for name in tensors)
    return made


def _input(name: str, given: dict[str, ValueInfoProto], facts: Facts) -> ValueInfoProto:
    if name in given:
        return given[name]
    dims = facts.dims.get(name)
    shape = None if dims is None else [size if size else f"{name}_{axis}" for axis, size in enumerate(dims)]
    if shape:
        shape[0] = f"{name}_0"  # however many samples are joined
    return helper.make_tensor_value_info(name, facts.kinds.get(name, 1), shape)
