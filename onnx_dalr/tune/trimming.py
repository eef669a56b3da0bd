"""Padding that all samples of a batch share is cut off: what texts cost is their length (methods.md §10.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnx_dalr.samples.base import Batch, InputSpec
from onnx_dalr.samples.masks import Kept, kept_in
from onnx_dalr.samples.sets import SampleSet

_STEP = 4  # positions: fewer lengths, fuller batches
_TOGETHER = 128  # samples


def lengths(kept: Kept) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None:
    """[samples]: how many positions are real, where they are the first ones; None where padding comes before them."""
    count = kept.sum(axis=1)
    positions = np.arange(kept.shape[1])
    return count if np.array_equal(kept, positions < count[:, None]) else None


def cuttable(specs: Sequence[InputSpec], batch: Batch, mask_input: str | None) -> frozenset[str]:
    """The inputs [samples, positions] that may be shortened; none where one with positions may not.

    Args:
        specs: Of the model.
        batch: Some samples.
        mask_input: That marks padding.
    """
    kept = kept_in(batch, mask_input)
    if kept is None or kept.shape[1] < 2 * _STEP or lengths(kept) is None:
        return frozenset()
    length, found = kept.shape[1], set[str]()
    for spec in specs:
        shape = batch[spec.name].shape if spec.name in batch else ()
        if length not in shape[1:]:
            continue
        free = spec.shape is None or (len(spec.shape) > 1 and spec.shape[1] is None)
        if len(shape) != 2 or not free:
            return frozenset()
        found.add(spec.name)
    return frozenset(found)


def cut(batch: Batch, names: frozenset[str], length: int) -> Batch:
    """A batch with the first positions alone."""
    return {name: array[:, :length] if name in names else array for name, array in batch.items()}


def by_length(
    samples: SampleSet, names: frozenset[str], mask_input: str | None, size: int
) -> Iterator[tuple[list[int], Batch]]:
    """All samples, those of about one length together, without the padding that these share.

    Args:
        samples: To read.
        names: Inputs to shorten; where there are none the samples come as they are.
        mask_input: That marks padding.
        size: Samples in a batch, at most.
    """
    if not names:
        yield from samples
        return
    held: list[tuple[int, int, Batch]] = []
    for indices, batch in samples:
        kept = kept_in(batch, mask_input)
        counts = None if kept is None else lengths(kept)
        whole = next(batch[name].shape[1] for name in names)
        for row, index in enumerate(indices):
            real = whole if counts is None else int(counts[row])
            length = min(max(-(-real // _STEP) * _STEP, _STEP), whole)
            one = {k: v if k in samples.source.repeated else v[row : row + 1] for k, v in batch.items()}
            held.append((length, index, one))
    for group in _grouped(held):
        length = max(one for one, _, _ in group)
        for at in range(0, len(group), size):
            part = [(index, cut(feed, names, length)) for _, index, feed in group[at : at + size]]
            joined = {
                name: array if name in samples.source.repeated else np.concatenate([feed[name] for _, feed in part])
                for name, array in part[0][1].items()
            }
            yield [index for index, _ in part], joined


def _grouped(held: Sequence[tuple[int, int, Batch]]) -> list[list[tuple[int, int, Batch]]]:
    """Samples of neighbouring lengths together, so many that a step still sees different ones (methods.md §10.3)."""
    groups: list[list[tuple[int, int, Batch]]] = [[]]
    last = -1
    for one in sorted(held, key=lambda one: one[:2]):
        if one[0] != last and len(groups[-1]) >= _TOGETHER and len(held) - sum(map(len, groups)) >= _TOGETHER:
            groups.append([])
        groups[-1].append(one)
        last = one[0]
    return groups
