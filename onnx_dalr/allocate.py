"""Costs + amount → ranks. Pure arithmetic: knows layers only as sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL_SHARE = 0.02
"""Under one ratio for all, a layer with less than this share of the largest one's parameters stays dense: a
classifier's last layer has hardly anything to give and every direction of it is needed."""

_BROKEN = 1e6
"""A rank at which the model gives NaN or infinity counts as this many times the largest finite distortion."""

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


def best(sizes: Sequence[Size], curves: Sequence[Curve], budget: int) -> Ranks | None:
    """The ranks with the least summed distortion within a budget of parameters; None where it cannot be met.

    Staying dense costs m·n and distorts nothing. On the lower convex hull of every layer's (cost, distortion) points,
    taking the steepest descents first is the exact Lagrangian answer up to the last item; what the budget has left is
    filled with single rank steps, until no step of any layer fits.

    Args:
        sizes: What ranks cost.
        curves: By layer: distortion at rank 0, 1, …, all in one unit.
        budget: Parameters of all layers together.
    """
    ranks = smallest(sizes)
    left = budget - total(sizes, ranks)
    if left < 0:
        return None
    curves = _finite(curves)
    descents = []
    for layer, (size, curve) in enumerate(zip(sizes, curves, strict=True)):
        worth = np.inf
        for gain, cost, rank in _hull_steps(size, curve):
            worth = min(worth, gain / cost)  # rounding must not put a step before the one it starts from
            descents.append((worth, layer, cost, rank))
    stopped: set[int] = set()
    for _, layer, cost, rank in sorted(descents, key=lambda step: -step[0]):
        if cost > left or layer in stopped:
            stopped.add(layer)  # later points of this hull cost more still
        else:
            ranks[layer], left = rank, left - cost
    return _fill(sizes, curves, ranks, left)


def _finite(curves: Sequence[Curve]) -> list[Curve]:
    """Curves to reckon with: where one is infinite or unknown, a distortion far above all others."""
    known = [float(np.max(curve, initial=0.0, where=np.isfinite(curve))) for curve in curves]
    far = _BROKEN * max(known, default=0.0) or 1.0
    return [np.where(np.isfinite(curve), curve, far) for curve in curves]


def _hull_steps(size: Size, curve: Curve) -> list[tuple[float, int, int | None]]:
    """(gain, cost, rank reached) of the steps along the lower convex hull, from rank 1 to dense."""
    options: list[int | None] = [*range(1, size.largest_rank + 1), None]
    points = [(size.params(rank), 0.0 if rank is None else float(curve[rank]), rank) for rank in options]
    hull: list[tuple[int, float, int | None]] = []
    for point in points:
        while len(hull) >= 2 and _is_above(hull[-2], hull[-1], point):
            hull.pop()
        if not hull or point[1] < hull[-1][1]:
            hull.append(point)
    return [(a[1] - b[1], b[0] - a[0], b[2]) for a, b in itertools.pairwise(hull)]


def _is_above(
    a: tuple[int, float, int | None], b: tuple[int, float, int | None], c: tuple[int, float, int | None]
) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def _fill(sizes: Sequence[Size], curves: Sequence[Curve], ranks: Ranks, left: int) -> Ranks:
    """Single rank steps, the best gain for its cost first, until none fits."""
    while True:
        steps = []
        for layer, (size, curve, rank) in enumerate(zip(sizes, curves, ranks, strict=True)):
            if rank is None:
                continue
            above = rank + 1 if rank < size.largest_rank else None
            cost = size.params(above) - size.params(rank)
            if cost <= left:
                after = 0.0 if above is None else float(curve[above])
                steps.append(((float(curve[rank]) - after) / max(cost, 1), layer, cost, above))
        if not steps:
            return ranks
        _, layer, cost, above = max(steps, key=lambda step: step[0])
        ranks, left = [*ranks[:layer], above, *ranks[layer + 1 :]], left - cost


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
