"""Costs + amount → ranks. Pure arithmetic: knows layers only as ladders of choices and what each costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL_SHARE = 0.02
"""Under one ratio for all, a layer with less than this share of the largest one's cost stays dense: a classifier's
last layer has hardly anything to give and every direction of it is needed."""

_BROKEN = 1e6
"""A rank at which the model gives NaN or infinity counts as this many times the largest finite distortion."""

_FREE = 1e-12
"""What a step costs at least: those that cost nothing are taken first."""

Rank = int | None
"""None keeps the layer dense."""

Ranks = list[Rank]
"""A rank per layer."""

Curve = NDArray[np.float64]
"""Expected distortion of a layer at rank 0, 1, …"""

Cost = Callable[[Rank], float]
"""What a layer costs at a rank: parameters, bytes, multiply-adds, microseconds."""


@dataclass(frozen=True)
class Size:
    """The shape of one layer.

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

    def params(self, rank: Rank) -> int:
        """Parameters of the layer at a rank, the growth of its bias included."""
        return self.m * self.n if rank is None else rank * (self.m + self.n) + self.bias_growth


@dataclass(frozen=True, eq=False)
class Ladder:
    """What one layer may become, cheapest first.

    Attributes:
        ranks: Ascending; None, which is dense, comes last where it is a choice.
        costs: Of each.
        dense: Of the layer as it is, whether that is a choice or not.
    """

    ranks: tuple[Rank, ...]
    costs: NDArray[np.float64]
    dense: float

    @property
    def gives(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.ranks) > 1

    def distortions(self, curve: Curve) -> NDArray[np.float64]:
        """The curve at each choice; dense distorts nothing."""
        return np.array([0.0 if rank is None else float(curve[rank]) for rank in self.ranks])

    def below(self, cost: float) -> int:
        """Position of the dearest choice of at most `cost`; of the cheapest where all cost more."""
        return max(0, int(np.searchsorted(self.costs, cost * (1 + 1e-12) + 1e-9, side="right")) - 1)


def ladder(size: Size, cost: Cost, *, multiple: int = 1, least: int = 1) -> Ladder:
    """Every rank that costs less than the dense layer, and dense.

    Args:
        size: Of the layer.
        cost: What a rank costs; must not fall as the rank rises.
        multiple: Ranks are multiples of it.
        least: The smallest rank.
    """
    dense = cost(None)
    first = multiple * max(1, math.ceil(least / multiple))
    saving = itertools.takewhile(lambda rank: cost(rank) < dense, range(first, size.largest_rank + 1, multiple))
    return pinned((*saving, None), cost)


def pinned(ranks: Iterable[Rank], cost: Cost) -> Ladder:
    """A ladder of these choices alone, cheapest first."""
    chosen = tuple(ranks)
    return Ladder(chosen, np.array([cost(rank) for rank in chosen], dtype=np.float64), cost(None))


def total(ladders: Sequence[Ladder], ranks: Ranks) -> float:
    """Cost of all layers at their ranks."""
    return math.fsum(float(one.costs[one.ranks.index(rank)]) for one, rank in zip(ladders, ranks, strict=True))


def smallest(ladders: Sequence[Ladder]) -> Ranks:
    """The cheapest choice everywhere: the least that can be reached."""
    return [one.ranks[0] for one in ladders]


def largest(ladders: Sequence[Ladder]) -> Ranks:
    """The dearest choice everywhere."""
    return [one.ranks[-1] for one in ladders]


def at_ratio(ladders: Sequence[Ladder], ratio: float, *, small_too: bool = False) -> Ranks:
    """One keep ratio for every layer: the dearest choice of at most this share of dense; small layers stay as they are.

    Args:
        ladders: The layers.
        ratio: Share of a layer's own dense cost.
        small_too: Reduce the small ones likewise.
    """
    most = max((one.dense for one in ladders), default=0.0)
    return [
        one.ranks[one.below(ratio * one.dense) if small_too or one.dense >= SMALL_SHARE * most else -1]
        for one in ladders
    ]


def at_error(ladders: Sequence[Ladder], curves: Sequence[Curve], tolerance: float) -> Ranks:
    """One tolerance for every layer: the cheapest choice whose curve is within it, dense where no rank's is."""
    ranks: Ranks = []
    for one, curve in zip(ladders, curves, strict=True):
        enough = np.flatnonzero(one.distortions(curve) <= tolerance)
        ranks.append(one.ranks[int(enough[0]) if len(enough) else -1])
    return ranks


def within(ladders: Sequence[Ladder], budget: float) -> Ranks | None:
    """The largest one ratio at which all layers together cost at most `budget`.

    Small layers are reduced only where the budget cannot be met without. None where it cannot be met at all.
    """
    if total(ladders, largest(ladders)) <= budget:
        return largest(ladders)
    steps = np.unique(np.concatenate([one.costs / one.dense for one in ladders]))
    for small_too in (False, True):
        low, high = 0, len(steps)  # the answer grows with the ratio: bisect
        while low < high:
            middle = (low + high) // 2
            fits = total(ladders, at_ratio(ladders, float(steps[middle]), small_too=small_too)) <= budget
            low, high = (middle + 1, high) if fits else (low, middle)
        if low:
            return at_ratio(ladders, float(steps[low - 1]), small_too=small_too)
    return None


