"""Finding Layers: one constant weight matrix and all the nodes that use it, or the reason why not."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_dalr.graph import advice, kinds, one_piece
from onnx_dalr.graph.handle import Handle, Scope
from onnx_dalr.graph.index import STANDARD, GraphIndex
from onnx_dalr.graph.kinds import Refused, Use
from onnx_dalr.graph.kinds.in_one_piece import OPERANDS
from onnx_dalr.graph.kinds.operands import DYNAMIC
from onnx_dalr.graph.layer import FLOATS, Layer, Skipped, node_name
from onnx_dalr.graph.soundness import blaming
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.graph.storage.packed import Packed, Place

__all__ = ["Layer", "Skipped", "barred", "find", "matrix", "node_name"]


def find(model: Model, *, in_one_piece: bool = False) -> tuple[list[Layer], list[Skipped]]:
    """All Layers of a model in graph order, and all nodes that look like one and are not, with the reason.

    Args:
        model: Is not read beyond its graph.
        in_one_piece: Weights that cannot be taken apart are Layers too, of no structure, where nodes multiply by them;
            the others are what they are without.

    Raises:
        InputError: The graph is damaged.
    """
    with blaming(model.proto, model.path):
        layers, skipped = _find(model)
        if not in_one_piece:
            return layers, list(skipped.values())
        skipped |= _stored_otherwise(model)
        order = {Handle(index.scope, at): number for number, (index, at) in enumerate(_every_node(model.index))}
        return one_piece.joined(layers, skipped, model, order)


def _find(model: Model) -> tuple[list[Layer], dict[Handle, Skipped]]:
    indices = model.index
    operators = kinds.operators()
    uses: dict[tuple[Scope, str], list[Use]] = defaultdict(list)
    skipped: dict[Handle, Skipped] = {}
    for index, position in _every_node(indices):
        node, handle = index.nodes[position], Handle(index.scope, position)
        if handle in model.numbers.steps:
            continue
        if reason := barred(index, model.proto):
            if node.op_type in operators:
                skipped[handle] = Skipped(node_name(node), node.op_type, reason)
        elif node.domain in STANDARD and node.op_type in operators:
            found = _read(node, position, index)
            if isinstance(found, Use):
                uses[found.home, found.weight].append(found)
            else:
                packed = None if found.reason.startswith("quantized") else _packed(node, (0, 1), index, model)
                skipped[handle] = _as_stored(node, packed) if packed else _skip(node, index, found.reason)
        elif reason := advice.reason(node):
            computes = advice.is_fused(node) and not any(index.stored(name) for name in node.input if name)
            skipped[handle] = _skip(node, index, DYNAMIC if computes else reason)
    layers = []
    for users in uses.values():
        layer = _layer(tuple(users), indices)
        if reason := _why_not(layer, indices):
            for use in users:
                skipped[use.node] = _skip(use.node.node(model.proto), indices[use.node.scope], reason)
        else:
            layers.append(layer)
    return _unique_names(layers), skipped


def _stored_otherwise(model: Model) -> dict[Handle, Skipped]:
    """Nodes that multiply by a weight, or look it up, of which the numbers are in a format already."""
    found = {}
    for index, position in _every_node(model.index) if model.numbers.made else ():
        node, handle = index.nodes[position], Handle(index.scope, position)
        if node.domain in STANDARD and handle not in model.numbers.steps:
            operands = tuple(at for at in range(len(node.input)) if (node.op_type, at) in OPERANDS)
            if packed := _packed(node, operands, index, model):
                found[handle] = _as_stored(node, packed)
    return found


def _packed(node: NodeProto, operands: tuple[int, ...], index: GraphIndex, model: Model) -> Packed | None:
    """The constant that is the first of these operands as floats, but is not stored so."""
    names = [node.input[at] for at in operands if at < len(node.input)]
    found = (model.numbers.made.get(Place(index.home(name), name)) for name in names if name)
    return next(filter(None, found), None)


def _as_stored(node: NodeProto, packed: Packed) -> Skipped:
    return Skipped(node_name(node), node.op_type, advice.stored_as(packed.format), packed.name, packed.shape)


def _every_node(indices: Mapping[Scope, GraphIndex]) -> Iterator[tuple[GraphIndex, int]]:
    """All nodes of a model, each followed by those of its bodies: (index of its scope, its position there)."""
    for scope, index in indices.items():
        if not scope.path:
            yield from _nodes_in(index)


def _nodes_in(index: GraphIndex) -> Iterator[tuple[GraphIndex, int]]:
    for position in range(len(index.nodes)):
        yield index, position
        for inner in index.bodies.get(position, ()):
            yield from _nodes_in(inner)


def barred(index: GraphIndex, proto: onnx.ModelProto) -> str | None:
    """Why no node of a scope can be a layer; None where they can."""
    scope = index.scope
    if scope.path and index.outer is not None:
        owner = index.outer.nodes[scope.path[-1].node]
        return f"inside a subgraph ({scope.path[-1].attribute} of {owner.op_type} {node_name(owner)!r})"
    if scope.function is not None:
        return f"inside the model-local function {proto.functions[scope.function].name!r}"
    return None


def matrix(model: Model, layer: Layer) -> NDArray[Any]:
    """W, [m, n], as the nodes apply it (a Gemm's alpha included): float64 where it is stored so, else float32.

    Args:
        model: The one that the layer was found in.
        layer: The layer.
    """
    tensor = model.index[layer.home].constant(layer.weight)
    assert tensor is not None
    stored = model.array(tensor)
    floats = stored.astype(np.float64 if stored.dtype == np.float64 else np.float32, copy=False)
    return layer.kind.matrix(floats, layer.uses[0])


def _read(node: NodeProto, position: int, index: GraphIndex) -> Use | Refused:
    if index.opset < 7:
        return Refused(f"opset {index.opset} is too old: convert the model to opset 7 or newer first")
    return kinds.read(node, Handle(index.scope, position), index)


def _layer(uses: tuple[Use, ...], indices: Mapping[Scope, GraphIndex]) -> Layer:
    first = uses[0]
    tensor = indices[first.home].constant(first.weight)
    assert tensor is not None
    shape = first.kind.shape(tensor.dims, first)
    return Layer(
        name=first.weight,
        weight=first.weight,
        kind=first.kind,
        shape=shape,
        dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)),
        uses=uses,
        bias_growth=_growth(shape.m, uses, indices, compensated=True),
        plain_growth=_growth(shape.m, uses, indices, compensated=False),
        home=first.home,
    )


def _growth(m: int, uses: tuple[Use, ...], indices: Mapping[Scope, GraphIndex], *, compensated: bool) -> int:
    """Parameters that new biases add to the model, less those of old ones that nothing else reads."""
    # The name of a bias says which it is only within the scope it is of.
    named = [(indices[use.node.scope].home(use.bias), use.bias) if use.bias else None for use in uses]
    rows = {(bias, use.bias_scale if bias else 1.0) for bias, use in zip(named, uses, strict=True)}
    scalars = {use.bias_scale for use in uses if use.loose_bias and use.bias_scale != 1}
    ours = {use.node for use in uses} | {use.add for use in uses}
    growth = len(scalars) + (m * len(rows) if compensated else 0)
    for home, bias in set(filter(None, named)):
        index = indices[home]
        constant = index.constant(bias)
        assert constant is not None
        size, rescaled = math.prod(constant.dims), sum(name == (home, bias) and scale != 1 for name, scale in rows)
        free = set(index.readers(bias)) <= ours and not index.is_output(bias)
        if compensated:
            growth -= size if free else 0
        else:
            replaced = free and rescaled == sum(name == (home, bias) for name, _ in rows)
            growth += size * (rescaled - replaced)
    return growth


def _why_not(layer: Layer, indices: Mapping[Scope, GraphIndex]) -> str | None:
    """Why a weight whose nodes are all right is none the less left alone: all of its users or none."""
    if reason := _unsupported_type(indices[layer.home].constant(layer.weight), layer.uses[0].cast_to):
        return reason
    if len({(use.layout, use.cast_to) for use in layer.uses}) > 1:
        return "its users transpose, scale or cast the shared weight differently"
    if reason := _still_needed(layer, indices):
        return reason
    if layer.break_even(compensated=False) < 1:
        return f"too small to gain at any rank ({layer.m}×{layer.n})"
    return None


def _still_needed(layer: Layer, indices: Mapping[Scope, GraphIndex]) -> str | None:
    """Why the weight would have to stay in the file beside its factors."""
    for use in layer.uses:
        node = indices[use.node.scope].nodes[use.node.position]
        if list(node.input).count((*use.path, use.weight)[0]) > 1:
            return "its weight is also another operand of the node"
    # The weight and what lies between it and its users: by name, where each is known.
    ours = {name: indices[use.node.scope] for use in layer.uses for name in use.path}
    known = {use.node for use in layer.uses} | {index.producer(name) for name, index in ours.items()}
    ours = {layer.weight: indices[layer.home], **dict(sorted(ours.items()))}
    for name, index in ours.items():
        for reader in index.readers(name):
            if reader not in known:
                return f"its weight is also read by {_reader_name(reader, indices)}, so factoring would not remove it"
    if any(index.is_output(name) for name, index in ours.items()):
        return "its weight is an output of the graph"
    return None


def _reader_name(reader: Handle, indices: Mapping[Scope, GraphIndex]) -> str:
    if reader.scope.path:
        return "a node inside a subgraph"
    node = indices[reader.scope].nodes[reader.position]
    return f"{node.op_type} {node.name or node.output[0]!r}"


def _unsupported_type(tensor: TensorProto | None, cast_to: int) -> str | None:
    stored = tensor.data_type if tensor is not None else TensorProto.UNDEFINED
    computed = cast_to or stored
    if computed == TensorProto.BFLOAT16:
        return "bfloat16 arithmetic: ONNX Runtime has no kernels for it on the CPU to calibrate with"
    if stored not in FLOATS | {TensorProto.BFLOAT16} or computed not in FLOATS:
        return f"dtype {TensorProto.DataType.Name(stored).lower()} is not supported"
    return None


def _skip(node: NodeProto, index: GraphIndex, reason: str) -> Skipped:
    weight = index.stored(node.input[1]) if len(node.input) > 1 else None
    if weight is not None:
        return Skipped(node_name(node), node.op_type, reason, weight.name, tuple(weight.tensor.dims))
    return Skipped(node_name(node), node.op_type, reason)


def _unique_names(layers: list[Layer]) -> list[Layer]:
    """Node names where they tell layers apart, weight names where they do not."""
    names = [layer.uses[0].node_name or layer.weight for layer in layers]
    counts, weights = Counter(names), {layer.weight for layer in layers}
    return [
        replace(layer, name=name if counts[name] == 1 and name not in weights else layer.weight)
        for layer, name in zip(layers, names, strict=True)
    ]
