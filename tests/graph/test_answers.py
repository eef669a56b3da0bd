"""What the graph says of a model's outputs: who makes them, the scores behind class numbers, by-products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from onnx_dalr.graph.answers import OutputFacts, exposing, output_facts
from tests.graph.helpers import model, run

Parse = Callable[[str], ModelProto]

HEADER = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'


def facts(ends: str, body: str, **constants: tuple[int, ...]) -> dict[str, OutputFacts]:
    made = model(f"{HEADER} net {ends} {{ {body} }}", **constants)
    return {one.name: one for one in output_facts(made)}


# Who makes them


@pytest.mark.parametrize(
    ("body", "makers"),
    [
        ("y = Sigmoid(x)", {"Sigmoid"}),
        ("s = Sigmoid(x) y = Identity(s)", {"Sigmoid"}),
        ("s = Tanh(x) r = Flatten(s) y = Transpose(r)", {"Tanh"}),
        ("s = Sigmoid(x) t = Exp(x) y = Concat <axis = 1> (s, t)", {"Sigmoid", "Exp"}),
        ("a, b = Split <axis = 1> (x) s = Softmax(a) t = Relu(b) y = Concat <axis = 1> (s, t)", {"Softmax", "Relu"}),
        ("y = Identity(x)", set()),
    ],
)
def test_makers_are_found_behind_what_only_moves_values(body: str, makers: set[str]) -> None:
    found = facts("(float[N, 8] x) => (float[M, K] y)", body)["y"]
    assert found.makers == makers


def test_axes_are_as_declared() -> None:
    found = facts("(float[N, 8] x) => (float[N, 8] y, float z)", "y = Relu(x) z = ReduceSum <keepdims = 0> (x)")
    assert (found["y"].dims, found["z"].dims) == (("N", 8), ())


def test_an_output_without_a_shape_says_nothing_of_its_axes(parse: Parse) -> None:
    made = parse(f"{HEADER} net (float[N, 8] x) => (float[N, 8] y) {{ y = Relu(x) }}")
    made.graph.output[0].type.tensor_type.ClearField("shape")
    assert output_facts(made)[0].dims is None


# The scores behind class numbers


@pytest.mark.parametrize(
    "body",
    [
        "y = ArgMax <axis = 1, keepdims = 0> (s)",
        "a = ArgMax <axis = 1> (s) y = Squeeze(a, one)",
        "k = Constant <value_ints = [1]> () v, a = TopK <axis = 1> (s, k) y = Squeeze(a, one)",
        "a = ArgMax <axis = 1, keepdims = 0> (s) names = Constant <value_ints = [7, 8, 9]> () y = Gather(names, a)",
    ],
)
def test_scores_are_found_behind_the_largest_of_them(body: str) -> None:
    text = f"s = MatMul(x, W) one = Constant <value_ints = [1]> () {body}"
    assert facts("(float[N, 8] x) => (int64[N] y)", text, W=(8, 3))["y"].scores == "s"


def test_a_zipmap_names_its_scores() -> None:
    text = """s = MatMul(x, W)
        y = ai.onnx.ml.ZipMap <classlabels_strings = ["a", "b", "c"]> (s)"""
    made = model(f"{HEADER} net (float[N, 8] x) => (seq(map(string, float)) y) {{ {text} }}", W=(8, 3), checked=False)
    assert output_facts(made)[0].scores == "s"


@pytest.mark.parametrize(
    "body",
    [
        "y = ArgMax <axis = 1, keepdims = 0> (x)",  # of what is given, not made
        "s = MatMul(x, W) i = ArgMax <axis = 1, keepdims = 0> (s) y = Neg(i)",
        "s = MatMul(x, W) y = Shape(s)",
    ],
)
def test_other_integers_have_no_scores(body: str) -> None:
    assert facts("(float[N, 8] x) => (int64[M] y)", body, W=(8, 3))["y"].scores is None


def test_values_of_the_largest_are_no_class_numbers() -> None:
    text = "s = MatMul(x, W) k = Constant <value_ints = [1]> () y, a = TopK <axis = 1> (s, k)"
    assert facts("(float[N, 8] x) => (float[N, 1] y)", text, W=(8, 3))["y"].scores is None


# By-products

ATTENTION = """
    q = MatMul(x, Q) k = MatMul(x, K) t = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul(q, t) weights = Softmax(scores) {then} v = MatMul(x, V) y = MatMul({read}, v) {shown}
