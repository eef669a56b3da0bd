"""One run is a step: its loss, and the gradients of all that is tuned, which are those of central differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.errors import InputError
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.measures import Classes, Embedding, Numbers
from onnx_dalr.quality.task import Task
from onnx_dalr.session.session import open_session
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.step import StepGraph, Stepper, step_graph
from onnx_dalr.tune.tensors import fed_types, masters
from onnx_dalr.tune.terms import Term, hints, targets, terms_of
from tests.graph.helpers import layers_of, model, run
from tests.quality.task_cases import task
from tests.tune.loss_cases import Array, normals

PAIR = """g (float[N,9] x) => (float[N,5] y) {
    p = MatMul(x, B1)
    h = MatMul(p, A1)
    s = Add(h, b1)
    t = Tanh(s)
    n = LayerNormalization <axis = -1> (t, scale, shift)
    y = Gemm(n, W2, b2)
}"""
PAIR_TENSORS = {"B1": (9, 3), "A1": (3, 8), "b1": (8,), "scale": (8,), "shift": (8,), "W2": (8, 5), "b2": (5,)}
ROUNDED = "g (float[N,64] x) => (float[N,6] y) { h = MatMul(x, W1)  t = Tanh(h)  y = Gemm <transB = 1> (t, W2, b) }"
ROUNDED_TENSORS = {"W1": (64, 32), "W2": (6, 32), "b": (6,)}
KERNELS = """g (float[N,3,6,6] x) => (float[N,5] y) {
    h = Conv <pads = [1, 1, 1, 1]> (x, W1, b1)
    t = Tanh(h)
    m = GlobalAveragePool(t)
    f = Flatten(m)
    y = Gemm <transB = 1> (f, W2)
}"""
CLASSES, UNITS, SIZES = task(Classes()), task(Embedding()), task(Numbers())


def made(text: str, shapes: dict[str, tuple[int, ...]], opset: int = 17) -> ModelProto:
    """A model whose tensors keep the scale of what goes through."""
    tensors = {name: normals(*shape, seed=at) / shape[0] ** 0.5 for at, (name, shape) in enumerate(shapes.items())}
    return model(text, opset=opset, **{name: values.astype(np.float32) for name, values in tensors.items()})


def stepper(student: ModelProto, terms: Sequence[Term], names: Sequence[str]) -> tuple[Stepper, StepGraph, Tensors]:
    """A session of the step, its graph, and the tensors as they are, in float32."""
    types = fed_types(student, names)
    start = masters(student, names)
    graph = step_graph(student, terms, {name: values.astype(types[name]) for name, values in start.items()})
    sessions = [
        open_session(proto.SerializeToString(), "cpu", prepack=False) for proto in (graph.proto, graph.student(["y"]))
    ]
    return Stepper(graph, *sessions), graph, {name: start[name] for name in graph.gradients}


def fed(asked: Task, x: Array, t: Array, kept: Any = None) -> dict[str, Array]:
    """Samples, and what the teacher says on them."""
    return {"x": x.astype(np.float32), **targets(terms_of(asked), {"y": t.astype(np.float32)}, len(x), kept)}


def assert_differences(
    student: ModelProto, asked: Task, names: Sequence[str], feed: dict[str, Array], tolerance: float = 4e-3
) -> dict[str, Array]:
    """Every gradient is that of central differences of the loss, element by element."""
    step, graph, tensors = stepper(student, terms_of(asked), names)
    assert sorted(graph.gradients) == sorted(names)
    assert (graph.ended, graph.partial) == ((), frozenset())
    lost, gradients = step.gradients(feed, tensors)
    assert lost > 1e-3
    for name, values in tensors.items():
        by = 1e-2 * float(np.abs(values).mean())
        expected = np.zeros(values.shape)
        for place in np.ndindex(values.shape):
            both = []
            for sign in (1, -1):
                moved = values.copy()
                moved[place] += sign * by
                both.append((step.gradients(feed, {**tensors, name: moved})[0], float(moved[place])))
            expected[place] = (both[0][0] - both[1][0]) / (both[0][1] - both[1][1])
        found = gradients[name]
        assert (found.dtype, found.shape) == (np.float32, values.shape)
        size = np.abs(expected).max()
        assert size > 0, name
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size, err_msg=name)
    return gradients


@pytest.mark.parametrize("asked", [CLASSES, UNITS, SIZES], ids=["classes", "directions", "numbers"])
def test_factors_biases_and_norms(asked: Task) -> None:
    student = made(PAIR, PAIR_TENSORS)
    assert_differences(student, asked, list(PAIR_TENSORS), fed(asked, normals(6, 9), normals(6, 5, seed=9)))


def test_kernels_and_their_biases() -> None:
    student = made(KERNELS, {"W1": (4, 3, 3, 3), "b1": (4,), "W2": (5, 4)})
    feed = fed(CLASSES, normals(3, 3, 6, 6), normals(3, 5, seed=9))
    assert_differences(student, CLASSES, ["W1", "b1", "W2"], feed)


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("format", ["int8", "int8/64", "int4/32"])
def test_scales_of_rounded_weights(format: str, opset: int) -> None:
    original = made(ROUNDED, ROUNDED_TENSORS, opset)
    pieces = [
        Substitution.of(layer, (Piece("W", matrix(Model(original), layer)),), FORMATS[format], np.zeros(layer.m))
        for layer in layers_of(original)
    ]
    rewritten = rewrite(Model(original), pieces)
    floats = {t.name for t in rewritten.proto.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims}
    scales = [name for names in rewritten.tensors.values() for name in names if name in floats and "_scale" in name]
    assert len(scales) == 2
    feed = fed(CLASSES, normals(6, 64), normals(6, 6, seed=9))
    assert_differences(rewritten.proto, CLASSES, [*scales, "b"], feed)


def in_float16(names: Sequence[str]) -> ModelProto:
    """The pair with tensors stored in float16 behind a Cast."""
    proto = made(PAIR, PAIR_TENSORS)
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{tensor.name}_half"))
            cast = helper.make_node("Cast", [tensor.name], [tensor.name.removesuffix("_half")], to=TensorProto.FLOAT)
            proto.graph.node.insert(0, cast)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def test_float16_behind_a_cast_is_fed_in_float32() -> None:
    student = in_float16(["B1", "A1"])
    names = ["B1_half", "A1_half", "b1"]
    feed = fed(CLASSES, normals(6, 9), normals(6, 5, seed=9))
    gradients = assert_differences(student, CLASSES, names, feed)
    plain, _, tensors = stepper(made(PAIR, PAIR_TENSORS), terms_of(CLASSES), ["B1", "A1", "b1"])
    halves = masters(student, names)
    tensors = {"B1": halves["B1_half"], "A1": halves["A1_half"], "b1": tensors["b1"]}
    _, expected = plain.gradients(feed, tensors)
    for name in ("B1", "A1"):
        np.testing.assert_allclose(gradients[f"{name}_half"], expected[name], rtol=1e-4, atol=1e-6)


def test_steps_and_gradients_too_small_for_float16_are_not_lost() -> None:
    student = in_float16(["B1"])
    feed = fed(CLASSES, normals(6, 9), normals(6, 5, seed=9))
    (weights,) = [name for name in feed if name.endswith("/weight")]
    step, _, start = stepper(student, terms_of(CLASSES), ["B1_half"])
    lost, gradients = step.gradients(feed, start)
    _, tiny = step.gradients({**feed, weights: feed[weights] * np.float32(1e-7)}, start)
    np.testing.assert_allclose(tiny["B1_half"] * 1e7, gradients["B1_half"], rtol=1e-3, atol=1e-5)
    moved = {"B1_half": start["B1_half"] - np.float32(1e-4) * gradients["B1_half"]}
    assert step.gradients(feed, moved)[0] < lost


def test_what_is_fed_in_float16_gives_gradients_in_float32() -> None:
    student = model("g (float16[N,9] x) => (float16[N,5] y) { y = MatMul(x, W) }", W=normals(9, 5).astype(np.float16))
    step, graph, tensors = stepper(student, terms_of(UNITS), ["W"])
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.proto.graph.input}
    assert kinds["W"] == TensorProto.FLOAT16
    x, t = normals(6, 9), normals(6, 5, seed=9)
    feed = {**fed(UNITS, x, t), "x": x.astype(np.float16)}
    _, gradients = step.gradients(feed, {"W": tensors["W"].astype(np.float16)})
    assert gradients["W"].dtype == np.float32
    wide = made("g (float[N,9] x) => (float[N,5] y) { y = MatMul(x, W) }", {"W": (9, 5)})
    _, expected = stepper(wide, terms_of(UNITS), ["W"])[0].gradients(fed(UNITS, x, t), tensors)
    np.testing.assert_allclose(gradients["W"], expected["W"], atol=5e-3 * np.abs(expected["W"]).max())


def test_the_student_is_left_as_it_is_and_only_what_is_tuned_is_fed() -> None:
    student = made(PAIR, PAIR_TENSORS)
    before = student.SerializeToString()
    _, graph, _ = stepper(student, terms_of(CLASSES), ["A1", "b2"])
    assert student.SerializeToString() == before
    assert [value.name for value in graph.proto.graph.input] == ["x", "y/target", "y/weight", "A1", "b2"]
    kept = {tensor.name for tensor in graph.proto.graph.initializer}
    assert kept >= PAIR_TENSORS.keys() - {"A1", "b2"}
    assert kept.isdisjoint({"A1", "b2"})


def test_initializers_that_are_listed_as_inputs_too_are_fed_once() -> None:
    student = in_float16(["B1"])
    student.graph.input.append(helper.make_tensor_value_info("B1_half", TensorProto.FLOAT16, [9, 3]))
    _, graph, _ = stepper(student, terms_of(CLASSES), ["B1_half"])
    kinds = [(v.name, v.type.tensor_type.elem_type) for v in graph.proto.graph.input if v.name == "B1_half"]
    assert kinds == [("B1_half", TensorProto.FLOAT)]


def test_tensors_that_no_path_leads_to_stay_constants() -> None:
    text = """g (float[N,9] x) => (float[N,5] y, float[N,5] z) {
        h = MatMul(x, A)  y = Tanh(h)  z = MatMul(x, U)
    }"""
    student = made(text, {"A": (9, 5), "U": (9, 5)})
    step, graph, _ = stepper(student, terms_of(CLASSES), ["A", "U"])
    assert step.tuned == list(graph.gradients) == ["A"]
    assert "U" in {tensor.name for tensor in graph.proto.graph.initializer}
    assert graph.partial == frozenset()


def test_where_paths_end_it_is_said_which_gradients_lack_something() -> None:
    text = """g (float[N,9] x) => (float[N,5] y) {
        h = MatMul(x, A)  r = Relu(h)  d = Det(S)  w = MatMul(r, B)  y = Mul(w, d)
    }"""
    student = made(text, {"A": (9, 6), "B": (6, 5), "S": (3, 3)})
    _, graph, _ = stepper(student, terms_of(CLASSES), ["A", "B", "S"])
    assert list(graph.gradients) == ["A", "B"]
    assert [(ended.op, ended.reason) for ended in graph.ended] == [("Det", "no rule for this operator")]
    assert graph.partial == {"S"}


def test_an_output_that_holds_no_floats_is_no_place_to_start() -> None:
    student = made(
        "g (float[N,9] x) => (int64[N] y) { h = MatMul(x, A)  y = ArgMax <keepdims = 0> (h) }", {"A": (9, 5)}
    )
    with pytest.raises(InputError, match="no gradient can start at 'y'"):
        stepper(student, terms_of(CLASSES), ["A"])


# Several terms


def test_losses_and_gradients_of_several_terms_add_up() -> None:
    text = """g (float[N,9] x) => (float[N,5] y, float[N,4] z) {
        h = MatMul(x, A)  t = Tanh(h)  y = MatMul(t, B)  z = MatMul(t, C)
    }"""
    student = made(text, {"A": (9, 6), "B": (6, 5), "C": (6, 4)})
    both = task(Classes(), Numbers())
    x, said = normals(6, 9), {"y": normals(6, 5, seed=8), "z": normals(6, 4, seed=9), "h": normals(6, 6, seed=7)}
    terms = [*terms_of(both), *hints(["h"])]
    feed = {"x": x.astype(np.float32), **targets(terms, said, 6, None)}
    step, _, tensors = stepper(student, terms, ["A", "B", "C"])
    lost, gradients = step.gradients(feed, tensors)
    parts = []
    for term in terms:
        alone, graph, _ = stepper(student, [term], ["A", "B", "C"])
        own = {name: value for name, value in feed.items() if name == "x" or name.startswith(f"{term.tensor}/")}
        parts.append(alone.gradients(own, {name: tensors[name] for name in graph.gradients}))
    assert lost == pytest.approx(sum(part[0] for part in parts), rel=1e-5)
    for name, total in gradients.items():
        expected = sum(part[1].get(name, np.zeros(total.shape)) for part in parts)
        np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert [set(part[1]) for part in parts] == [{"A", "B"}, {"A", "C"}, {"A"}]


# What the student says


def test_what_the_student_says_with_the_tensors_it_is_fed() -> None:
    student = made(PAIR, PAIR_TENSORS)
    step, _, tensors = stepper(student, terms_of(CLASSES), list(PAIR_TENSORS))
    feed = fed(CLASSES, normals(6, 9), normals(6, 5, seed=9))
    (y,) = step.says(["y"], feed, tensors)
    np.testing.assert_allclose(y, run(student, {"x": feed["x"]})["y"], rtol=1e-5, atol=1e-6)
    (moved,) = step.says(["y"], feed, {**tensors, "b2": tensors["b2"] + 3})
    np.testing.assert_allclose(moved, y + 3, rtol=1e-5, atol=1e-5)


def test_nothing_of_the_loss_is_computed_where_only_outputs_are_asked_for() -> None:
    step, _, tensors = stepper(made(PAIR, PAIR_TENSORS), terms_of(CLASSES), list(PAIR_TENSORS))
    feed = fed(CLASSES, normals(6, 9), normals(6, 5, seed=9))
    (y,) = step.says(["y"], feed, tensors)
    feed["y/target"] = feed["y/target"][:4]  # no rows for two of the samples: the loss cannot be computed
    np.testing.assert_array_equal(step.says(["y"], feed, tensors)[0], y)
    with pytest.raises(Exception, match=r"broadcast|axis"):
        step.gradients(feed, tensors)


def test_steps_downhill_lose_less() -> None:
    student = made(PAIR, PAIR_TENSORS)
    feed = fed(CLASSES, normals(32, 9), normals(32, 5, seed=9))
    step, _, tensors = stepper(student, terms_of(CLASSES), list(PAIR_TENSORS))
    losses = []
    for _ in range(20):
        lost, gradients = step.gradients(feed, tensors)
        losses.append(lost)
        tensors = {name: values - np.float32(0.2) * gradients[name] for name, values in tensors.items()}
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]
