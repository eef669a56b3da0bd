"""Floating constants of the whole model."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms, Ladder
from onnx_dalr.choose.costs.base import Allot
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import TargetError
from onnx_dalr.units import format_count, format_share


@dataclass(frozen=True)
class Params:
    """Parameters: known exactly before anything is made."""

    name: str = "params"
    measure: str = "parameters"

    def whole(self, space: SearchSpace) -> int:
        """Of the model as it is."""
        return space.params

    def budget(self, space: SearchSpace, limit: int) -> ParamsBudget:
        """At most so many."""
        return ParamsBudget(space, limit)


@dataclass(frozen=True, eq=False)
class ParamsBudget:
    """At most so many parameters."""

    space: SearchSpace
    limit: int
    leaves_rest: bool = False

    @property
    def ladders(self) -> list[Ladder]:
        """Choices and their parameters."""
        return self.space.ladders

    def meet(self, allot: Allot) -> Forms | None:
        """What an allocation makes of what is left for the layers."""
        return allot(self.limit - self.space.rest)

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        space = self.space
        closest = space.params_at(allocate.smallest(self.ladders))
        return TargetError(
            f"--params {space.target.amount} cannot be reached: with the smallest ranks "
            f"{format_share(closest, space.params)} remain",
            f"the closest is --params {closest}; {format_count(space.rest)} are not in eligible layers; "
            "--best-effort writes it",
        )
