"""Finding the weights that are not taken apart and are multiplied by none the less, methods.md §9.4.

They are found constant by constant: from each to all that read it, through what only passes it on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_dalr.graph import advice
from onnx_dalr.graph.handle import MAIN, Handle, Scope
from onnx_dalr.graph.index import STANDARD, GraphIndex, attribute
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.kinds.in_one_piece import OPERANDS, Axes, InOnePiece, rows
from onnx_dalr.graph.kinds.readings import Reading
from onnx_dalr.graph.kinds.table import Table
from onnx_dalr.graph.layer import FLOATS, Layer, Skipped, node_name
from onnx_dalr.graph.storage.model import Model

SMALLEST = 1024
"""Fewer numbers are not worth the nodes that another format needs."""

_ALIKE = {"Identity", "Cast", "Slice", "Split", "Concat"}
"""Operators that pass a weight on and leave its axes where they are."""
_IN_PART = {"Slice", "Split", "Concat"}
"""Those of them that make something of another size."""
_OTHERWISE = {"Reshape", "Flatten", "Unsqueeze", "Squeeze", "Transpose"}
"""Operators that pass it on with other axes."""


@dataclass(frozen=True)
class _Reader:
    """A node that a constant gets to.

    Attributes:
        node: It.
        at: Which of its inputs.
        order: The constant's axes as the node sees them; None where that is not known.
        path: Tensors between, the node's operand first.
        casts: Element types it is cast to on the way.
        whole: All of the constant gets there, and nothing beside it.
    """

    node: Handle
    at: int
    order: tuple[int, ...] | None
    path: tuple[str, ...]
    casts: tuple[int, ...]
    whole: bool = True


def joined(
    layers: Sequence[Layer], skipped: Mapping[Handle, Skipped], model: Model, order: Mapping[Handle, int]
) -> tuple[list[Layer], list[Skipped]]:
    """What is found without, and the weights in one piece among it.

    Args:
        layers: Those that can be taken apart.
        skipped: The nodes that look like one, by where they are.
        model: All of this is of.
        order: Number of every node: bodies after the node that has them.

    Returns:
        Layers in graph order. What is skipped, less the nodes of which a weight is a layer now, and after that nodes
        with a weight that could have been one.
    """
    known = {(layer.home, layer.weight) for layer in layers} | model.numbers.aside.keys()
    found: list[Layer] = []
    refused: list[tuple[_Reader, str, Scope, str]] = []
    for index, name, tensor in _constants(model.index):
        if (index.scope, name) in known:
            continue
        walk = _Walk(model)
        walk.follow(name, index, _Reader(Handle(index.scope, 0), 0, tuple(range(len(tensor.dims))), (), ()))
        users = sorted(walk.users, key=lambda user: (order[user.node], user.at))
        if not users:
            continue
        if reason := walk.reason or _unsupported(tensor, users):
            refused += [(user, reason, index.scope, name) for user in users]
        else:
            found.append(_layer(name, tensor, index, users, skipped, model))
    covered = {use.node for layer in found for use in layer.uses}
    left = {node: entry for node, entry in skipped.items() if node not in covered}
    for user, reason, home, name in refused:
        if user.node not in left:
            node = user.node.node(model.proto)
            dims = model.index[home].constant(name).dims  # type: ignore[union-attr]
            entry = Skipped(node_name(node), node.op_type, reason, name, tuple(dims))
            left[user.node] = entry
    named = [*layers, *_named(found, layers, model.proto)]
    return sorted(named, key=lambda layer: order[layer.uses[0].node]), list(left.values())


def _constants(indices: Mapping[Scope, GraphIndex]) -> Iterator[tuple[GraphIndex, str, TensorProto]]:
    """Every constant that is large enough: (the scope it is stored in, its name, its values)."""
    for index in indices.values():
        if index.opset < 7:
            continue
        made = (output for node in index.nodes if node.op_type == "Constant" for output in node.output)
        for name in dict.fromkeys((*index.initializers, *made)):
            tensor = index.constant(name)
            if tensor is None or tensor.data_type not in FLOATS | {TensorProto.BFLOAT16}:
                continue
            if math.prod(tensor.dims) >= SMALLEST:
                yield index, name, tensor


class _Walk:
    """From a constant to the nodes that multiply by it.

    Attributes:
        users: These.
        reason: Why it has to stay as it is; None where it has not.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._indices = model, model.index
        self._handed_on: set[tuple[Scope, str]] = set()
        self._seen: set[tuple[Scope, str]] = set()
        self.users: list[_Reader] = []
        self.reason: str | None = None

    def follow(self, name: str, index: GraphIndex, so_far: _Reader) -> None:
        """All readers of a tensor, and of what they make of it where they only pass it on."""
        if (index.scope, name) in self._seen:
            return
        self._seen.add((index.scope, name))
        if index.is_output(name) and (index.scope, name) not in self._handed_on:
            self.reason = self.reason or "its weight is an output of the graph"
        for handle in index.readers(name):
            inner = self._indices[handle.scope]
            node = inner.nodes[handle.position]
            places = [at for at, operand in enumerate(node.input) if operand == name]
            if _passes_on(node, places):
                for output in filter(None, node.output):
                    self.follow(output, inner, _passed_on(so_far, node, output))
            else:
                for at in places:
                    if (loop := _around(node, handle, at, inner.opset)) and self._goes_round(loop, so_far):
                        continue
                    self._read(node, replace(so_far, node=handle, at=at), inner, len(places) > 1)

    def _goes_round(self, loop: _Round, so_far: _Reader) -> bool:
        """Whether a loop only hands the tensor on from turn to turn; it is followed into the body then."""
        if loop.body not in self._indices:
            return False
        body, graph = self._indices[loop.body], loop.body.of(self._model.proto)
        if loop.enters >= len(graph.input) or loop.leaves >= len(graph.output):
            return False
        enters, leaves = _name(graph.input[loop.enters]), _name(graph.output[loop.leaves])
        through, way = leaves, [leaves]
        while through != enters and (made := body.made_by(through)) is not None and made.op_type == "Identity":
            through = made.input[0]
            if through in way:  # a cycle
                return False
            way.append(through)
        asked = [_name(value) for inner in body.walk() for value in inner.scope.of(self._model.proto).output]
        if through != enters or any(asked.count(passed) != (passed == leaves) for passed in way):
            return False
        self._handed_on.add((loop.body, leaves))
        self.follow(enters, body, replace(so_far, path=(enters, *so_far.path)))
        if loop.result:
            outside = self._indices[replace(loop.body, path=loop.body.path[:-1])]
            self.follow(loop.result, outside, replace(so_far, path=(loop.result, *so_far.path)))
        return True

    def _read(self, node: NodeProto, user: _Reader, index: GraphIndex, twice: bool) -> None:
        if node.domain in STANDARD and (node.op_type, user.at) in OPERANDS:
            self.users.append(user)
            if node.op_type != "Gather" and index.stored(node.input[0 if user.at else 1]) is not None:
                self.reason = self.reason or "both operands are constant"
        elif twice:
            self.reason = self.reason or "its weight is also another operand of the node"
        else:
            reader = "a node inside a subgraph" if user.node.scope.path else f"{node.op_type} {node_name(node)!r}"
            self.reason = self.reason or f"its weight is also read by {reader}, which needs it as it is"


