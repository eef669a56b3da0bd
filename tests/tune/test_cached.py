"""Samples as they enter, kept in memory: each once, in batches of one shape, as many as memory takes, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_dalr.samples import Batch, InputSpec
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import SampleSet, opened
from onnx_dalr.tune.cached import Cached, Minibatch, cached, has_rows

PLENTY = 1 << 30
X = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)
ROWS = [InputSpec("x", (None, 3), np.dtype("float32"))]
TEXTS = [InputSpec(name, (None, None), np.dtype("int64")) for name in ("ids", "attention_mask")]


@contextmanager
def read(calib: Any, specs: list[InputSpec], batch: int = 8) -> Iterator[SampleSet]:
    with opened(SampleOptions(calib, holdout=0.0, batch_size=batch), specs) as sets:
        yield replace(sets.fit, indices=np.sort(sets.fit.indices))


def doubled(batch: Batch) -> Batch:
    """What enters: one tensor computed from the feed."""
    return {"h": 2 * batch["x"]}


def texts(lengths: list[int]) -> list[dict[str, np.ndarray]]:
    """One text for each length, filled up to a multiple of four with padding."""
    made = []
    for number, length in enumerate(lengths):
        width = -(-length // 4) * 4
        real = np.arange(width) < length
        made.append({"ids": np.where(real, number + 1, 0)[None], "attention_mask": real.astype(np.int64)[None]})
    return made


def numbers(samples: Cached, size: int = 8, seed: int | None = None) -> list[list[int]]:
    """Indices by batch."""
    random = None if seed is None else np.random.default_rng(seed)
    return [list(batch.indices) for batch in samples.batches(size, random)]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("size", [1, 7, 8, 40, 100])
def test_every_sample_is_handed_out_once_with_what_enters_of_it(size: int) -> None:
    with read(X, ROWS) as samples:
        held = cached(doubled, samples, None, PLENTY, by_row=True)
    assert (len(held), len(held.groups)) == (40, 1)
    batches = list(held.batches(size))
    assert [len(batch) for batch in batches] == [min(size, 40 - at) for at in range(0, 40, size)]
    assert flat([list(batch.indices) for batch in batches]) == list(range(40))
    for batch in batches:
        assert list(batch.feed) == ["h"]
        assert batch.kept is None
        np.testing.assert_array_equal(batch.feed["h"], 2 * X[list(batch.indices)])


def test_shuffled_each_sample_comes_once_and_a_seed_gives_the_same_order() -> None:
    with read(X, ROWS) as samples:
        held = cached(doubled, samples, None, PLENTY, by_row=True)
    first, again, other = (numbers(held, 8, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert flat(first) != list(range(40))
    assert sorted(flat(first)) == sorted(flat(other)) == list(range(40))
    for batch in held.batches(8, np.random.default_rng(0)):
        np.testing.assert_array_equal(batch.feed["h"], 2 * X[list(batch.indices)])
    random = np.random.default_rng(0)
    one, two = ([list(batch.indices) for batch in held.batches(8, random)] for _ in range(2))
    assert one != two  # every round has an order of its own


def test_texts_of_one_length_are_batched_with_their_masks() -> None:
    lengths = [3, 9, 4, 2, 10, 12, 1, 7]
    with read(texts(lengths), TEXTS, batch=2) as samples:
        held = cached(dict, samples, "attention_mask", PLENTY, by_row=True)
    assert sorted(group.feed["ids"].shape for group in held.groups) == [(1, 8), (3, 12), (4, 4)]
    for seed in (None, 3):
        batches = list(held.batches(2, None if seed is None else np.random.default_rng(seed)))
        assert sorted(flat([list(batch.indices) for batch in batches])) == list(range(8))
        for batch in batches:
            assert batch.kept is not None
            assert batch.kept.shape == batch.feed["ids"].shape
            for index, row, real in zip(batch.indices, batch.feed["ids"], batch.kept, strict=True):
                assert real.sum() == lengths[index]
                assert (row == np.where(real, index + 1, 0)).all()


def test_feeds_without_rows_are_handed_out_as_they_are() -> None:
    with read(X, ROWS) as samples:
        held = cached(lambda batch: {"s": batch["x"].sum(axis=0)}, samples, None, PLENTY, by_row=False)
    assert (len(held), len(held.groups)) == (40, 5)
    assert numbers(held, 3) == [list(range(at, at + 8)) for at in range(0, 40, 8)]
    for batch in held.batches(3, np.random.default_rng(0)):
        np.testing.assert_array_equal(batch.feed["s"], X[list(batch.indices)].sum(axis=0))
    first, again = numbers(held, 3, 0), numbers(held, 3, 0)
    assert first == again
    assert first != numbers(held, 3)
    assert sorted(first) == numbers(held, 3)


# Parts


def test_a_part_is_of_the_samples_that_are_chosen() -> None:
    with read(texts([3, 9, 4, 2, 10, 12, 1, 7]), TEXTS) as samples:
        held = cached(dict, samples, "attention_mask", PLENTY, by_row=True)
    part, rest = held.part(lambda index: index % 3 == 0), held.part(lambda index: index % 3 != 0)
    assert sorted(flat(numbers(part))) == [0, 3, 6]
    assert sorted(flat(numbers(rest))) == [1, 2, 4, 5, 7]
    assert len(held) == 8
    for batch in part.batches(8):
        assert batch.kept is not None
        assert {int(row[0]) - 1 for row in batch.feed["ids"]} == set(batch.indices)
    assert len(held.part(lambda index: False)) == 0
    assert numbers(held.part(lambda index: False)) == []


def test_of_feeds_without_rows_the_first_sample_says_where_they_belong() -> None:
    with read(X, ROWS) as samples:
        held = cached(lambda batch: {"s": batch["x"].sum(axis=0)}, samples, None, PLENTY, by_row=False)
    part = held.part(lambda index: index in (8, 17))
    assert numbers(part) == [list(range(8, 16))]


# Memory


def test_as_many_as_memory_takes_spread_over_all() -> None:
    done: list[int] = []
    with read(X, ROWS) as samples:
        held = cached(doubled, samples, None, 10 * 12, by_row=True, advance=done.append)
    taken = flat(numbers(held))
    assert len(taken) == sum(done) == 10
    assert (taken[0], taken[-1]) == (0, 39)
    gaps = np.diff(taken)
    assert gaps.max() - gaps.min() <= 1
    assert sum(group.bytes for group in held.groups) <= 10 * 12


def test_at_least_one_sample_is_kept_and_enough_memory_keeps_all() -> None:
    with read(X, ROWS) as samples:
        assert len(cached(doubled, samples, None, 1, by_row=True)) == 1
        assert len(cached(doubled, samples, None, 40 * 12, by_row=True)) == 40


def test_bytes_are_those_of_the_arrays() -> None:
    feed = {"a": np.zeros((4, 3), np.float32), "b": np.zeros((4, 2), np.float16)}
    assert Minibatch(feed, None, (0, 1, 2, 3)).bytes == 4 * (12 + 4)


# Which tensors have a row per sample


def test_a_tensor_has_rows_where_one_sample_alone_gives_its_row() -> None:
    def enter(batch: Batch) -> Batch:
        x = batch["x"]
        return {
            "row": x * 2,
            "sizes": np.array([len(x), 3]),
            "mean": x - x.mean(axis=0),
            "sum": x.sum(axis=0),
            "turned": x.T,
            "one": np.float32(x.sum()),
            "joined": x.reshape(-1),
        }

    batch = {"x": np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)}
    assert has_rows(enter, batch, 6, frozenset()) == {"row"}


def test_what_all_samples_share_is_fed_whole_beside_one_sample() -> None:
    seen: list[dict[str, tuple[int, ...]]] = []

    def enter(batch: Batch) -> Batch:
        seen.append({name: array.shape for name, array in batch.items()})
        return {"h": batch["x"] + batch["shared"], "shared": batch["shared"]}

    batch = {"x": np.ones((6, 3), np.float32), "shared": np.arange(3, dtype=np.float32)}
    assert has_rows(enter, batch, 6, frozenset({"shared"})) == {"h"}
    assert seen == [{"x": (6, 3), "shared": (3,)}, {"x": (1, 3), "shared": (3,)}]


def test_integers_have_to_be_the_same_and_floats_about() -> None:
    def enter(batch: Batch) -> Batch:
        x = batch["x"]
        return {"noisy": x + 1e-4 * len(x), "counts": np.full(len(x), len(x)), "signs": (x[:, 0] > 0).astype(np.int64)}

    batch = {"x": np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)}
    assert has_rows(enter, batch, 6, frozenset()) == {"noisy", "signs"}


def test_one_sample_alone_tells_nothing() -> None:
    assert has_rows(doubled, {"x": X[:1]}, 1, frozenset()) == set()
