"""The smallest model within a tolerance: about ten real evaluations, monotone in what the user allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder
from onnx_dalr.choose.families import families
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import (
    BEST_EFFORT,
    BY_EFFECT,
    BY_ERROR,
    EQUAL,
    MIXED,
    ROUNDING,
    Effects,
    Judge,
    Trial,
    Trials,
    plan_of,
)
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.plan.plan import Plan

EVALUATIONS = 10
MORE_FOR_FACTORS = 2  # evaluations, where some went into the choice of the factors
_CLOSE = 1.02  # a search need not be finer
_LITTLE = 0.25  # share of the model that could go at best, up to which one step is tried before all else
_STARTING_RATIOS = (0.5, 0.15)


@dataclass(frozen=True, eq=False)
class _Allocation:
    """One way to spend a budget.

    Attributes:
        ladders: What each layer may become.
        curves: By which the budget is spent; None for one ratio.
    """

    ladders: Sequence[Ladder]
    curves: list[Curve] | None

    def spend(self, budget: float) -> Forms:
        """The forms it makes of a budget; the cheapest where it cannot be met."""
        if self.curves is None:
            return allocate.within(self.ladders, budget) or allocate.smallest(self.ladders)
        return allocate.best(self.ladders, self.curves, budget) or allocate.smallest(self.ladders)

    def cost(self, forms: Forms) -> float:
        """What forms that it made cost."""
        return allocate.total(self.ladders, forms)


class ToleranceSearch:
    """Bisects the budget of the layers, on a logarithmic scale, for the smallest model within a tolerance.

    What is tried depends only on the answers before it, never on the tolerance itself, and a looser tolerance answers
    alike until it accepts what a tighter one refuses. From there on the looser one takes nothing larger than that
    model and the tighter one nothing that is not larger. So who allows more never gets a larger model, however the
    score jumps.

    Why a logarithmic scale: nobody knows beforehand whether a half or a hundredth of the layers will do, and halves of
    an interval of sizes would spend the few evaluations among the large ones. Why the first model that passes meets
    other allocations of its cost, and no later one does: which of them predicts best shows near the size where quality
    breaks, and asking again at every size would halve how finely the size is found. Families of structures are asked
    there too, for as many evaluations more as there are of them.
    """

    def __init__(self, space: SearchSpace, judge: Judge | None, what: str, lost: Callable[[Trial], float]) -> None:
        if judge is None:
            raise InputError(
                f"without held-out samples no {what} can be measured", "give --size, --params or --rank, or --holdout"
            )
        self._space, self._judge, self._what, self._lost = space, judge, what, lost
        self._trials = Trials(space, judge)
        self._families = families(space) if judge.effects is not None else {}
        more = MORE_FOR_FACTORS if len(space.names_of_factors) > 1 else 0
        self._most = EVALUATIONS + more + len(self._families)
        self._best: Plan | None = None
        self._closest: tuple[float, Plan] | None = None

    def run(self) -> Plan:
        """The smallest plan that was scored and stays within the tolerance.

        Raises:
            TargetError: None does.
        """
        ladders = self._space.ladders
        most = allocate.largest(ladders)
        if not self._space.saves:
            return plan_of(self._space, most, "")
        # What is pinned costs the same in any model: with it the bounds would lie too close for a logarithmic scale.
        fixed = sum(float(one.costs[0]) for one in ladders if not one.gives)
        low, high = (allocate.total(ladders, forms) - fixed for forms in (allocate.smallest(ladders), most))
        little = self._space.may_stay and high - low < _LITTLE * self._space.whole
        if little and not self._passes(EQUAL, _one_step_down(ladders)):
            return self._result(EQUAL)  # a search for what little there is to gain would end where it began
        effects = self._effects()
        name = BY_EFFECT if effects else EQUAL
        allocations = self._allocations(effects)
        least = low
        refused, accepted = -math.inf, math.inf  # what the largest and the smallest of them cost
        while self._has_trials_left and high > _CLOSE * low:
            middle = math.sqrt(low * high)
            forms = allocations[name].spend(middle + fixed)
            cost = allocations[name].cost(forms)
            # A budget is not spent to the last parameter: what it buys may be no smaller, or larger, than another's.
            if cost >= accepted:
                high = middle
            elif cost <= refused or not self._passes(name, forms):
                low, refused = middle, max(cost, refused)
            else:
                high = middle
                if self._best is None:
                    name = self._chosen(name, allocations, refused, cost)
                    if effects is not None:
                        effects.near(self._trials.forms(name))
                        allocations = self._allocations(effects)
                self._best = self._trials.entered[name]
                accepted = allocations[name].cost(self._trials.forms(name))
        if self._best is None:
            self._last_resort(name, most)
        elif math.isfinite(accepted):
            self._leave_way_below(name, allocations, least, accepted - fixed, fixed)
        return self._result(name)

    def _leave_way_below(
        self, name: str, allocations: Mapping[str, _Allocation], low: float, high: float, fixed: float
    ) -> None:
        """Tells how smaller models would be made: tuned, one of them may pass."""
        assert self._best is not None
        factors = self._best.factors
        space = self._space.with_factors(factors)
        why = f"{name}, the smallest model that stays within the {self._what} once it is tuned"

        def plan(cost: float) -> Plan:
            return plan_of(space, allocations[name].spend(cost + fixed), why)

        self._judge.beyond = low, high, plan

    @property
    def _has_trials_left(self) -> bool:
        return len(self._judge.trials) < self._most

    def _last_resort(self, name: str, most: Forms) -> None:
        """The largest models that are smaller at all: one step down, or nothing but what is pinned."""
        pins = [] if all(form.untouched for form in most) else [most]
        for forms in (_one_step_down(self._space.ladders), *pins):
            if self._best is None and self._has_trials_left and self._passes(name, forms):
                self._best = self._trials.entered[name]

    def _effects(self) -> Effects | None:
        several = sum(one.gives for one in self._space.ladders) > 1
        effects = self._judge.effects(self._space) if self._judge.effects is not None and several else None
        if effects is not None:
            for ratio in _STARTING_RATIOS:
                effects.near(allocate.at_ratio(self._space.ladders, ratio, small_too=True))
        return effects

    def _allocations(self, effects: Effects | None) -> dict[str, _Allocation]:
        """Ways to spend a budget, by name."""
        tails, ladders = self._space.tails, self._space.ladders
        if effects is None:
            return {BY_ERROR: _Allocation(ladders, tails), EQUAL: _Allocation(ladders, None)}
        curves = effects.curves()
        return {
            **{name: _Allocation(ladders, each) for name, each in criteria(tails, curves).items()},
            **{name: _Allocation(space.ladders, curves) for name, space in self._families.items()},
            EQUAL: _Allocation(ladders, None),
        }

    def _chosen(self, first: str, allocations: Mapping[str, _Allocation], refused: float, cost: float) -> str:
        """The least distortion of what costs and loses no more than the first to pass, and more than was refused."""
        lost = self._lost(self._trials.trial(first))
        within = [first]
        for name, allocation in allocations.items():
            forms = allocation.spend(cost)
            if name != first and refused < allocation.cost(forms) <= cost and self._has_trials_left:
                trial = self._trials.enter(name, forms)
                within += [name] if self._lost(trial) <= lost else []
        return self._trials.winner(within)

    def _passes(self, name: str, forms: Forms) -> bool:
        lost = self._lost(self._trials.enter(name, forms))
        if math.isfinite(lost) and (self._closest is None or lost < self._closest[0]):
            self._closest = lost, self._trials.entered[name]
        return lost <= self._space.target.value + ROUNDING

    def _result(self, name: str) -> Plan:
        space = self._space
        if self._best is not None:
            return self._trials.finished(self._best, f"{name}, the smallest model that stays within the {self._what}")
        # Who asks for a format and for nothing else gets it, whatever it costs.
        taken = space.target.best_effort or not (space.target.stated or space.may_stay)
        if taken and self._closest is not None:
            lost, plan = self._closest
            return self._trials.finished(plan, f"{BEST_EFFORT}: it {_amount(self._what, lost)} on the select samples")
        trials = self._judge.trials.values()
        closest = min(trials, key=self._lost)
        least = self._lost(closest)
        best = _amount(self._what, least) if math.isfinite(least) else "gives NaN or infinity"
        allowed = _amount(self._what, space.target.value, verb=False)
        raise TargetError(
            f"nothing that makes it smaller stays within {allowed}: the best of {len(trials)} candidates {best} "
            "on the select samples",
            f"{_more(self._what, least)}name an amount (--params 80%); --best-effort writes the closest"
            + (f"; output {closest.worst!r} loses most, --output NAME scores others alone" if closest.worst else ""),
        )


def _amount(what: str, value: float, *, verb: bool = True) -> str:
    if what == "error":
        return f"{'has ' if verb else ''}an error of {value:.3g}"
    return f"loses {100 * value:.2f} points" if verb else f"a drop of {100 * value:g} %"


def _more(what: str, least: float) -> str:
    """The hint that names a tolerance which can be met, where there is one."""
    if not least < (0.999 if what == "drop" else 0.98):
        return ""
    asked = f"--max-drop {math.ceil(1000 * least) / 10:g}%" if what == "drop" else f"--max-error {1.01 * least:.3g}"
    return f"allow more ({asked}) or "


def _one_step_down(ladders: Sequence[Ladder]) -> Forms:
    """The largest model that is smaller at all: one step down where a step saves least."""
    forms = allocate.largest(ladders)
    steps = [(one.costs[-1] - one.costs[-2], layer) for layer, one in enumerate(ladders) if one.gives]
    if steps:
        _, layer = min(steps)
        forms[layer] = ladders[layer].forms[-2]
    return forms


def criteria(tails: list[Curve], effects: list[Curve]) -> dict[str, list[Curve]]:
    """Curves to spend a budget by: effects on the output, plain tails, and the geometric mean of the two."""
    with np.errstate(invalid="ignore"):
        mixed = [np.sqrt(tail * effect) for tail, effect in zip(tails, effects, strict=True)]
    return {BY_EFFECT: effects, BY_ERROR: tails, MIXED: mixed}
