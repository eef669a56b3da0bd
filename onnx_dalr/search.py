"""A Target becomes a Plan: ranks as asked, the best allocation of a parameter budget, or a search by measured drop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from onnx_dalr import allocate
from onnx_dalr.allocate import Curve, Ranks, Size
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import Method, Spectrum
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan import Choice, Plan, Target
from onnx_dalr.selection import rank_for
from onnx_dalr.units import format_count, format_share

EVALUATIONS = 8
_CLOSE_ENOUGH = 1.005
_CLOSE_SHARE = 0.005  # of the eligible parameters: a search for a budget need not be finer
_ALMOST_ONE = 1 - 1e-9
_SMALLEST_ERROR = 1e-6
_FURTHER = 0.7  # where the second search starts, of the largest budget that failed in the first
EQUAL = "one keep ratio for all layers"

_STARTING_RATIOS = (0.5, 0.15)


@dataclass(frozen=True)
class Trial:
    """A plan's model, scored on the select samples.

    Attributes:
        drop: Score lost, as a fraction; infinite where outputs are not finite.
        distortion: How far the outputs moved, in the task's own unit.
    """

    drop: float
    distortion: float


Scorer = Callable[[Plan], Trial]


class Sensitivity(Protocol):
    """One curve per layer, in one unit."""

    def measure(self, ranks: Ranks) -> None:
        """Learns how much the output moves with each layer alone at its rank."""
        ...

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion at every rank from 0 on."""
        ...


def sizes_of(layers: Sequence[Layer], method: Method) -> list[Size]:
    """What the ranks of each layer cost under a method."""
    return [
        Size(
            layer.m,
            layer.n,
            layer.growth(compensated=method.compensates),
            layer.break_even(compensated=method.compensates),
        )
        for layer in layers
    ]


def make_plan(
    target: Target,
    layers: Sequence[Layer],
    spectra: Mapping[str, Spectrum],
    method: Method,
    params: int,
    scorer: Scorer | None,
    sensitivity: Callable[[], Sensitivity] | None = None,
) -> Plan:
    """Decides the ranks.

    Args:
        target: What was asked for.
        layers: The layers that take part.
        spectra: Their spectra by name.
        method: The factorization.
        params: Parameters of the whole model as it is.
        scorer: Scores a plan; None where there are no select samples.
        sensitivity: Makes what measures how much each layer matters; None to go by one number for all layers.

    Raises:
        TargetError: It cannot be met; names the closest that can.
        InputError: A drop is asked for and there is nothing to measure it on.
    """
    sizes = sizes_of(layers, method)
    if target.ranks:
        return Plan(
            method.name, tuple(_as_asked(layer, size, target) for layer, size in zip(layers, sizes, strict=True))
        )
    if target.params is not None:
        equal = _within_params(target, sizes, params)
        if scorer is None or sensitivity is None or sum(rank is not None for rank in equal) < 2:
            return _plan(method, layers, equal, f"{EQUAL}, so that the model meets its parameters")
        budget = target.params.of(params) - params + sum(size.m * size.n for size in sizes)
        candidates = _candidates(sizes, layers, spectra, equal, budget, sensitivity())
        return _best_candidate(candidates, layers, method, scorer)
    if scorer is None:
        raise InputError(
            "without held-out samples no drop can be measured", "give --params or --rank, or --holdout 0.3"
        )
    curves = [
        np.array([spectra[layer.name].expected_error(k) for k in range(size.largest_rank + 1)])
        for layer, size in zip(layers, sizes, strict=True)
    ]
    search = _Search(target.max_drop or 0.0, layers, method, scorer)
    if sensitivity is not None and sum(size.largest_rank > 0 for size in sizes) > 1:
        _search_by_sensitivity(search, sizes, sensitivity())
    else:
        _search_one_number(search, sizes, curves)
    return search.result(sizes)


def _as_asked(layer: Layer, size: Size, target: Target) -> Choice:
    rank = rank_for(layer, target.ranks)
    if rank is None:
        return Choice(layer.name, None, "no --rank for it")
    if rank > size.largest_rank:
        return Choice(layer.name, None, f"rank {rank} would not make it smaller: {size.largest_rank} is the largest")
    return Choice(layer.name, rank, "as asked")