class _Round(NamedTuple):
    """A tensor that a loop has from turn to turn.

    Attributes:
        body: Of the loop.
        enters: Number of the body's input that it is.
        leaves: Number of the body's output that is its next value.
        result: The tensor that the loop makes of the last, empty where it is not asked for.
    """

    body: Scope
    enters: int
    leaves: int
    result: str


def _around(node: NodeProto, handle: Handle, at: int, opset: int) -> _Round | None:
    """What an operand is to a Loop or Scan; None where it is not a state of one."""
    if node.domain not in STANDARD or _is_parametric(node):
        return None
    body = handle.scope.body(handle.position, "body")
    if node.op_type == "Loop" and at >= 2:  # its count and condition are its own
        return _Round(body, at, at - 1, _output(node, at - 2))
    if node.op_type == "Scan" and opset >= 9 and at < len(node.input) - attribute(node, "num_scan_inputs", 0):
        return _Round(body, at, at, _output(node, at))
    return None


def _output(node: NodeProto, at: int) -> str:
    return str(node.output[at]) if at < len(node.output) else ""


def _name(value: Any) -> str:
    """Of an input or output: functions list names, graphs more than that."""
    return value if isinstance(value, str) else str(value.name)


def _passes_on(node: NodeProto, places: Sequence[int]) -> bool:
    carries = node.domain in STANDARD and node.op_type in _ALIKE | _OTHERWISE
    return carries and (node.op_type == "Concat" or list(places) == [0])


