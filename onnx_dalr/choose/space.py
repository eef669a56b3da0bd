"""What there is to decide on: layers, what their ranks cost and cause, and how a budget is met to the last step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Ladder, Rank, Ranks, Size
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import Method, Spectrum
from onnx_dalr.graph.layers import Layer
from onnx_dalr.request.selection import rule_for
from onnx_dalr.request.target import Target
from onnx_dalr.units import format_bytes, format_count, format_share

_ROUNDS = 8
_SMALLEST = 1e-300
_NEARLY = 64  # bytes that lengths of fields and digits of the note may shift by

Weigh = Callable[[Ranks], int]
"""Bytes on disk of the whole artifact at these ranks."""


def sizes_of(layers: Sequence[Layer], method: Method) -> list[Size]:
    """The shape of each layer under a method."""
    return [
        Size(
            layer.m,
            layer.n,
            layer.growth(compensated=method.compensates),
            layer.break_even(compensated=method.compensates),
        )
        for layer in layers
    ]


@dataclass(frozen=True, eq=False)
class Problem:
    """The layers of one model and what is known of them.

    Attributes:
        target: What was asked for.
        layers: Those that take part.
        spectra: By the name of the factors, then by layer name; empty before the samples were looked at.
        method: The factorization.
        params: Parameters of the whole model as it is.
        bytes: Its size on disk.
        weigh: Says what the artifact would weigh; read by the target "size" only.
        factors: Which of the spectra.
    """

    target: Target
    layers: Sequence[Layer]
    spectra: Mapping[str, Mapping[str, Spectrum]]
    method: Method
    params: int
    bytes: int
    weigh: Weigh
    factors: str = "default"

    def with_factors(self, name: str) -> Problem:
        """The same with other factors."""
        return self if name == self.factors else replace(self, factors=name)

    def spectrum(self, layer: Layer) -> Spectrum | None:
        """Of one layer, with these factors; None before the samples were looked at."""
        default = self.spectra.get("default", {}).get(layer.name)
        return self.spectra.get(self.factors, {}).get(layer.name, default)

    def curves(self, read: Callable[[Spectrum], Curve]) -> list[Curve]:
        """By layer: what `read` finds in its spectrum, up to the largest rank that saves."""
        found = []
        for layer, size in zip(self.layers, self.sizes, strict=True):
            spectrum = self.spectrum(layer)
            assert spectrum is not None
            found.append(read(spectrum)[: size.largest_rank + 1])
        return found

    @cached_property
    def sizes(self) -> list[Size]:
        """Shape of each layer."""
        return sizes_of(self.layers, self.method)

    @cached_property
    def ladders(self) -> list[Ladder]:
        """The choices of each layer, at what they cost in parameters."""
        return self.ladders_at(lambda layer, rank: float(self.sizes[layer].params(rank)))

    def ladders_at(self, cost: Callable[[int, Rank], float]) -> list[Ladder]:
        """The choices of each layer at a cost of (position of the layer, rank), the pinned ones pinned."""
        return [self._ladder(layer, cost) for layer in range(len(self.layers))]

    def _ladder(self, layer: int, cost: Callable[[int, Rank], float]) -> Ladder:
        size, rule = self.sizes[layer], rule_for(self.layers[layer], self.target.ranks)
        own = lambda rank: cost(layer, rank)  # noqa: E731 - read as what it is: the cost of this layer
        if rule is None:
            return allocate.ladder(size, own, multiple=self.target.multiple, least=self.target.least)
        saves = rule.rank is not None and rule.rank <= size.largest_rank
        return allocate.pinned((rule.rank if saves else None,), own)

    @cached_property
    def tails(self) -> list[Curve]:
        """By layer: the share of its own output to expect lost at rank 0, 1, …, squared."""
        return self.curves(lambda spectrum: spectrum.tails / max(spectrum.power, _SMALLEST))

    @property
    def rest(self) -> int:
        """Parameters outside the layers."""
        return self.params - sum(size.m * size.n for size in self.sizes)

    @property
    def saves(self) -> bool:
        """Whether any layer has a choice beside dense."""
        return any(one.ranks != (None,) for one in self.ladders)

    def params_at(self, ranks: Ranks) -> int:
        """Parameters of the whole model at these ranks."""
        return self.rest + int(allocate.total(self.ladders, ranks))


@dataclass(frozen=True, eq=False)
class ParamsBudget:
    """Floating constants of the whole model."""

    problem: Problem
    limit: int

    @property
    def ladders(self) -> list[Ladder]:
        """Choices and what they cost."""
        return self.problem.ladders

    def meet(self, allot: Callable[[float], Ranks | None]) -> Ranks | None:
        """What an allocation makes of the budget that is left for the layers; None where it cannot be met."""
        return allot(self.limit - self.problem.rest)

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        problem = self.problem
        closest = problem.params_at(allocate.smallest(self.ladders))
        return TargetError(
            f"--params {problem.target.amount} cannot be reached: with the smallest ranks "
            f"{format_share(closest, problem.params)} remain",
            f"the closest is --params {closest}; {format_count(problem.rest)} are not in eligible layers; "
            "--best-effort writes it",
        )


@dataclass(frozen=True, eq=False)
class SizeBudget:
    """Bytes on disk of the whole artifact, which only the artifact itself knows to the last one."""

    problem: Problem
    limit: int

    @cached_property
    def ladders(self) -> list[Ladder]:
        """Choices and their bytes: the values, and what names and nodes of a compressed layer add."""
        return self.problem.ladders_at(lambda layer, rank: self._values(layer, rank) + (rank is not None) * self._nodes)

    def _values(self, layer: int, rank: Rank) -> float:
        return float(self.problem.sizes[layer].params(rank) * self.problem.layers[layer].dtype.itemsize)

    def _weight_of_values(self, ranks: Ranks) -> float:
        return sum(self._values(layer, rank) for layer, rank in enumerate(ranks))

    @cached_property
    def _dense_rest(self) -> float:
        """Bytes outside the layers, the note about the run included."""
        dense: Ranks = [None] * len(self.problem.layers)
        return self.problem.weigh(dense) - self._weight_of_values(dense)

    @cached_property
    def _nodes(self) -> float:
        """Bytes one compressed layer adds beside its values, on average."""
        compressed = sum(rank is not None for rank in allocate.smallest(self.problem.ladders))
        return self._all_nodes / max(compressed, 1)

    @cached_property
    def _all_nodes(self) -> float:
        """Bytes that all layers together add beside their values, each compressed."""
        ranks = allocate.smallest(self.problem.ladders)
        return max(0.0, self.problem.weigh(ranks) - self._weight_of_values(ranks) - self._dense_rest)

    def meet(self, allot: Callable[[float], Ranks | None]) -> Ranks | None:
        """The ranks of the largest artifact an allocation makes within the limit: no single step up would still fit.

        Costs are known but for some bytes, so the artifact is weighed and the budget corrected by what it was off.
        """
        dense = allocate.largest(self.ladders)
        if self.limit >= self.problem.bytes and not any(dense):
            return dense  # the model as it is: our own note would be all that is new
        budget = self.limit - self._dense_rest
        found: Ranks | None = None
        for _ in range(_ROUNDS):
            ranks = allot(budget)
            if ranks is None:
                break
            slack = self.limit - self.problem.weigh(ranks)
            if slack >= 0:
                found = ranks
                if all(cost > slack for cost, _, _ in allocate.steps_up(self.ladders, ranks)[:1]):
                    break
            unused = budget - allocate.total(self.ladders, ranks)
            budget += slack - unused if slack < 0 else slack - min(unused, slack)
            if slack >= 0 and slack <= unused:
                break
        if found is None:
            ranks = allocate.smallest(self.ladders)
            found = ranks if self.problem.weigh(ranks) <= self.limit else None
        return None if found is None else self._to_the_last_step(found)

    def _to_the_last_step(self, ranks: Ranks) -> Ranks:
        """Takes single steps that turn out to fit, the cheapest first, each weighed."""
        while True:
            slack = self.limit - self.problem.weigh(ranks)
            for cost, layer, rank in allocate.steps_up(self.ladders, ranks):
                # A step to dense takes the layer's nodes away, and one layer may have nearly all there are.
                if cost > slack + _NEARLY + (rank is None) * self._all_nodes:
                    continue
                raised = [*ranks[:layer], rank, *ranks[layer + 1 :]]
                if self.problem.weigh(raised) <= self.limit:
                    ranks = raised
                    break
            else:
                return ranks

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        problem = self.problem
        ranks = allocate.smallest(self.ladders)
        closest = problem.weigh(ranks)
        others = closest - self._weight_of_values(ranks)
        return TargetError(
            f"--size {problem.target.amount} cannot be reached: with the smallest ranks {format_bytes(closest)} "
            f"({format_share(closest, problem.bytes)}) remain",
            f"the closest is --size {closest}; {format_bytes(others)} are not in eligible layers; "
            "--best-effort writes it",
        )


Budget = ParamsBudget | SizeBudget
