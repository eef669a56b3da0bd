"""A Target becomes ranks: as asked, by one energy, the best allocation of a budget, or a search by score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Ladder, Ranks
from onnx_dalr.choose.effects import metric_tails
from onnx_dalr.choose.space import Budget, ParamsBudget, Problem, SizeBudget
from onnx_dalr.choose.tolerance import EVALUATIONS, MORE_FOR_FACTORS, ToleranceSearch, candidates
from onnx_dalr.choose.trials import BEST_EFFORT, BY_EFFECT, EQUAL, Contest, Judge, plan_of
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.selection import rule_for
from onnx_dalr.request.target import Kind


def make_plan(problem: Problem, judge: Judge | None) -> Plan:
    """Decides the ranks.

    Args:
        problem: What there is to decide on.
        judge: None where nothing is held out.

    Raises:
        TargetError: It cannot be met; names the closest that can.
        InputError: A tolerance is asked for and there is nothing to measure it on.
    """
    planner = PLANNERS[problem.target.kind]
    if judge is None or len(problem.spectra) < 2:
        return planner(problem, judge)
    if problem.target.kind in TOLERANCES:
        tried = _with_best_factors(problem, judge, _to_try(problem)) if problem.saves else None
        return planner(problem.with_factors(tried.factors if tried else problem.factors), judge)
    plan = planner(problem, judge)
    won = _with_best_factors(problem, judge, [choice.rank for choice in plan.choices]) if plan.compressed else plan
    reasons = {choice.layer: choice.reason for choice in plan.choices}
    return replace(won, choices=tuple(replace(choice, reason=reasons[choice.layer]) for choice in won.choices))


def most_trials(kind: Kind, factors: int, layers: int) -> int:
    """How many models are scored for a target at most.

    Args:
        kind: Of the target.
        factors: How many kinds of factors there are to choose from.
        layers: Between which a budget is to be divided.
    """
    chosen = factors if factors > 1 else 0
    if kind in TOLERANCES:
        return EVALUATIONS + (MORE_FOR_FACTORS if chosen else 0)
    return chosen + (ALLOCATIONS if kind in _MEASURE and layers > 1 else 0)


def _to_try(problem: Problem) -> Ranks:
    """Ranks to compare factors at; small layers stay dense unless nothing else can give."""
    ranks = allocate.at_ratio(problem.ladders, _TRIED_RATIO)
    gives = ranks != allocate.largest(problem.ladders)
    return ranks if gives else allocate.at_ratio(problem.ladders, _TRIED_RATIO, small_too=True)


def _with_best_factors(problem: Problem, judge: Judge, ranks: Ranks) -> Plan:
    """Where samples are few, how far to trust them is a choice too: the factors with the least distortion."""
    contest = Contest(problem, judge)
    for factors in problem.spectra:
        contest.enter(f"factors: {factors}", ranks, factors)
    return contest.result()


def _as_asked(problem: Problem, judge: Judge | None) -> Plan:
    del judge
    pairs = zip(problem.ladders, problem.layers, strict=True)
    ranks = [one.ranks[0] if rule_for(layer, problem.target.ranks) else None for one, layer in pairs]
    return plan_of(problem, ranks, "as asked")


def _by_energy(problem: Problem, judge: Judge | None) -> Plan:
    """LRDKT's rule: the smallest rank whose share of the layer's own energy reaches one threshold for all."""
    del judge
    lost = problem.curves(lambda spectrum: spectrum.energy_lost)
    ranks = allocate.at_error(problem.ladders, lost, 1 - problem.target.value)
    return plan_of(problem, ranks, f"the smallest rank that keeps {problem.target.value:g} of the output's variance")


def _by_params(problem: Problem, judge: Judge | None) -> Plan:
    assert problem.target.amount is not None
    return _within(problem, ParamsBudget(problem, problem.target.amount.of(problem.params)), judge)


def _by_size(problem: Problem, judge: Judge | None) -> Plan:
    assert problem.target.amount is not None
    return _within(problem, SizeBudget(problem, problem.target.amount.of(problem.bytes)), judge)


def _within(problem: Problem, budget: Budget, judge: Judge | None) -> Plan:
    """Several allocations of one budget; the least distortion on the select samples wins."""
    kind = problem.target.kind
    equal = budget.meet(lambda amount: _equal(budget.ladders, amount, fill=kind == "size"))
    if equal is None and problem.target.best_effort:
        return plan_of(problem, allocate.smallest(budget.ladders), f"{BEST_EFFORT}: the smallest ranks there are")
    if equal is None:
        raise budget.refusal()
    alone = sum(rank is not None and one.gives for rank, one in zip(equal, problem.ladders, strict=True)) < 2

    def spent(curves: list[Curve]) -> Ranks:
        return budget.meet(lambda amount: allocate.best(budget.ladders, curves, amount)) or equal

    if judge is None or judge.effects is None or alone:
        known = None if alone else metric_tails(problem)
        ranks, why = (equal, EQUAL) if known is None else (spent(known), BY_EFFECT)
        return plan_of(problem, ranks, f"{why}, so that the model meets its {_MEASURE[kind]}")
    effects = judge.effects(problem)
    effects.near(equal)
    effects.near(_halved(budget.ladders, equal))
    effects.near(spent(effects.curves()))
    contest = Contest(problem, judge)
    for name, curves in candidates(problem.tails, effects.curves()).items():
        contest.enter(name, spent(curves))
    contest.enter(EQUAL, equal)
    return contest.result()


def _equal(ladders: Sequence[Ladder], amount: float, *, fill: bool) -> Ranks | None:
    """One keep ratio; `fill` spends what is left where a step loses the largest share of its layer."""
    ranks = allocate.within(ladders, amount)
    if ranks is None or not fill:
        return ranks
    shares = [_lost_share(one) for one in ladders]
    return allocate.filled(ladders, shares, ranks, amount)


def _lost_share(one: Ladder) -> Curve:
    top = max((rank for rank in one.ranks if rank is not None), default=0)
    return np.asarray(1 - np.arange(top + 1) / (top + 1.0))


def _halved(ladders: Sequence[Ladder], ranks: Ranks) -> Ranks:
    """Half of each rank, of the largest where it is dense, as far as the ladder goes down."""
    halved: Ranks = []
    for one, rank in zip(ladders, ranks, strict=True):
        lower = [other for other in one.ranks if other is not None]
        half = (rank or (lower[-1] if lower else 0)) // 2
        halved.append(max((other for other in lower if other <= half), default=lower[0] if lower else None))
    return halved


def _by_drop(problem: Problem, judge: Judge | None) -> Plan:
    return ToleranceSearch(problem, judge, "drop", lambda trial: trial.certain_drop).run()


def _by_max_error(problem: Problem, judge: Judge | None) -> Plan:
    return ToleranceSearch(problem, judge, "error", lambda trial: trial.certain_error).run()


TOLERANCES = ("max-drop", "max-error")
_TRIED_RATIO = 0.25  # where the factors are chosen before the ranks are known

ALLOCATIONS = 4
"""Ways to spend one budget: those of `candidates`, and one ratio for all."""

_MEASURE = {"params": "parameters", "size": "size"}

PLANNERS: dict[Kind, Callable[[Problem, Judge | None], Plan]] = {
    "rank": _as_asked,
    "size": _by_size,
    "params": _by_params,
    "max-drop": _by_drop,
    "max-error": _by_max_error,
    "energy": _by_energy,
}