def _passed_on(reader: _Reader, node: NodeProto, output: str) -> _Reader:
    """What is known of a constant behind one more node."""
    order = reader.order
    if order is not None and node.op_type in _OTHERWISE:
        perm = None
        if node.op_type == "Transpose" and not _is_parametric(node):
            perm = list(attribute(node, "perm", list(range(len(order)))[::-1]))
        order = tuple(order[axis] for axis in perm) if perm and sorted(perm) == list(range(len(order))) else None
    casts = reader.casts
    if node.op_type == "Cast":
        casts = (*casts, 0 if _is_parametric(node) else attribute(node, "to", 0))
    whole = reader.whole and node.op_type not in _IN_PART
    return replace(reader, order=order, path=(output, *reader.path), casts=casts, whole=whole)


def _is_parametric(node: NodeProto) -> bool:
    """Whether it has attributes that the caller of a function sets."""
    return any(entry.ref_attr_name for entry in node.attribute)


def _unsupported(tensor: TensorProto, users: Sequence[_Reader]) -> str | None:
    for kind in (tensor.data_type, *(kind for user in users for kind in user.casts)):
        if kind == TensorProto.BFLOAT16:
            return "bfloat16 arithmetic: ONNX Runtime has no kernels for it on the CPU to calibrate with"
        if kind not in FLOATS:
            return f"dtype {TensorProto.DataType.Name(kind).lower()} is not supported"
    return None


def _layer(
    name: str,
    tensor: TensorProto,
    index: GraphIndex,
    users: Sequence[_Reader],
    skipped: Mapping[Handle, Skipped],
    model: Model,
) -> Layer:
    nodes = [user.node.node(model.proto) for user in users]
    kind = _kind(users, nodes, tensor.dims, model.index)
    cast_to = _cast_at_once(name, index, model.index)
    readings = [_reading(node, user, tensor.dims, kind, model) for user, node in zip(users, nodes, strict=True)]
    uses = tuple(
        Use(
            kind=kind,
            op=node.op_type,
            node=user.node,
            node_name=node.name,
            data=reading.data if reading else next((name for at, name in enumerate(node.input) if at != user.at), ""),
            weight=name,
            layout=kind.axes,
            output=_first_output(node),
            home=index.scope,
            path=user.path,
            cast_to=cast_to,
            extra=reading,
        )
        for user, node, reading in zip(users, nodes, readings, strict=True)
    )
    said = (skipped[user.node].reason for user in users if user.node in skipped)
    default = advice.reason(nodes[0]) or OPERANDS[nodes[0].op_type, users[0].at].why_whole
    return Layer(
        name=name,
        weight=name,
        kind=kind,
        shape=kind.shape(tensor.dims, uses[0]),
        dtype=np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)),
        uses=uses,
        bias_growth=0,
        plain_growth=0,
        home=index.scope,
        why_whole=next(said, default),
    )


