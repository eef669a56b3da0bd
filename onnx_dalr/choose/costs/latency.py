"""Time of a run on one sample or batch: what it was measured to be, layer by layer and form by form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms, Ladder
from onnx_dalr.choose.costs.additive import AdditiveBudget, Params
from onnx_dalr.choose.costs.base import Allot
from onnx_dalr.choose.space import SearchSpace, family
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.factorize.joined import is_one
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.quality.times import Times
from onnx_dalr.units import format_share

LATENCY = "latency"
"""Name of the target."""

_OFF = 1.15
"""Factor by which what is expected of the smallest forms may be above the limit: it is tried, and measured."""


@dataclass(frozen=True)
class Latency(Params):
    """Nanoseconds: of layers as they were measured, of the rest what is left of the whole model's."""

    name: str = LATENCY
    measure: str = "time"

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        """Of a layer in a form: in fewer bits it takes the same, for it is floats that are multiplied.

        A form that is no faster than the layer as it is costs as much, and is no choice.
        """
        times, known = _known(space)
        if is_one(form):
            return times.as_it_is(layer.name)
        return times.of(layer.name, form.structure, macs_of(layer, form, known))

    def whole(self, space: SearchSpace) -> int:
        """Of the model as it is."""
        return round(_known(space)[0].whole)

    def budget(self, space: SearchSpace, limit: int) -> LatencyBudget:
        """At most so many."""
        return LatencyBudget(space, limit, self)


@dataclass(frozen=True, eq=False)
class LatencyBudget(AdditiveBudget):
    """At most so much time."""

    @cached_property
    def ladders(self) -> list[Ladder]:
        """Choices and what they cost; of those of one structure that take as long, the largest rank alone."""
        every = self.space.ladders_at(lambda layer, form: self.cost.price(self.space, layer, form))
        return list(map(_without_twins, every))

    def meet(self, allot: Allot) -> Forms | None:
        """What an allocation makes of it; the smallest forms where these may just do."""
        return super().meet(allot) or (allocate.smallest(self.ladders) if self.can_be_met else None)

    @property
    def can_be_met(self) -> bool:
        """Whether the fastest forms there are may do: what was measured layer by layer is not known to the last."""
        return any(one.gives for one in self.ladders) and self._closest <= _OFF * self.limit

    @property
    def _closest(self) -> float:
        return self.rest + allocate.total(self.ladders, allocate.smallest(self.ladders))

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        whole = self.cost.whole(self.space)
        closest = min(self._closest / whole, 1.0)
        layers = sum(self.cost.price(self.space, layer, UNTOUCHED) for layer in self.space.layers)
        return TargetError(
            f"--latency {self.space.target.amount} cannot be reached: with the fastest forms there are, about "
            f"{100 * closest:.0f} % of the time remain",
            f"the closest is about --latency {100 * closest:.0f}%; of the original's time the layers that may change "
            f"take {format_share(min(layers / whole, 1.0), 1)}; --best-effort writes it",
        )


def _without_twins(one: Ladder) -> Ladder:
    """The choices, without those of which another of the same kind takes as long and loses less."""
    last = {(family(form), float(cost)): at for at, (form, cost) in enumerate(zip(one.forms, one.costs, strict=True))}
    at = sorted(last.values())
    return replace(one, forms=tuple(one.forms[each] for each in at), places=one.places[at], costs=one.costs[at])


def _known(space: SearchSpace) -> tuple[Times, MultiplyAdds]:
    """What was measured, and by what it is looked up.

    Raises:
        InputError: Nothing: there is no sample to measure it on.
    """
    if space.times is None or space.macs is None:
        raise InputError(
            "--latency: there is no sample to measure the time of a run on", "give --calib or --eval, or --macs 50%"
        )
    return space.times, space.macs