def best(ladders: Sequence[Ladder], curves: Sequence[Curve], budget: float) -> Ranks | None:
    """The ranks with the least summed distortion within a budget; None where it cannot be met.

    On the lower convex hull of every layer's (cost, distortion) points, taking the steepest descents first is the
    exact Lagrangian answer up to the last item (methods.md §4.2); what the budget has left is filled with single steps,
    until no step of any layer fits.

    Args:
        ladders: What each layer may become.
        curves: By layer: distortion at rank 0, 1, …, all in one unit. Staying dense distorts nothing.
        budget: In the unit of the costs, of all layers together.
    """
    left = budget - total(ladders, smallest(ladders))
    if left < 0:
        return None
    places = [0] * len(ladders)
    falls = _distortions(ladders, curves)
    descents = []
    for layer, (one, fall) in enumerate(zip(ladders, falls, strict=True)):
        worth = np.inf
        for gain, cost, place in _hull_steps(one.costs, fall):
            worth = min(worth, gain / max(cost, _FREE))  # rounding must not put a step before the one it starts from
            descents.append((worth, layer, cost, place))
    stopped: set[int] = set()
    for _, layer, cost, place in sorted(descents, key=lambda step: -step[0]):
        if cost > left or layer in stopped:
            stopped.add(layer)  # later points of this hull cost more still
        else:
            places[layer], left = place, left - cost
    return _fill(ladders, falls, places, left)


def filled(ladders: Sequence[Ladder], curves: Sequence[Curve], ranks: Ranks, budget: float) -> Ranks:
    """The same ranks, raised by single steps, the best gain for its cost first, until none fits into the budget."""
    places = [one.ranks.index(rank) for one, rank in zip(ladders, ranks, strict=True)]
    return _fill(ladders, _distortions(ladders, curves), places, budget - total(ladders, ranks))


def steps_up(ladders: Sequence[Ladder], ranks: Ranks) -> list[tuple[float, int, Rank]]:
    """(cost, layer, rank reached) of the next step of every layer that has one, the cheapest first."""
    found = []
    for layer, (one, rank) in enumerate(zip(ladders, ranks, strict=True)):
        place = one.ranks.index(rank)
        if place + 1 < len(one.ranks):
            found.append((float(one.costs[place + 1] - one.costs[place]), layer, one.ranks[place + 1]))
    return sorted(found, key=lambda step: step[:2])


def _distortions(ladders: Sequence[Ladder], curves: Sequence[Curve]) -> list[NDArray[np.float64]]:
    """Distortions to reckon with: where one is infinite or unknown, far above all others."""
    falls = [one.distortions(curve) for one, curve in zip(ladders, curves, strict=True)]
    known = [float(np.max(fall, initial=0.0, where=np.isfinite(fall))) for fall in falls]
    far = _BROKEN * max(known, default=0.0) or 1.0
    return [np.where(np.isfinite(fall), fall, far) for fall in falls]


def _hull_steps(costs: NDArray[np.float64], fall: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """(gain, cost, place reached) of the steps along the lower convex hull of (cost, distortion)."""
    hull: list[int] = []
    for place in range(len(costs)):
        while len(hull) >= 2 and _is_above(costs, fall, hull[-2], hull[-1], place):
            hull.pop()
        if not hull or fall[place] < fall[hull[-1]]:
            hull.append(place)
    return [(float(fall[a] - fall[b]), float(costs[b] - costs[a]), b) for a, b in itertools.pairwise(hull)]


def _is_above(costs: NDArray[np.float64], fall: NDArray[np.float64], a: int, b: int, c: int) -> bool:
    """Whether point b lies on or above the line from a to c."""
    return bool((fall[b] - fall[a]) * (costs[c] - costs[a]) >= (fall[c] - fall[a]) * (costs[b] - costs[a]))


def _fill(ladders: Sequence[Ladder], falls: Sequence[NDArray[np.float64]], places: list[int], left: float) -> Ranks:
    """Single steps, the best gain for its cost first, until none fits."""
    while True:
        steps = []
        for layer, (one, fall, place) in enumerate(zip(ladders, falls, places, strict=True)):
            if place + 1 == len(one.ranks):
                continue
            cost = float(one.costs[place + 1] - one.costs[place])
            if cost <= left:
                steps.append((float(fall[place] - fall[place + 1]) / max(cost, _FREE), layer, cost))
        if not steps:
            return [one.ranks[place] for one, place in zip(ladders, places, strict=True)]
        _, layer, cost = max(steps, key=lambda step: step[0])
        places = [*places[:layer], places[layer] + 1, *places[layer + 1 :]]
        left -= cost
