"""Terms: Σ w·ℓ over a batch is the distortion that the report calls the same outputs, whatever they are taken for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from onnx_dalr.quality.measures import Classes, Dense, Embedding, Measure, Numbers
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task
from onnx_dalr.tune.losses import Binary, Divergence, Squares, Turning
from onnx_dalr.tune.terms import ByVariance, hints, loss_of, target_name, targets, terms_of, weight_name
from tests.quality.task_cases import NAMES, classify, embed, found, regress, task
from tests.tune.loss_cases import Array, computed, kl_of_logits, normals

MOVES = [0.02, 1.0]  # small ones, and ones that nothing is small beside


def told(asked: Task, outputs: list[Array], moved: list[Array], samples: int, kept: Any = None) -> float:
    """What the report calls it."""
    comparison = SideBySide(asked, None)
    comparison.add(list(range(samples)), outputs, moved, kept)
    return comparison.distortion()


def lost(asked: Task, outputs: list[Array], moved: list[Array], samples: int, kept: Any = None) -> float:
    """What the nodes say it is."""
    said = {NAMES[at]: y.astype(np.float32) for at, y in enumerate(outputs)}
    terms = terms_of(asked)
    fed = targets(terms, said, samples, kept)
    total = 0.0
    for term in terms:
        y = moved[NAMES.index(term.tensor)]
        t, w = fed[target_name(term.tensor)], fed[weight_name(term.tensor)]
        assert (t.dtype, w.dtype, w.ndim, t.shape) == (np.float32, np.float32, y.ndim, y.shape)
        part, seed = computed(term.loss, y, t, w)
        assert np.isfinite(seed).all()
        total += part
    return total


def assert_told(asked: Task, outputs: list[Array], moved: list[Array], samples: int, kept: Any = None) -> None:
    expected = told(asked, outputs, moved, samples, kept)
    assert expected > 0
    assert lost(asked, outputs, moved, samples, kept) == pytest.approx(expected, rel=2e-3, abs=2e-7)


def padding(samples: int, length: int) -> Array:
    return np.arange(length) < (length - np.arange(samples) % (length - 1))[:, None]


def turned(y: Array, by: float) -> Array:
    return y + by * normals(*y.shape, seed=7)


@pytest.mark.parametrize("by", MOVES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (1, 9), (2, 2, 3, 4)])
def test_logits_of_classes(shape: tuple[int, ...], by: float) -> None:
    y = 2 * normals(*shape)
    assert_told(task(Classes()), [y], [turned(y, by)], shape[0])
    assert_told(classify(y), [y], [turned(y, by)], shape[0])


@pytest.mark.parametrize("by", MOVES)
@pytest.mark.parametrize(("shape", "axis"), [((5, 7), -1), ((3, 4, 6), -1), ((3, 4, 2, 5), 1)])
def test_probabilities_of_classes(shape: tuple[int, ...], axis: int, by: float) -> None:
    logits = 2 * normals(*shape)
    y, moved = (special.softmax(one, axis) for one in (logits, turned(logits, by)))
    asked = found("auto" if axis == 1 else "classify", y)
    assert asked.main.measure.axis is not None
    assert asked.main.measure.axis % len(shape) == axis % len(shape)
    assert_told(asked, [y], [moved], shape[0])


def test_by_position_a_rare_class_counts_as_much_as_the_background() -> None:
    y = 2 * normals(4, 50, 3)
    y[..., 0] += 4
    asked = classify(y)
    assert isinstance(asked.main.measure, Dense)
    assert asked.main.measure.weights.max() > 4
    assert_told(asked, [y], [turned(y, 0.1)], 4)


@pytest.mark.parametrize("by", MOVES)
@pytest.mark.parametrize(("shape", "axis"), [((5, 1), None), ((3, 9, 4), 2), ((3, 4, 6, 6), 1)])
def test_probabilities_of_yes(shape: tuple[int, ...], axis: int | None, by: float) -> None:
    logits = normals(*shape)
    channels = 1 if axis is None else shape[axis]
    shares = np.full(channels + 1, 0.4 / channels)
    shares[-1] = 0.6
    asked = task(Dense(axis=axis, encoding="sigmoid", shares=shares))
    assert_told(asked, [special.expit(logits)], [special.expit(turned(logits, by))], shape[0])


@pytest.mark.parametrize("by", MOVES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
def test_directions(shape: tuple[int, ...], by: float) -> None:
    y = 3 * normals(*shape)
    assert_told(embed(y), [y], [turned(y, by)], shape[0])


@pytest.mark.parametrize("by", MOVES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (6,)])
def test_numbers(shape: tuple[int, ...], by: float) -> None:
    y = normals(*shape) + 1
    assert_told(regress(y), [y], [turned(y, by)], shape[0])


@pytest.mark.parametrize("by", MOVES)
def test_numbers_whose_channels_differ_in_scale(by: float) -> None:
    sizes = np.array([300, 200, 300, 0.5, 0.4, 0.5])
    y = sizes * (normals(40, 6) + 1)
    asked = regress(y)
    assert isinstance(asked.main.measure, Numbers)
    assert asked.main.measure.scales.fields == 2
    assert_told(asked, [y], [y + by * sizes * normals(40, 6, seed=7)], 40)


@pytest.mark.parametrize("by", MOVES)
def test_several_outputs_add_up(by: float) -> None:
    outputs = [normals(4, 6), 100 * normals(4, 6, seed=2), normals(4, 2, 3, seed=3)]
    asked = task(Classes(), regress(outputs[1]).main.measure, Embedding())
    moved = [y + by * np.abs(y).mean() * normals(*y.shape, seed=8) for y in outputs]
    assert_told(asked, outputs, moved, 4)


# Padding


@pytest.mark.parametrize("taken", [classify, embed, regress])
@pytest.mark.parametrize("by", MOVES)
def test_padding_does_not_count(taken: Callable[..., Task], by: float) -> None:
    y, kept = 2 * normals(3, 5, 4), padding(3, 5)
    moved = turned(y, by)
    moved[~kept] *= 50
    asked = taken(y, kept=kept)
    assert_told(asked, [y], [moved], 3, kept)
    quiet = np.where(kept[..., None], moved, y)
    assert lost(asked, [y], [quiet], 3, kept) == pytest.approx(lost(asked, [y], [moved], 3, kept), rel=1e-4)


def test_a_sample_of_nothing_but_padding_has_lost_nothing() -> None:
    y, kept = normals(3, 5, 4), padding(3, 5)
    kept[1] = False
    asked = embed(y, kept=kept)
    assert_told(asked, [y], [turned(y, 0.1)], 3, kept)


@pytest.mark.parametrize("encoding", ["logits", "probabilities"])
@pytest.mark.parametrize("by", MOVES)
def test_where_classes_are_positions_padding_is_never_the_answer(encoding: str, by: float) -> None:
    y, kept = 2 * normals(4, 6), padding(4, 6)  # where an answer begins, say
    moved = turned(y, by)
    moved[~kept] += 20
    if encoding == "probabilities":
        y, moved = (special.softmax(np.where(kept, one, -1e3), axis=-1) for one in (y, moved))
    assert_told(task(Classes(encoding=encoding)), [y], [moved], 4, kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_padding_has_no_probability_at_any_temperature(temperature: float) -> None:
    y, kept = 2 * normals(1, 6), np.array([[True, True, True, True, False, False]])
    moved = turned(y, 0.5)
    (term,) = terms_of(task(Classes()))
    fed = targets([term], {"y": y.astype(np.float32)}, 1, kept)
    loss = loss_of(Classes(), temperature)
    value, seed = computed(loss, moved, fed[target_name("y")], fed[weight_name("y")])
    expected = kl_of_logits(-1, temperature)(moved[:, :4], y[:, :4], np.ones((1, 1)))
    assert value == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(seed.sum(), 0, atol=1e-6)
    assert not seed[:, 4:].any()


# Values without a size


@pytest.mark.parametrize("by", MOVES)
def test_classes_that_are_masked_out_do_no_harm(by: float) -> None:
    y = 2 * normals(4, 6)
    moved = turned(y, by)
    y[:, 1], moved[:, 1] = -np.inf, -np.inf
    assert_told(task(Classes()), [y], [moved], 4)


def test_numbers_that_are_infinite_on_purpose_do_no_harm() -> None:
    y = normals(4, 6) + 1
    moved = turned(y, 0.1)
    y[1, 2:], moved[1, 2:] = np.inf, np.inf
    asked = regress(np.where(np.isfinite(y), y, 0))
    assert_told(asked, [y], [moved], 4)


# Outputs without a row per sample


@pytest.mark.parametrize("taken", [classify, embed, regress])
@pytest.mark.parametrize("by", MOVES)
def test_an_output_laid_out_length_first_counts_as_one(taken: Callable[..., Task], by: float) -> None:
    y = normals(3, 4, 6)  # [length, samples, features]
    assert_told(taken(y, samples=4), [y], [turned(y, by)], 4)


@pytest.mark.parametrize("measure", [Classes(), Embedding()])
def test_one_row_for_a_whole_batch(measure: Measure) -> None:
    y = normals(7)
    assert_told(task(measure), [y], [turned(y, 0.1)], 4)


def test_one_number_for_a_whole_batch() -> None:
    y = np.array(3.0)
    assert_told(regress(y, samples=4), [y], [np.array(3.1)], 4)


# Losses by measure


def test_each_measure_has_its_loss() -> None:
    assert loss_of(Classes(axis=1)) == Divergence(1, "logits", 1.0)
    assert loss_of(Classes(axis=1), 5.0) == Divergence(1, "logits", 5.0)
    assert loss_of(Classes(encoding="probabilities"), 5.0) == Divergence(-1, "probabilities", 1.0)
    assert loss_of(Dense(axis=2, encoding="logits"), 2.0) == Divergence(2, "logits", 2.0)
    assert loss_of(Dense(encoding="sigmoid")) == Binary()
    assert loss_of(Embedding(axis=1)) == Turning(1)
    assert loss_of(Numbers()) == Squares()


# What counts, against the seeds that tell what a change costs

ROWS = [np.abs(normals(5, 4, seed=3)) + 0.1, 3 * normals(5, 4, seed=4)]
KEPT = np.array([True, True, False, True, True])


def squared(measure: Measure, y: Array, draws: int = 4000) -> Array:
    """E[v²] of the seeds at the values of one sample."""
    random = np.random.default_rng(0)
    return np.asarray(np.mean([measure.seed(y, KEPT, random) ** 2 for _ in range(draws)], axis=0))


def test_of_numbers_importance_is_the_mean_square_of_the_seeds() -> None:
    measure = regress(normals(40, 4) * [9, 9, 0.1, 0.1]).main.measure
    y = normals(5, 4)
    weights = np.broadcast_to(measure.importance(y, KEPT), y.shape)
    np.testing.assert_allclose(squared(measure, y), weights, rtol=1e-6)
    assert not weights[2].any()


@pytest.mark.parametrize("encoding", ["logits", "probabilities"])
def test_of_classes_it_is_that_over_half_their_variance(encoding: Any) -> None:
    y = normals(5, 4) if encoding == "logits" else special.softmax(normals(5, 4), axis=-1)
    p = special.softmax(y, axis=-1) if encoding == "logits" else y
    spread = p * (1 - p) if encoding == "logits" else 1 / p
    for measure in (Classes(encoding=encoding), Dense(encoding=encoding, shares=np.array([0.7, 0.1, 0.1, 0.1]))):
        expected = measure.importance(y, KEPT) * spread / 2
        np.testing.assert_allclose(squared(measure, y), expected, rtol=0.15)


def test_of_yes_and_no_it_is_that_over_half_of_one_over_their_variance() -> None:
    y = special.expit(normals(5, 4))
    measure = Dense(encoding="sigmoid", shares=np.array([0.1, 0.2, 0.1, 0.1, 0.5]))
    np.testing.assert_allclose(squared(measure, y), measure.importance(y, KEPT) / (2 * y * (1 - y)), rtol=1e-6)


def test_of_directions_it_is_that_over_half_of_what_turns_them() -> None:
    y = 3 * normals(5, 4)
    y[4] = 0
    length = np.linalg.norm(y, axis=-1, keepdims=True)
    across = np.where(length > 0, 1 - (y / np.maximum(length, 1e-9)) ** 2, 0) / np.maximum(length, 1e-9) ** 2
    weights = Embedding().importance(y, KEPT)
    np.testing.assert_allclose(squared(Embedding(), y), weights * across / 2, rtol=0.15, atol=1e-12)
    assert not weights[2].any()
    assert not weights[4].any()


# Hints


def test_a_hint_is_ten_times_the_squared_error_over_the_variance() -> None:
    (term,) = hints(["h"])
    t = 3 * normals(8, 5) + 2
    y = t + normals(8, 5, seed=1)
    value, _ = computed(term.loss, y, t, term.weigh(t.astype(np.float32), 8, None))
    assert value == pytest.approx(10 * np.mean((y - t) ** 2) / t.var(), rel=1e-4)


def test_a_hint_counts_no_padding() -> None:
    (term,) = hints(["h"], share=2.0)
    t, kept = normals(3, 5, 4), padding(3, 5)
    y = t + np.where(kept[..., None], normals(3, 5, 4, seed=1), 100)
    value, seed = computed(term.loss, y, t, term.weigh(t.astype(np.float32), 3, kept))
    assert value == pytest.approx(2 * np.mean((y - t)[kept] ** 2) / t.var(), rel=1e-4)
    assert not seed[~kept].any()


def test_the_variance_of_a_hint_is_that_of_the_first_batch() -> None:
    weigh = ByVariance(share=1.0)
    first = weigh(normals(8, 5), 8, None)
    np.testing.assert_array_equal(weigh(100 * normals(8, 5), 8, None), first)
    np.testing.assert_allclose(weigh(normals(4, 5), 4, None), 2 * first, rtol=1e-6)
