"""What operators that no exporter writes are, in words."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from onnx_dalr.graph.in_words import grain, in_words
from onnx_dalr.graph.storage.packed import Packed


def said(op: str, domain: str = "com.microsoft", inputs: int = 2, **attributes: Any) -> str | None:
    node = helper.make_node(op, [f"i{at}" for at in range(inputs)], ["y"], domain=domain, **attributes)
    words = in_words(node)
    return None if words is None else words.said


@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul", "Attention", "LSTM", "LayerNormalization", "Einsum", "If"])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_what_exporters_write_needs_no_words(op: str, domain: str) -> None:
    assert said(op, domain) is None


@pytest.mark.parametrize(
    ("words", "op", "attributes"),
    [
        ("Conv and its Relu, fused", "FusedConv", {"activation": "Relu"}),
        ("Gemm, fused", "FusedGemm", {}),
        ("MatMul with a Transpose on the right and a scale, fused", "FusedMatMul", {"transB": 1, "alpha": 0.5}),
        ("MatMul with a Transpose on the left and the right, fused", "TransposeMatMul", {"transA": 1, "transB": 1}),
        ("a whole attention of 12 heads, fused; its weight holds q, k and v", "Attention", {"num_heads": 12}),
        ("a whole attention, fused; it has no weight", "MultiHeadAttention", {}),
        ("a sum and LayerNormalization, fused", "SkipLayerNormalization", {}),
        ("words, positions and segments looked up, added and normalized, fused", "EmbedLayerNormalization", {}),
        ("MatMul by a weight in int4 in blocks of 32", "MatMulNBits", {"bits": 4, "block_size": 32}),
        ("MatMul by a weight in int8 in blocks of 64", "MatMulNBits", {"bits": 8, "block_size": 64}),
        ("MatMul by a weight in nf4 in blocks of 64", "MatMulBnb4", {"quant_type": 1, "block_size": 64}),
        ("lookup by a weight in int4 in blocks of 128", "GatherBlockQuantized", {"block_size": 128}),
        ("Add of whole numbers", "QLinearAdd", {}),
        ("an operator of ONNX Runtime (com.microsoft)", "Inverse", {}),
    ],
)
def test_operators_of_onnx_runtime(words: str, op: str, attributes: dict[str, Any]) -> None:
    assert said(op, **attributes) == words


def test_what_is_added_to_a_convolution_is_said() -> None:
    assert said("FusedConv", inputs=4, activation="Relu") == "Conv and its Relu, fused, with what is added to it"


def test_a_layout_for_one_kind_of_cpu_is_said() -> None:
    assert said("Conv", "com.microsoft.nchwc", activation="Relu") == (
        "Conv and its Relu, fused, laid out for the CPU it was optimized on"
    )


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_whole_numbers_are_said_in_any_domain(domain: str) -> None:
    node = helper.make_node("QLinearConv", [], ["y"], domain=domain)
    words = in_words(node)
    assert words is not None
    assert words.quantized
    assert words.said == "Conv of whole numbers, by scales that were calibrated"


def test_of_other_domains_only_the_domain_is_known() -> None:
    assert said("MatMul", "acme") == "an operator of acme"


def test_attributes_of_another_type_or_of_a_function_are_left_aside() -> None:
    assert said("Attention", num_heads="many") == "a whole attention, fused; its weight holds q, k and v"
    node = helper.make_node("FusedConv", ["x", "W"], ["y"], domain="com.microsoft", activation=b"\xff\xfe")
    assert in_words(node) is not None
    node.attribute[0].ref_attr_name = "outer"
    assert in_words(node) is not None


@pytest.mark.parametrize(
    ("block", "shape", "words"),
    [
        (None, (64, 32), ""),
        (32, (64, 32), "a scale a channel"),
        (16, (64, 32), "in blocks of 16"),
        (2048, (64, 32), "one scale"),
        (1, (2048,), ""),
    ],
)
def test_how_many_numbers_share_a_scale(block: int | None, shape: tuple[int, ...], words: str) -> None:
    assert grain(Packed("W", TensorProto.INT8, 2048, "int8", shape, shape, block)) == words


def test_a_single_number_has_no_blocks() -> None:
    assert grain(Packed("W", TensorProto.INT8, 1, "int8", (1,), (1,), 1)) == ""
