"""Costs + amount → ranks. Pure arithmetic: knows layers only as sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL_SHARE = 0.02
"""Under one ratio for all, a layer with less than this share of the largest one's parameters stays dense: a
classifier's last layer has hardly anything to give and every direction of it is needed."""

Ranks = list[int | None]
"""A rank per layer; None keeps the layer dense."""


Curve = NDArray[np.float64]
"""Expected relative error of a layer at rank 0, 1, …"""


@dataclass(frozen=True)
class Size:
    """What the ranks of one layer cost.

    Attributes:
        m: Outputs.
        n: Inputs.
        bias_growth: Parameters added to the model by new biases.
        largest_rank: The largest rank below break-even.
    """

    m: int
    n: int
    bias_growth: int
    largest_rank: int

    def params(self, rank: int | None) -> int:
        """Parameters of the layer at a rank, the growth of its bias included."""
        return self.m * self.n if rank is None else rank * (self.m + self.n) + self.bias_growth

    def rank_at(self, ratio: float) -> int | None:
        """The largest rank, at least 1, that keeps at most `ratio` of the weight; None from 1 on, or if none saves."""
        if ratio >= 1 or self.largest_rank < 1:
            return None
        return int(np.clip(int(ratio * self.m * self.n / (self.m + self.n) + 1e-9), 1, self.largest_rank))

    def ratios(self) -> NDArray[np.float64]:
        """The ratios at which the rank steps up, ascending."""
        return np.arange(1, self.largest_rank + 1) * (self.m + self.n) / (self.m * self.n)


def at_ratio(sizes: Sequence[Size], ratio: float, *, small_too: bool = False) -> Ranks:
    """One keep ratio for every layer; small ones stay dense unless `small_too`."""
    small = [False] * len(sizes) if small_too else _small(sizes)
    return [None if is_small else size.rank_at(ratio) for size, is_small in zip(sizes, small, strict=True)]


def at_error(sizes: Sequence[Size], curves: Sequence[Curve], tolerance: float) -> Ranks:
    """One error for every layer: the smallest rank within it; dense where that rank would save nothing."""
    ranks: Ranks = []
    for size, curve in zip(sizes, curves, strict=True):
        enough = np.flatnonzero(np.asarray(curve[1 : size.largest_rank + 1]) <= tolerance)
        ranks.append(int(enough[0]) + 1 if len(enough) else None)
    return ranks


def within(sizes: Sequence[Size], budget: int) -> Ranks | None:
    """The largest one ratio at which all layers together have at most `budget` parameters.

    Small layers are reduced only where the budget cannot be met without. None where it cannot be met at all.
    """
    if total(sizes, [None] * len(sizes)) <= budget:
        return [None] * len(sizes)
    steps = np.unique(np.concatenate([size.ratios() for size in sizes]))
    for small_too in (False, True):
        met = [ratio for ratio in steps if total(sizes, at_ratio(sizes, ratio, small_too=small_too)) <= budget]
        if met:
            return at_ratio(sizes, float(met[-1]), small_too=small_too)
    return None


def total(sizes: Sequence[Size], ranks: Ranks) -> int:
    """Parameters of all layers at their ranks."""
    return sum(size.params(rank) for size, rank in zip(sizes, ranks, strict=True))


def smallest(sizes: Sequence[Size]) -> Ranks:
    """Rank 1 everywhere: the fewest parameters that can be reached."""
    return at_ratio(sizes, 0.0, small_too=True)


def smallest_ratio(sizes: Sequence[Size]) -> float:
    """The ratio at which every layer that is not small has rank 1."""
    return float(min((size.ratios()[0] for size in sizes if size.largest_rank), default=1.0))


def _small(sizes: Sequence[Size]) -> list[bool]:
    largest = max((size.m * size.n for size in sizes), default=0)
    return [size.m * size.n < SMALL_SHARE * largest for size in sizes]
