"""A Target becomes forms: as asked, by one energy, the best allocation of a budget, or a search by score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder
from onnx_dalr.choose.costs import COSTS, Budget
from onnx_dalr.choose.effects import all_known_effects
from onnx_dalr.choose.families import families
from onnx_dalr.choose.space import SearchSpace, family
from onnx_dalr.choose.tolerance import EVALUATIONS, MORE_FOR_FACTORS, ToleranceSearch, criteria
from onnx_dalr.choose.trials import BEST_EFFORT, BY_EFFECT, EQUAL, Judge, Trials, plan_of
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.selection import rule_for
from onnx_dalr.request.target import MEASURED

_TRIED_RATIOS = (0.25, 0.06)  # where the factors are chosen before the forms are known; four bits alone are an eighth

ALLOCATIONS = 4
"""Ways to spend one budget: those of `criteria`, and one ratio for all; beside them each of `families` is one."""


def make_plan(space: SearchSpace, judge: Judge | None) -> Plan:
    """Decides the forms.

    Args:
        space: What there is to decide on.
        judge: None where nothing is held out.

    Raises:
        TargetError: It cannot be met; names the closest that can.
        InputError: A tolerance is asked for and there is nothing to measure it on.
    """
    planner = _by_cost if space.target.name in COSTS else PLANNERS[space.target.name]
    if judge is None or len(space.names_of_factors) < 2:
        return planner(space, judge)
    if space.target.name in MEASURED:
        forms = _to_try(space)
        tried = _with_best_factors(space, judge, forms) if any(form.rank for form in forms) else None
        return planner(space.with_factors(tried.factors if tried else space.factors), judge)
    plan = planner(space, judge)
    won = _with_best_factors(space, judge, list(plan.forms)) if any(form.rank for form in plan.forms) else plan
    reasons = {choice.layer: choice.reason for choice in plan.choices}
    return replace(won, choices=tuple(replace(choice, reason=reasons[choice.layer]) for choice in won.choices))


def most_trials(name: str, factors: int, layers: int, families: int = 0) -> int:
    """How many models are scored for a target at most.

    Args:
        name: Of the target.
        factors: How many factors by name there are to choose from.
        layers: Between which a budget is to be divided.
        families: Of allocations that differ by structure.
    """
    chosen = factors if factors > 1 else 0
    if name in MEASURED:
        return EVALUATIONS + (MORE_FOR_FACTORS if chosen else 0) + families
    return chosen + (ALLOCATIONS + families if name in COSTS and layers > 1 else 0)


def _to_try(space: SearchSpace) -> Forms:
    """Forms to compare factors at: some with ranks; small layers stay as they are unless nothing else can give."""
    for ratio in _TRIED_RATIOS:
        forms = allocate.at_ratio(space.ladders, ratio)
        if forms == allocate.largest(space.ladders):
            forms = allocate.at_ratio(space.ladders, ratio, small_too=True)
        if any(form.rank for form in forms):
            break
    return forms


def _with_best_factors(space: SearchSpace, judge: Judge, forms: Forms) -> Plan:
    """Where samples are few, how far to trust them is a choice too: the factors with the least distortion."""
    trials = Trials(space, judge)
    for factors in space.names_of_factors:
        if factors == DEFAULT or space.changes(factors, forms):
            if space.learned is not None:
                space.learned.make_ready(space.layers, forms, factors)
            trials.enter(f"factors: {factors}", forms, factors)
    return trials.result()


def _as_asked(space: SearchSpace, judge: Judge | None) -> Plan:
    del judge
    pairs = zip(space.ladders, space.layers, strict=True)
    forms = [one.forms[0 if rule_for(layer, space.target.ranks) else -1] for one, layer in pairs]
    return plan_of(space, forms, "as asked")


def _by_energy(space: SearchSpace, judge: Judge | None) -> Plan:
    """LRDKT's rule: the smallest rank whose share of the layer's own energy reaches one threshold for all.

    Of several structures the cheapest form that reaches it, whatever it loses beyond that.
    """
    del judge
    lost = space.curves(Spectra.energy_lost)
    forms = allocate.at_error(space.every_ladder, lost, 1 - space.target.value)
    return plan_of(space, forms, f"the smallest rank that keeps {space.target.value:g} of the output's variance")


def _by_cost(space: SearchSpace, judge: Judge | None) -> Plan:
    """Several allocations of one budget; the least distortion on the select samples wins."""
    cost, amount = COSTS[space.target.name], space.target.amount
    assert amount is not None
    limit = amount.of(cost.whole(space))
    budget = cost.budget(space, limit)
    equal = budget.meet(lambda limit: _equal(budget, limit))
    if equal is None and space.target.best_effort:
        return plan_of(space, allocate.smallest(budget.ladders), f"{BEST_EFFORT}: the smallest ranks there are")
    if equal is None:
        raise budget.refusal()
    pairs = zip(equal, space.ladders, strict=True)
    alone = sum(form != one.forms[-1] and one.gives for form, one in pairs) < 2

    def spent(curves: list[Curve]) -> Forms:
        return _spent(budget, curves) or equal

    if judge is None or judge.effects is None or alone:
        known = None if alone else all_known_effects(space)
        chosen, why = (equal, EQUAL) if known is None else (spent(known), BY_EFFECT)
        return plan_of(space, chosen, f"{why}, so that the model meets its {cost.measure}")
    effects = judge.effects(space)
    effects.near(equal)
    effects.near(_halved(budget.ladders, equal))
    effects.near(spent(effects.curves()))
    trials = Trials(space, judge)
    for name, curves in criteria(space.tails, effects.curves()).items():
        trials.enter(name, spent(curves))
    for name, other in families(space).items():
        forms = _spent(cost.budget(other, limit), effects.curves())
        if forms is not None:
            trials.enter(name, forms)
    trials.enter(EQUAL, equal)
    return trials.result()


def _spent(budget: Budget, curves: list[Curve]) -> Forms | None:
    """The best allocation of a budget by these curves."""
    return budget.meet(lambda limit: allocate.best(budget.ladders, curves, limit))


def _equal(budget: Budget, limit: float) -> Forms | None:
    """One keep ratio; what is left of a budget that is not met to the last step so goes where a step loses most.

    Without curves a layer's rungs count alike: a step of a layer with few of them is worth more.
    """
    ladders = budget.ladders
    forms = allocate.within(ladders, limit)
    if forms is None or not budget.leaves_rest:
        return forms
    return allocate.filled(ladders, list(map(_lost_share, ladders)), forms, limit)


def _lost_share(one: Ladder) -> Curve:
    """The share of a layer's rungs above each."""
    lost = np.zeros(int(one.places.max()) + 1)
    lost[one.places] = 1 - np.arange(1, len(one.forms) + 1) / len(one.forms)
    return lost