def _kind(
    users: Sequence[_Reader], nodes: Sequence[NodeProto], dims: Sequence[int], indices: Mapping[Scope, GraphIndex]
) -> InOnePiece:
    """A table where every user picks rows of it by numbers that come up as the model runs, and a capture can read."""
    each = zip(users, nodes, strict=True)
    axes = _axes(nodes[0], users[0], dims)
    picked = all(
        node.op_type == "Gather"
        and user.node.scope == MAIN
        and user.order is not None
        and len(user.order) == 2
        and user.order[0] == axes[0][0]
        and attribute(node, "axis", 0) % 2 == 0
        and indices[MAIN].stored(node.input[1]) is None
        for user, node in each
    )
    return Table(axes) if picked else InOnePiece(axes)


def _axes(node: NodeProto, user: _Reader, dims: Sequence[int]) -> Axes:
    """Of the constant, by what the node says of its operand; its last axis is the inputs' where that is not known."""
    if user.order is None or _is_parametric(node):
        return rows(len(dims))
    seen = OPERANDS[node.op_type, user.at].axes(node, [dims[axis] for axis in user.order])
    return tuple(tuple(user.order[axis] for axis in group) for group in seen)


def _reading(node: NodeProto, user: _Reader, dims: Sequence[int], kind: InOnePiece, model: Model) -> Reading | None:
    """How the rows are read that enter the constant at a node; None where they are not known, or lie in no main graph.

    What the node sees has to be the whole constant, laid out as it is for the others.
    """
    if user.node.scope != MAIN or not user.whole or user.order is None or _is_parametric(node):
        return None
    if _axes(node, user, dims) != kind.axes:
        return None
    reading = OPERANDS[node.op_type, user.at].reading(node, [dims[axis] for axis in user.order])
    if reading is None:
        return None
    graph, index = model.proto.graph, model.index[MAIN]
    fed = any(value.name == reading.data for value in graph.input) and not index.holds(reading.data)
    return reading if fed or index.producer(reading.data) is not None else None


def _cast_at_once(name: str, index: GraphIndex, indices: Mapping[Scope, GraphIndex]) -> int:
    """The element type to which all that read a constant cast it, which it may as well have; 0 without one."""
    readers = [indices[handle.scope].nodes[handle.position] for handle in index.readers(name)]
    if any(node.op_type != "Cast" or _is_parametric(node) for node in readers):
        return 0
    types = {attribute(node, "to", 0) for node in readers}
    return int(types.pop()) if len(types) == 1 else 0


def _named(found: Sequence[Layer], others: Sequence[Layer], proto: ModelProto) -> Iterator[Layer]:
    """Names by the node, else by the weight, else by where that is; never one that another layer has."""
    nodes = Counter(name for layer in (*found, *others) for name in {use.node_name or "" for use in layer.uses})
    weights = Counter(layer.weight for layer in (*found, *others))
    taken = {layer.name for layer in others}
    for layer in found:
        node, placed = layer.uses[0].node_name, "/".join((*_place(layer.home, proto), layer.weight))
        choices = [node] if nodes[node] == 1 and node not in weights else []
        choices += [layer.weight] if weights[layer.weight] == 1 else []
        choices += [placed, *(f"{placed}_{number}" for number in range(2, len(taken) + 3))]
        name = next(name for name in choices if name and name not in taken)
        taken.add(name)
        yield replace(layer, name=name)


def _place(scope: Scope, proto: ModelProto) -> Iterator[str]:
    """The function a scope is in, and the nodes that lead into it."""
    if scope.function is not None:
        yield proto.functions[scope.function].name
    for length, into in enumerate(scope.path):
        owner = Handle(replace(scope, path=scope.path[:length]), into.node).node(proto)
        number = f"_{into.number + 1}" if into.number else ""
        yield f"{node_name(owner)}.{into.attribute}{number}"


def _first_output(node: NodeProto) -> str:
    return next(filter(None, node.output), node.op_type)
