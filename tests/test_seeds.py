"""Seeds: (vᵀδ)² is on average the distortion that a change δ of the outputs is reported as, to second order."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from onnx_dalr.quality import Comparison
from onnx_dalr.samples import digest
from onnx_dalr.seeds import Seeder
from onnx_dalr.task import Task

Array = NDArray[Any]
Kind = Literal["classify", "regress", "embed"]

SMALL = 2e-3
PROBES = 800
CLOSE = 0.12  # of what is expected: the sampling error of 800 probes of a few samples is half of it or less


def numbers(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def digests(count: int) -> list[str]:
    return [digest({"x": np.array([sample])}) for sample in range(count)]


def task(kind: Kind) -> Task:
    return Task(kind, None if kind == "regress" else 0, "as asked")


def seeder(kind: Kind, outputs: list[Array], samples: int) -> Seeder:
    power = {at: float(np.sum(y**2)) / samples for at, y in enumerate(outputs)} if kind == "regress" else {}
    return Seeder(task(kind), power)


def told(kind: Kind, outputs: list[Array], changes: list[Array], samples: int) -> float:
    """What the report calls it."""
    comparison = Comparison(task(kind), None)
    comparison.add(list(range(samples)), outputs, [y + change for y, change in zip(outputs, changes, strict=True)])
    return comparison.distortion()


def predicted(kind: Kind, outputs: list[Array], changes: list[Array], samples: int) -> float:
    """Mean of (vᵀδ)² over probes and samples, v and δ taken over all outputs of a sample."""
    drawn = seeder(kind, outputs, samples)
    assert drawn.outputs == tuple(range(len(outputs)))
    found = 0.0
    for probe in range(PROBES):
        products = np.zeros(samples)
        for at, (y, change) in enumerate(zip(outputs, changes, strict=True)):
            seeds = drawn.draw(y, at, digests(samples), probe)
            each = seeds * change
            if y.ndim and len(y) == samples:
                products += each.reshape(samples, -1).sum(axis=1)
            else:
                products[0] += each.sum()
        found += float(np.mean(products**2))
    return found / PROBES


def assert_told(kind: Kind, outputs: list[Array], changes: list[Array], samples: int) -> None:
    """What the seeds predict is what the report says."""
    expected = told(kind, outputs, changes, samples)
    assert predicted(kind, outputs, changes, samples) == pytest.approx(expected, rel=CLOSE)


def turned(y: Array) -> Array:
    """A small change of logits or features."""
    return SMALL * numbers(y.shape, 1)


# In the unit of the report


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (1, 9), (2, 2, 3, 4)])
def test_at_logits_it_is_the_mean_divergence(shape: tuple[int, ...]) -> None:
    y = 2 * numbers(shape)
    assert_told("classify", [y], [turned(y)], shape[0])


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
def test_at_probabilities_it_is_the_same(shape: tuple[int, ...]) -> None:
    logits = 2 * numbers(shape)
    y = special.softmax(logits, axis=-1)
    assert_told("classify", [y], [special.softmax(logits + turned(logits), axis=-1) - y], shape[0])


def test_at_log_probabilities_it_is_the_same() -> None:
    logits = 2 * numbers((5, 7))
    y = special.log_softmax(logits, axis=-1)
    assert_told("classify", [y], [special.log_softmax(logits + turned(logits), axis=-1) - y], 5)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6)])
@pytest.mark.parametrize("unit", [True, False])
def test_at_embeddings_it_is_what_they_turn_by(shape: tuple[int, ...], unit: bool) -> None:
    y = 3 * numbers(shape)
    y = y / np.linalg.norm(y, axis=-1, keepdims=True) if unit else y
    assert_told("embed", [y], [turned(y)], shape[0])


def test_an_embedding_that_only_grows_has_not_moved() -> None:
    y = numbers((5, 7))
    moved = predicted("embed", [y], [SMALL * y], 5)
    assert moved < 1e-20 < SMALL**2


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (6,)])
def test_of_one_output_it_is_the_squared_relative_error(shape: tuple[int, ...]) -> None:
    y = numbers(shape) + 1
    assert_told("regress", [y], [turned(y)], shape[0])


def test_of_several_outputs_it_is_the_sum_of_what_each_is_off_by() -> None:
    outputs = [numbers((4, 6)), 100 * numbers((4, 6), 2), numbers((4, 2, 3), 3)]
    changes = [SMALL * y for y in outputs]  # the same direction everywhere: their products do not cancel
    alone = [told("regress", [y], [change], 4) for y, change in zip(outputs, changes, strict=True)]
    assert told("regress", outputs, changes, 4) == pytest.approx(max(alone))
    assert predicted("regress", outputs, changes, 4) == pytest.approx(sum(alone), rel=CLOSE)


# Outputs without a row per sample


@pytest.mark.parametrize("kind", ["classify", "embed", "regress"])
def test_an_output_laid_out_length_first_counts_as_one(kind: Kind) -> None:
    y = numbers((3, 4, 6))  # [length, samples, features]
    assert_told(kind, [y], [turned(y)], 4)


def test_an_output_of_one_number_counts_as_one() -> None:
    y = np.array(3.0)
    assert_told("regress", [y], [np.array(SMALL)], 4)


# Whose they are


@pytest.mark.parametrize("kind", ["classify", "embed", "regress"])
def test_the_seeds_of_a_sample_are_its_own_whatever_it_is_batched_with(kind: Kind) -> None:
    y, names = numbers((6, 5)), digests(6)
    drawn = Seeder(task(kind), {0: 2.5} if kind == "regress" else {})
    together = drawn.draw(y, 0, names, 1)
    alone = [drawn.draw(y[at : at + 1], 0, names[at : at + 1], 1)[0] for at in range(6)]
    np.testing.assert_array_equal(together, alone)
    order = [3, 0, 5]
    np.testing.assert_array_equal(drawn.draw(y[order], 0, [names[at] for at in order], 1), together[order])


@pytest.mark.parametrize("kind", ["classify", "embed", "regress"])
def test_other_probes_and_other_samples_have_other_seeds(kind: Kind) -> None:
    y = np.tile(numbers((1, 40)), (2, 1))  # two samples of which the model says the same
    drawn = Seeder(task(kind), {0: 2.5} if kind == "regress" else {})
    first, again = (drawn.draw(y, 0, digests(2), 0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, drawn.draw(y, 0, digests(2), 1))


def test_two_outputs_of_one_sample_have_seeds_of_their_own() -> None:
    y = numbers((2, 40))
    drawn = Seeder(task("regress"), {0: 1.0, 1: 1.0})
    assert not np.array_equal(drawn.draw(y, 0, digests(2), 0), drawn.draw(y, 1, digests(2), 0))


@pytest.mark.parametrize("kind", ["classify", "embed", "regress"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_seeds_are_of_the_outputs_shape_and_type(kind: Kind, dtype: type[Any]) -> None:
    y = numbers((2, 3, 4)).astype(dtype)
    seeds = Seeder(task(kind), {0: 2.5} if kind == "regress" else {}).draw(y, 0, digests(2), 0)
    assert (seeds.shape, seeds.dtype) == (y.shape, y.dtype)
    assert np.isfinite(seeds).all()
    assert seeds.any()


# Values at the edge


@pytest.mark.parametrize("kind", ["classify", "embed"])
def test_rows_of_zeros_do_no_harm(kind: Kind) -> None:
    y = numbers((2, 3, 4)).astype(np.float32)
    y[0, 1] = 0
    seeds = Seeder(task(kind), {}).draw(y, 0, digests(2), 0)
    assert np.abs(seeds).max() < 10
    assert seeds[0, 0].any()
    assert kind == "classify" or not seeds[0, 1].any()  # a row without length has no direction to turn


def test_logits_far_apart_and_masked_classes_give_finite_seeds() -> None:
    y = np.array([[500.0, -500.0, 0.0], [-np.inf, 1.0, 2.0]])
    for probe in range(20):
        seeds = Seeder(task("classify"), {}).draw(y, 0, digests(2), probe)
        assert np.isfinite(seeds).all()
        assert seeds[1, 0] == 0
        np.testing.assert_allclose(seeds.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("given", ["logits", "probabilities"])
def test_where_the_network_is_sure_every_seed_still_says_as_much(given: str) -> None:
    logits = np.array([[12.0, 0.0, 0.0, 0.0]])
    y = logits if given == "logits" else special.softmax(logits, axis=-1)
    change = SMALL * numbers((1, 4)) if given == "logits" else np.array([[-3e-9, 1e-9, 1e-9, 1e-9]])
    squares = [np.sum(Seeder(task("classify"), {}).draw(y, 0, digests(1), n) * change) ** 2 for n in range(400)]
    assert max(squares) < 20 * np.mean(squares)  # of classes drawn by their probability one in 50,000 says it all


def test_a_class_that_cannot_be_gets_no_seed() -> None:
    y = np.array([[0.0, 0.5, 0.5, 0.0]])
    for probe in range(20):
        seeds = Seeder(task("classify"), {}).draw(y, 0, digests(1), probe)
        np.testing.assert_allclose(np.abs(seeds), [[0, 1, 1, 0]], atol=1e-12)
