"""Operators between whole numbers as they are stored and the floats that they stand for, and what they do to shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_dalr.graph.storage.external import is_external

Shape = tuple[int, ...] | None
"""None where it is not known."""

FLOATING = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
}
PLAIN = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
"""Those of them that operators compute in."""
ORDINARY = {*PLAIN, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.UNDEFINED}
"""Element types that stand for nothing but themselves."""

BITS = {
    getattr(TensorProto, name): bits
    for name, bits in {
        **{"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16, "UINT16": 16},
        **{"FLOAT4E2M1": 4, "INT32": 32},
    }.items()
    if hasattr(TensorProto, name)
}
"""Of element types that hold numbers which stand for floats."""
ONLY_DEQUANTIZED = {TensorProto.INT32, *FLOATING}
"""Element types of which a Cast says nothing: indices are cast too."""

LAYING_OUT = {
    *("Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Slice", "Split", "Expand", "Tile"),
    *("Floor", "Round", "BitwiseNot"),
}
"""Operators that leave the numbers of their first input such numbers, in another shape or order."""
PARTS = {"BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mod", "Floor"}
"""Operators that may leave only some of the bits of a number."""
MIXING = {"MatMul"}
"""Operators that make of several numbers as many others, by a tiny matrix."""
COMBINING = {"Mul", "Div", "Sub", "Add", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mod", *MIXING}
UNPACKING = COMBINING - {"Mul", "Add", "Sub", *MIXING}
"""Operators by which one stored number may become several."""
MULTIPLYING = {"MatMul", "Gemm", "Conv", "ConvTranspose", "DeformConv", "Einsum", "Gather", "LSTM", "GRU", "RNN"}

TINY = 16
"""So many numbers are read where a shape depends on them, and are no weight where they are what unpacks one."""


class Quantized(NamedTuple):
    """Which operands of an operator are whole numbers that it computes with, and which say what these stand for."""

    weights: tuple[int, ...]
    aside: tuple[int, ...]


_EMBED = Quantized((2, 3, 4, 5, 6), tuple(range(8, 18)))

QUANTIZED = {
    "QLinearConv": Quantized((3, 8), (4, 5)),
    "QLinearMatMul": Quantized((0, 3), (4, 5)),
    "QLinearAdd": Quantized((0, 3), ()),
    "QLinearMul": Quantized((0, 3), ()),
    "MatMulInteger": Quantized((0, 1), (3,)),
    "ConvInteger": Quantized((1,), (3,)),
    "MatMulIntegerToFloat": Quantized((0, 1), (3, 5)),
    "DynamicQuantizeMatMul": Quantized((1,), (2, 3)),
    "DynamicQuantizeLSTM": Quantized((1, 2), (8, 9, 10, 11)),
    "QGemm": Quantized((3, 6), (4, 5)),
    "QAttention": Quantized((1,), (4, 7)),
    "QEmbedLayerNormalization": _EMBED,
    "MatMulNBits": Quantized((1,), (2, 3, 4)),
    "MatMulBnb4": Quantized((1,), (2,)),
    "GatherBlockQuantized": Quantized((0,), (2, 3)),
    "QMoE": Quantized((2, 5, 8), (3, 6, 9, 11, 12, 13)),
}
"""Operators that compute with whole numbers."""
_BITS_OF = {"MatMulNBits": "bits", "GatherBlockQuantized": "bits", "QMoE": "expert_weight_bits"}
INTEGER_PRODUCTS = {"MatMulInteger", "ConvInteger"}
"""Those whose result is scaled after them."""


def whole(node: NodeProto, name: str, default: int) -> int:
    """A whole number among the attributes, or the default."""
    return next((entry.i for entry in node.attribute if entry.name == name and entry.HasField("i")), default)


def wholes(node: NodeProto, name: str) -> tuple[int, ...]:
    """A list of them; empty without."""
    return next((tuple(entry.ints) for entry in node.attribute if entry.name == name), ())


def size_of(shape: Sequence[int]) -> int:
    """How many numbers a tensor has."""
    return math.prod(max(0, axis) for axis in shape)


def stands_for(node: NodeProto, dims: Sequence[int], bits: int) -> tuple[int, int]:
    """(how many numbers a stored operand of a quantized operator holds, the bits of each)."""
    size = size_of(dims)
    if node.op_type == "MatMulBnb4":
        bits, each = 8, 4
    else:
        each = whole(node, _BITS_OF[node.op_type], 4) if node.op_type in _BITS_OF else bits
    if not 0 < each <= bits:
        each = bits
    most = size * (bits // each)
    named = whole(node, "N", 0) * whole(node, "K", 0) if node.op_type in ("MatMulNBits", "MatMulBnb4") else 0
    return (named if 0 < named <= most else most), each


def read_tiny(tensor: TensorProto | None) -> tuple[int, ...] | None:
    """The whole numbers of a constant, where it is a small one that lies in the model file."""
    if tensor is None or tensor.data_type not in (TensorProto.INT64, TensorProto.INT32) or is_external(tensor):
        return None
    size = size_of(tensor.dims)
    if not 0 < size <= TINY:
        return None
    if tensor.raw_data:
        raw = bytes(tensor.raw_data)
        kind = np.dtype("<i8" if tensor.data_type == TensorProto.INT64 else "<i4")
        return tuple(np.frombuffer(raw, kind).tolist()) if len(raw) == size * kind.itemsize else None
    found = tuple(tensor.int64_data or tensor.int32_data)
    return found if len(found) == size else None


def broadcast(one: Shape, other: Shape) -> Shape:
    """The shape of both together."""
    if one is None or other is None:
        return None
    rank = max(len(one), len(other))
    left, right = ((1,) * (rank - len(shape)) + shape for shape in (one, other))
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def mixed(numbers: Shape, matrix: Shape) -> Shape:
    """The shape of numbers that a matrix mixes."""
    if not numbers or matrix is None or len(matrix) != 2:
        return None
    return (*numbers[:-1], matrix[1])


def laid_out(node: NodeProto, shape: Shape, operand: TensorProto | None) -> Shape:
    """The shape that a node of `LAYING_OUT` makes of one; `operand` is its second input where that is a constant."""
    if shape is None:
        return None
    op = node.op_type
    if op in ("Identity", "Floor", "Round", "BitwiseNot"):
        return shape
    if op == "Transpose":
        order = wholes(node, "perm") or tuple(range(len(shape)))[::-1]
        return tuple(shape[axis] for axis in order) if sorted(order) == list(range(len(shape))) else None
    if op == "Reshape":
        return _reshaped(shape, wholes(node, "shape") or read_tiny(operand))
    if op == "Unsqueeze":
        return _with_axes(shape, wholes(node, "axes") or read_tiny(operand) or ())
    return None


def _reshaped(shape: tuple[int, ...], target: tuple[int, ...] | None) -> Shape:
    if target is None or any(size < -1 for size in target) or target.count(-1) > 1:
        return None
    known = [shape[at] if size == 0 and at < len(shape) else size for at, size in enumerate(target)]
    rest = size_of([size for size in known if size != -1])
    made = tuple(size_of(shape) // max(rest, 1) if size == -1 else size for size in known)
    return made if size_of(made) == size_of(shape) else None


def _with_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> Shape:
    rank, made = len(shape) + len(axes), list(shape)
    for axis in sorted(axis % rank for axis in axes):
        made.insert(axis, 1)
    return tuple(made) if axes else None
