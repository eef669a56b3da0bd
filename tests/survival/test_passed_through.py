"""Nodes that are quantized, fused or unknown: untouched, explained, and the rest of the model compressed."""

from __future__ import annotations

import numpy as np
import pytest

import onnx_dalr
from tests.graph.helpers import initializers, model, run, values
from tests.survival.helpers import WIDE, W, compressed, feeds, largest_error, optimize, reasons, untouched

S, ZERO = np.array(0.05, np.float32), np.array(0, np.int8)
BYTES = (np.clip(W["V"] * 60, -127, 127)).astype(np.int8)
PASSED_THROUGH = {
    "QDQ": (
        "q = QuantizeLinear(h, s, z)  dq = DequantizeLinear(q, s, z)  w = DequantizeLinear(B, s, z)"
        "  [odd] y = MatMul(dq, w)",
        {"B": BYTES, "s": S, "z": ZERO},
    ),
    "QLinearMatMul": (
        "q = QuantizeLinear(h, s, z)  [odd] r = QLinearMatMul(q, s, z, B, s, z, s, z)  y = DequantizeLinear(r, s, z)",
        {"B": BYTES, "s": S, "z": ZERO},
    ),
    "MatMulInteger": (
        "q = QuantizeLinear(h, s, z)  [odd] r = MatMulInteger(q, B, z, z)  y = Cast <to = 1> (r)",
        {"B": BYTES, "s": S, "z": ZERO},
    ),
    "MatMulNBits": (
        "[odd] y = com.microsoft.MatMulNBits <K = 64, N = 64, bits = 4, block_size = 32> (h, B, s)",
        {"B": np.full((64, 2, 16), 0x7A, np.uint8), "s": np.full(128, 0.1, np.float32)},
    ),
    "FusedMatMul": ("[odd] y = com.microsoft.FusedMatMul <alpha = 0.5> (h, B)", {"B": W["V"]}),
    "FusedGemm": ('[odd] y = com.microsoft.FusedGemm <activation = "Relu"> (h, B, c)', {"B": W["V"], "c": (64,)}),
    "Attention": (
        """one = Constant <value = int64[1] {0}> ()  three = Unsqueeze(h, one)
        [odd] a = com.microsoft.Attention <num_heads = 4> (three, B, c)  y = Squeeze(a, one)""",
        {"B": values("B", (64, 192)) / np.float32(8), "c": (192,)},
    ),
}
ADVICE = {"quantized": "compress the float model first, quantize after", "fused": "compress the model before"}


@pytest.mark.parametrize("kind", PASSED_THROUGH)
def test_nodes_that_are_quantized_or_fused_are_passed_through_with_advice(kind: str) -> None:
    text, constants = PASSED_THROUGH[kind]
    proto = model(
        f"g (float[N,64] x) => (float[N,64] y) {{ [fc] h = MatMul(x, W) {text} }}", checked=False, W=W["W"], **constants
    )
    result = optimize(proto, calib=feeds(), rank=16)
    assert compressed(result) == {"fc"}
    assert largest_error(proto, result.model, {"x": WIDE[80:]}) < 0.1
    assert untouched(proto, result, "odd")
    np.testing.assert_array_equal(initializers(result.model)["B"], initializers(proto)["B"])
    reason = reasons(result)["odd"]
    assert any(reason.startswith(kind) and advice in reason for kind, advice in ADVICE.items())


@pytest.mark.parametrize("kind", PASSED_THROUGH)
def test_where_nothing_else_is_there_the_error_gives_the_advice(kind: str) -> None:
    text, constants = PASSED_THROUGH[kind]
    proto = model(f"g (float[N,64] x) => (float[N,64] y) {{ h = Tanh(x) {text} }}", checked=False, **constants)
    with pytest.raises(onnx_dalr.NothingToGainError, match="|".join(ADVICE.values())):
        optimize(proto, calib=feeds(), rank=16)


def test_nodes_of_a_domain_that_onnxruntime_does_not_know_are_refused_in_one_line() -> None:
    proto = model(
        "g (float[N,64] x) => (float[N,64] y) { [fc] h = MatMul(x, W) [odd] y = custom.Mystery(h, B) }",
        checked=False,
        W=W["W"],
        B=W["V"],
    )
    with pytest.raises(onnx_dalr.InputError, match=r"ONNX Runtime cannot load the model.*Mystery") as caught:
        optimize(proto, calib=feeds(), rank=12)
    assert "\n" not in caught.value.message


def test_a_domain_that_is_imported_and_unused_stays_imported() -> None:
    proto = model("g (float[N,64] x) => (float[N,64] y) { [fc] y = MatMul(x, W) }", W=W["W"])
    proto.opset_import.add(domain="org.example", version=7)
    result = optimize(proto, calib=feeds(), rank=12)
    assert list(result.model.opset_import) == list(proto.opset_import)
    assert run(result.model, {"x": WIDE[80:]})["y"].shape == (16, 64)
