"""A Target becomes a Plan: ranks as asked, one ratio for a parameter budget, or a search by measured drop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

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
_ALMOST_ONE = 1 - 1e-9
_SMALLEST_ERROR = 1e-6

DropOf = Callable[[Plan], float]
"""The drop of the model a Plan makes, measured on the select samples."""


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
    drop_of: DropOf | None,
) -> Plan:
    """Decides the ranks.

    Args:
        target: What was asked for.
        layers: The layers that take part.
        spectra: Their spectra by name.
        method: The factorization.
        params: Parameters of the whole model as it is.
        drop_of: Scores a plan; None where there are no select samples.

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
        ranks = _within_params(target, sizes, params)
        return _plan(method, layers, ranks, "one keep ratio for all layers, so that the model meets its parameters")
    if drop_of is None:
        raise InputError(
            "without held-out samples no drop can be measured", "give --params or --rank, or --holdout 0.3"
        )
    curves = [
        np.array([spectra[layer.name].expected_error(k) for k in range(size.largest_rank + 1)])
        for layer, size in zip(layers, sizes, strict=True)
    ]
    return _search(target.max_drop or 0.0, layers, sizes, curves, method, drop_of)


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
    choices = []
    for layer, rank in zip(layers, ranks, strict=True):
        if rank is None:
            reason = "dense: too small beside the largest layer, or too far off at any rank that saves parameters"
            if all(other is None for other in ranks):
                reason = "dense: the target is met without it"
        else:
            reason = why
        choices.append(Choice(layer.name, rank, reason))
    return Plan(method.name, tuple(choices))


class _Search:
    """Bisects one number for all layers, on a logarithmic scale, and remembers every plan it scored."""

    def __init__(self, max_drop: float, layers: Sequence[Layer], method: Method, drop_of: DropOf) -> None:
        self._max_drop, self._layers, self._method, self._drop_of = max_drop, layers, method, drop_of
        self.drops: dict[tuple[int | None, ...], float] = {}
        self.best: Plan | None = None

    def passes(self, ranks: Ranks, why: str) -> bool:
        """Scores the plan of these ranks, once, and keeps it where it stays within the drop."""
        key = tuple(ranks)
        plan = _plan(self._method, self._layers, ranks, why)
        if key not in self.drops:
            self.drops[key] = self._drop_of(plan)
        if not self.drops[key] <= self._max_drop:
            return False
        self.best = plan
        return True

    def bisect(self, low: float, high: float, ranks_at: Callable[[float], Ranks], why: str, *, up: bool) -> None:
        """Looks between two numbers for the smallest model that passes; `up`: larger numbers make larger models."""
        while len(self.drops) < EVALUATIONS and high / low > _CLOSE_ENOUGH:
            middle = math.sqrt(low * high)
            ranks = ranks_at(middle)
            passed = any(rank is not None for rank in ranks) and self.passes(ranks, why)
            if passed == up:
                high = middle
            else:
                low = middle


def _search(
    max_drop: float,
    layers: Sequence[Layer],
    sizes: Sequence[Size],
    curves: Sequence[Curve],
    method: Method,
    drop_of: DropOf,
) -> Plan:
    """The smallest model within the drop, among those with one keep ratio for all layers.

    Where even the largest ranks that save anything lose too much in every layer at once, one expected error for all
    layers takes the place of one ratio: layers that cannot meet it stay dense. Ends on a plan that was itself scored.
    """
    search = _Search(max_drop, layers, method, drop_of)
    largest = allocate.at_ratio(sizes, _ALMOST_ONE)
    if not any(largest):
        return _plan(method, layers, largest, "")
    if search.passes(largest, "the smallest that stays within the drop"):
        search.bisect(
            allocate.smallest_ratio(sizes),
            1.0,
            lambda ratio: allocate.at_ratio(sizes, ratio),
            "one keep ratio for all layers, the smallest that stays within the drop",
            up=True,
        )
    else:
        reach = [
            float(curve[size.largest_rank]) for size, curve in zip(sizes, curves, strict=True) if size.largest_rank
        ]
        search.bisect(
            max(min(reach), _SMALLEST_ERROR),
            2 * max(*reach, _SMALLEST_ERROR),
            lambda error: allocate.at_error(sizes, curves, error),
            "one expected error for all layers, the largest that stays within the drop",
            up=False,
        )
    if search.best is None:
        drop = min(search.drops.values())
        best = f"loses {100 * drop:.2f} points" if math.isfinite(drop) else "gives NaN or infinity"
        more = f"allow more (--max-drop {math.ceil(1000 * drop) / 10:g}%) or " if drop < 0.999 else ""
        raise TargetError(
            f"nothing that saves parameters stays within a drop of {100 * max_drop:g} %: the best of "
            f"{len(search.drops)} candidates {best} on the select samples",
            f"{more}name an amount (--params 80%)",
        )
    return Plan(search.best.method, search.best.choices, len(search.drops))
