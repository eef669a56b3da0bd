"""How far the covariance of few rows is trusted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import Need
from onnx_dalr.factorize.shrinkage import SMALLEST, oas
from tests.factorize.cases import Case, cases, make, often


def shrinkage(case: Case) -> float:
    C = case.covariance
    return oas(len(case.X), len(C), float(np.trace(C)), float(np.sum(C**2)))


@often
@given(cases())
def test_it_is_a_share_between_a_thousandth_and_one(case: Case) -> None:
    assert SMALLEST <= shrinkage(case) <= 1


@often
@given(st.integers(1, 500), st.integers(1, 100), st.floats(0, 1e12), st.floats(0, 1e24))
def test_it_stays_one_for_any_trace_however_rough_the_sketch(p: int, n: int, trace: float, square: float) -> None:
    assert SMALLEST <= oas(p, n, trace, square) <= 1


@pytest.mark.parametrize("n", [2, 5, 20])
def test_one_row_is_not_trusted_at_all(n: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    assert oas(1, n, float(x @ x), float(x @ x) ** 2) == 1


def test_in_one_dimension_the_target_is_the_covariance() -> None:
    assert oas(100, 1, 3.0, 9.0) == 1


@pytest.mark.parametrize("seed", range(20))
def test_in_one_dimension_rounding_does_not_matter(seed: int) -> None:
    stats = make(1, 1, 2, seed).statistics(Need.INPUT)
    assert oas(stats.count, 1, stats.trace, stats.trace_of_square) == 1


def test_nothing_moved_is_not_trusted() -> None:
    assert oas(100, 5, 0.0, 0.0) == 1


def test_equal_variances_are_shrunk_fully_whatever_the_count() -> None:
    assert oas(10**6, 5, 5.0, 5.0) == 1


def test_very_many_uneven_rows_are_trusted_almost_fully() -> None:
    values = 0.5 ** np.arange(20)
    assert oas(10**6, 20, values.sum(), float(values @ values)) == SMALLEST


def test_more_rows_are_trusted_more() -> None:
    values = 0.8 ** np.arange(20)
    found = [oas(p, 20, values.sum(), float(values @ values)) for p in (2, 10, 50, 200, 1000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_it_brings_the_covariance_of_few_rows_nearer_to_the_true_one() -> None:
    case = make(1, 24, 12, seed=3)
    truth = np.diag(np.linspace(0.5, 2, 24) ** 2)
    C, a = case.covariance, shrinkage(case)
    shrunk = (1 - a) * C + a * np.trace(C) / 24 * np.eye(24)
    assert np.linalg.norm(shrunk - truth) < 0.7 * np.linalg.norm(C - truth)
