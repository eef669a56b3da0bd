"""Padding: the input that marks it, how its values are read, and which rows of a tensor are real."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.base import Array, Batch, InputSpec

Kept = NDArray[np.bool_]

_NAMES = ("attention_mask", "input_mask")
_NUMBERS = "biuf"
_ADDITIVE = -1.0  # no multiplicative mask goes down to it
_FAR_BELOW = -1e3  # what an additive mask adds where it masks; a bias by distance, which may stand beside it, does not
_FEW = 8  # samples that say how a mask found by its name is read
_PLAIN = 4  # positions from which a square mask that is exactly causal is no batch of lengths 1, 2, 3, …


@dataclass(frozen=True)
class Mask:
    """The input that marks padding. `str()` says how it is read.

    Attributes:
        name: Of the input.
        additive: 0 keeps and large negative values mask, as they are added to attention scores; else 0 masks.
        length: Positions it goes over, None where samples differ in it.
    """

    name: str
    additive: bool
    length: int | None

    def __str__(self) -> str:
        if self.additive:
            return f"input {self.name!r} is an additive mask (0 keeps)"
        return f"input {self.name!r} is a mask (0 marks padding)"


def find_mask(specs: Sequence[InputSpec], feeds: Iterable[Batch], asked: str | None = None) -> Mask | None:
    """The input that marks padding: the one asked for, else by its name, else by its values.

    By name are found `attention_mask` and `input_mask`, alone or as the end of a longer name, and whatever they hold.
    By its values an input of floats is one where they are 0 or far below, marks padding, and goes over positions that
    another input has too; 0 and 1 alone say nothing, and so does a causal mask, which marks none.

    Args:
        specs: The model's inputs.
        feeds: A few of the samples, read one after the other as far as they are needed.
        asked: Name of the input that is one.
    """
    named = asked or _named(specs)
    if named is not None:
        return _mask(named, [_Look.at(feed, named) for feed in islice(feeds, _FEW)])
    possible = [spec.name for spec in specs if spec.dtype.kind == "f" and spec.shape != ()]
    if len(specs) < 2 or not possible:
        return None
    looks_at: dict[str, list[_Look]] = {name: [] for name in possible}
    for feed in feeds:
        for name in list(looks_at):
            if is_additive(feed[name]) and _goes_with_others(feed, name):
                looks_at[name].append(_Look.at(feed, name))
            else:
                del looks_at[name]
        if not looks_at:
            return None
    found = next((name for name, looks in looks_at.items() if any(look.marks for look in looks)), None)
    return None if found is None else _mask(found, looks_at[found])


def is_additive(values: Array) -> bool:
    """Whether an array of floats holds nothing but 0 and values far below, −∞ among them: an additive mask's."""
    return bool(((values == 0) | (values <= _FAR_BELOW)).all())


def kept(mask: Array, samples: int | None = None) -> Kept:
    """Which positions are real, whatever the kind and shape of the mask.

    The kind is told from the values at hand. A value of −1 or less makes the mask additive: what lies far below 0
    masks, all else keeps. Floats that are all 0 are an additive mask too, of samples without padding. Otherwise 0
    masks and all else keeps.

    A mask with an axis of queries, [N, S, T] or [N, H, S, T], keeps a position that any query may look at: that a
    causal mask hides from some of them what comes later makes no padding of it.

    Args:
        mask: [N, T], [N, T, 1], or with axes between, [N, 1, T], [N, 1, 1, T], [N, S, T], [N, H, S, T]; of one row for
            all samples, [T], [1, T], [S, T], [1, 1, S, T]. Booleans, integers or floats; −∞ is fine.
        samples: N, to which a mask that all samples share is repeated; None where it is not known.

    Returns:
        [N, T], True where a position is real. A sample may have none.
    """
    keeps = _keeps(np.asarray(mask))
    if keeps.ndim < 2:
        keeps = keeps.reshape(1, -1)
    if keeps.ndim == 3 and keeps.shape[2] == 1 < keeps.shape[1]:
        keeps = keeps[..., 0]
    if keeps.ndim > 2:
        keeps = np.logical_or.reduce(keeps, axis=tuple(range(1, keeps.ndim - 1)))
    elif _is_shared(keeps, samples):
        keeps = np.logical_or.reduce(keeps, axis=0, keepdims=True)
    if samples is not None and len(keeps) == 1:
        keeps = np.repeat(keeps, samples, axis=0)
    return keeps


def kept_in(feed: Batch, name: str | None) -> Kept | None:
    """Which positions of a batch or complete feed are real by its mask input, [N, T]; None where it has none."""
    return None if name is None else kept(feed[name], _samples(feed, name))


