"""Costs that add up exactly: those of the layers, and of what is in none of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms, Ladder
from onnx_dalr.choose.costs.base import Allot, Cost
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.graph.layers import Layer
from onnx_dalr.units import format_count, format_share


@dataclass(frozen=True)
class Params:
    """Numbers that the model multiplies by or adds."""

    name: str = "params"
    measure: str = "parameters"
    needs_samples: bool = False

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        """Of a layer in a form."""
        return space.params_of(layer, form)

    def whole(self, space: SearchSpace) -> int:
        """Of the model as it is."""
        return space.params

    def budget(self, space: SearchSpace, limit: int) -> AdditiveBudget:
        """At most so many."""
        return AdditiveBudget(space, limit, self)


@dataclass(frozen=True, eq=False)
class AdditiveBudget:
    """At most so much of a cost that adds up over the layers."""

    space: SearchSpace
    limit: int
    cost: Cost
    leaves_rest: bool = False

    @cached_property
    def ladders(self) -> list[Ladder]:
        """Choices and what they cost."""
        return self.space.ladders_at(lambda layer, form: self.cost.price(self.space, layer, form))

    @property
    def rest(self) -> int:
        """What is not in the layers."""
        inside = (self.cost.price(self.space, layer, UNTOUCHED) for layer in self.space.layers)
        return self.cost.whole(self.space) - int(sum(inside))

    def meet(self, allot: Allot) -> Forms | None:
        """What an allocation makes of what is left for the layers."""
        return allot(self.limit - self.rest)

    @property
    def can_be_met(self) -> bool:
        """Whether the cheapest forms there are fit."""
        return allocate.total(self.ladders, allocate.smallest(self.ladders)) <= self.limit - self.rest

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        option, whole = f"--{self.cost.name}", self.cost.whole(self.space)
        closest = self.rest + int(allocate.total(self.ladders, allocate.smallest(self.ladders)))
        return TargetError(
            f"{option} {self.space.target.amount} cannot be reached: with the smallest ranks "
            f"{format_share(closest, whole)} remain",
            f"the closest is {option} {closest}; {format_count(self.rest)} are not in eligible layers; "
            "--best-effort writes it",
        )
