"""The split of the samples into fit, select and report: by seed, by class, in blocks for complete feeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError

Indices = NDArray[np.int64]

SHARED_BELOW = 200
"""With fewer samples outside fit than this, select and report are one set."""

_MOST_HELD_OUT = 0.95


@dataclass(frozen=True)
class Split:
    """Which samples serve what; every array is int64, ascending.

    Attributes:
        fit: Statistics are computed on these.
        select: Forms and factors are chosen on these.
        report: Every quality figure that is printed comes from these.
        select_is_report: select and report are the same samples, too few to be halved.
    """

    fit: Indices
    select: Indices
    report: Indices
    select_is_report: bool


def split(
    samples_len: int,
    *,
    labels: NDArray[np.int64] | None,
    complete: bool,
    holdout: float,
    seed: int,
    limit: int | None = None,
    separate_report: bool = False,
) -> Split:
    """Splits samples 0 … samples_len − 1.

    The same arguments give the same split. Within a class the order is drawn once, and the sets are taken from it one
    after the other.

    Args:
        samples_len: Number of samples.
        labels: Class per sample, int64 [samples_len], to stratify by; samples without a label, −100, are a group of
            their own. None, labels of tokens or pixels [samples_len, …], or complete feeds, for no classes.
        complete: The samples are steps of recordings: every set is one contiguous block, on a circle that is entered
            at a point that depends on the seed.
        holdout: Fraction outside fit, halved into select and report; 0 gives all samples to fit.
        seed: Of the draw.
        limit: At most so many samples are used in all.
        separate_report: The report set comes from elsewhere: all that is held out goes to select.

    Raises:
        InputError: A holdout outside 0 … 0.95, a limit below 1, a negative seed, no samples, or one sample of which a
            part is to be held out.
    """
    _check(samples_len, holdout, seed, limit)
    used = min(limit or samples_len, samples_len)
    outside = _count_outside(used, holdout)
    shared = 0 < outside < SHARED_BELOW and not separate_report
    select = outside if shared or separate_report else math.ceil(outside / 2)
    random = np.random.Generator(np.random.PCG64(seed))
    if complete:
        start = int(random.integers(samples_len))
        orders = [(start + np.arange(samples_len, dtype=np.int64)) % samples_len]
    else:
        orders = [random.permutation(members).astype(np.int64) for members in _classes(samples_len, labels)]
        # Where classes tie for a sample, the seed decides, not their number.
        orders = [orders[index] for index in random.permutation(len(orders))]
    taken, _ = _divide(orders, used, floor=1)
    held, fit = _divide(taken, outside, floor=1, spare=1)
    chosen, reported = _divide(held, select, floor=0)
    return Split(_ascending(fit), _ascending(chosen), _ascending(chosen if shared else reported), shared)


def _check(samples_len: int, holdout: float, seed: int, limit: int | None) -> None:
    if samples_len < 1:
        raise InputError("there are no samples to split", "give at least one sample")
    if not 0 <= holdout <= _MOST_HELD_OUT:
        raise InputError(f"--holdout {holdout} is not a fraction that can be held out", "give 0 … 0.95")
    if limit is not None and limit < 1:
        raise InputError(f"--samples {limit} leaves no samples", "give at least 1")
    if seed < 0:
        raise InputError(f"--seed {seed} is negative", "give 0 or more")
    if holdout > 0 and min(limit or samples_len, samples_len) == 1:
        raise InputError("one sample cannot be split into fit and held-out samples", "--holdout 0 gives it to fit")


def _count_outside(used: int, holdout: float) -> int:
    """How many of the used samples are held out: at least one on either side unless holdout is 0."""
    return 0 if holdout == 0 else min(max(round(used * holdout), 1), used - 1)


def _classes(samples_len: int, labels: NDArray[np.int64] | None) -> list[Indices]:
    """The samples of each class; all together where a sample has no label or several."""
    everyone = np.arange(samples_len, dtype=np.int64)
    if labels is None or labels.ndim > 1:
        return [everyone]
    return [everyone[labels == label] for label in np.unique(labels)]


def _divide(
    orders: Sequence[Indices], count: int, *, floor: int, spare: int = 0
) -> tuple[list[Indices], list[Indices]]:
    """Takes `count` samples from the front of the classes in proportion to their sizes; returns (taken, left).

    Args:
        orders: The samples of each class in their drawn order.
        count: How many to take in all.
        floor: Take at least so many of each class that has them to give, where `count` allows.
        spare: Leave at least so many in each class that has more than that, where `count` allows.
    """
    sizes = np.array([len(order) for order in orders], dtype=np.int64)
    shares = _shares(sizes, count, floor, spare)
    pairs = [(order[:share], order[share:]) for order, share in zip(orders, shares, strict=True)]
    return [front for front, _ in pairs], [back for _, back in pairs]


def _shares(sizes: Indices, count: int, floor: int, spare: int) -> Indices:
    """Largest-remainder division of `count` in proportion to `sizes`, within floor and spare."""
    enough = sizes >= floor + spare
    least = np.where(enough, floor, 0)
    most = np.where(enough, sizes - spare, sizes)
    if least.sum() > count:
        least = np.zeros_like(sizes)
    if most.sum() < count:
        most = sizes
    quota = sizes * (count / max(int(sizes.sum()), 1))
    shares: Indices = np.clip(np.floor(quota).astype(np.int64), least, most)
    while shares.sum() != count:
        step = 1 if shares.sum() < count else -1
        open_classes = shares < most if step > 0 else shares > least
        urgency = np.where(open_classes, step * (quota - shares), -np.inf)
        shares[int(np.argmax(urgency))] += step
    return shares


def _ascending(groups: Sequence[Indices]) -> Indices:
    return np.sort(np.concatenate(list(groups)))
