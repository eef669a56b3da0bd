"""Student and teacher behind what both compute alike: what is lost is what the whole models lose, and steps repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_dalr.graph.storage.model import Model
from onnx_dalr.plan.course import Course
from onnx_dalr.quality.measures import Classes, Numbers
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task
from onnx_dalr.session.session import Runtime
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Cached, Minibatch
from onnx_dalr.tune.lesson import HeldOut, Lesson
from onnx_dalr.tune.suffix import frontier, shared
from onnx_dalr.tune.tensors import fed_types, masters, replaced
from onnx_dalr.tune.terms import Term, hints, terms_of
from onnx_dalr.tune.training import train
from tests.graph.helpers import initializers, model, run
from tests.quality.task_cases import task
from tests.tune.loss_cases import Array, normals

TEACHER = """g (float[N,12] x) => (float[N,6] y, float[N,4] z) {
    a = MatMul(x, A)  h = Relu(a)  b = MatMul(h, B)  c = Add(b, bias)  t = Tanh(c)  y = MatMul(t, C)  z = MatMul(t, D)
}"""
STUDENT = TEACHER.replace("b = MatMul(h, B)", "p = MatMul(h, B1)  b = MatMul(p, B2)")
X = normals(40, 12, seed=5).astype(np.float32)
TASK = task(Classes(), Numbers(power=np.full(1, 8.0)), names="yz")
NAMES = ("y", "z")


def teacher() -> ModelProto:
    shapes = {"A": (12, 16), "B": (16, 16), "bias": (16,), "C": (16, 6), "D": (16, 4)}
    tensors = {name: normals(*shape, seed=at) / 4 for at, (name, shape) in enumerate(shapes.items())}
    return model(TEACHER, **{name: values.astype(np.float32) for name, values in tensors.items()})


def student(dtype: Any = np.float32) -> ModelProto:
    """The teacher with B at rank 3."""
    held = dict(initializers(teacher()))
    u, s, v = np.linalg.svd(held.pop("B").astype(np.float64))
    held |= {"B1": u[:, :3] * s[:3], "B2": v[:3]}
    made = model(STUDENT, **{name: values.astype(np.float32) for name, values in held.items()})
    if dtype != np.float32:
        next(node for node in made.graph.node if "B1" in node.input).input[1] = "wide"
        made.graph.node.append(helper.make_node("Cast", ["B1"], ["wide"], to=TensorProto.FLOAT))
        stored = next(tensor for tensor in made.graph.initializer if tensor.name == "B1")
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).astype(dtype), "B1"))
    return made


def lesson(
    asked: Task = TASK, names: Sequence[str] = ("B1", "B2", "bias"), dtype: Any = np.float32, more: Sequence[Term] = ()
) -> tuple[Lesson, Tensors, Callable[[Array], dict[str, Array]]]:
    """(the lesson, its tensors at the start, what of samples enters)."""
    one, two = student(dtype), teacher()
    terms = [*terms_of(asked), *more]
    outputs = [measured.name for measured in asked.measured]
    fed = frontier([one, two], [*(term.tensor for term in terms), *outputs], shared(one, two), ())
    assert fed == ["h"]
    tuned = masters(one, names)
    made = Lesson(Model(two), Model(one), one, two, fed, terms, outputs, tuned, fed_types(one, names), Runtime("cpu"))
    return made, {name: tuned[name] for name in made.tuned}, lambda x: {"h": np.maximum(x @ initializers(two)["A"], 0)}


def samples(enter: Callable[[Array], dict[str, Array]], count: int = 40) -> Cached:
    return Cached((Minibatch(enter(X[:count]), None, tuple(range(count))),), by_row=True)


def told(made: ModelProto, asked: Task = TASK) -> tuple[float, ...]:
    """What the report says of a whole model, by sample."""
    comparison = SideBySide(asked, None)
    one, two = run(teacher(), {"x": X}), run(made, {"x": X})
    comparison.add(list(range(len(X))), [one[name] for name in NAMES], [two[name] for name in NAMES])
    return comparison.distortions()


def moved(start: Tensors) -> Tensors:
    return {name: values + np.float32(0.1) * normals(*values.shape, seed=9) for name, values in start.items()}


def test_what_is_lost_is_what_the_whole_model_loses() -> None:
    made, start, enter = lesson()
    held = HeldOut(made, samples(enter), TASK, NAMES, 16)
    assert len(held) == 40
    for tensors in (start, {name: values.astype(np.float32) for name, values in moved(start).items()}):
        expected = told(replaced(student(), tensors))
        found = held.distortions(tensors)
        assert found.shape == (40,)
        # relative to what the teacher says on these samples, which the measure of numbers adds up over
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
        assert held.lost(tensors) == pytest.approx(np.mean(np.sqrt(expected)), rel=1e-3)


def test_the_loss_of_a_step_is_what_is_lost() -> None:
    only_classes = task(Classes(), names="yz")
    made, start, enter = lesson(only_classes)
    (batch,) = samples(enter).batches(64)
    lost, gradients = made.gradients(batch, start)
    held = HeldOut(made, samples(enter), only_classes, NAMES, 64)
    assert lost == pytest.approx(np.mean(held.distortions(start)), rel=1e-3)
    assert sorted(gradients) == sorted(made.tuned) == ["B1", "B2", "bias"]


def test_the_teacher_says_what_it_did_and_the_student_what_its_tensors_say() -> None:
    made, start, enter = lesson()
    (batch,) = samples(enter).batches(64)
    said = made.taught(batch)
    assert list(said) == ["y", "z"]
    says = made.student_says(made.feed(batch, said), start)
    for name in NAMES:
        np.testing.assert_allclose(said[name], run(teacher(), {"x": X})[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(says[name], run(student(), {"x": X})[name], rtol=1e-4, atol=1e-5)


def test_steps_make_a_student_that_loses_less_on_samples_that_it_did_not_see() -> None:
    made, start, enter = lesson()
    fit, held = (samples(enter).part(which) for which in (lambda i: i >= 10, lambda i: i < 10))
    watch = HeldOut(made, held, TASK, NAMES, 16)
    sizes = {name: float(np.sqrt(np.mean(values**2))) for name, values in start.items()}
    done = train(made, start, sizes, fit, Course(150, 0.02, batch=10), watch.lost, looks=5)
    assert done.best < 0.9 * done.curve[0][1]
    assert np.mean(told(replaced(student(), done.tensors))) < 0.8 * np.mean(told(student()))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_same_seed_gives_the_same_bits(mixed: bool) -> None:
    ends = []
    for _ in range(2):
        made, start, enter = lesson(more=hints(["t"]))
        sizes = dict.fromkeys(start, 0.1)
        done = train(made, start, sizes, samples(enter), Course(20, 0.02, 1, mixed), lambda tensors: 0.0, looks=1)
        ends.append(done.last)
    for name, values in ends[0].items():
        np.testing.assert_array_equal(values, ends[1][name])


def test_what_the_file_holds_in_float16_is_tuned_in_float32() -> None:
    made, start, enter = lesson(dtype=np.float16)
    assert start["B1"].dtype == np.float32
    (batch,) = samples(enter).batches(64)
    lost, gradients = made.gradients(batch, start)
    finer = {**start, "B1": start["B1"] - np.float32(1e-5) * np.sign(gradients["B1"])}  # below the steps of float16
    assert 0 < lost - made.gradients(batch, finer)[0] < 0.1 * lost


def test_tensors_that_end_in_no_number_are_infinitely_far() -> None:
    made, start, enter = lesson()
    held = HeldOut(made, samples(enter), TASK, NAMES, 16)
    broken = {**start, "bias": np.full_like(start["bias"], np.nan)}
    assert held.lost(broken) == np.inf


def test_a_tensor_that_no_path_leads_to_is_not_tuned() -> None:
    made, _, enter = lesson(task(Classes(), names="yz"), ("B1", "D"))
    assert made.tuned == ["B1"]
    (batch,) = samples(enter).batches(64)
    assert list(made.gradients(batch, {"B1": masters(student(), ["B1"])["B1"]})[1]) == ["B1"]
