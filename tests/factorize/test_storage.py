"""Statistics as plain arrays and back: to the last bit, and nothing else is taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import Need, Statistics
from tests.factorize.cases import Array, Case, cases, make, often

NEEDS = [
    Need.NONE,
    Need.OUTPUT | Need.SKETCH | Need.METRIC,
    Need.INPUT | Need.METRIC,
    Need.ROWS,
    Need.ROWS | Need.INPUT,
    Need.OUTPUT | Need.ROWS | Need.METRIC,
]


def of(case: Case, needs: Need) -> Statistics:
    found = case.statistics(needs)
    if Need.METRIC in needs:
        found.update_metric(np.sin(case.X @ case.W.T), case.W, len(case.X))
    return found


def assert_identical(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@often
@given(cases(), st.sampled_from(NEEDS))
def test_what_is_read_back_is_what_was_stored(case: Case, needs: Need) -> None:
    stored = of(case, needs)
    read = Statistics.from_arrays(stored.to_arrays())
    assert (read.m, read.n, read.needs) == (stored.m, stored.n, stored.needs)
    assert_identical(read.to_arrays(), stored.to_arrays())
    assert (read.rows is None) == (stored.rows is None)


@often
@given(cases(), st.sampled_from(NEEDS))
def test_what_is_read_back_goes_on_as_the_stored_would(case: Case, needs: Need) -> None:
    stored = of(case, needs)
    both = Statistics.from_arrays(stored.to_arrays()) + of(case, needs)
    assert_identical(both.to_arrays(), (stored + of(case, needs)).to_arrays())
    read = Statistics.from_arrays(stored.to_arrays())
    for stats in (read, stored):
        stats.update(case.X, case.W)
    assert_identical(read.to_arrays(), stored.to_arrays())


def test_statistics_without_rows_are_stored_too() -> None:
    for needs in NEEDS:
        empty = Statistics(3, 4, needs)
        assert_identical(Statistics.from_arrays(empty.to_arrays()).to_arrays(), empty.to_arrays())


def test_the_arrays_are_copied_on_reading() -> None:
    arrays = of(make(3, 4, 9), NEEDS[1]).to_arrays()
    for array in arrays.values():
        array.flags.writeable = False
    read = Statistics.from_arrays(arrays)
    read.update(np.ones((1, 4)), np.ones((3, 4)))
    assert read.count == arrays["count"] + 1


def test_big_endian_arrays_are_read_as_well() -> None:
    arrays = of(make(3, 4, 9), NEEDS[1]).to_arrays()
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    assert_identical(Statistics.from_arrays(swapped).to_arrays(), arrays)


@pytest.mark.parametrize("needs", NEEDS)
def test_every_missing_field_is_named(needs: Need) -> None:
    arrays = of(make(3, 4, 9), needs).to_arrays()
    for name in arrays:
        with pytest.raises(ValueError, match=f"field '{name}' is missing"):
            Statistics.from_arrays({other: array for other, array in arrays.items() if other != name})


def test_neither_rows_nor_their_moment_is_a_missing_moment() -> None:
    arrays = of(make(3, 8, 5), Need.ROWS).to_arrays()
    del arrays["rows"]
    with pytest.raises(ValueError, match="field 'input' is missing"):
        Statistics.from_arrays(arrays)


@pytest.mark.parametrize("name", ["total", "squares", "output_total", "output", "sketch", "metric", "metric_power"])
def test_an_array_of_another_shape_is_named(name: str) -> None:
    arrays = of(make(3, 4, 9), NEEDS[1]).to_arrays()
    with pytest.raises(ValueError, match=f"field '{name}' has the shape"):
        Statistics.from_arrays(arrays | {name: np.zeros((2, 9))})


def test_rows_that_are_not_as_many_as_counted_are_refused() -> None:
    arrays = of(make(3, 8, 5), Need.ROWS).to_arrays()
    with pytest.raises(ValueError, match=r"field 'rows' has the shape \[4, 8\], not \[5, 8\]"):
        Statistics.from_arrays(arrays | {"rows": arrays["rows"][:4]})


def test_an_array_of_another_precision_is_named() -> None:
    arrays = of(make(3, 4, 9), NEEDS[1]).to_arrays()
    with pytest.raises(ValueError, match="field 'output' holds float32, not float64"):
        Statistics.from_arrays(arrays | {"output": arrays["output"].astype(np.float32)})


@pytest.mark.parametrize("name", ["m", "n", "count", "needs", "metric_rows", "metric_probes"])
@pytest.mark.parametrize("value", [np.array(-1), np.array(2.0), np.array([1])])
def test_what_is_no_count_is_named(name: str, value: Array) -> None:
    arrays = of(make(3, 4, 9), NEEDS[1]).to_arrays()
    with pytest.raises(ValueError, match=f"field '{name}' is not a whole number"):
        Statistics.from_arrays(arrays | {name: value})


def test_needs_of_another_version_are_refused() -> None:
    arrays = Statistics(3, 4, Need.NONE).to_arrays()
    with pytest.raises(ValueError, match="field 'needs' is 4096"):
        Statistics.from_arrays(arrays | {"needs": np.array(4096)})


def test_a_field_that_does_not_belong_is_named() -> None:
    arrays = Statistics(3, 4, Need.NONE).to_arrays()
    with pytest.raises(ValueError, match="field 'output' does not belong"):
        Statistics.from_arrays(arrays | {"output": np.zeros((3, 3))})


def test_the_stored_needs_of_today_are_those_of_yesterdays_files() -> None:
    assert [need.value for need in (Need.OUTPUT, Need.INPUT, Need.SKETCH, Need.ROWS, Need.METRIC)] == [1, 2, 4, 8, 16]
