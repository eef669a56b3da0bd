"""The constant operand of a node, or why there is none."""

from __future__ import annotations

import math

from onnx import NodeProto, TensorProto

from onnx_dalr.graph.index import GraphIndex, Stored
from onnx_dalr.graph.kinds.base import Refused

DYNAMIC = "dynamic weight: both operands are computed at run time"


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
    if left is not None or index.is_sparse(node.input[0]):
        return Refused("both operands are constant")
    if 0 in right.tensor.dims:
        return Refused("its weight is empty")
    return right


def one_row(tensor: TensorProto, m: int) -> bool:
    """Whether a constant adds the same to every row of m values: a scalar, or [..., m] or [..., 1] of one row."""
    size = math.prod(tensor.dims)
    return bool(size == 1 or (size == m and tensor.dims[-1] == m))


def _why_no_constant(node: NodeProto, index: GraphIndex, constant_on_left: bool) -> str:
    if constant_on_left:
        return "its constant is on the left: the weight must be the right operand"
    if index.count(node.input[1]) > 1:
        return f"{index.count(node.input[1])} constants have its weight's name"
    if index.is_sparse(node.input[1]):
        return "its weight is stored sparse"
    maker = index.made_by(node.input[1])
    return _why_dynamic(maker, index) if maker is not None else DYNAMIC


def _why_dynamic(maker: NodeProto, index: GraphIndex) -> str:
    """Why what a node makes is no weight."""
    if maker.op_type == "Constant":
        form = next((entry.name for entry in maker.attribute), "no value")
        return f"its weight is a Constant with {form}, which is not supported"
    if not maker.input or any(index.stored(name) is None for name in maker.input if name):
        return DYNAMIC
    if maker.op_type == "DequantizeLinear":
        return "quantized weight (DequantizeLinear): compress the float model first, quantize after"
    return f"its weight comes from a constant through {maker.op_type}, which is not supported"
