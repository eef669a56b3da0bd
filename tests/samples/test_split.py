"""fit, select and report: apart from each other, by class, in blocks, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onnx_dalr.errors import InputError
from onnx_dalr.samples import Split, split

HOLDOUTS = st.floats(0, 0.95)
SEEDS = st.integers(0, 2**32)


def plain(count: int, **options: object) -> Split:
    return split(count, **{"labels": None, "complete": False, "holdout": 0.3, "seed": 0, **options})


def is_block(indices: np.ndarray, count: int) -> bool:
    """Whether the indices are one contiguous block on the circle 0 … count − 1."""
    gaps = np.diff(np.append(indices, indices[0] + count))
    return int((gaps > 1).sum()) <= 1


def test_the_default_is_70_15_15() -> None:
    parts = plain(2000)
    assert (len(parts.fit), len(parts.select), len(parts.report)) == (1400, 300, 300)
    assert not parts.select_is_report


def test_fewer_than_200_outside_fit_are_one_set() -> None:
    parts = plain(660)
    assert parts.select_is_report
    assert len(parts.select) == 198
    np.testing.assert_array_equal(parts.select, parts.report)
    assert not plain(667).select_is_report


def test_a_report_set_of_its_own_leaves_all_held_out_to_select() -> None:
    for count in (100, 2000):
        parts = plain(count, separate_report=True)
        assert len(parts.select) == round(0.3 * count)
        assert len(parts.report) == 0
        assert not parts.select_is_report


def test_no_holdout_gives_all_to_fit() -> None:
    for complete in (False, True):
        parts = plain(50, holdout=0, complete=complete)
        assert parts.fit.tolist() == list(range(50))
        assert len(parts.select) == len(parts.report) == 0
        assert not parts.select_is_report


def test_the_seed_changes_the_split() -> None:
    for complete in (False, True):
        assert (
            plain(1000, seed=1, complete=complete).fit.tolist() != plain(1000, seed=2, complete=complete).fit.tolist()
        )


def test_the_draw_is_what_it_was() -> None:
    """A change here changes every user's figures: it must be meant."""
    parts = plain(10, seed=3, labels=np.array([0, 1] * 5))
    assert (parts.fit.tolist(), parts.select.tolist()) == ([0, 1, 2, 3, 5, 6, 9], [4, 7, 8])


def test_ties_between_classes_are_broken_by_the_seed() -> None:
    held = {tuple(plain(10, labels=np.arange(10), seed=seed).select) for seed in range(10)}
    assert len(held) > 1


@given(count=st.integers(2, 900), holdout=HOLDOUTS, seed=SEEDS, complete=st.booleans(), data=st.data())
def test_every_sample_is_in_one_set(count: int, holdout: float, seed: int, complete: bool, data: st.DataObject) -> None:
    labels = data.draw(st.none() | st.just(np.arange(count) % data.draw(st.integers(1, 20))))
    limit = data.draw(st.none() | st.integers(2, 1000))
    parts = split(count, labels=labels, complete=complete, holdout=holdout, seed=seed, limit=limit)
    outside = parts.select if parts.select_is_report else np.concatenate([parts.select, parts.report])
    everything = np.concatenate([parts.fit, outside])
    used = min(limit or count, count)
    assert len(everything) == len(np.unique(everything)) == used
    assert set(everything.tolist()) <= set(range(count))
    assert len(parts.fit) >= 1
    assert (len(outside) >= 1) == (holdout > 0)
    assert abs(len(outside) - holdout * used) <= 1
    for part in (parts.fit, parts.select, parts.report):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    again = split(count, labels=labels, complete=complete, holdout=holdout, seed=seed, limit=limit)
    assert again.fit.tolist() == parts.fit.tolist()
    assert again.report.tolist() == parts.report.tolist()


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), holdout=st.floats(0.05, 0.9), seed=SEEDS)
def test_every_class_of_two_is_on_both_sides_where_there_is_room(sizes: list[int], holdout: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    pairs = [label for label, size in enumerate(sizes) if size >= 2]
    assume(len(labels) >= 2)
    parts = split(len(labels), labels=labels, complete=False, holdout=holdout, seed=seed)
    outside = np.union1d(parts.select, parts.report)
    if len(outside) >= len(pairs):
        assert set(pairs) <= set(labels[outside].tolist())
    if len(parts.fit) >= len(pairs):
        assert set(pairs) <= set(labels[parts.fit].tolist())


@given(sizes=st.lists(st.integers(10, 60), min_size=2, max_size=8), seed=SEEDS)
def test_classes_keep_their_shares(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = split(len(labels), labels=labels, complete=False, holdout=0.3, seed=seed)
    held = np.bincount(labels[np.union1d(parts.select, parts.report)], minlength=len(sizes))
    np.testing.assert_allclose(held, 0.3 * np.array(sizes), atol=1.5)


def test_a_limit_keeps_the_classes_shares() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    parts = split(1000, labels=labels, complete=False, holdout=0.3, seed=5, limit=100)
    used = np.union1d(parts.fit, parts.select)
    assert np.bincount(labels[used]).tolist() == [60, 30, 10]


@given(count=st.integers(2, 900), holdout=st.floats(0.01, 0.95), seed=SEEDS, limit=st.none() | st.integers(2, 900))
def test_complete_feeds_are_split_in_blocks(count: int, holdout: float, seed: int, limit: int | None) -> None:
    parts = split(count, labels=None, complete=True, holdout=holdout, seed=seed, limit=limit)
    everything = np.union1d(np.union1d(parts.fit, parts.select), parts.report)
    for part in (parts.fit, parts.select, parts.report, everything):
        assert len(part)
        assert is_block(part, count)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (10, {"holdout": 1.0}, "--holdout 1.0"),
        (10, {"holdout": -0.1}, "--holdout -0.1"),
        (10, {"holdout": float("nan")}, "--holdout nan"),
        (10, {"limit": 0}, "--samples 0"),
        (10, {"seed": -1}, "--seed -1"),
        (10, {"limit": 1}, "--holdout 0"),
        (1, {}, "--holdout 0"),
        (0, {"holdout": 0.0}, "no samples"),
    ],
)
def test_what_cannot_be_split_is_refused(count: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plain(count, **options)


def test_one_sample_can_all_go_to_fit() -> None:
    assert plain(1, holdout=0).fit.tolist() == [0]


def test_samples_without_a_label_are_a_group_of_their_own() -> None:
    labels = np.repeat([0, 1, -100], 40)
    parts = plain(120, labels=labels)
    assert [int((labels[parts.fit] == label).sum()) for label in (0, 1, -100)] == [28, 28, 28]


def test_labels_of_tokens_do_not_divide_the_samples() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (120, 7))
    np.testing.assert_array_equal(plain(120, labels=labels).fit, plain(120).fit)
