"""What a stored tensor is for, by the nodes that read it: a kernel, an embedding table, a bias, a shape."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnx_dalr.graph import advice
from onnx_dalr.graph.contents import Content, Reader
from onnx_dalr.graph.index import attribute
from onnx_dalr.graph.kinds import operators
from onnx_dalr.graph.kinds.in_one_piece import LOOKED_UP
from onnx_dalr.graph.layers import node_name

_OURS = ("", "ai.onnx")
_PLAIN = {"int64", "int32", "bool", "string"}
"""Element types of shapes, indices and masks, which are no weights."""
_PACKED = {"int8", "uint8", "int4", "uint4", "int2", "uint2"}

_TABLES = {"Gather": (0,), "GatherBlockQuantized": (0,), "EmbedLayerNormalization": (2, 3, 4)}
_WEIGHTS = {"ConvTranspose", "DeformConv", "Einsum"}
"""Operators that multiply by a weight, beside those of layer kinds."""
_BIASES = {("Gemm", 2), ("Conv", 2), ("ConvTranspose", 2), ("LSTM", 3), ("GRU", 3), ("RNN", 3)}

_DETAILS = re.compile(r" \([^()]*\)")
_UNUSED = "nothing reads it"


@dataclass(frozen=True, eq=False)
class Role:
    """What a tensor is.

    Attributes:
        kind: "Gemm", "3×3 Conv", "embedding", "bias", …
        weight: It is what a node multiplies or looks up, not a bias, a shape or the like.
        reason: Why a weight is no layer, None for a layer.
        reader: The node that says so, None where nothing reads it.
    """

    kind: str
    weight: bool
    reason: str | None = None
    reader: Reader | None = None


def role(tensor: Content, layers: Collection[str], reasons: Mapping[tuple[str, str], str]) -> Role:
    """What a tensor is, by the first of its readers that uses it as a weight.

    Args:
        tensor: As it is stored.
        layers: Names of the weights of layers.
        reasons: Why nodes are no layer, by (operator, name).
    """
    readers = tensor.readers
    if not readers:
        return Role("output", weight=False) if tensor.output else Role("unused", weight=True, reason=_UNUSED)
    if tensor.aside:
        return Role(_unpacking(readers[0]), weight=False, reader=readers[0])
    if not tensor.where and tensor.name in layers:
        return Role(_named(readers[0], tensor), weight=True, reader=readers[0])
    if table := next((reader for reader in readers if _looks_up(reader, tensor)), None):
        quantized = tensor.dtype in _PACKED or "DequantizeLinear" in table.via
        kind = _in_format("embedding", tensor) if tensor.packed or not quantized else "quantized embedding"
        return Role(kind, weight=True, reason=_stored_otherwise(tensor) or LOOKED_UP, reader=table)
    for reader in readers:
        node = reader.node
        known = reasons.get((node.op_type, node_name(node))) or advice.reason(node) or _stored_otherwise(tensor)
        foreign = node.domain not in _OURS
        if _multiplies(reader, tensor) and (known or foreign or node.op_type in _WEIGHTS | operators()):
            unknown = f"not supported (an operator of {node.domain})" if foreign else "not supported"
            return Role(_named(reader, tensor), weight=True, reason=known or unknown, reader=reader)
    return Role(_constant(readers[0], tensor), weight=False, reader=readers[0])


def in_general(reason: str) -> str:
    """A reason without what holds for the one node only: shapes and names in parentheses."""
    return _DETAILS.sub("", reason)


def in_short(reason: str) -> str:
    """The first words of a reason, which say what is the matter, without what to do and what would follow."""
    return in_general(reason).partition(": ")[0].partition(", so ")[0]


def _looks_up(reader: Reader, tensor: Content) -> bool:
    table = reader.operand in _TABLES.get(reader.node.op_type, ())
    return table and len(tensor.seen) > 1 and tensor.dtype not in _PLAIN


def _multiplies(reader: Reader, tensor: Content) -> bool:
    """Whether a tensor is an operand of two or more axes that holds numbers of a kind weights have."""
    bias = (reader.node.op_type, reader.operand) in _BIASES
    return len(tensor.seen) > 1 and tensor.dtype not in _PLAIN and not bias and reader.operand >= 0


def _stored_otherwise(tensor: Content) -> str | None:
    """Why a weight is left alone that is no floats before nodes make them."""
    return advice.stored_as(tensor.packed.format) if tensor.packed else None


def _in_format(kind: str, tensor: Content) -> str:
    return f"{kind}, {tensor.packed.format}" if tensor.packed else kind


def _unpacking(reader: Reader) -> str:
    """What a tensor that is only there to make floats of others is."""
    op, at = reader.node.op_type, reader.operand
    if op in ("Sub", "Add") or (op == "DequantizeLinear" and at == 2):
        return "zero point"
    return "unpacking" if op in ("Div", "MatMul", "Gather", "BitShift", "BitwiseAnd", "Mod") else "scale"


def _named(reader: Reader, tensor: Content) -> str:
    """The operator, with what tells its kernels apart, and the format of what is not stored as floats."""
    quantized = "quantized " if "DequantizeLinear" in reader.via and not tensor.packed else ""
    return _in_format(quantized + _kernel(reader, tensor), tensor)


def _kernel(reader: Reader, tensor: Content) -> str:
    op, kernel = reader.node.op_type, tensor.seen[2:]
    if "Conv" not in op or not kernel:
        return op
    groups = attribute(reader.node, "group", 1)
    channels = tensor.seen[0] if "Transpose" in op else groups * tensor.seen[1]
    form = "" if groups == 1 else "depthwise " if groups == channels else "grouped "
    taps = "1×1" if set(kernel) == {1} else "×".join(map(str, kernel)) if len(kernel) > 1 else f"{kernel[0]}-tap"
    return f"{form}{taps} {op}"


def _constant(reader: Reader, tensor: Content) -> str:
    """What a tensor that is no weight is."""
    op = reader.node.op_type
    if tensor.dtype in _PLAIN:
        return "shape or index"
    if op.endswith("Normalization"):
        return "normalization"
    row = sum(axis > 1 for axis in tensor.shape) < 2
    if (op, reader.operand) in _BIASES or (op == "Add" and row):
        return "bias"
    if op in ("Mul", "Div", "QuantizeLinear", "DequantizeLinear") and row:
        return "scale"
    return "constant"