def _halved(ladders: Sequence[Ladder], forms: Forms) -> Forms:
    """Half the rank of each layer, from one rung down where it is in one piece; half the cost where it has no rank."""
    halved: Forms = []
    for one, form in zip(ladders, forms, strict=True):
        at = max(one.forms.index(form) - (form == one.forms[-1]), 0)
        start = one.forms[at]
        half = math.prod(start.rank) // 2
        lower = [each for each in one.forms[:at] if family(each) == family(start) and math.prod(each.rank) <= half]
        halved.append((lower or one.forms[: 1 if start.rank else one.below(one.costs[at] / 2) + 1])[-1])
    return halved


def _by_drop(space: SearchSpace, judge: Judge | None) -> Plan:
    return ToleranceSearch(space, judge, "drop", lambda trial: trial.certain_drop).run()


def _by_max_error(space: SearchSpace, judge: Judge | None) -> Plan:
    return ToleranceSearch(space, judge, "error", lambda trial: trial.certain_error).run()


PLANNERS: dict[str, Callable[[SearchSpace, Judge | None], Plan]] = {
    "rank": _as_asked,
    "max-drop": _by_drop,
    "max-error": _by_max_error,
    "energy": _by_energy,
}
"""By the name of the target; those that limit a cost are all alike."""
