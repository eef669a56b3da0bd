"""What operators are that no exporter writes, in words: those that a runtime fused, those that compute in few bits.

A runtime that optimizes a model writes what it makes of it in operators of its own. Whoever opens the file finds names;
what stands behind them, and which weights are in them, is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from onnx import NodeProto, helper

from onnx_dalr.graph.index import STANDARD
from onnx_dalr.graph.storage.packed import Packed

_NEVER = 1 << 30  # as the place of an operand

RUNTIME = "com.microsoft"
"""The domain of ONNX Runtime's own operators, and the beginning of its others."""


@dataclass(frozen=True)
class Words:
    """What a node is.

    Attributes:
        said: In words: "Conv and its Relu, fused".
        quantized: It computes with whole numbers, or with a weight that is stored as such.
    """

    said: str
    quantized: bool = False


def in_words(node: NodeProto) -> Words | None:
    """What a node is; None where its operator's name says it: all that a standard exporter writes."""
    domain = node.domain
    if domain in STANDARD or domain.startswith(RUNTIME):
        whole_numbers = _QUANTIZED.get(node.op_type)
        if whole_numbers is not None:
            return Words(whole_numbers(node), quantized=True)
    if domain in STANDARD:
        return None
    if not domain.startswith(RUNTIME):
        return Words(f"an operator of {domain}")
    fused = _FUSED.get(node.op_type)
    if fused is not None:
        laid_out = ", laid out for the CPU it was optimized on" if domain.endswith(".nchwc") else ""
        return Words(fused(node) + laid_out)
    if node.op_type.startswith(("QLinear", "QOrdered")):
        return Words(
            f"{node.op_type.removeprefix('QLinear').removeprefix('QOrdered')} of whole numbers", quantized=True
        )
    return Words(f"an operator of ONNX Runtime ({domain})")


def domain_of(node: NodeProto) -> str:
    """Of its operator; the standard one has two names."""
    return "" if node.domain in STANDARD else node.domain


