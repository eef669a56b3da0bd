"""Weights of every element type, stored as they are or behind Cast, Identity and Transpose."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_dalr
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model, ops
from tests.survival.helpers import checked, compressed, dtypes, largest_error, optimize, rows

TYPES = {"float16": np.float16, "float": np.float32, "double": np.float64}
# What the arithmetic of the type loses by itself, with room.
CLOSE = {"float16": 5e-3, "float": 1e-4, "double": 1e-6}


def weight(n: int, m: int, dtype: Any, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, m)) / np.sqrt(n)).astype(dtype)


def both(kind: str) -> onnx.ModelProto:
    dtype = TYPES[kind]
    return model(
        f"""g ({kind}[N,48] x) => ({kind}[N,64] y) {{
            [gemm] h = Gemm <transB = 1> (x, W1, b1)
            r = Relu(h)
            [matmul] p = MatMul(r, W2)
            y = Add(p, b2)
        }}""",
        W1=weight(64, 48, dtype),
        b1=weight(1, 64, dtype).reshape(64),
        W2=weight(64, 64, dtype, 1),
        b2=weight(1, 64, dtype, 2).reshape(64),
    )


@pytest.mark.parametrize("kind", TYPES)
def test_a_model_of_one_type_keeps_it_in_weights_and_results(kind: str) -> None:
    proto, samples = both(kind), rows((96, 48), dtype=TYPES[kind])
    result = optimize(proto, calib=samples[16:], rank=16)
    assert compressed(result) == {"gemm", "matmul"}
    assert set(dtypes(checked(result)).values()) == {kind.upper()}
    assert largest_error(proto, result.model, {"x": samples[:16]}) < 0.1


@pytest.mark.parametrize("kind", TYPES)
def test_at_high_rank_the_outputs_are_those_of_the_original(kind: str) -> None:
    proto, samples = both(kind), rows((96, 48), dtype=TYPES[kind])
    result = optimize(proto, calib=samples[16:], rank="gemm=26")
    assert compressed(result) == {"gemm"}
    assert largest_error(proto, result.model, {"x": samples[:16]}) < max(CLOSE[kind], 3e-3)


@pytest.mark.parametrize("kind", TYPES)
def test_verification_runs_in_the_models_own_type(kind: str) -> None:
    """The quality figures are of float16 arithmetic where the model computes in float16."""
    proto, samples = both(kind), rows((96, 48), dtype=TYPES[kind])
    result = optimize(proto, calib=samples, rank=16)
    assert result.quality is not None
    report = samples[[int(name.rpartition("[")[2].rstrip("]")) for name in result.samples.report]]
    one, two = (
        ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": report})[0]
        for made in (proto, result.model)
    )
    assert one.dtype == two.dtype == TYPES[kind]
    expected = np.linalg.norm(two.astype(float) - one.astype(float)) / np.linalg.norm(one.astype(float))
    assert result.quality.error.value == pytest.approx(expected, rel=0.1)


def test_layers_of_several_types_in_one_model() -> None:
    proto = model(
        """g (float[N,48] x) => (double[N,40] y) {
            [single] s = MatMul(x, W1)
            half = Cast <to = 10> (s)
            [half] h = Gemm(half, W2, b2)
            wide = Cast <to = 11> (h)
            [double] y = MatMul(wide, W3)
        }""",
        W1=weight(48, 64, np.float32),
        W2=weight(64, 56, np.float16, 1),
        b2=weight(1, 56, np.float16, 2).reshape(56),
        W3=weight(56, 40, np.float64, 3),
    )
    samples = rows((96, 48))
    result = optimize(proto, calib=samples[16:], rank=12)
    assert compressed(result) == {"single", "half", "double"}
    kinds = dtypes(checked(result))
    assert {name: kinds[name] for name in kinds if name.endswith(("_A", "_B"))} == {
        "W1.dalr_A": "FLOAT",
        "W1.dalr_B": "FLOAT",
        "W2.dalr_A": "FLOAT16",
        "W2.dalr_B": "FLOAT16",
        "W3.dalr_A": "DOUBLE",
        "W3.dalr_B": "DOUBLE",
    }
    assert largest_error(proto, result.model, {"x": samples[:16]}) < 0.01


STORED = {
    "float16": (np.float16, "FLOAT16", 5e-3),
    "bfloat16": (ml_dtypes.bfloat16, "BFLOAT16", 2e-2),
    "double": (np.float64, "DOUBLE", 5e-3),
}


@pytest.mark.parametrize("stored", STORED)
def test_a_weight_stored_in_another_type_than_it_is_used_in(stored: str) -> None:
    dtype, kind, error = STORED[stored]
    proto = model(
        "g (float[N,48] x) => (float[N,64] y) { w = Cast <to = 1> (W)  [fc] p = MatMul(x, w)  y = Add(p, b) }",
        W=weight(48, 64, dtype),
        b=(64,),
    )
    samples = rows((96, 48))
    result = optimize(proto, calib=samples[16:], rank=20)
    assert compressed(result) == {"fc"}
    kinds = dtypes(checked(result))
    assert {kinds["W.dalr_A"], kinds["W.dalr_B"]} == {kind}
    assert {kinds[name] for name in kinds if name.startswith("b")} == {"FLOAT"}
    assert "W" not in kinds
    assert ops(result.model).count("Cast") == 2
    assert largest_error(proto, result.model, {"x": samples[:16]}) < error


@pytest.mark.parametrize(
    "way",
    [
        "w = Identity(W)",
        "w = Transpose <perm = [1, 0]> (W)",
        "w = Transpose(W)",
        "i = Identity(W)  t = Transpose(i)  w = Identity(t)",
        "t = Transpose(W)  u = Transpose(t)  w = Transpose(u)",
    ],
)
@pytest.mark.parametrize("constant_node", [False, True], ids=["initializer", "Constant node"])
def test_a_weight_behind_nodes_that_only_carry_it(way: str, constant_node: bool) -> None:
    value = weight(48, 64, np.float32)
    value = np.ascontiguousarray(value.T) if "Transpose" in way else value
    proto = model(
        f"g (float[N,48] x) => (float[N,64] y) {{ {way}  [fc] p = MatMul(x, w)  y = Add(p, b) }}", W=value, b=(64,)
    )
    if constant_node:
        tensor = proto.graph.initializer[0]
        proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["W"], value=tensor))
        del proto.graph.initializer[0]
    samples = rows((96, 48))
    result = optimize(proto, calib=samples[16:], rank=16)
    assert compressed(result) == {"fc"}
    assert ops(checked(result)) == ["MatMul", "MatMul", "Add"]
    assert largest_error(proto, result.model, {"x": samples[:16]}) < 0.01


def test_a_gemm_whose_weight_is_cast_and_transposed() -> None:
    proto = model(
        """g (float[N,48] x) => (float[N,64] y) {
            c = Cast <to = 1> (W)  t = Transpose(c)
            [fc] y = Gemm <alpha = 0.5, beta = 2.0> (x, t, b)
        }""",
        W=weight(64, 48, np.float16),
        b=(64,),
    )
    samples = rows((96, 48))
    result = optimize(proto, calib=samples[16:], rank=16)
    kinds = dtypes(checked(result))
    assert {kinds["W.dalr_A"], kinds["W.dalr_B"]} == {"FLOAT16"}
    assert largest_error(proto, result.model, {"x": samples[:16]}) < 0.01


SHARED = """g (float[N,48] x, float[N,48] z) => (float[N,64] y, float[N,64] v) {
    c = Cast <to = 1> (W)  t = Transpose(c)
    [a] y = MatMul(x, t)
    [b] v = MatMul(z, t)
}"""


def test_two_users_of_one_chain_are_one_layer() -> None:
    proto = model(SHARED, W=weight(64, 48, np.float16))
    samples = rows((96, 48))
    result = optimize(proto, calib={"x": samples[16:], "z": samples[:-16] * 2}, rank=16)
    (layer,) = result.layers
    assert layer.nodes == ("a", "b")
    assert set(dtypes(checked(result))) == {"W.dalr_A", "W.dalr_B", "W.dalr_bias"}
    assert ops(result.model).count("Cast") == 2
    assert largest_error(proto, result.model, {"x": samples[:16], "z": samples[:16]}) < 0.02


def test_a_chain_that_somebody_else_reads_stays_whole() -> None:
    text = SHARED.replace("[b] v = MatMul(z, t)", "[b] s = Add(z, z)  [sum] q = ReduceSum(t)  v = Add(s, q)").replace(
        "float[N,64] v", "float[N,48] v"
    )
    proto = model(text, W=weight(64, 48, np.float16))
    samples = rows((96, 48))
    with pytest.raises(onnx_dalr.NothingToGainError, match="eligible"):
        optimize(proto, calib={"x": samples, "z": samples}, rank=16)


BFLOAT16 = "bfloat16 arithmetic: ONNX Runtime has no kernels for it on the CPU to calibrate with"
BRAIN = """g (float[N,48] x) => (float[N,64] y, bfloat16[N,64] z) {
    [fc] y = MatMul(x, W)
    b = Cast <to = 16> (x)
    [brain] z = MatMul(b, V)
}"""


def test_bfloat16_arithmetic_is_skipped_with_the_reason() -> None:
    proto = model(BRAIN, W=weight(48, 64, np.float32), V=weight(48, 64, ml_dtypes.bfloat16))
    layers, skipped = find(Model(proto))
    assert [layer.name for layer in layers] == ["fc"]
    assert [(entry.name, entry.reason) for entry in skipped] == [("brain", BFLOAT16)]


def test_a_model_that_computes_in_bfloat16_only_says_why_there_is_nothing_to_gain() -> None:
    proto = model(
        "g (bfloat16[N,48] x) => (bfloat16[N,64] y) { y = MatMul(x, W) }", W=weight(48, 64, ml_dtypes.bfloat16)
    )
    with pytest.raises(onnx_dalr.NothingToGainError, match=f"1 nodes skipped, 1 of them: {BFLOAT16}"):
        optimize(proto, calib=rows((96, 48)), rank=16)


def test_a_model_onnxruntime_cannot_run_for_its_bfloat16_is_refused_in_one_line() -> None:
    proto = model(BRAIN, W=weight(48, 64, np.float32), V=weight(48, 64, ml_dtypes.bfloat16))
    with pytest.raises(onnx_dalr.InputError, match=r"ONNX Runtime cannot load the model: .*'brain'"):
        optimize(proto, calib=rows((96, 48)), rank=16)


def test_a_bfloat16_weight_in_bfloat16_arithmetic_behind_a_cast_is_skipped_too() -> None:
    proto = model(
        "g (bfloat16[N,48] x) => (bfloat16[N,64] y) { w = Cast <to = 16> (W)  [fc] y = MatMul(x, w) }",
        W=weight(48, 64, np.float32),
    )
    with pytest.raises(onnx_dalr.NothingToGainError, match="bfloat16 arithmetic"):
        optimize(proto, calib=rows((96, 48)).astype(ml_dtypes.bfloat16), rank=16)


def test_a_float16_convolution() -> None:
    proto = model(
        "g (float16[N,32,6,6] x) => (float16[N,48,6,6] y) { [pw] y = Conv <kernel_shape = [1, 1]> (x, W, b) }",
        W=weight(48, 32, np.float16).reshape(48, 32, 1, 1),
        b=weight(1, 48, np.float16).reshape(48),
    )
    samples = rows((96, 32, 6, 6), axis=1, dtype=np.float16)
    result = optimize(proto, calib=samples[16:], rank=12)
    assert set(dtypes(checked(result)).values()) == {"FLOAT16"}
    assert largest_error(proto, result.model, {"x": samples[:16]}) < 0.01


@pytest.mark.parametrize("kind", TYPES)
def test_large_numbers_do_not_overflow_on_the_way_to_the_result(kind: str) -> None:
    """Values in the hundreds: their moments reach far beyond what float16 can hold, and are kept in float64."""
    errors = {}
    for precision in (kind, "double"):
        proto, samples = both(precision), (rows((96, 48)) * 100).astype(TYPES[precision])
        result = optimize(proto, calib=samples[16:], rank=16)
        errors[precision] = largest_error(proto, result.model, {"x": samples[:16]})
    assert errors[kind] < errors["double"] + CLOSE[kind]
