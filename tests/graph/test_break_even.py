"""What a layer costs at a rank: parameters counted before and after agree with the formula, whatever its bias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize.shape import Shape
from onnx_dalr.graph.kinds.matmul import MatMul
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model, count_params
from tests.graph.helpers import model, only_layer, thin

RANK = 2
HEAD = "g (float[5,6] x, float[8] c, float[5,8] cc) => (float[5,8] y, float[?,?] z) { "
FORMS = {
    "Gemm without bias": ("y = Gemm(x, W)", {}, 8),
    "Gemm, scalar": ("y = Gemm(x, W, b)", {"b": ()}, 7),
    "Gemm, [1]": ("y = Gemm(x, W, b)", {"b": (1,)}, 7),
    "Gemm, [m]": ("y = Gemm(x, W, b)", {"b": (8,)}, 0),
    "Gemm, [1,m]": ("y = Gemm(x, W, b)", {"b": (1, 8)}, 0),
    "Gemm, [M,m]": ("y = Gemm(x, W, b)", {"b": (5, 8)}, 8),
    "Gemm, [M,1]": ("y = Gemm(x, W, b)", {"b": (5, 1)}, 8),
    "Gemm, dynamic": ("y = Gemm(x, W, c)", {}, 8),
    "Gemm, scaled": ("y = Gemm <beta = 2.0> (x, W, b)", {"b": (8,)}, 0),
    "Gemm, scaled and loose": ("y = Gemm <beta = 2.0> (x, W, cc)", {}, 9),
    "Gemm, bias read elsewhere": ("y = Gemm(x, W, b)  z = Relu(b)", {"b": (8,)}, 8),
    "MatMul": ("y = MatMul(x, W)", {}, 8),
    "MatMul, Add": ("p = MatMul(x, W)  y = Add(p, b)", {"b": (8,)}, 0),
    "MatMul, Add of a scalar": ("p = MatMul(x, W)  y = Add(b, p)", {"b": ()}, 7),
    "MatMul, Add of many rows": ("p = MatMul(x, W)  y = Add(p, b)", {"b": (5, 8)}, 8),
    "MatMul, bias read elsewhere": ("p = MatMul(x, W)  y = Add(p, b)  z = Relu(b)", {"b": (8,)}, 8),
    "two users without bias": ("y = MatMul(x, W)  r = Relu(x)  z = MatMul(r, W)", {}, 8),
    "two users of one bias": ("y = Gemm(x, W, b)  r = Relu(x)  z = Gemm(r, W, b)", {"b": (8,)}, 0),
    "two users of a bias each": ("y = Gemm(x, W, b)  r = Relu(x)  z = Gemm(r, W, a)", {"b": (8,), "a": (8,)}, 0),
    "two users, one bias": ("y = Gemm(x, W, b)  r = Relu(x)  z = Gemm(r, W)", {"b": (8,)}, 8),
    "two scales of one bias": ("y = Gemm(x, W, b)  r = Relu(x)  z = Gemm <beta = 2.0> (r, W, b)", {"b": (8,)}, 8),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_corrected_layer_loses_what_the_formula_says(form: str) -> None:
    nodes, biases, growth = FORMS[form]
    proto = model(f"{HEAD}{nodes} }}", checked=False, W=(6, 8), **biases)
    layer = only_layer(proto)
    assert layer.bias_growth == growth
    made = rewrite(Model(proto), [thin(layer, RANK)]).proto
    assert count_params(proto) - count_params(made) == 8 * 6 - RANK * (8 + 6) - growth


@pytest.mark.parametrize("form", [form for form in FORMS if form != "Gemm, scaled and loose"])
def test_an_uncorrected_layer_never_gains_a_bias(form: str) -> None:
    nodes, biases, _ = FORMS[form]
    proto = model(f"{HEAD}{nodes} }}", checked=False, W=(6, 8), **biases)
    made = rewrite(Model(proto), [thin(only_layer(proto), RANK, shift=0.0)]).proto
    grown = 8 if form == "two scales of one bias" else 0  # b itself and 2·b
    assert count_params(proto) - count_params(made) == 8 * 6 - RANK * (8 + 6) - grown


@given(m=st.integers(1, 40), n=st.integers(1, 40), growth=st.integers(0, 40), compensated=st.booleans())
def test_break_even_is_the_largest_rank_that_saves_parameters(m: int, n: int, growth: int, compensated: bool) -> None:
    layer = Layer("fc", "W", MatMul(), Shape(m, n), np.dtype(np.float32), (), growth, 0)
    new_bias = growth if compensated else 0
    saving = [k for k in range(m * n) if k * (m + n) + new_bias < m * n]
    assert layer.break_even(compensated=compensated) == max(saving, default=0)


def test_at_break_even_the_model_gets_smaller_and_above_it_does_not() -> None:
    proto = model("g (float[N,30] x) => (float[N,20] y) { y = MatMul(x, W) }", W=(30, 20))
    layer = only_layer(proto)
    for compensated in (False, True):
        k = layer.break_even(compensated=compensated)
        counts = [
            count_params(rewrite(Model(proto), [thin(layer, rank, shift=float(compensated))]).proto)
            for rank in (k, k + 1)
        ]
        assert counts[0] < count_params(proto) <= counts[1]
