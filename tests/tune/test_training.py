"""Steps on batches: the best tensors are kept, NaN ends it, and a seed says everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from onnx_dalr.plan.course import Course
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Cached, Minibatch
from onnx_dalr.tune.lesson import Lesson
from onnx_dalr.tune.training import Trained, mixture, train
from tests.tune.loss_cases import Array, normals

X = normals(64, 5).astype(np.float32)
AIM = normals(5, 3, seed=1).astype(np.float32)


class Linear:
    """y = xW is to be xW*: half the mean square."""

    def __init__(self) -> None:
        self.fed: list[Minibatch] = []
        self.seen: list[Tensors] = []

    def gradients(self, batch: Minibatch, tensors: Tensors) -> tuple[float, Tensors]:
        self.fed.append(batch)
        self.seen.append({name: values.copy() for name, values in tensors.items()})
        x = batch.feed["x"]
        apart = x @ (tensors["W"] - AIM)
        return float(np.mean(apart**2) / 2), {"W": (x.T @ apart / len(x)).astype(np.float32)}


def off(tensors: Tensors) -> float:
    return float(np.abs(tensors["W"] - AIM).mean())


def samples(count: int = 64) -> Cached:
    return Cached((Minibatch({"x": X[:count]}, None, tuple(range(count))),), by_row=True)


def start() -> Tensors:
    return {"W": normals(5, 3, seed=2).astype(np.float32)}


def trained(
    course: Course, watch: Callable[[Tensors], float] = off, looks: int = 4, lesson: Linear | None = None, **how: Any
) -> Trained:
    taught = cast(Lesson, lesson or Linear())
    return train(taught, start(), {"W": 1.0}, samples(), course, watch, looks=looks, **how)


def test_it_gets_better_and_says_so() -> None:
    done = trained(Course(200, 0.05))
    first, *_, last = done.curve
    assert first == (0, pytest.approx(off(start())))
    assert last == (200, pytest.approx(off(done.last)))
    assert [at for at, _ in done.curve] == [0, 50, 100, 150, 200]
    assert done.best == min(lost for _, lost in done.curve) == pytest.approx(off(done.tensors))
    assert last[1] < 0.1 * first[1]
    assert not done.stopped


def test_the_start_is_left_as_it_is() -> None:
    given = start()
    before = given["W"].copy()
    train(cast(Lesson, Linear()), given, {"W": 1.0}, samples(), Course(20, 0.1), off, looks=2)
    np.testing.assert_array_equal(given["W"], before)


@pytest.mark.parametrize("looks", [1, 3, 7, 20])
def test_it_looks_so_often_evenly_and_at_the_end(looks: int) -> None:
    done = trained(Course(20, 0.01), looks=looks)
    at = [steps for steps, _ in done.curve]
    assert (at[0], at[-1], len(at)) == (0, 20, looks + 1)
    assert np.diff(at).max() - np.diff(at).min() <= 1


def test_the_best_is_kept_where_it_gets_worse_again() -> None:
    lost = iter([5.0, 4.0, 2.0, 3.0, 9.0])
    seen: list[Array] = []

    def watch(tensors: Tensors) -> float:
        seen.append(tensors["W"].copy())
        return next(lost)

    done = trained(Course(40, 0.05), watch)
    assert (done.best, done.at) == (2.0, 20)
    assert done.curve == [(0, 5.0), (10, 4.0), (20, 2.0), (30, 3.0), (40, 9.0)]
    np.testing.assert_array_equal(done.tensors["W"], seen[2])
    np.testing.assert_array_equal(done.last["W"], seen[4])


def test_where_nothing_is_better_the_start_is_kept() -> None:
    lost = iter([1.0, 2.0, 1.0, 3.0, 1.5])
    done = trained(Course(40, 0.05), lambda tensors: next(lost))
    assert (done.best, done.at) == (1.0, 0)
    np.testing.assert_array_equal(done.tensors["W"], start()["W"])
    assert not np.array_equal(done.last["W"], start()["W"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_it_stops_where_what_is_lost_is_no_number(bad: float) -> None:
    lost = iter([5.0, 4.0, bad])
    done = trained(Course(40, 0.05), lambda tensors: next(lost))
    assert [at for at, _ in done.curve] == [0, 10, 20]
    assert (done.best, done.at) == (4.0, 10)


def test_it_can_be_stopped_with_the_best_so_far() -> None:
    left = iter(range(25, -1, -1))
    lesson, steps = Linear(), list[int]()
    done = trained(Course(40, 0.05), lesson=lesson, goes_on=lambda: next(left) > 0, advance=steps.append)
    assert done.stopped
    assert len(lesson.fed) == sum(steps) == 25
    assert [at for at, _ in done.curve] == [0, 10, 20]
    assert done.best == pytest.approx(off(done.tensors))
    assert done.at == 20


def test_stopped_before_the_first_step_it_is_the_start() -> None:
    done = trained(Course(40, 0.05), goes_on=lambda: False)
    assert (done.stopped, done.at, len(done.curve)) == (True, 0, 1)
    np.testing.assert_array_equal(done.tensors["W"], start()["W"])


# Order


@pytest.mark.parametrize("mixed", [False, True])
def test_a_seed_says_everything(mixed: bool) -> None:
    one, two, other = (trained(Course(30, 0.05, seed, mixed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.last["W"], two.last["W"])
    assert one.curve == two.curve
    assert not np.array_equal(one.last["W"], other.last["W"])


def test_every_sample_comes_once_before_any_comes_again() -> None:
    lesson = Linear()
    trained(Course(12, 0.01, batch=16), lesson=lesson)
    rounds = [[i for batch in lesson.fed[at : at + 4] for i in batch.indices] for at in range(0, 12, 4)]
    assert [sorted(each) for each in rounds] == [list(range(64))] * 3
    assert rounds[0] != rounds[1]
    assert {len(batch) for batch in lesson.fed} == {16}


def test_a_gradient_is_of_the_tensors_as_they_are_then() -> None:
    lesson = Linear()
    trained(Course(5, 0.05), lesson=lesson)
    np.testing.assert_array_equal(lesson.seen[0]["W"], start()["W"])
    moved = [np.abs(b["W"] - a["W"]).max() for a, b in zip(lesson.seen, lesson.seen[1:], strict=False)]
    assert min(moved) > 0
    assert moved[0] == pytest.approx(0.05 * 0.1, rel=1e-3)  # the first step of the warm-up


def test_only_tensors_with_a_size_move() -> None:
    both = {**start(), "b": np.ones(3, np.float32)}
    done = train(cast(Lesson, Linear()), both, {"W": 1.0}, samples(), Course(5, 0.05), off, looks=1)
    np.testing.assert_array_equal(done.last["b"], 1)


# Mixtures


def test_mixtures_are_convex() -> None:
    batch = Minibatch({"x": X[:16], "z": X[:16, :2] * 3}, None, tuple(range(16)))
    made = mixture(batch, np.random.default_rng(0))
    assert (made.indices, made.kept) == (batch.indices, None)
    shares = set()
    for at in range(16):
        found = []
        for other in range(16):
            by = X[at] - X[other]
            share = 1.0 if other == at else float((made.feed["x"][at] - X[other]) @ by / (by @ by))
            for name, own in batch.feed.items():
                mixed = share * own[at] + (1 - share) * own[other]
                if not np.allclose(mixed, made.feed[name][at], atol=1e-4):
                    break
            else:
                found.append(share)
        assert found, at
        assert all(-1e-4 <= share <= 1 + 1e-4 for share in found)
        shares.add(round(found[0], 4))
    assert len(shares) > 8  # every sample has a share of its own
    assert made.feed["x"].dtype == np.float32


def test_a_mixture_keeps_the_type_and_the_original_batch() -> None:
    half = {"x": X[:8].astype(np.float16).reshape(8, 5, 1)}
    before = half["x"].copy()
    made = mixture(Minibatch(half, None, tuple(range(8))), np.random.default_rng(1))
    assert (made.feed["x"].dtype, made.feed["x"].shape) == (np.float16, (8, 5, 1))
    np.testing.assert_array_equal(half["x"], before)
    assert not np.array_equal(made.feed["x"], before)


def test_mixtures_are_fed_where_they_are_asked_for() -> None:
    plain, mixed = Linear(), Linear()
    trained(Course(3, 0.01), lesson=plain)
    trained(Course(3, 0.01, mixed=True), lesson=mixed)
    for batch in plain.fed:
        np.testing.assert_array_equal(batch.feed["x"], X[list(batch.indices)])
    for batch in mixed.fed:
        assert not np.allclose(batch.feed["x"], X[list(batch.indices)])
