"""Costs + amount → forms. Pure arithmetic: knows a layer only as a ladder of choices and what each costs.

A form is opaque here, whatever it stands for: it has a place in the layer's menu, a cost, and a distortion.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Form

SMALL_SHARE = 0.02
"""Under one ratio for all, a layer with less than this share of the largest one's cost stays as it is: a classifier's
last layer has hardly anything to give and every direction of it is needed."""

_BROKEN = 1e6
"""A form in which the model gives NaN or infinity counts as this many times the largest finite distortion."""

_FREE = 1e-12
"""What a step costs at least: those that cost nothing are taken first."""

Menu = tuple[Form, ...]
"""All that a layer may become; last, that it stays as it is."""

Forms = list[Form]
"""A form per layer."""

Curve = NDArray[np.float64]
"""Expected distortion of a layer in each form of its menu; nothing as it is."""

Pricing = Callable[[Form], float]
"""What a layer costs in a form: parameters, bytes, multiply-adds, microseconds."""


@dataclass(frozen=True)
class Rung:
    """One choice of a layer.

    Attributes:
        form: What it becomes.
        cost: In the unit of the budget.
        distortion: To expect of it.
    """

    form: Form
    cost: float
    distortion: float


@dataclass(frozen=True, eq=False)
class Ladder:
    """What one layer may become, cheapest first.

    Attributes:
        forms: By cost, ascending; the layer as it is comes last where it is a choice.
        places: Position of each of `forms` in the menu of the layer, and so in its curves, [forms].
        costs: Cost of each of `forms`, [forms], ascending.
        whole: Cost of the layer as it is, whether that is a choice or not.
    """

    forms: tuple[Form, ...]
    places: NDArray[np.int64]
    costs: NDArray[np.float64]
    whole: float

    @property
    def gives(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.forms) > 1

    def distortions(self, curve: Curve) -> NDArray[np.float64]:
        """The curve at each choice."""
        return curve[self.places]

    def rungs(self, curve: Curve) -> list[Rung]:
        """The choices worth having: the lower convex hull of (cost, distortion), cheapest first."""
        fall = self.distortions(curve)
        at = [0, *(place for *_, place in _hull_steps(self.costs, fall))]
        if len(at) > 1 and self.costs[at[1]] == self.costs[0]:
            at = at[1:]  # as cheap, and loses less
        return [Rung(self.forms[place], float(self.costs[place]), float(fall[place])) for place in at]

    def kept(self) -> Ladder:
        """The one with its dearest choice alone."""
        return replace(self, forms=self.forms[-1:], places=self.places[-1:], costs=self.costs[-1:])

    def below(self, cost: float) -> int:
        """Position of the dearest choice of at most `cost`; of the cheapest where all cost more."""
        return max(0, int(np.searchsorted(self.costs, cost * (1 + 1e-12) + 1e-9, side="right")) - 1)


def ladder(menu: Menu, price: Pricing, *, allowed: Callable[[Form], bool] = lambda form: True) -> Ladder:
    """Every form of the menu that costs less than the layer as it is, and that itself.

    Args:
        menu: Of the layer.
        price: What a form costs.
        allowed: Whether a form may be chosen at all; the layer as it is may always.
    """
    whole = price(menu[-1])
    priced = [(price(form), place) for place, form in enumerate(menu[:-1]) if allowed(form)]
    saving = sorted((cost, place) for cost, place in priced if cost < whole)
    return pinned(menu, (*(menu[place] for _, place in saving), menu[-1]), price)


def pinned(menu: Menu, forms: Iterable[Form], price: Pricing) -> Ladder:
    """A ladder of these choices alone, cheapest first."""
    chosen, at = tuple(forms), {form: place for place, form in enumerate(menu)}
    places = np.array([at[form] for form in chosen], dtype=np.int64)
    return Ladder(chosen, places, np.array([price(form) for form in chosen], dtype=np.float64), price(menu[-1]))


def total(ladders: Sequence[Ladder], forms: Forms) -> float:
    """Cost of all layers in their forms."""
    return math.fsum(float(one.costs[one.forms.index(form)]) for one, form in zip(ladders, forms, strict=True))


def smallest(ladders: Sequence[Ladder]) -> Forms:
    """The cheapest choice everywhere: the least that can be reached."""
    return [one.forms[0] for one in ladders]


def largest(ladders: Sequence[Ladder]) -> Forms:
    """The dearest choice everywhere."""
    return [one.forms[-1] for one in ladders]


def at_ratio(ladders: Sequence[Ladder], ratio: float, *, small_too: bool = False) -> Forms:
    """One keep ratio for every layer: the dearest choice of at most this share of it; small layers stay as they are.

    Args:
        ladders: The layers.
        ratio: Share of a layer's own cost as it is.
        small_too: Reduce the small ones to this share as well.
    """
    most = max((one.whole for one in ladders), default=0.0)
    return [
        one.forms[one.below(ratio * one.whole) if small_too or one.whole >= SMALL_SHARE * most else -1]
        for one in ladders
    ]


def at_error(ladders: Sequence[Ladder], curves: Sequence[Curve], tolerance: float) -> Forms:
    """One tolerance for every layer: the cheapest choice within it, as it is where none is."""
    forms: Forms = []
    for one, curve in zip(ladders, curves, strict=True):
        enough = np.flatnonzero(one.distortions(curve) <= tolerance)
        forms.append(one.forms[int(enough[0]) if len(enough) else -1])
    return forms


def within(ladders: Sequence[Ladder], budget: float) -> Forms | None:
    """The largest one ratio at which all layers together cost at most `budget`.

    Small layers are reduced only where the budget cannot be met without. None where it cannot be met at all. Between
    two neighbouring shares of all choices no layer changes its own, so that bisecting them finds the ratio exactly.
    """
    if total(ladders, largest(ladders)) <= budget:
        return largest(ladders)
    steps = np.unique(np.concatenate([one.costs / one.whole for one in ladders]))
    for small_too in (False, True):
        low, high = 0, len(steps)  # the answer grows with the ratio: bisect
        while low < high:
            middle = (low + high) // 2
            fits = total(ladders, at_ratio(ladders, float(steps[middle]), small_too=small_too)) <= budget
            low, high = (middle + 1, high) if fits else (low, middle)
        if low:
            return at_ratio(ladders, float(steps[low - 1]), small_too=small_too)
    return None


def best(ladders: Sequence[Ladder], curves: Sequence[Curve], budget: float) -> Forms | None:
    """The forms with the least summed distortion within a budget; None where it cannot be met.

    Distortions of layers add up, to second order: each is the effect of that layer alone. So taking the steepest
    descents along the lower convex hulls of the layers' (cost, distortion) points is the exact Lagrangian answer up to
    the last item (methods.md §4.2); what the budget has left is filled with single steps, until no step of any layer
    fits.

    Args:
        ladders: What each layer may become.
        curves: By layer: distortion in each form of its menu, all in one unit.
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


