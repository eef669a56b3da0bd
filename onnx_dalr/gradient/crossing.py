"""What crosses a line through a graph: tensors from which all behind it can be computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from onnx import ModelProto, NodeProto

from onnx_dalr.gradient.order import in_order
from onnx_dalr.graph.probe import names_read


def crossing(
    proto: ModelProto, tensors: Iterable[str], later: Iterable[str], changing: Iterable[str], known: Collection[str]
) -> list[str]:
    """Tensors made on the way to some that are read on the way to later ones, and that no layer about to change moves.

    Args:
        proto: The model.
        tensors: Those that are computed now.
        later: Those that are going to be.
        changing: Outputs of the layers about to change.
        known: Names in the original: all others are within a layer that was replaced.
    """
    makers = {output: node for node in proto.graph.node for output in node.output if output}
    fed = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    now, wanted = _behind(makers, tensors), _behind(makers, later)
    moved, fixed = _within(makers, changing, known), set(fed)
    still: set[int] = set()
    for node in in_order(proto):
        read = names_read(node)
        if id(node) in moved or any(name in makers and id(makers[name]) in moved for name in read):
            moved.add(id(node))
        elif id(node) in now:
            still.add(id(node))
        if read & fixed:  # what no input reaches is a constant, and computed anew
            fixed |= set(node.output) - {""}
    goals = set(later)
    ahead = [node for node in proto.graph.node if id(node) in wanted and id(node) not in still]
    reads = {name for node in ahead for name in names_read(node)}
    made = [name for node in proto.graph.node if id(node) in still for name in node.output]
    return [name for name in made if name in known and name in fixed and (name in reads or name in goals)]


def needed(proto: ModelProto, tensors: Iterable[str], kept: Collection[str]) -> list[str]:
    """What has to be fed to compute tensors: kept ones, and inputs of the model."""
    makers = {output: node for node in proto.graph.node for output in node.output if output}
    given = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    found: dict[str, None] = {}
    seen, waiting = set[str](), list(tensors)
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in kept or name in given:
            found[name] = None
        elif name in makers:
            waiting += sorted(names_read(makers[name]))
    return list(found)


def _behind(makers: Mapping[str, NodeProto], tensors: Iterable[str]) -> set[int]:
    """The nodes on the way to tensors."""
    found, waiting = set[int](), list(tensors)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += names_read(node)
    return found


def _within(makers: Mapping[str, NodeProto], outputs: Iterable[str], known: Collection[str]) -> set[int]:
    """The nodes that layers with these outputs consist of: from there back to names that the original has, too."""
    found, waiting = set[int](), list(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += [name for name in names_read(node) if name not in known]
    return found