def grain(packed: Packed) -> str:
    """How many numbers share a scale: "in blocks of 32", "a scale a channel", "one scale"; empty where not known."""
    if packed.block is None or packed.block < 1 or packed.numbers < 2:
        return ""
    scales = -(-packed.numbers // packed.block)
    if scales == 1:
        return "one scale"
    if packed.block == 1 or len(packed.shape) < 2:
        return ""
    return "a scale a channel" if scales in packed.shape else f"in blocks of {packed.block}"


_Said = Callable[[NodeProto], str]


def _always(said: str) -> _Said:
    return lambda node: said


def _given(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute where it has one of this type of its own, else the default."""
    found = next((entry for entry in node.attribute if entry.name == name and not entry.ref_attr_name), None)
    value = default if found is None else helper.get_attribute_value(found)
    return value if isinstance(value, type(default)) else default


def _and_activation(node: NodeProto, *, op: str, addend: int = _NEVER) -> str:
    """A product and the activation that follows it."""
    then = _given(node, "activation", b"").decode(errors="replace")
    plus = ", with what is added to it" if len(node.input) > addend and node.input[addend] else ""
    return f"{op} and its {then}, fused{plus}" if then else f"{op}, fused{plus}"


def _attention(node: NodeProto, *, holds: bool = True) -> str:
    heads = _given(node, "num_heads", 0)
    many = f" of {heads} heads" if heads else ""
    return f"a whole attention{many}, fused" + ("; its weight holds q, k and v" if holds else "; it has no weight")


def _matmul(node: NodeProto) -> str:
    turned = [side for side, name in (("left", "transA"), ("right", "transB")) if _given(node, name, 0)]
    scaled = _given(node, "alpha", 1.0) != 1.0
    parts = [f"a Transpose on the {' and the '.join(turned)}"] * bool(turned) + ["a scale"] * scaled
    return f"MatMul with {' and '.join(parts)}, fused" if parts else "MatMul, fused"


def _in_blocks(node: NodeProto, *, op: str, bits: str = "bits") -> str:
    block = _given(node, "block_size", 0)
    return f"{op} by a weight in int{_given(node, bits, 4)}" + (f" in blocks of {block}" if block else "")


def _four_bits(node: NodeProto) -> str:
    name = {0: "fp4", 1: "nf4"}.get(_given(node, "quant_type", 1), "4 bits")
    return f"MatMul by a weight in {name} in blocks of {_given(node, 'block_size', 64)}"


_FUSED: Mapping[str, _Said] = {
    **dict.fromkeys(("FusedConv", "NhwcFusedConv", "Conv"), partial(_and_activation, op="Conv", addend=3)),
    "FusedGemm": partial(_and_activation, op="Gemm"),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation"), _matmul),
    "GemmFastGelu": _always("MatMul and Gelu, fused"),
    "GemmFloat8": _always("Gemm of 8-bit floats"),
    **dict.fromkeys(("Attention", "PackedAttention", "LongformerAttention", "DecoderAttention"), _attention),
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention", "PackedMultiHeadAttention", "PagedAttention",
                     "DecoderMaskedMultiHeadAttention", "SparseAttention"), partial(_attention, holds=False)),
    "EmbedLayerNormalization": _always("words, positions and segments looked up, added and normalized, fused"),
    "SkipLayerNormalization": _always("a sum and LayerNormalization, fused"),
    "SkipSimplifiedLayerNormalization": _always("a sum and RMS normalization, fused"),
    "SimplifiedLayerNormalization": _always("RMS normalization, fused"),
    **dict.fromkeys(("GroupNorm", "SkipGroupNorm"), _always("group normalization and its activation, fused")),
    **dict.fromkeys(("BiasGelu", "FastGelu"), _always("a bias and Gelu, fused")),
    **dict.fromkeys(("Gelu", "QuickGelu"), _always("Gelu, fused")),
    "BiasSoftmax": _always("a bias and Softmax, fused"),
    "BiasAdd": _always("a bias and a sum, fused"),
    "BiasSplitGelu": _always("a bias and a gated Gelu, fused"),
    "RotaryEmbedding": _always("turns positions into q and k; its tables hold sines and cosines"),
    "NhwcMaxPool": _always("MaxPool, channels last"),
    "MoE": _always("a mixture of experts, fused: its weights are those of all experts"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput"), _always("changes the layout of channels")),
}  # fmt: skip
"""Of ONNX Runtime."""

_QUANTIZED: Mapping[str, _Said] = {
    "QLinearConv": _always("Conv of whole numbers, by scales that were calibrated"),
    "QLinearMatMul": _always("MatMul of whole numbers, by scales that were calibrated"),
    "QGemm": _always("Gemm of whole numbers, by scales that were calibrated"),
    "ConvInteger": _always("Conv of whole numbers; what enters is quantized as it runs"),
    "MatMulInteger": _always("MatMul of whole numbers; what enters is quantized as it runs"),
    "MatMulIntegerToFloat": _always("MatMul of whole numbers and its scale, fused"),
    "DynamicQuantizeMatMul": _always("MatMul of whole numbers that quantizes what enters as it runs, fused"),
    "DynamicQuantizeLSTM": _always("LSTM of whole numbers; what enters is quantized as it runs"),
    "DynamicQuantizeLinear": _always("floats become int8, by a scale found as it runs"),
    "QuantizeLinear": _always("floats become whole numbers, by a scale that was calibrated"),
    "DequantizeLinear": _always("whole numbers become floats"),
    "QAttention": lambda node: f"{_attention(node)}, and computes with whole numbers",
    "QEmbedLayerNormalization": _always("words, positions and segments in int8 looked up, added and normalized, fused"),
    "MatMulNBits": partial(_in_blocks, op="MatMul"),
    "MatMulBnb4": _four_bits,
    "GatherBlockQuantized": partial(_in_blocks, op="lookup"),
    "QMoE": partial(_in_blocks, op="a mixture of experts", bits="expert_weight_bits"),
}  # fmt: skip
"""In which numbers are whole, or unpacked as they are read."""
