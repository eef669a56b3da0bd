"""Samples as they enter student and teacher: run up to there once, kept in memory, handed out in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.masks import Kept, kept_in
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.tune.trimming import by_length

Rows = Callable[[Batch], Batch]
"""What of a feed of the model enters student and teacher, by tensor."""


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Some samples as they enter student and teacher.

    Attributes:
        feed: By tensor.
        kept: Which positions of the samples are real, [samples, length]; None without a mask.
        indices: Of the samples.
    """

    feed: Batch
    kept: Kept | None
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def bytes(self) -> int:
        """Of the arrays."""
        return sum(array.nbytes for array in self.feed.values())


@dataclass(frozen=True, eq=False)
class Cached:
    """Samples in memory.

    Attributes:
        groups: Samples whose arrays have the same shapes, together; or, where they have no row each, feeds as they are.
        by_row: Every array has a row per sample: any of a group can be batched.
    """

    groups: tuple[Minibatch, ...]
    by_row: bool

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def batches(self, size: int, random: np.random.Generator | None = None) -> Iterator[Minibatch]:
        """All samples once, so many at a time; shuffled where there is a generator."""
        if not self.by_row:
            order = range(len(self.groups)) if random is None else random.permutation(len(self.groups))
            yield from (self.groups[at] for at in order)
            return
        parts: list[tuple[int, NDArray[np.int64]]] = []
        for number, group in enumerate(self.groups):
            rows = np.arange(len(group)) if random is None else random.permutation(len(group))
            parts += [(number, rows[at : at + size]) for at in range(0, len(rows), size)]
        for at in range(len(parts)) if random is None else random.permutation(len(parts)):
            number, rows = parts[at]
            yield _taken(self.groups[number], rows)

    def joined(self) -> Cached:
        """With the samples of the same shapes in one group each, where they have rows."""
        return Cached(tuple(_joined(self.groups)), by_row=True) if self.by_row else self

    def part(self, chosen: Callable[[int], bool]) -> Cached:
        """The samples whose indices are chosen; of feeds without rows those whose first is."""
        if not self.by_row:
            return Cached(tuple(group for group in self.groups if chosen(group.indices[0])), by_row=False)
        groups = []
        for group in self.groups:
            rows = np.array([at for at, index in enumerate(group.indices) if chosen(index)], np.int64)
            if len(rows):
                groups.append(_taken(group, rows))
        return Cached(tuple(groups), by_row=True)


def _taken(group: Minibatch, rows: NDArray[np.int64]) -> Minibatch:
    return Minibatch(
        {name: array[rows] for name, array in group.feed.items()},
        None if group.kept is None else group.kept[rows],
        tuple(group.indices[at] for at in rows),
    )


def has_rows(enter: Rows, batch: Batch, count: int, repeated: frozenset[str]) -> set[str]:
    """Of what enters, the tensors of which each sample has a row of its own: told by running one sample alone."""
    if count < 2:
        return set()
    whole = enter(batch)
    first = enter({name: array if name in repeated else array[:1] for name, array in batch.items()})
    return {
        name
        for name, array in whole.items()
        if array.ndim
        and len(array) == count
        and first[name].shape == (1, *array.shape[1:])
        and _alike(first[name][0], array[0])
    }


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=1e-2, atol=1e-3 * max(float(np.abs(other).max(initial=0.0)), 1e-6)))


def cached(
    enter: Rows,
    samples: SampleSet,
    mask_input: str | None,
    most_bytes: int,
    *,
    by_row: bool,
    cut: frozenset[str] = frozenset(),
    advance: Callable[[int], None] = lambda count: None,
) -> Cached:
    """Reads samples, runs them up to where they enter, and keeps that: as many as memory takes, spread evenly.

    Args:
        enter: What of a feed enters.
        samples: To be read.
        mask_input: Model input that marks padding.
        most_bytes: That may be kept.
        by_row: Every tensor has a row per sample.
        cut: Inputs that are shortened by the padding that samples share.
        advance: Told of samples done.
    """
    held: list[Minibatch] = []
    size = 0
    for indices, batch in by_length(samples, cut, mask_input, samples.batch_size):
        made = Minibatch(enter(batch), kept_in(batch, mask_input), tuple(indices))
        if not held and made.bytes:
            fits = int(most_bytes / (made.bytes / max(len(made), 1)))
            if fits < len(samples):
                few = samples.spread(max(fits, 1))
                return cached(enter, few, mask_input, 1 << 62, by_row=by_row, cut=cut, advance=advance)
        held.append(made)
        size += made.bytes
        advance(len(indices))
    return Cached(tuple(_joined(held)) if by_row else tuple(held), by_row)


def _joined(held: Sequence[Minibatch]) -> Iterator[Minibatch]:
    """Batches of the same shapes as one."""
    alike: dict[Any, list[Minibatch]] = defaultdict(list)
    for one in held:
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(one.feed.items()))
        alike[shapes, None if one.kept is None else one.kept.shape[1:]].append(one)
    for parts in alike.values():
        first = parts[0]
        yield Minibatch(
            {name: np.concatenate([part.feed[name] for part in parts]) for name in first.feed},
            None if first.kept is None else np.concatenate([part.kept for part in parts if part.kept is not None]),
            tuple(index for part in parts for index in part.indices),
        )