def filled(ladders: Sequence[Ladder], curves: Sequence[Curve], forms: Forms, budget: float) -> Forms:
    """These forms raised by single steps, the best gain for its cost first, until none fits into the budget."""
    places = [one.forms.index(form) for one, form in zip(ladders, forms, strict=True)]
    return _fill(ladders, _distortions(ladders, curves), places, budget - total(ladders, forms))


def steps_up(ladders: Sequence[Ladder], forms: Forms) -> list[tuple[float, int, Form]]:
    """(cost, layer, form reached) of the next step of every layer that has one, the cheapest first."""
    found = []
    for layer, (one, form) in enumerate(zip(ladders, forms, strict=True)):
        place = one.forms.index(form)
        if place + 1 < len(one.forms):
            found.append((float(one.costs[place + 1] - one.costs[place]), layer, one.forms[place + 1]))
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
    if costs[b] == costs[c]:
        return bool(fall[b] >= fall[c])
    return bool((fall[b] - fall[a]) * (costs[c] - costs[a]) >= (fall[c] - fall[a]) * (costs[b] - costs[a]))


def _fill(ladders: Sequence[Ladder], falls: Sequence[NDArray[np.float64]], places: list[int], left: float) -> Forms:
    """Single steps to the next choice that loses no more, the best gain for its cost first, until none fits."""
    following = list(map(_next_no_worse, falls))
    while True:
        steps = []
        for layer, (one, fall, place) in enumerate(zip(ladders, falls, places, strict=True)):
            to = following[layer][place]
            if to == len(one.forms):
                continue
            cost = float(one.costs[to] - one.costs[place])
            if cost <= left:
                steps.append((float(fall[place] - fall[to]) / max(cost, _FREE), layer, cost, to))
        if not steps:
            return [one.forms[place] for one, place in zip(ladders, places, strict=True)]
        _, layer, cost, to = max(steps, key=lambda step: step[0])
        places = [*places[:layer], to, *places[layer + 1 :]]
        left -= cost


def _next_no_worse(fall: NDArray[np.float64]) -> list[int]:
    """By place: the first above it that loses no more, or the number of places where there is none.

    A ladder of several structures need not fall from rung to rung by every curve.
    """
    found = [len(fall)] * len(fall)
    waiting: list[int] = []
    for place in range(len(fall)):
        while waiting and fall[waiting[-1]] >= fall[place]:
            found[waiting.pop()] = place
        waiting.append(place)
    return found
