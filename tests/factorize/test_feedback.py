"""Rounding by what the weight will see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.formats.feedback import rounded
from onnx_dalr.factorize.moment import Moment
from tests.factorize.cases import seldom

ROUNDED = [name for name in FORMATS if name.startswith("int")]
Array = NDArray[Any]


def weight(m: int, n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)


def correlated(n: int, rows: int | None = None, seed: int = 1) -> Array:
    """The moment of rows that mostly lie in few directions."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows or 4 * n, n)) / np.sqrt(np.arange(1, n + 1)) @ rng.standard_normal((n, n))
    return np.asarray(X.T @ X / len(X))


def left(name: str, W: Array, moment: Array | None, seen: Array) -> float:
    """tr[ΔW C ΔWᵀ] under what is seen, of a weight rounded by a moment."""
    error = W - FORMATS[name].encode(W, W.dtype, None if moment is None else Moment.of(moment)).values
    return float(np.sum(error @ seen * error))


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize(("m", "n"), [(48, 96), (96, 48), (20, 301)])
def test_it_leaves_less_than_rounding_to_nearest_by_a_clear_factor(name: str, m: int, n: int) -> None:
    W, C = weight(m, n), correlated(n)
    assert left(name, W, C, C) < 0.5 * left(name, W, None, C)


@pytest.mark.parametrize("name", ROUNDED)
def test_on_inputs_of_uneven_size_too(name: str) -> None:
    W, size = weight(64, 96), np.exp(np.random.default_rng(2).standard_normal(96))
    C = correlated(96) * size * size[:, None]
    assert left(name, W, C, C) < 0.3 * left(name, W, None, C)


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_inputs_that_have_nothing_to_do_with_each_other_are_rounded_to_nearest(name: str, scale: float) -> None:
    W = weight(20, 70)
    by_moment, plain = (FORMATS[name].encode(W, W.dtype, given) for given in (Moment.of(scale * np.eye(70)), None))
    np.testing.assert_array_equal(by_moment.values, plain.values)


@pytest.mark.parametrize("name", ROUNDED)
def test_on_few_white_rows_it_is_hardly_worse_for_others(name: str) -> None:
    W, X = weight(40, 64), np.random.default_rng(3).standard_normal((640, 64))
    assert left(name, W, X.T @ X / len(X), np.eye(64)) < 1.15 * left(name, W, None, np.eye(64))


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("rows", [1, 2, 20])
def test_of_few_samples_these_are_answered_better_and_the_weight_stays_near(name: str, rows: int) -> None:
    W, C = weight(32, 80), correlated(80, rows)
    assert left(name, W, C, C) < 0.3 * left(name, W, None, C)
    assert left(name, W, C, np.eye(80)) < 6 * left(name, W, None, np.eye(80))


@pytest.mark.parametrize("name", ROUNDED)
def test_single_precision_is_enough_of_a_moment(name: str) -> None:
    W, C = weight(32, 80), correlated(80)
    assert left(name, W, C.astype(np.float32), C) == pytest.approx(left(name, W, C, C), rel=0.05)


@pytest.mark.parametrize(
    "moment", [np.zeros((30, 30)), np.full((30, 30), np.nan), np.full((30, 30), np.inf), -np.eye(30)]
)
@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_no_moment_says_nothing(name: str, moment: Array) -> None:
    W = weight(8, 30)
    by_moment, plain = (FORMATS[name].encode(W, W.dtype, given) for given in (Moment.of(moment), None))
    np.testing.assert_array_equal(by_moment.values, plain.values)


def test_a_matrix_that_is_no_moment_though_its_trace_is_positive_says_nothing() -> None:
    assert Moment.of(np.diag([3.0, -1.0])).feedback is None


@pytest.mark.parametrize("name", ROUNDED)
def test_inputs_that_were_always_zero_are_rounded_all_the_same(name: str) -> None:
    W, C = weight(8, 40), correlated(40)
    C[:, ::3] = C[::3] = 0
    read = FORMATS[name].encode(W, W.dtype, Moment.of(C)).values
    assert np.abs(W - read).max() < 1.0
    assert left(name, W, C, C) < left(name, W, None, C)


@seldom
@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 99))
def test_panels_make_no_difference(m: int, n: int, seed: int) -> None:
    """Input after input, by the definition."""
    W, C = weight(m, n, seed).astype(np.float64), correlated(n, seed=seed)
    scale = np.full((m, 1), 0.25, np.float32)
    feedback = Moment.of(C).feedback
    assert feedback is not None
    (block,) = feedback.blocks
    np.testing.assert_allclose(
        block.R @ block.R.T, (C * n / np.trace(C) + 0.01 * np.eye(n))[np.ix_(block.inputs, block.inputs)], atol=1e-8
    )
    assert not np.tril(block.R, -1).any()
    errors, expected = np.zeros((m, n)), np.zeros((m, n))
    for at, j in enumerate(block.inputs):
        target = W[:, j] + errors[:, block.inputs[:at]] @ block.R[:at, at] / block.R[at, at]
        expected[:, j] = np.clip(np.rint(target / 0.25), -100, 100)
        errors[:, j] = W[:, j] - 0.25 * expected[:, j]
    found = rounded(W, scale, -100, 100, feedback)
    assert np.mean(found != expected) <= 0.02  # a tie may fall either way


def test_a_wide_weight_is_rounded_block_by_block() -> None:
    n = 3000
    feedback = Moment.of(correlated(n, 200)).feedback
    assert feedback is not None
    assert [len(block.inputs) for block in feedback.blocks] == [1500, 1500]
    assert sorted(np.concatenate([block.inputs for block in feedback.blocks])) == list(range(n))
    assert feedback.weights.shape == (n,)
    W, C = weight(4, n), correlated(n, 200)
    assert left("int8", W, C, C) < 0.7 * left("int8", W, None, C)
