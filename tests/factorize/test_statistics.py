"""What a layer saw, as sums that add up over batches, shards and machines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.factorize.gram import SKETCH_WIDTH, add_gram, sketch_matrix, symmetric
from tests.factorize.cases import Array, Case, cases, make, often

SUMS = ("total", "squares", "output_total", "output", "input", "sketch", "metric", "metric_spread")
COUNTS = ("count", "metric_rows", "metric_probes")
NEEDS = [
    Need.NONE,
    Need.OUTPUT,
    Need.INPUT,
    Need.OUTPUT | Need.SKETCH,
    Need.ROWS,
    Need.INPUT | Need.ROWS,
    Need.OUTPUT | Need.METRIC,
]


def of(W: Array, X: Array, needs: Need) -> Statistics:
    found = Statistics(*W.shape, needs)
    add(found, X, W)
    return found


def add(found: Statistics, X: Array, W: Array) -> None:
    """Adds rows and, for the metric, one made-up gradient of one probe for each."""
    found.update(X, W)
    if Need.METRIC in found.needs:
        found.update_metric(np.sin(X @ W.T), W, len(X))


def assert_same(one: Statistics, other: Statistics) -> None:
    """The same sums up to rounding; rows in any order."""
    for name in COUNTS:
        assert getattr(one, name) == getattr(other, name)
    assert one.metric_power == pytest.approx(other.metric_power)
    for name in SUMS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1e-300 + np.abs(b).max()), err_msg=name)
    assert (one.rows is None) == (other.rows is None)
    if one.rows is not None and other.rows is not None:
        np.testing.assert_array_equal(np.sort(one.rows, axis=0), np.sort(other.rows, axis=0))


@often
@given(cases(), st.sampled_from(NEEDS), st.lists(st.integers(0, 60), max_size=4))
def test_batching_does_not_matter(case: Case, needs: Need, cuts: list[int]) -> None:
    parts = Statistics(*case.W.shape, needs)
    for rows in np.split(case.X, sorted(min(cut, len(case.X)) for cut in cuts)):
        add(parts, rows, case.W)
    assert_same(parts, of(case.W, case.X, needs))


@often
@given(cases(), st.sampled_from(NEEDS), st.integers(0, 60), st.integers(0, 60))
def test_sums_of_shards_are_those_of_one_pass_in_any_order(case: Case, needs: Need, cut: int, other: int) -> None:
    whole = of(case.W, case.X, needs)
    first, second = sorted((min(cut, len(case.X)), min(other, len(case.X))))
    a, b, c = (of(case.W, rows, needs) for rows in np.split(case.X, [first, second]))
    assert_same(a + b + c, whole)
    assert_same(a + (b + c), whole)
    assert_same(c + b + a, whole)


def test_adding_leaves_both_parts_as_they_were() -> None:
    case = make(3, 8, 5)
    for needs in NEEDS:
        a, b = of(case.W, case.X[:2], needs), of(case.W, case.X[2:], needs)
        a + b
        assert_same(a, of(case.W, case.X[:2], needs))
        assert_same(b, of(case.W, case.X[2:], needs))


@pytest.mark.parametrize("other", [(3, 5, Need.OUTPUT), (4, 4, Need.OUTPUT), (3, 4, Need.INPUT)])
def test_statistics_of_different_layers_do_not_add_up(other: tuple[int, int, Need]) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        Statistics(3, 4, Need.OUTPUT) + Statistics(*other)


def test_rows_are_kept_below_n_and_folded_into_the_moment_from_n_on() -> None:
    case = make(3, 8, 20)
    stats = Statistics(3, 8, Need.ROWS)
    stats.update(case.X[:7])
    assert stats.input is None
    assert stats.rows is not None
    np.testing.assert_array_equal(stats.rows, case.X[:7])
    stats.update(case.X[7:8])
    assert stats.rows is None
    assert stats.input is not None
    stats.update(case.X[8:])
    np.testing.assert_allclose(symmetric(stats.input), case.X.T @ case.X)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (3, 5), (5, 8), (8, 5), (9, 9)])
def test_rows_fold_across_addition_too(first: int, second: int) -> None:
    case = make(3, 8, first + second)
    both = of(case.W, case.X[:first], Need.ROWS) + of(case.W, case.X[first:], Need.ROWS)
    assert_same(both, of(case.W, case.X, Need.ROWS))
    assert (both.rows is None) == (first + second >= 8)


def test_kept_rows_are_a_copy() -> None:
    X = make(3, 8, 5).X
    stats = of(np.zeros((3, 8)), X, Need.ROWS)
    before = X.copy()
    X[:] = 0
    np.testing.assert_array_equal(stats.rows, before)


def held(stats: Statistics) -> int:
    arrays = [getattr(stats, name) for name in SUMS if name != "metric_spread"] + [stats.rows]
    return sum(array.nbytes for array in arrays if array is not None)


@pytest.mark.parametrize("needs", NEEDS)
@pytest.mark.parametrize("count", [1, 7, 8, 30])
def test_bytes_needed_are_the_bytes_held(needs: Need, count: int) -> None:
    case = make(5, 8, count)
    stats = of(case.W, case.X.astype(np.float32), needs)
    assert held(stats) == Statistics.bytes_needed(5, 8, needs, count)


def test_bytes_needed_count_rows_in_double_precision_too() -> None:
    case = make(5, 8, 6)
    assert held(of(case.W, case.X, Need.ROWS)) <= Statistics.bytes_needed(5, 8, Need.ROWS, 6)


@often
@given(cases(rows=("plain", "low rank", "one sample", "constant", "scaled columns")))
def test_covariances_are_those_of_the_rows(case: Case) -> None:
    stats = of(case.W, case.X, Need.INPUT | Need.OUTPUT)
    C = case.covariance
    scale = 1e-300 + float(np.mean(case.X**2, axis=0).max())
    np.testing.assert_allclose(stats.mean, case.mean, rtol=1e-9, atol=1e-12 * np.sqrt(scale))
    np.testing.assert_allclose(stats.input_covariance, C, atol=1e-12 * scale)
    np.testing.assert_allclose(stats.output_covariance, case.W @ C @ case.W.T, atol=1e-11 * (case.power + 1e-300))
    assert stats.trace == pytest.approx(np.trace(C), abs=1e-12 * scale)


@often
@given(cases())
def test_the_trace_is_never_negative(case: Case) -> None:
    assert of(case.W, case.X, Need.NONE).trace >= 0


@pytest.mark.parametrize("rows", ["one sample", "constant", "zero"])
def test_one_row_or_a_constant_input_teaches_nothing(rows: str) -> None:
    case = make(4, 9, 30, rows=rows)
    assert of(case.W, case.X, Need.NONE).learned_nothing
    single = case.X.astype(np.float32)
    assert of(case.W, single, Need.NONE).learned_nothing


def test_two_different_rows_teach_something_however_large_their_mean() -> None:
    X = 1e4 + np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    assert not of(np.zeros((2, 3)), X, Need.NONE).learned_nothing


@pytest.mark.parametrize("seed", range(10))
def test_the_sketch_comes_near_the_trace_of_the_squared_covariance(seed: int) -> None:
    case = make(4, 24, 200, seed)
    sketched, exact = of(case.W, case.X, Need.SKETCH), of(case.W, case.X, Need.INPUT)
    assert exact.trace_of_square == pytest.approx(np.sum(case.covariance**2))
    assert sketched.trace_of_square == pytest.approx(exact.trace_of_square, rel=0.5)


def test_the_sketch_is_right_on_average_over_many_inputs() -> None:
    ratios = []
    for seed in range(40):
        case = make(4, 24, 50, seed)
        exact = of(case.W, case.X, Need.INPUT).trace_of_square
        ratios.append(of(case.W, case.X, Need.SKETCH).trace_of_square / exact)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n", [1, 5, 300])
def test_the_sketch_matrix_is_plus_and_minus_one_and_always_the_same(n: int) -> None:
    omega = sketch_matrix(n)
    assert omega.shape == (n, SKETCH_WIDTH)
    assert set(np.unique(omega)) == {-1.0, 1.0}
    np.testing.assert_array_equal(omega, sketch_matrix(n))


def test_the_sketch_matrix_of_today_is_that_of_yesterdays_files() -> None:
    np.testing.assert_array_equal(sketch_matrix(3)[:, :6], FIRST_SIGNS)


FIRST_SIGNS = [[1, -1, -1, -1, -1, 1], [1, 1, 1, 1, 1, -1], [1, 1, -1, -1, -1, 1]]


def test_a_gram_in_tiles_is_the_plain_product() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 2100))
    total = np.zeros((2100, 2100))
    add_gram(total, rows)
    add_gram(total, rows)
    np.testing.assert_allclose(symmetric(total), 2 * rows.T @ rows, atol=1e-12)


def test_the_output_moment_needs_the_weight() -> None:
    with pytest.raises(ValueError, match="needs the weight"):
        Statistics(2, 3, Need.OUTPUT).update(np.zeros((1, 3)))


def test_half_precision_rows_are_summed_in_double_precision() -> None:
    X = np.full((3000, 2), 60000, np.float16)
    stats = of(np.ones((2, 2), np.float32), X, Need.OUTPUT)
    assert stats.total.tolist() == [float(X[0, 0]) * 3000] * 2
    assert stats.mean.tolist() == [float(X[0, 0])] * 2
    assert stats.output is not None
    assert stats.output[0, 0] == pytest.approx(3000 * (2 * float(X[0, 0])) ** 2)
