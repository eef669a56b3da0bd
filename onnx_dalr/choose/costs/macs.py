"""Multiply-adds of one sample: what a model computes, whatever its numbers are stored in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Ladder
from onnx_dalr.choose.costs.additive import AdditiveBudget, Params
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Form
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.request.selection import rule_for

MACS = "macs"
"""Name of the target."""

SMALL = 2_000_000
"""A layer of fewer multiply-adds stays as it is where the others can meet the budget: of so few, two nodes in place of
one take as long as they save (methods.md §6.7)."""


@dataclass(frozen=True)
class Macs(Params):
    """Products that are added up: of layers by their pieces and where these run, of the rest as it is."""

    name: str = MACS
    measure: str = "multiply-adds"

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        """Of a layer in a form."""
        return macs_of(layer, form, _known(space))

    def whole(self, space: SearchSpace) -> int:
        """Of the model as it is."""
        return _known(space).whole

    def budget(self, space: SearchSpace, limit: int) -> MacsBudget:
        """At most so many."""
        return MacsBudget(space, limit, self)


@dataclass(frozen=True, eq=False)
class MacsBudget(AdditiveBudget):
    """At most so many multiply-adds, of small layers only where it cannot be met without."""

    @cached_property
    def ladders(self) -> list[Ladder]:
        """Choices and what they cost."""
        every = self.space.ladders_at(lambda layer, form: self.cost.price(self.space, layer, form))
        large = [
            one.kept() if one.whole < SMALL and rule_for(layer, self.space.target.ranks) is None else one
            for layer, one in zip(self.space.layers, every, strict=True)
        ]
        enough = allocate.total(large, allocate.smallest(large)) <= self.limit - self.rest
        return large if enough else every


def _known(space: SearchSpace) -> MultiplyAdds:
    """What is known of the model.

    Raises:
        InputError: Nothing: there is no sample, and the file leaves open how large one is.
    """
    if space.macs is None:
        raise InputError(
            "--macs: how many multiply-adds the model takes is not known, for there is no sample and the file does "
            "not say how large one is",
            "give --calib or --eval, or --params 50%",
        )
    return space.macs