def _within_params(target: Target, sizes: Sequence[Size], params: int) -> Ranks:
    assert target.params is not None
    rest = params - sum(size.m * size.n for size in sizes)
    budget = target.params.of(params)
    ranks = allocate.within(sizes, budget - rest)
    if ranks is None:
        closest = rest + allocate.total(sizes, allocate.smallest(sizes))
        share = format_share(closest, params)
        raise TargetError(
            f"--params {target.params} cannot be reached: with rank 1 everywhere {share} remain",
            f"the closest is --params {closest}; {format_count(rest)} are not in eligible layers",
        )
    return ranks


def _plan(method: Method, layers: Sequence[Layer], ranks: Ranks, why: str) -> Plan:
    """The plan of these ranks, with `why` as the reason of every one."""
    dense = "dense: its parameters are worth more than what leaving them out would save"
    if why.startswith(EQUAL):
        dense = "dense: too small beside the largest layer for a ratio to gain much"
    if all(rank is None for rank in ranks):
        dense = "dense: the target is met without it"
    choices = [
        Choice(layer.name, rank, dense if rank is None else why) for layer, rank in zip(layers, ranks, strict=True)
    ]
    return Plan(method.name, tuple(choices))


def _candidates(
    sizes: Sequence[Size],
    layers: Sequence[Layer],
    spectra: Mapping[str, Spectrum],
    equal: Ranks,
    budget: int,
    sensitivity: Sensitivity,
) -> dict[str, Ranks]:
    """Several allocations of one budget, by name: one ratio, plain tails, and measured sensitivity near both."""
    halved: Ranks = [
        max(1, rank // 2) if rank else size.largest_rank // 2 for rank, size in zip(equal, sizes, strict=True)
    ]
    sensitivity.measure(equal)
    sensitivity.measure(halved)
    first = allocate.best(sizes, sensitivity.curves(), budget)
    assert first is not None  # the equal ratio met the budget
    sensitivity.measure(first)
    plain = [
        np.array([spectra[layer.name].expected_error(k) ** 2 for k in range(size.largest_rank + 1)])
        for layer, size in zip(layers, sizes, strict=True)
    ]
    return {
        EQUAL: equal,
        "ranks by the error of each layer": allocate.best(sizes, plain, budget) or equal,
        "ranks by measured sensitivity": allocate.best(sizes, sensitivity.curves(), budget) or equal,
    }


def _best_candidate(candidates: dict[str, Ranks], layers: Sequence[Layer], method: Method, scorer: Scorer) -> Plan:
    """Scores each allocation once; the least distortion on the select samples wins."""
    trials: dict[tuple[int | None, ...], Trial] = {}
    for ranks in candidates.values():
        if tuple(ranks) not in trials:
            trials[tuple(ranks)] = scorer(_plan(method, layers, ranks, ""))
    found = {name: trials[tuple(ranks)].distortion for name, ranks in candidates.items()}
    winner = min(found, key=lambda name: found[name])
    against = ", ".join(f"{name} {value:.3g}" for name, value in found.items() if name != winner)
    why = f"{winner}, the least distortion of the select samples: {found[winner]:.3g} ({against})"
    return replace(_plan(method, layers, candidates[winner], why), evaluations=len(trials))


class _Search:
    """Bisects one number for all layers, on a logarithmic scale, and remembers every plan it scored."""

    def __init__(self, max_drop: float, layers: Sequence[Layer], method: Method, scorer: Scorer) -> None:
        self._max_drop, self._layers, self._method, self._scorer = max_drop, layers, method, scorer
        self.drops: dict[tuple[int | None, ...], float] = {}
        self.best: Plan | None = None
        self.best_ranks: Ranks | None = None

    def passes(self, ranks: Ranks, why: str) -> bool:
        """Scores the plan of these ranks, once, and keeps it where it stays within the drop."""
        key = tuple(ranks)
        plan = _plan(self._method, self._layers, ranks, why)
        if key not in self.drops:
            self.drops[key] = self._scorer(plan).drop
        if not self.drops[key] <= self._max_drop:
            return False
        self.best, self.best_ranks = plan, ranks
        return True

    def bisect(
        self,
        low: float,
        high: float,
        ranks_at: Callable[[float], Ranks],
        why: str,
        *,
        up: bool = True,
        evaluations: int = EVALUATIONS,
        close: float = 0.0,
    ) -> tuple[float, float]:
        """Looks between two numbers for the smallest model that passes; `up`: larger numbers make larger models.

        It ends after so many `evaluations` in all, or where the numbers are `close`.

        Returns:
            The numbers it ended between.
        """
        while len(self.drops) < evaluations and high / low > _CLOSE_ENOUGH and high - low > close:
            middle = math.sqrt(low * high)
            ranks = ranks_at(middle)
            passed = any(rank is not None for rank in ranks) and self.passes(ranks, why)
            if passed == up:
                high = middle
            else:
                low = middle
        return low, high

    def result(self, sizes: Sequence[Size]) -> Plan:
        """The smallest plan that was scored and stays within the drop.

        Raises:
            TargetError: None does.
        """
        if not any(size.largest_rank for size in sizes):
            return _plan(self._method, self._layers, [None] * len(sizes), "")
        if self.best is not None:
            return replace(self.best, evaluations=len(self.drops))
        drop = min(self.drops.values())
        best = f"loses {100 * drop:.2f} points" if math.isfinite(drop) else "gives NaN or infinity"
        more = f"allow more (--max-drop {math.ceil(1000 * drop) / 10:g}%) or " if drop < 0.999 else ""
        raise TargetError(
            f"nothing that saves parameters stays within a drop of {100 * self._max_drop:g} %: the best of "
            f"{len(self.drops)} candidates {best} on the select samples",
            f"{more}name an amount (--params 80%)",
        )


def _search_by_sensitivity(search: _Search, sizes: Sequence[Size], sensitivity: Sensitivity) -> None:
    """Bisects the parameters of the eligible layers, each budget spent where the output feels it least.

    Sensitivities are measured again near the first ranks that pass, and the search goes on from there.
    """
    for ratio in _STARTING_RATIOS:
        sensitivity.measure(allocate.at_ratio(sizes, ratio, small_too=True))
    fixed = sum(size.params(None) for size in sizes if not size.largest_rank)  # what no budget changes
    dense = allocate.total(sizes, [None] * len(sizes)) - fixed
    least = float(allocate.total(sizes, allocate.smallest(sizes)) - fixed)
    low, high = least, float(dense)
    why = "ranks by measured sensitivity, the smallest model that stays within the drop"
    close = _CLOSE_SHARE * dense
    for evaluations in (EVALUATIONS // 2, EVALUATIONS):
        spend = _spender(sizes, sensitivity.curves(), fixed)
        low, high = search.bisect(low, high, spend, why, evaluations=evaluations, close=close)
        if search.best_ranks is not None:
            sensitivity.measure(search.best_ranks)
            low = max(_FURTHER * low, least)
    # Scores of few samples are not monotone: what evaluations are left look further down for a smaller model.
    spend = _spender(sizes, sensitivity.curves(), fixed)
    if not search.drops:  # all that can be saved is too little to look between
        search.passes(allocate.smallest(sizes), why)
    while search.best_ranks is not None and len(search.drops) < EVALUATIONS and low > 2 * least:
        low /= 2
        if search.passes(spend(low), why):
            search.bisect(low / 2, low, spend, why, close=close)


def _spender(sizes: Sequence[Size], curves: list[Curve], fixed: int) -> Callable[[float], Ranks]:
    return lambda budget: allocate.best(sizes, curves, int(budget) + fixed) or allocate.smallest(sizes)


def _search_one_number(search: _Search, sizes: Sequence[Size], curves: Sequence[Curve]) -> None:
    """The smallest model within the drop, among those with one keep ratio for all layers.

    Where even the largest ranks that save anything lose too much in every layer at once, one expected error for all
    layers takes the place of one ratio: layers that cannot meet it stay dense.
    """
    small_too = not any(allocate.at_ratio(sizes, _ALMOST_ONE))  # the large ones save nothing at any rank
    largest = allocate.at_ratio(sizes, _ALMOST_ONE, small_too=small_too)
    if not any(largest):
        return
    if search.passes(largest, "the smallest that stays within the drop"):
        search.bisect(
            allocate.smallest_ratio(sizes),
            1.0,
            lambda ratio: allocate.at_ratio(sizes, ratio, small_too=small_too),
            f"{EQUAL}, the smallest that stays within the drop",
        )
        return
    reach = [float(curve[size.largest_rank]) for size, curve in zip(sizes, curves, strict=True) if size.largest_rank]
    search.bisect(
        max(min(reach), _SMALLEST_ERROR),
        2 * max(*reach, _SMALLEST_ERROR),
        lambda error: allocate.at_error(sizes, curves, error),
        "one expected error for all layers, the largest that stays within the drop",
        up=False,
    )
