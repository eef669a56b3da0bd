"""Nodes that hold weight matrices in forms this tool leaves alone, and what to do instead."""

from __future__ import annotations

from onnx import NodeProto

_QUANTIZED = {
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulNBits",
    "MatMulBnb4",
    "MatMulFpQ4",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QGemm",
    "QAttention",
    "QLinearConv",
    "ConvInteger",
}
_RECURRENT = {"LSTM", "GRU", "RNN"}
_FUSED = {
    *("FusedMatMul", "FusedGemm", "FusedConv", "NhwcFusedConv", "GemmFastGelu", "TransposeMatMul", "MoE"),
    *("Attention", "MultiHeadAttention", "PackedAttention", "GroupQueryAttention"),
}
_LAID_OUT, _LAID_OUT_IN = {"Conv"}, "com.microsoft.nchwc"
"""What keeps its name in a layout for one kind of CPU."""


def stored_as(format: str) -> str:
    """Why a weight of which the numbers are stored in a format is left alone."""
    return f"its weight is stored as {format}: begin with the model that it was made from"


def reason(node: NodeProto) -> str | None:
    """Why a node that is no layer kind of ours, but looks like one, is passed through untouched."""
    if node.op_type in _QUANTIZED:
        return "quantized: compress the float model first, quantize after"
    if is_fused(node):
        return f"fused ({node.domain}.{node.op_type}): compress the model before it is optimized for a runtime"
    if node.op_type in _RECURRENT and node.domain in ("", "ai.onnx"):
        return "recurrent: its weights are left as they are"
    return None


def is_fused(node: NodeProto) -> bool:
    """Whether a runtime made it of several nodes, one of which may have multiplied by a weight."""
    laid_out = node.domain == _LAID_OUT_IN and node.op_type in _LAID_OUT
    return laid_out or (node.op_type in _FUSED and node.domain not in ("", "ai.onnx"))
