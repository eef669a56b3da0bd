"""Which initializers are tuned beside factors, in which type they are fed, and how they are put back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_dalr.tune.tensors import fed_types, masters, numbers_beside, replaced
from tests.graph.helpers import differences, initializers, model, run, values


def beside(text: str, checked: bool = True, opset: int = 17, **constants: Any) -> list[str]:
    return numbers_beside(model(text, checked=checked, opset=opset, **constants))


def test_biases_of_products_and_of_what_is_added_to_them() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        a = MatMul(x, A)  b = Add(a, plus)  c = Gemm(b, B, bias)  d = MatMul(c, C)  y = Add(last, d)
    }"""
    constants = {"A": (6, 5), "plus": (5,), "B": (5, 5), "bias": (1, 5), "C": (5, 4), "last": (4,)}
    assert beside(text, **constants) == ["plus", "bias", "last"]


def test_biases_of_convolutions() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,8,8] y) {
        a = Conv <kernel_shape = [1, 1]> (x, W1, b1)  b = ConvTranspose <kernel_shape = [1, 1]> (a, W2, b2)
        c = Conv <kernel_shape = [1, 1]> (b, W3)  y = Add(c, b3)
    }"""
    constants = {"W1": (4, 3, 1, 1), "b1": (4,), "W2": (4, 4, 1, 1), "b2": (4,), "W3": (2, 4, 1, 1), "b3": (1, 2, 1, 1)}
    assert beside(text, **constants) == ["b1", "b2", "b3"]


def test_scales_and_shifts_of_norms() -> None:
    text = """g (float[N,6,5,5] x) => (float[N,6,5,5] y) {
        a = BatchNormalization(x, s1, b1, mean, variance)
        b = InstanceNormalization(a, s2, b2)
        c = LayerNormalization <axis = -1> (b, s3, b3)
        y, m, v, sum = com.microsoft.SkipLayerNormalization(c, x, s4, b4, more)
    }"""
    by_channel = dict.fromkeys(["s1", "b1", "mean", "variance", "s2", "b2"], (6,))
    found = beside(text, checked=False, **by_channel, **dict.fromkeys(["s3", "b3", "s4", "b4", "more"], (5,)))
    assert found == ["s1", "b1", "s2", "b2", "s3", "b3", "s4", "b4", "more"]


@pytest.mark.parametrize(
    ("op", "opset", "expected"),
    [("RMSNormalization", 23, ["s"]), ("GroupNormalization", 21, ["s", "b"]), ("LayerNormalization", 17, ["s", "b"])],
)
def test_norms_by_their_operands(op: str, opset: int, expected: list[str]) -> None:
    operands = ", ".join(["x", *expected])
    attributes = "<num_groups = 2>" if op == "GroupNormalization" else ""
    text = f"g (float[N,6] x) => (float[N,6] y) {{ y = {op} {attributes} ({operands}) }}"
    assert beside(text, checked=False, opset=opset, **dict.fromkeys(expected, (6,))) == expected


def test_constants_elsewhere_may_be_anything() -> None:
    text = """g (float[N,6] x) => (float[N,6] y) {
        a = Add(x, anchors)  b = Mul(a, factor)  c = MatMul(b, W)  d = Add(c, one)  e = Add(d, late)  y = Sub(e, less)
    }"""
    constants = {"anchors": (6,), "factor": (6,), "W": (6, 6), "one": (1,), "late": (6,), "less": (6,)}
    assert beside(text, **constants) == []


def test_only_rows_of_floats_that_the_file_holds() -> None:
    text = """g (float[N,6] x) => (float[N,6] y) {
        a = MatMul(x, A)  b = Add(a, table)  c = MatMul(b, B)  y = Add(c, away)
    }"""
    proto = model(text, A=(6, 6), table=(2, 6), B=(6, 6), away=(6,))
    assert numbers_beside(proto) == ["away"]
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "away")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    assert numbers_beside(proto) == []


def test_a_bias_that_two_layers_share_is_one() -> None:
    text = """g (float[N,6] x) => (float[N,6] y) {
        a = MatMul(x, A)  b = Add(a, bias)  c = Gemm(b, A, bias)  y = Add(c, bias)
    }"""
    assert beside(text, A=(6, 6), bias=(6,)) == ["bias"]


# In float32, whatever the file holds

HALVES = """g (float[N,6] x, float16[N,6] h) => (float[N,4] y, float16[N,4] z) {
    wide = Cast <to = 1> (A)  p = MatMul(x, wide)  y = Add(p, b)
    q = MatMul(h, C)  z = Add(q, d)
}"""


def halves() -> ModelProto:
    half = {name: values(name, shape, np.float16) for name, shape in {"A": (6, 4), "C": (6, 4), "d": (4,)}.items()}
    return model(HALVES, b=(4,), **half)


def test_the_values_of_some_initializers() -> None:
    proto = halves()
    found = masters(proto, ["A", "b"])
    assert sorted(found) == ["A", "b"]
    for name, tensor in found.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, initializers(proto)[name])
        np.add(tensor, 1, out=tensor)  # it is a copy
        assert not np.array_equal(tensor, initializers(proto)[name])


def test_float16_is_fed_in_float32_where_only_casts_read_it() -> None:
    proto = halves()
    single, half = np.dtype(np.float32), np.dtype(np.float16)
    assert fed_types(proto, ["A", "b", "C", "d"]) == {"A": single, "b": single, "C": half, "d": half}
    proto.graph.node[3].input[1] = "A"  # the product in float16
    assert fed_types(proto, ["A"]) == {"A": half}


def test_float64_is_fed_as_it_is() -> None:
    proto = model("g (double[N,6] x) => (double[N,4] y) { y = MatMul(x, A) }", A=values("A", (6, 4), np.float64))
    assert fed_types(proto, ["A"]) == {"A": np.dtype(np.float64)}


def test_other_values_are_put_into_a_copy_in_the_type_of_the_file() -> None:
    proto = halves()
    before = proto.SerializeToString()
    tuned = {"A": np.full((6, 4), 1 / 3, np.float32), "b": np.full(4, 1 / 3, np.float32)}
    made = replaced(proto, tuned)
    assert proto.SerializeToString() == before
    held = initializers(made)
    assert (held["A"].dtype, held["b"].dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(held["A"], np.float16(1 / 3))
    np.testing.assert_array_equal(held["b"], np.float32(1 / 3))
    changed = {path.partition(".raw_data")[0] for path in differences(proto, made) if ".raw_data" in path}
    assert changed == {"model.graph.initializer[1]", "model.graph.initializer[0]"}


def test_the_same_values_give_the_same_model() -> None:
    proto = halves()
    made = replaced(proto, masters(proto, ["A", "b", "C", "d"]))
    feeds = {"x": values("x", (3, 6)), "h": values("h", (3, 6), np.float16)}
    for name, expected in run(proto, feeds).items():
        np.testing.assert_array_equal(run(made, feeds)[name], expected)


def test_values_stored_by_field_are_replaced_too() -> None:
    proto = model("g (float[N,2] x) => (float[N,2] y) { y = MatMul(x, A) }", A=values("A", (2, 2)))
    tensor = proto.graph.initializer[0]
    stored = numpy_helper.to_array(tensor).copy()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(stored.ravel().tolist())
    made = replaced(proto, {"A": stored + 1})
    np.testing.assert_array_equal(initializers(made)["A"], stored + 1)
