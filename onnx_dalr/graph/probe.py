"""The model cut down to the tensors asked for: it outputs them and computes nothing after the last of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from onnx import ModelProto, NodeProto, ValueInfoProto

from onnx_dalr.graph.handle import bodies


def probe(
    proto: ModelProto, tensors: Iterable[str], given: Collection[str] = (), more: Sequence[NodeProto] = ()
) -> ModelProto:
    """A model with the same inputs that computes `tensors` and nothing else.

    Args:
        proto: Left as it is. External data is still only referred to.
        tensors: Names of tensors that nodes of the main graph make.
        given: Names of tensors that are not computed: the caller makes inputs of them.
        more: Nodes that come after those of the main graph.
    """
    wanted = list(dict.fromkeys(tensors))
    nodes = _nodes_behind([*proto.graph.node, *more], set(wanted), given)
    read = {name for node in nodes for name in names_read(node)}
    cut = ModelProto(
        ir_version=proto.ir_version,
        producer_name="onnx-dalr",
        opset_import=proto.opset_import,
        functions=proto.functions,
    )
    cut.graph.name = "probe"
    cut.graph.node.extend(nodes)
    cut.graph.input.extend(value for value in proto.graph.input if value.name in read or _is_fed(value.name, proto))
    cut.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    cut.graph.sparse_initializer.extend(s for s in proto.graph.sparse_initializer if s.values.name in read)
    cut.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    return cut


def names_read(node: NodeProto) -> set[str]:
    """Every name a node reads, inside its bodies too. Names that a body makes itself are among them: harmless."""
    names = set(node.input)
    for _, body in bodies(node):
        for inner in body.node:
            names |= names_read(inner)
        names |= {value.name for value in body.output}
    return names


def _nodes_behind(nodes: Sequence[NodeProto], wanted: set[str], given: Collection[str]) -> list[NodeProto]:
    """In the file's order, which ONNX Runtime does not need to be one of computation."""
    places = enumerate(nodes)
    makers = {output: at for at, node in places for output in node.output if output and output not in given}
    kept: set[int] = set()
    waiting = list(wanted)
    while waiting:
        position = makers.get(waiting.pop())
        if position is not None and position not in kept:
            kept.add(position)
            waiting += names_read(nodes[position])
    return [nodes[position] for position in sorted(kept)]


def _is_fed(name: str, proto: ModelProto) -> bool:
    return all(tensor.name != name for tensor in proto.graph.initializer)
