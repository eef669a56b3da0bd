"""Seeds: (vᵀδ)² is on average the distortion that a change δ of the outputs is reported as, to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from onnx_dalr.learn.seeds import Seeder
from onnx_dalr.quality.measures import Classes, Dense, Numbers, Values
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task
from onnx_dalr.samples import digest
from tests.quality.task_cases import classify, embed, found, regress, task

Array = NDArray[Any]
Taken = Callable[..., Task]  # what outputs are taken for
LOGITS, PROBABILITIES = Seeder(task(Classes())), Seeder(task(Classes(encoding="probabilities")))

SMALL = 2e-3
PROBES = 800
CLOSE = 0.12  # of what is expected: the sampling error of 800 probes of a few samples is half of it or less
ALL = pytest.mark.parametrize("taken", [classify, embed, regress])


def numbers(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def digests(count: int) -> list[str]:
    return [digest({"x": np.array([sample])}) for sample in range(count)]


def told(asked: Task, outputs: list[Array], changes: list[Array], samples: int, padding: Any = None) -> float:
    """What the report calls it."""
    comparison = SideBySide(asked, None)
    moved = [np.asarray(y + change) for y, change in zip(outputs, changes, strict=True)]
    comparison.add(list(range(samples)), outputs, moved, padding)
    return comparison.distortion()


def predicted(asked: Task, outputs: list[Array], changes: list[Array], samples: int, padding: Any = None) -> float:
    """Mean of (vᵀδ)² over probes and samples, v and δ taken over all outputs of a sample."""
    drawn = Seeder(asked)
    assert list(drawn.outputs) == list(range(len(outputs)))
    total = 0.0
    for probe in range(PROBES):
        products = np.zeros(samples)
        for at, (y, change) in enumerate(zip(outputs, changes, strict=True)):
            seeds = drawn.draw(y, at, digests(samples), probe, padding)
            each = seeds * change
            if y.ndim and len(y) == samples:
                products += each.reshape(samples, -1).sum(axis=1)
            else:
                products[0] += each.sum()
        total += float(np.mean(products**2))
    return total / PROBES


def assert_told(asked: Task, outputs: list[Array], changes: list[Array], samples: int, padding: Any = None) -> None:
    """What the seeds predict is what the report says."""
    expected = told(asked, outputs, changes, samples, padding)
    assert expected > 0
    assert predicted(asked, outputs, changes, samples, padding) == pytest.approx(expected, rel=CLOSE)


def turned(y: Array) -> Array:
    """A small change of logits or features."""
    return SMALL * numbers(y.shape, 1)


# In the unit of the report


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (1, 9), (2, 2, 3, 4)])
def test_at_logits_it_is_the_mean_divergence(shape: tuple[int, ...]) -> None:
    y = 2 * numbers(shape)
    assert_told(task(Classes()), [y], [turned(y)], shape[0])
    assert_told(classify(y), [y], [turned(y)], shape[0])  # by position every class counts alike


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
def test_at_probabilities_it_is_the_same(shape: tuple[int, ...]) -> None:
    logits = 2 * numbers(shape)
    y = special.softmax(logits, axis=-1)
    assert_told(classify(y), [y], [special.softmax(logits + turned(logits), axis=-1) - y], shape[0])


def test_at_log_probabilities_it_is_the_same() -> None:
    logits = 2 * numbers((5, 7))
    y = special.log_softmax(logits, axis=-1)
    assert_told(classify(y), [y], [special.log_softmax(logits + turned(logits), axis=-1) - y], 5)


def test_at_classes_on_axis_1_it_is_the_same() -> None:
    logits = 2 * numbers((3, 4, 2, 5))
    y = special.softmax(logits, axis=1)
    asked = found("auto", y)
    assert (type(asked.main.measure), asked.main.measure.axis) == (Dense, 1)
    assert_told(asked, [y], [special.softmax(logits + turned(logits), axis=1) - y], 3)


def test_at_classes_most_rows_of_which_are_background_a_rare_one_counts_as_much() -> None:
    y = 2 * numbers((4, 50, 3))
    y[..., 0] += 4
    asked = classify(y)
    assert isinstance(asked.main.measure, Dense)
    assert asked.main.measure.weights.max() > 4
    assert_told(asked, [y], [turned(y)], 4)


@pytest.mark.parametrize(("shape", "axis"), [((5, 1), None), ((3, 9, 4), 2), ((3, 4, 9, 9), 1)])
def test_at_probabilities_of_yes_it_is_the_divergence_of_each(shape: tuple[int, ...], axis: int | None) -> None:
    logits = 2 * numbers(shape)
    y = special.expit(logits)
    channels = 1 if axis is None else shape[axis]
    shares = np.full(channels + 1, 0.5 / channels)
    shares[-1] = 0.5
    asked = task(Dense(axis=axis, encoding="sigmoid", shares=shares))
    assert_told(asked, [y], [special.expit(logits + turned(logits)) - y], shape[0])


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
@pytest.mark.parametrize("unit", [True, False])
def test_at_embeddings_it_is_what_they_turn_by(shape: tuple[int, ...], unit: bool) -> None:
    y = 3 * numbers(shape)
    y = y / np.linalg.norm(y, axis=-1, keepdims=True) if unit else y
    assert_told(embed(y), [y], [turned(y)], shape[0])


def test_an_embedding_that_only_grows_has_not_moved() -> None:
    y = numbers((5, 7))
    moved = predicted(embed(y), [y], [SMALL * y], 5)
    assert moved < 1e-20 < SMALL**2


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (6,)])
def test_of_one_output_it_is_the_squared_relative_error(shape: tuple[int, ...]) -> None:
    y = numbers(shape) + 1
    assert_told(regress(y), [y], [turned(y)], shape[0])


def test_of_channels_of_different_things_it_is_the_mean_of_their_squared_relative_errors() -> None:
    y = numbers((40, 6)) * [300, 200, 300, 0.5, 0.4, 0.5] + [300, 300, 300, 0.5, 0.5, 0.5]
    asked = regress(y)
    assert isinstance(asked.main.measure, Numbers)
    assert asked.main.measure.scales.fields == 2
    change = turned(y) * [300, 300, 300, 1, 1, 1]
    halves = [told(regress(y[:, part]), [y[:, part]], [change[:, part]], 40) for part in (slice(0, 3), slice(3, 6))]
    assert told(asked, [y], [change], 40) == pytest.approx(
        np.mean(halves), rel=0.1
    )  # channels have scales of their own
    assert_told(asked, [y], [change], 40)


def test_of_several_outputs_it_is_the_sum_of_what_each_is_off_by() -> None:
    outputs = [numbers((4, 6)), 100 * numbers((4, 6), 2), numbers((4, 2, 3), 3)]
    changes = [SMALL * y for y in outputs]  # the same direction everywhere: their products do not cancel
    alone = [told(regress(y), [y], [change], 4) for y, change in zip(outputs, changes, strict=True)]
    assert told(regress(*outputs), outputs, changes, 4) == pytest.approx(sum(alone))
    assert predicted(regress(*outputs), outputs, changes, 4) == pytest.approx(sum(alone), rel=CLOSE)


def test_only_outputs_that_count_and_have_gradients_get_a_seed() -> None:
    asked = task(Values(answers=True), Numbers(), Classes())
    assert Seeder(asked).outputs == {1: "z", 2: "u"}
    y = numbers((20, 3))
    declared = found("auto", y, y, declared=("z",))
    assert Seeder(declared).outputs == {1: "z"}


@ALL
def test_padding_gets_no_seed_and_is_not_told(taken: Taken) -> None:
    y = 2 * numbers((3, 5, 4))
    padding = np.arange(5) < np.array([[5], [2], [3]])
    asked = taken(y, kept=padding)
    np.testing.assert_array_equal(Seeder(asked).draw(y, 0, digests(3), 0, padding).any(axis=-1), padding)
    change = turned(y) * np.where(padding, 1, 1000)[..., None]
    assert_told(asked, [y], [change], 3, padding)


def test_scores_of_positions_are_seeded_where_there_is_no_padding() -> None:
    y = 2 * numbers((3, 5))  # where an answer begins, say
    padding = np.arange(5) < np.array([[5], [2], [3]])
    np.testing.assert_array_equal(LOGITS.draw(y, 0, digests(3), 0, padding) != 0, padding)
    assert_told(LOGITS.task, [y], [turned(y) * np.where(padding, 1, 1000)], 3, padding)


# Outputs without a row per sample


@ALL
def test_an_output_laid_out_length_first_counts_as_one(taken: Taken) -> None:
    y = numbers((3, 4, 6))  # [length, samples, features]
    assert_told(taken(y, samples=4), [y], [turned(y)], 4)


def test_an_output_of_one_number_counts_as_one() -> None:
    y = np.array(3.0)
    assert_told(regress(y, samples=4), [y], [np.full((), SMALL)], 4)


# Whose they are


@ALL
def test_the_seeds_of_a_sample_are_its_own_whatever_it_is_batched_with(taken: Taken) -> None:
    y, names = numbers((6, 5)), digests(6)
    drawn = Seeder(taken(y))
    together = drawn.draw(y, 0, names, 1)
    alone = [drawn.draw(y[at : at + 1], 0, names[at : at + 1], 1)[0] for at in range(6)]
    np.testing.assert_array_equal(together, alone)
    order = [3, 0, 5]
    np.testing.assert_array_equal(drawn.draw(y[order], 0, [names[at] for at in order], 1), together[order])


@ALL
def test_other_probes_and_other_samples_have_other_seeds(taken: Taken) -> None:
    y = np.tile(numbers((1, 40)), (2, 1))  # two samples of which the model says the same
    drawn = Seeder(taken(numbers((2, 40))))
    first, again = (drawn.draw(y, 0, digests(2), 0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, drawn.draw(y, 0, digests(2), 1))


def test_two_outputs_of_one_sample_have_seeds_of_their_own() -> None:
    y = numbers((2, 40))
    drawn = Seeder(task(Numbers(), Numbers()))
    assert not np.array_equal(drawn.draw(y, 0, digests(2), 0), drawn.draw(y, 1, digests(2), 0))


@ALL
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_seeds_are_of_the_outputs_shape_and_type(taken: Taken, dtype: type[Any]) -> None:
    y = numbers((2, 3, 4)).astype(dtype)
    seeds = Seeder(taken(y)).draw(y, 0, digests(2), 0)
    assert (seeds.shape, seeds.dtype) == (y.shape, y.dtype)
    assert np.isfinite(seeds).all()
    assert seeds.any()


# Values at the edge


@pytest.mark.parametrize("taken", [classify, embed])
def test_rows_of_zeros_do_no_harm(taken: Taken) -> None:
    y = numbers((2, 3, 4)).astype(np.float32)
    y[0, 1] = 0
    seeds = Seeder(taken(y)).draw(y, 0, digests(2), 0)
    assert np.abs(seeds).max() < 10
    assert seeds[0, 0].any()
    assert taken is classify or not seeds[0, 1].any()  # a row without length has no direction to turn


def test_logits_far_apart_and_masked_classes_give_finite_seeds() -> None:
    y = np.array([[500.0, -500.0, 0.0], [-np.inf, 1.0, 2.0]])
    for probe in range(20):
        seeds = LOGITS.draw(y, 0, digests(2), probe)
        assert np.isfinite(seeds).all()
        assert seeds[1, 0] == 0
        np.testing.assert_allclose(seeds.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("given", ["logits", "probabilities"])
def test_where_the_network_is_sure_every_seed_still_says_as_much(given: str) -> None:
    logits = np.array([[12.0, 0.0, 0.0, 0.0]])
    y = logits if given == "logits" else special.softmax(logits, axis=-1)
    change = SMALL * numbers((1, 4)) if given == "logits" else np.array([[-3e-9, 1e-9, 1e-9, 1e-9]])
    drawn = LOGITS if given == "logits" else PROBABILITIES
    squares = [np.sum(drawn.draw(y, 0, digests(1), n) * change) ** 2 for n in range(400)]
    assert max(squares) < 20 * np.mean(squares)  # of classes drawn by their probability one in 50,000 says it all


def test_a_class_that_cannot_be_gets_no_seed() -> None:
    y = np.array([[0.0, 0.5, 0.5, 0.0]])
    for probe in range(20):
        seeds = PROBABILITIES.draw(y, 0, digests(1), probe)
        np.testing.assert_allclose(np.abs(seeds), [[0, 1, 1, 0]], atol=1e-12)
