"""Lookup tables by use: which rows stay fine, what becomes of the others, and what is said to be lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.factorize import Form, Need, Shape, Statistics, parse_form
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.joined import JOINED, is_one
from onnx_dalr.factorize.joined.by_use import BY_USE, FEWEST_ROWS
from onnx_dalr.factorize.joined.table import Table, Use
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures.whole import Whole

ROWS, COLUMNS = 4200, 24
SHAPE, F32 = Shape(ROWS, COLUMNS), np.dtype(np.float32)
JOIN = JOINED[BY_USE]
FORMS = tuple(JOIN.forms(SHAPE, tuple(FORMATS)))
SOME = [parse_form(text) for text in ("by-use 64 int4/32", "by-use 512x8 int8", "by-use 1024x16 int4/128")]


def table(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> np.ndarray:
    """Some directions are much larger than others, as in what was trained."""
    random = np.random.default_rng(seed)
    falling = random.standard_normal((rows, columns)) * 0.8 ** np.arange(columns)
    turn, _ = np.linalg.qr(random.standard_normal((columns, columns)))
    return (falling @ turn).astype(np.float32)


def picks(count: int = 3000, seed: int = 1, rows: int = ROWS) -> np.ndarray:
    """Few rows often, many never."""
    return np.minimum(np.random.default_rng(seed).zipf(1.5, count) - 1, rows - 1)


def statistics(numbers: np.ndarray, gradients: np.ndarray | None = None, rows: int = ROWS) -> Statistics:
    stats = Statistics(COLUMNS, rows, Need.NONE if gradients is None else Need.METRIC)
    stats.update_picked(numbers)
    if gradients is not None:
        stats.update_metric(gradients, np.zeros((COLUMNS, rows), np.float32), len(gradients))
    return stats


def learned(numbers: np.ndarray, gradients: np.ndarray | None = None, W: Any = None) -> Table:
    use = Use.of(statistics(numbers, gradients), 0.3)
    return Table.of(table() if W is None else W, use, FORMS, F32, list(FORMATS.values()))


def cosines(W: np.ndarray, read: np.ndarray) -> np.ndarray:
    return np.sum(W * read, axis=1) / np.linalg.norm(W, axis=1) / np.linalg.norm(read, axis=1)


# Statistics


def test_what_is_picked_is_counted_and_adds_up() -> None:
    one, other = np.array([3, 3, 0]), np.array([-1, 3])
    both = statistics(one) + statistics(other)
    assert (both.count, both.total[3], both.total[0], both.total[-1]) == (5, 3, 1, 1)
    again = Statistics.from_arrays(both.to_arrays())
    np.testing.assert_array_equal(again.total, both.total)


# Use


def test_rows_that_are_picked_most_come_first_and_no_row_is_worth_nothing() -> None:
    counts = np.bincount(picks(), minlength=ROWS)
    use = Use.of(statistics(picks()), 0.3)
    assert use.seen == (counts > 0).sum()
    assert np.all(np.diff(counts[use.order]) <= 0)
    assert use.shares.min() > 0
    assert use.shares.sum() == pytest.approx(1)


def test_as_much_is_new_as_was_seen_once_but_never_nothing() -> None:
    counts = np.bincount(picks(), minlength=ROWS)
    use = Use.of(statistics(picks()), 0.3)
    assert use.shares[counts == 0].sum() == pytest.approx((counts == 1).sum() / counts.sum())
    often = Use.of(statistics(np.repeat(np.arange(50), 40)), 0.3)
    assert often.outside(50) == pytest.approx(0.01)


def test_an_unseen_row_is_likelier_the_more_rows_around_it_are_seen() -> None:
    use = Use.of(statistics(np.arange(0, 1000, 2)), 0.3)
    assert use.shares[501] > 3 * use.shares[3501] > 0
    assert set(use.order[500:700]) <= set(range(1100))


@pytest.mark.parametrize("numbers", [np.zeros(5, int), np.arange(ROWS), np.array([ROWS - 1])])
def test_one_row_or_all_rows_may_be_seen(numbers: np.ndarray) -> None:
    W = table()
    found = learned(numbers)
    for form in SOME:
        read = found.encoded(W, form, F32).values
        np.testing.assert_allclose(read[numbers[0]], W[numbers[0]], atol=0.01 * np.abs(W).max())
        assert 0 < found.share(form) < 1


# Forms and what they cost


def test_forms_are_rows_that_stay_and_what_the_others_become() -> None:
    assert {form.structure for form in FORMS} == {BY_USE}
    assert {form.format for form in FORMS} == {"int8", "int4/32", "int4/64", "int4/128"}
    assert {form.rank[0] for form in FORMS} == {64, 128, 256, 512, 1024}
    assert {form.rank[1] for form in FORMS if len(form.rank) > 1} == {4, 6, 8, 12, 16}
    assert not any(form.format == "int8" for form in FORMS if len(form.rank) == 1), "that is all of it as int8"
    assert all(parse_form(str(form)) == form and JOIN.fits(form) and is_one(form) for form in FORMS)


@pytest.mark.parametrize("formats", [("keep",), ("float16",), ("keep", "float16")])
def test_there_are_none_without_a_coarse_format(formats: tuple[str, ...]) -> None:
    assert not list(JOIN.forms(SHAPE, formats))


@pytest.mark.parametrize("shape", [Shape(FEWEST_ROWS - 1, 8), Shape(5000, 4000), Shape(5000, 27, (3, 3))])
def test_there_are_none_of_small_tables_and_of_what_is_none(shape: Shape) -> None:
    assert not list(JOIN.forms(shape, ("int8", "int4/32")))


@pytest.mark.parametrize("form", SOME, ids=str)
def test_bytes_are_those_of_what_is_stored_whatever_it_holds(form: Form) -> None:
    made, empty = learned(picks()).encoded(table(), form, F32), JOIN.empty(SHAPE, form, F32)
    stored = sum(array.nbytes for array in made.stored())
    assert JOIN.bytes(SHAPE, form, F32) == stored
    assert [(array.dtype, array.shape) for array in made.stored()] == [
        (array.dtype, array.shape) for array in empty.stored()
    ]
    assert made.packed == empty.packed == JOIN.params(SHAPE, form)


# What is lost


@pytest.mark.parametrize("form", SOME, ids=str)
def test_rows_that_are_picked_most_are_as_in_int8(form: Form) -> None:
    W, found = table(), learned(picks())
    read = found.encoded(W, form, F32).values
    fine, _ = found.use.classes(form.rank[0])
    np.testing.assert_array_equal(read[fine], FORMATS["int8"].encode(W[fine], F32).values)


@pytest.mark.parametrize("form", FORMS[::7], ids=str)
def test_a_row_that_no_sample_has_is_still_close_to_what_it_was(form: Form) -> None:
    W, found = table(), learned(picks())
    near = cosines(W, found.encoded(W, form, F32).values)[found.use.order[found.use.seen :]]
    least = {4: 0.4, 6: 0.5, 8: 0.6, 12: 0.75, 16: 0.85}[form.rank[1]] if len(form.rank) > 1 else 0.97
    assert np.quantile(near, 0.01) > least
    assert np.median(near) > 0.8


def test_more_rank_and_more_fine_rows_lose_less() -> None:
    found = learned(picks())
    by_rank = [found.share(Form(BY_USE, (256, rank), "int8")) for rank in (4, 6, 8, 12, 16)]
    by_rows = [found.share(Form(BY_USE, (count, 8), "int8")) for count in (64, 128, 256, 512, 1024)]
    assert by_rank == sorted(by_rank, reverse=True)
    assert by_rows == sorted(by_rows, reverse=True)


@pytest.mark.parametrize("form", [*SOME, *FORMS[::11]], ids=str)
def test_what_is_said_to_be_lost_is_what_the_rows_lose_by_use_and_metric(form: Form) -> None:
    W = table()
    gradients = np.random.default_rng(5).standard_normal((400, COLUMNS)) * np.linspace(0.1, 3, COLUMNS)
    found = learned(picks(), gradients)
    left = found.encoded(W, form, F32).values - W

    def worth(rows: np.ndarray) -> float:
        return float(found.use.shares @ np.einsum("vi,ij,vj->v", rows, found.use.columns, rows))

    assert found.share(form) == pytest.approx(worth(left) / worth(W), rel=0.5)


def test_columns_that_matter_to_the_output_are_kept_first() -> None:
    W = table() * 0 + np.random.default_rng(3).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    gradients = np.zeros((50, COLUMNS))
    gradients[:, :4] = np.random.default_rng(4).standard_normal((50, 4))
    form = Form(BY_USE, (64, 12), "int8")
    lost = np.square(learned(picks(), gradients, W).encoded(W, form, F32).values - W).mean(axis=0)
    plain = np.square(learned(picks(), None, W).encoded(W, form, F32).values - W).mean(axis=0)
    assert lost[:4].mean() < 0.3 * plain[:4].mean()
    assert lost[4:].max() < 1.2, "the others are not free"


def test_spectra_know_the_forms_that_samples_speak_of() -> None:
    found = learned(picks())
    spectra = Spectra({"dense": Whole()}, found.by_format, joined={BY_USE: found})
    assert spectra.knows(SOME[0])
    assert not Spectra({"dense": Whole()}).knows(SOME[0])
    assert spectra.tail(SOME[0]) == found.share(SOME[0])
    assert spectra.tail(Form("dense", (), "int4/32")) == found.by_format["int4/32"] > spectra.tail(SOME[0])


def test_landmarks_are_few_and_of_one_number_of_rows() -> None:
    found = learned(picks())
    marks = found.landmarks(FORMS)
    assert len(marks) == 4
    assert {form.rank[0] for form in marks} == {next(n for n in (64, 128, 256, 512, 1024) if n >= found.use.seen)}
    assert found.landmarks(FORMS[:1]) == [FORMS[0]]
