"""Finding Layers: one constant weight matrix and all the nodes that use it, or the reason why not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_dalr.factorize import Shape
from onnx_dalr.graph import advice
from onnx_dalr.graph.index import GraphIndex, bodies
from onnx_dalr.graph.kinds import conv1x1, gemm, matmul
from onnx_dalr.graph.kinds.use import Refused, Use
from onnx_dalr.graph.soundness import blaming
from onnx_dalr.graph.storage.model import Model

KINDS = (gemm, matmul, conv1x1)
"""A layer kind is a module: OPS; `read`, a node becomes a Use or is refused; `operand`, a factor as its nodes want it;
`rewrite`, a Use becomes new nodes."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight matrix W, [m, n], of y = W x + b, and every node that uses it: one decision.

    Attributes:
        name: The first using node's name where it is unique, else the weight's.
        weight: Name of the tensor that holds W, transposed or not.
        m: Outputs.
        n: Inputs.
        dtype: Element type the weight is stored in, which its factors keep.
        uses: The nodes, in graph order. All scale and transpose the weight alike.
        bias_growth: Parameters the model gains by a bias correction: none where it lands in a constant row of m
            that nothing else reads, up to m for a scalar, and one row shared by all uses that have no bias.
        plain_growth: The same where biases are left as they are: a Gemm's beta has to be written out.
    """

    name: str
    weight: str
    m: int
    n: int
    dtype: np.dtype[Any]
    uses: tuple[Use, ...]
    bias_growth: int
    plain_growth: int

    @property
    def shape(self) -> Shape:
        """In the terms that structures count in."""
        return Shape(self.m, self.n)

    def growth(self, *, compensated: bool) -> int:
        """Parameters that biases gain, with or without a correction."""
        return self.bias_growth if compensated else self.plain_growth

    @property
    def op(self) -> str:
        """Operator of the (first) node."""
        return self.uses[0].op

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, empty where they have none."""
        return tuple(use.node_name for use in self.uses)

    @property
    def params(self) -> int:
        """m·n."""
        return self.m * self.n

    def break_even(self, *, compensated: bool) -> int:
        """The largest rank k that saves parameters: k(m+n) + new bias < m·n; 0 where none does."""
        room = self.params - self.growth(compensated=compensated)
        return max(0, (room - 1) // (self.m + self.n))


@dataclass(frozen=True)
class Skipped:
    """A node that looks like a candidate and is not one.

    Attributes:
        name: The node's name, or that of its output.
        op: Operator.
        reason: Why, in plain words.
        weight: Name of its constant weight where it has one.
        shape: Shape of that weight.
    """

    name: str
    op: str
    reason: str
    weight: str | None = None
    shape: tuple[int, ...] | None = None


def find(model: Model) -> tuple[list[Layer], list[Skipped]]:
    """All Layers of a model in graph order, and all nodes that look like one and are not, with the reason.

    Raises:
        InputError: The graph is damaged.
    """
    with blaming(model.proto, model.path):
        return _find(model)


def _find(model: Model) -> tuple[list[Layer], list[Skipped]]:
    index = GraphIndex(model.proto)
    readers = {op: kind for kind in KINDS for op in kind.OPS}
    uses: dict[str, list[Use]] = defaultdict(list)
    skipped: list[Skipped] = []
    for position, node in enumerate(index.nodes):
        if node.domain in ("", "ai.onnx") and node.op_type in readers:
            found = _read(readers[node.op_type], node, position, index)
            if isinstance(found, Use):
                uses[found.weight].append(found)
            else:
                skipped.append(_skip(node, index, found.reason))
        elif reason := advice.reason(node):
            skipped.append(_skip(node, index, reason))
        skipped += _inside_bodies(node, set(readers))
    skipped += _inside_functions(model.proto, set(readers))
    layers = []
    for weight, users in uses.items():
        layer = _layer(weight, tuple(users), index)
        if reason := _why_not(layer, index):
            skipped += [_skip(index.nodes[use.node], index, reason) for use in users]
        else:
            layers.append(layer)
    return _unique_names(layers), skipped


def matrix(model: Model, layer: Layer) -> NDArray[Any]:
    """W, [m, n], as the nodes apply it (a Gemm's alpha included): float64 where it is stored so, else float32."""
    stored = model.array(model.constants[layer.weight])
    use = layer.uses[0]
    W = stored.reshape(layer.m, layer.n) if use.stored_as_W else stored.T
    W = W.astype(np.float64 if stored.dtype == np.float64 else np.float32, copy=False)
    return W * W.dtype.type(use.scale) if use.scale != 1 else W


def _read(kind: Any, node: NodeProto, position: int, index: GraphIndex) -> Use | Refused:
    if index.opset < 7:
        return Refused(f"opset {index.opset} is too old: convert the model to opset 7 or newer first")
    found: Use | Refused = kind.read(node, position, index)
    return found


def _layer(weight: str, uses: tuple[Use, ...], index: GraphIndex) -> Layer:
    tensor = index.constant(weight)
    assert tensor is not None
    rows, columns = tensor.dims[:2]
    m, n = (rows, columns) if uses[0].stored_as_W else (columns, rows)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return Layer(
        name=weight,
        weight=weight,
        m=m,
        n=n,
        dtype=dtype,
        uses=uses,
        bias_growth=_growth(m, uses, index, compensated=True),
        plain_growth=_growth(m, uses, index, compensated=False),
    )


def _growth(m: int, uses: tuple[Use, ...], index: GraphIndex, *, compensated: bool) -> int:
    """Parameters that new biases add to the model, less those of old ones that nothing else reads."""
    rows = {(use.bias, use.bias_scale if use.bias else 1.0) for use in uses}
    scalars = {use.bias_scale for use in uses if use.loose_bias and use.bias_scale != 1}
    ours = {use.node for use in uses} | {use.add for use in uses}
    growth = len(scalars) + (m * len(rows) if compensated else 0)
    for bias in {use.bias for use in uses if use.bias is not None}:
        constant = index.constant(bias)
        assert constant is not None
        size, rescaled = math.prod(constant.dims), sum(name == bias and scale != 1 for name, scale in rows)
        free = set(index.readers(bias)) <= ours and bias not in index.outputs
        if compensated:
            growth -= size if free else 0
        else:
            replaced = free and rescaled == sum(name == bias for name, _ in rows)
            growth += size * (rescaled - replaced)
    return growth


def _why_not(layer: Layer, index: GraphIndex) -> str | None:
    """Why a weight whose nodes are all right is none the less left alone: all of its users or none."""
    if reason := _unsupported_type(index.constant(layer.weight), layer.uses[0].cast_to):
        return reason
    if len({(use.stored_as_W, use.scale, use.cast_to) for use in layer.uses}) > 1:
        return "its users transpose, scale or cast the shared weight differently"
    if reason := _still_needed(layer, index):
        return reason
    if layer.break_even(compensated=False) < 1:
        return f"too small to gain at any rank ({layer.m}×{layer.n})"
    return None


def _still_needed(layer: Layer, index: GraphIndex) -> str | None:
    """Why the weight would have to stay in the file beside its factors."""
    if any(list(index.nodes[use.node].input).count((*use.path, use.weight)[0]) > 1 for use in layer.uses):
        return "its weight is also another operand of the node"
    if others := _other_readers(layer, index):
        return f"its weight is also read by {_reader_name(others[0], index)}, so factoring would not remove it"
    if index.outputs & {layer.weight, *(name for use in layer.uses for name in use.path)}:
        return "its weight is an output of the graph"
    return None


def _unsupported_type(tensor: TensorProto | None, cast_to: int) -> str | None:
    stored = tensor.data_type if tensor is not None else TensorProto.UNDEFINED
    computed = cast_to or stored
    if computed == TensorProto.BFLOAT16:
        return "bfloat16 arithmetic: ONNX Runtime has no kernels for it on the CPU to calibrate with"
    if stored not in FLOATS | {TensorProto.BFLOAT16} or computed not in FLOATS:
        return f"dtype {TensorProto.DataType.Name(stored).lower()} is not supported"
    return None


def _other_readers(layer: Layer, index: GraphIndex) -> list[int | None]:
    """Nodes that read the weight, or a tensor on its way to a user, and are neither a user nor on that way."""
    path = {name for use in layer.uses for name in use.path}
    known: set[int | None] = {use.node for use in layer.uses}
    known.update(index.producer(name) for name in path)
    return [reader for name in (layer.weight, *sorted(path)) for reader in index.readers(name) if reader not in known]


def _reader_name(position: int | None, index: GraphIndex) -> str:
    if position is None:
        return "a node inside a subgraph"
    node = index.nodes[position]
    return f"{node.op_type} {node.name or node.output[0]!r}"


def _skip(node: NodeProto, index: GraphIndex, reason: str) -> Skipped:
    weight = index.stored(node.input[1]) if len(node.input) > 1 else None
    if weight is not None:
        return Skipped(node_name(node), node.op_type, reason, weight.name, tuple(weight.tensor.dims))
    return Skipped(node_name(node), node.op_type, reason)


def node_name(node: NodeProto) -> str:
    """A node's name, or that of its output."""
    return node.name or (node.output[0] if node.output else node.op_type)


def _inside_bodies(node: NodeProto, ops: set[str]) -> Iterator[Skipped]:
    for branch, body in bodies(node):
        where = f"inside a subgraph ({branch} of {node.op_type} {node_name(node)!r})"
        for inner in body.node:
            if inner.op_type in ops:
                yield Skipped(node_name(inner), inner.op_type, where)
            yield from _inside_bodies(inner, ops)


def _inside_functions(proto: onnx.ModelProto, ops: set[str]) -> Iterator[Skipped]:
    for function in proto.functions:
        for inner in function.node:
            if inner.op_type in ops:
                yield Skipped(node_name(inner), inner.op_type, f"inside the model-local function {function.name!r}")
            yield from _inside_bodies(inner, ops)


def _unique_names(layers: list[Layer]) -> list[Layer]:
    """Node names where they tell layers apart, weight names where they do not."""
    names = [layer.uses[0].node_name or layer.weight for layer in layers]
    weights = {layer.weight for layer in layers}
    return [
        replace(layer, name=name if names.count(name) == 1 and name not in weights - {layer.weight} else layer.weight)
        for layer, name in zip(layers, names, strict=True)
    ]