def entries_kept(mask: Kept, shape: Sequence[int], *, positions_first: bool = False) -> Kept | None:
    """Which entries of a tensor are of real positions, found by matching its axes to those of the mask.

    For a tensor of rows, [N, T, features], give its leading axes [N, T]; for one with a number at every position,
    [N, T], or with the features before, [N, C, T], all of them. Which axes are features is the caller's to know: an
    axis of features as long as T, [N, C] with C = T, cannot be told from one of positions.

    Args:
        mask: [N, T], as `kept` gives it.
        shape: Of the tensor, or its leading axes.
        positions_first: Read samples and positions that are joined in one axis as [T·N]; else [N·T].

    Returns:
        Booleans that broadcast to `shape`, of length 1 along the axes that the mask does not cover: [N, T] and
        [N, T, 1] where it lies first, [T, N] where it lies the other way round, [N, 1, T], or [N·T]. None where it
        does not fit.
    """
    at = mask_axes(mask.shape, shape)
    if at is not None:
        laid = mask if at[0] < at[1] else mask.T
        return laid.reshape([length if axis in at else 1 for axis, length in enumerate(shape)])
    flat = (mask.T if positions_first else mask).reshape(-1)
    if flat.size == int(np.prod(shape)):
        return flat.reshape(tuple(shape))
    if len(shape) and shape[0] == flat.size:
        return flat.reshape(-1, *(1 for _ in shape[1:]))
    return None


def mask_axes(mask: Sequence[int], shape: Sequence[int]) -> tuple[int, int] | None:
    """Which axes of a tensor are samples and positions, given how many there are, [N, T]; None where none fit.

    [N, T, …] goes before [T, N, …], and both before axes that stand between.
    """
    pairs = [(0, 1), (1, 0), *((0, at) for at in range(2, len(shape))), *((1, at) for at in range(2, len(shape)))]
    return next(
        (
            (samples, positions)
            for samples, positions in pairs
            if max(samples, positions) < len(shape) and (shape[samples], shape[positions]) == tuple(mask)
        ),
        None,
    )


@dataclass(frozen=True)
class _Look:
    """What one feed's mask shows.

    Attributes:
        additive: How it is read; None for floats that are all 0, which say little.
        marks: There is padding.
        length: Positions.
    """

    additive: bool | None
    marks: bool
    length: int

    @classmethod
    def at(cls, feed: Batch, name: str) -> _Look:
        values = feed[name]
        real = kept(values, _samples(feed, name))
        plain = values.dtype.kind == "f" and not values.any()
        additive = None if plain else float(values.min(initial=0)) <= _ADDITIVE
        return cls(additive, not bool(real.all()), real.shape[1])


def _mask(name: str, looks: Sequence[_Look]) -> Mask:
    readings, lengths = {look.additive for look in looks}, {look.length for look in looks}
    additive = True in readings or readings == {None}
    return Mask(name, additive, lengths.pop() if len(lengths) == 1 else None)


def _keeps(mask: Array) -> Kept:
    """Which values keep, of the mask's shape."""
    lowest = float(mask.min(initial=0))
    if lowest <= _ADDITIVE:
        # Half of the lowest, for masks of −100; but −∞ and the lowest number may both be there.
        return np.asarray(~(mask <= max(lowest / 2, _FAR_BELOW)))
    if mask.dtype.kind == "f" and not mask.any():
        return np.ones(mask.shape, bool)
    return np.asarray(mask != 0)


def _is_shared(keeps: Kept, samples: int | None) -> bool:
    """Whether a mask of two axes is [S, T], of all samples, and not [N, T]."""
    if not _is_square(keeps):
        return False
    causal = len(keeps) >= _PLAIN and np.array_equal(keeps, np.tril(np.ones_like(keeps)))
    return causal or samples not in (None, len(keeps))


def _samples(feed: Batch, name: str) -> int:
    """How many samples a feed holds: as its mask says, or, where that may be shared by all, most other inputs."""
    mask = feed[name]
    if mask.ndim >= 2 and mask.shape[0] != 1 and not _is_square(mask):
        return int(mask.shape[0])
    others = [len(array) for other, array in feed.items() if other != name and array.ndim]
    return max(others, key=others.count) if others else len(mask) if mask.ndim > 1 else 1


def _is_square(mask: Array) -> bool:
    return mask.ndim == 2 and mask.shape[0] == mask.shape[1] > 1


def _goes_with_others(feed: Batch, name: str) -> bool:
    """Whether the positions of a mask, two at least, are those of another input too."""
    length = kept(feed[name]).shape[1]
    return length > 1 and any(length in array.shape for other, array in feed.items() if other != name)


def _named(specs: Sequence[InputSpec]) -> str | None:
    """The first input whose name is that of a mask, or else ends so."""
    names = {spec.name: spec.name.lower().split(":")[0] for spec in specs if spec.dtype.kind in _NUMBERS}
    exact = [name for end in _NAMES for name, base in names.items() if base == end]
    ending = [name for end in _NAMES for name, base in names.items() if _ends(base, end)]
    return next(iter(exact + ending), None)


def _ends(name: str, end: str) -> bool:
    return name.endswith(end) and not name.removesuffix(end)[-1:].isalnum()