"""
SIZES = {"Q": (8, 8), "K": (8, 8), "V": (8, 8)}


def attention(outputs: str, then: str = "", read: str = "weights", shown: str = "") -> dict[str, OutputFacts]:
    ends = f"(float[N, T, 8] x) => (float[N, T, 8] y, {outputs})"
    return facts(ends, ATTENTION.format(then=then, read=read, shown=shown), **SIZES)


def test_attention_weights_are_a_byproduct() -> None:
    found = attention("float[N, T, T] weights")
    assert found["weights"].byproduct == "attention weights inside the model, on the way to 'y'"
    assert found["y"].byproduct == ""


@pytest.mark.parametrize(
    ("then", "read", "shown", "shape"),
    [
        ("dropped = Dropout(weights)", "dropped", "shown = Identity(weights)", "N, T, T"),
        ("", "weights", "axis = Constant <value_ints = [1]> () shown = Unsqueeze(weights, axis)", "N, 1, T, T"),
        ("", "weights", "shown = ReduceMean <axes = [1]> (weights)", "N, 1, T"),
        ("", "weights", "shown = Concat <axis = 1> (weights, weights)", "N, S, T"),
    ],
    ids=["dropped", "laid out", "averaged", "joined"],
)
def test_they_are_where_they_are_laid_out_or_averaged_to_be_shown(then: str, read: str, shown: str, shape: str) -> None:
    found = attention(f"float[{shape}] shown", then, read, shown)
    assert found["shown"].byproduct.startswith("attention weights inside the model")


def test_probabilities_are_the_answer_also_where_something_is_computed_of_them() -> None:
    found = facts(
        "(float[N, 8] x) => (float[N, 101] p, int64[N] best, float[N, 1] age)",
        "s = MatMul(x, W) p = Softmax(s) best = ArgMax <axis = 1, keepdims = 0> (p) age = MatMul(p, years)",
        W=(8, 101),
        years=(101, 1),
    )
    assert [one.byproduct for one in found.values()] == ["", "", ""]


def test_an_earlier_stage_of_the_same_shape_is_a_byproduct() -> None:
    found = facts(
        "(float[N, T, 8] x) => (float[N, T, 8] first, float[N, T, 8] last, float[N, T, 3] head)",
        "a = MatMul(x, A) first = Relu(a) b = MatMul(first, B) last = Relu(b) head = MatMul(last, C)",
        A=(8, 8),
        B=(8, 8),
        C=(8, 3),
    )
    assert [one.byproduct for one in found.values()] == ["an earlier stage of 'last'", "", ""]


def test_scores_and_probabilities_of_one_answer_both_count() -> None:
    found = facts("(float[N, 8] x) => (float[N, 3] s, float[N, 3] p)", "s = MatMul(x, W) p = Softmax(s)", W=(8, 3))
    assert [one.byproduct for one in found.values()] == ["", ""]


# Shown


def test_tensors_inside_come_after_the_models_own_outputs() -> None:
    made = model("net (float[N, 8] x) => (float[N, 3] y) { s = MatMul(x, W) r = Relu(s) y = Neg(r) }", W=(8, 3))
    shown = exposing(made, ["s", "r"])
    assert [value.name for value in shown.graph.output] == ["y", "s", "r"]
    assert [value.name for value in made.graph.output] == ["y"]
    found = run(shown, {"x": np.ones((2, 8), np.float32)})
    np.testing.assert_array_equal(found["y"], -np.maximum(found["s"], 0))
    assert exposing(made, []) is made
