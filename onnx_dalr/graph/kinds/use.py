"""One node's use of a weight, in terms every layer kind shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_dalr.graph.index import GraphIndex, Stored

_DYNAMIC = "dynamic weight: both operands are computed at run time"


@dataclass(frozen=True)
class Refused:
    """Why a node is not a candidate, in plain words."""

    reason: str


@dataclass(frozen=True)
class Use:
    """A node (with the Add that carries its bias, where it has one) that computes rows·Wᵀ + b.

    Attributes:
        op: Operator of the node.
        node: Its position in the graph.
        node_name: Its name, empty where it has none.
        data: The tensor whose rows enter the weight.
        feature_axis: Axis of `data` along which a row's n values lie: -1, 0 for a Gemm with transA, 1 for a Conv.
        weight: The constant that holds the weight.
        stored_as_W: The constant is W itself, [m, n] and further axes of length 1; else Wᵀ.
        path: Tensors between the node and the constant (Identity, Transpose, Cast), the node's operand first.
        cast_to: Element type the weight is cast to on the way, 0 where it is used as it is stored.
        scale: Factor on the product (a Gemm's alpha).
        output: The tensor the node makes.
        bias: Constant bias of one row, or None.
        bias_scale: Factor on the bias (a Gemm's beta).
        add: Position of the Add that carries the bias, where it is not in the node itself.
        loose_bias: A Gemm's bias that is not constant or not one row; it stays in an Add of its own.
        strides: Of a Conv: which positions along the spatial axes become rows; empty for all.
        pads: Of a Conv: zeros before and after each spatial axis, as ONNX writes them; empty for none.
    """

    op: str
    node: int
    node_name: str
    data: str
    feature_axis: int
    weight: str
    stored_as_W: bool
    scale: float
    output: str
    bias: str | None = None
    bias_scale: float = 1.0
    add: int | None = None
    loose_bias: str | None = None
    path: tuple[str, ...] = ()
    cast_to: int = 0
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()


class Replacement(Protocol):
    """What a layer kind is handed to write the nodes of one use: the factors' names and a maker of new ones.

    Attributes:
        B: The first factor, as the kind's `operand` lays it out.
        A: The second.
        bias: Constant one-row bias to add, or None where it is zero.
        latent: Name for the tensor between the two.
    """

    B: str
    A: str
    bias: str | None
    latent: str

    def tensor(self, role: str) -> str:
        """A new tensor name derived from the use's output; the same for the same role."""
        ...

    def scalar(self, role: str, value: float) -> str:
        """A new scalar constant of the layer's dtype."""
        ...

    def node(self, old: NodeProto, role: str, op: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        """A node with a new name derived from the old node's, with its doc string and metadata."""
        ...


def constant_matrix(node: NodeProto, index: GraphIndex) -> Stored | Refused:
    """The constant 2-D weight on the right of a Gemm or MatMul, or why there is none."""
    found = constant_operand(node, index)
    if isinstance(found, Refused):
        return found
    dims = found.tensor.dims
    if len(dims) != 2:
        return Refused(f"its weight is {'a vector' if len(dims) < 2 else f'batched ({len(dims)}-D)'}, not a matrix")
    return found


def constant_operand(node: NodeProto, index: GraphIndex) -> Stored | Refused:
    """The constant that is the second input of a node, or why there is none."""
    if len(node.input) < 2:
        return Refused("it has no second operand")
    left, right = (index.stored(name) for name in node.input[:2])
    if right is None:
        return Refused(_why_no_constant(node, index, left is not None))
    if left is not None or _is_sparse(node.input[0], index):
        return Refused("both operands are constant")
    if 0 in right.tensor.dims:
        return Refused("its weight is empty")
    return right


def right_operand(factor: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
    """A factor, [out, in], as the right operand of a MatMul: [in, out]."""
    del dims
    return factor.T


def _why_no_constant(node: NodeProto, index: GraphIndex, constant_on_left: bool) -> str:
    if constant_on_left:
        return "its constant is on the left: the weight must be the right operand"
    if index.copies[node.input[1]] > 1:
        return f"{index.copies[node.input[1]]} constants have its weight's name"
    if _is_sparse(node.input[1], index):
        return "its weight is stored sparse"
    position = index.producer(node.input[1])
    return _why_dynamic(index.nodes[position], index) if position is not None else _DYNAMIC


def _is_sparse(name: str, index: GraphIndex) -> bool:
    return any(sparse.values.name == name for sparse in index.graph.sparse_initializer)


def _why_dynamic(maker: NodeProto, index: GraphIndex) -> str:
    """Why what a node makes is no weight."""
    if maker.op_type == "Constant":
        form = next((entry.name for entry in maker.attribute), "no value")
        return f"its weight is a Constant with {form}, which is not supported"
    if not maker.input or any(index.stored(name) is None for name in maker.input if name):
        return _DYNAMIC
    if maker.op_type == "DequantizeLinear":
        return "quantized weight (DequantizeLinear): compress the float model first, quantize after"
    return f"its weight comes from a constant through {maker.op_type}, which is not supported"


def one_row(tensor: TensorProto, m: int) -> bool:
    """Whether a constant adds the same to every row of m values: a scalar, or [..., m] or [..., 1] of one row."""
    size = math.prod(tensor.dims)
    return bool(size == 1 or (size == m and tensor.dims[-1] == m))
