"""Bytes on disk of the whole artifact, which only the artifact itself knows to the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from onnx_dalr.candidate.forms import bytes_of
from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Forms, Ladder
from onnx_dalr.choose.costs.base import Allot
from onnx_dalr.choose.space import SearchSpace, family
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.factorize.joined import JOINED
from onnx_dalr.graph.layers import Layer
from onnx_dalr.units import format_bytes, format_share

_ROUNDS = 8  # at most: an artifact is weighed, and the budget corrected by what it was off
_NEARLY = 64  # bytes that lengths of fields and digits of the note may shift by


@dataclass(frozen=True)
class Bytes:
    """Bytes on disk: values, names and nodes, data files included."""

    name: str = "size"
    measure: str = "size"
    needs_samples: bool = False

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        """Of the values of a layer in a form."""
        return float(bytes_of(layer, form, space.method))

    def whole(self, space: SearchSpace) -> int:
        """Of the artifact as it is."""
        return space.bytes

    def budget(self, space: SearchSpace, limit: int) -> BytesBudget:
        """At most so many."""
        return BytesBudget(space, limit)


_BYTES = Bytes()


@dataclass(frozen=True, eq=False)
class BytesBudget:
    """At most so many: met by making artifacts without values, and weighing them."""

    space: SearchSpace
    limit: int
    leaves_rest: bool = True

    @cached_property
    def ladders(self) -> list[Ladder]:
        """Choices and their bytes: the values, and what names and nodes of a compressed layer add."""
        return self.space.ladders_at(
            lambda layer, form: _BYTES.price(self.space, layer, form) + (not form.untouched) * self._nodes
        )

    def _weight_of_values(self, forms: Forms) -> float:
        return sum(_BYTES.price(self.space, *each) for each in zip(self.space.layers, forms, strict=True))

    @cached_property
    def _rest(self) -> float:
        """Bytes outside the layers, the note about the run included."""
        as_it_is: Forms = [UNTOUCHED] * len(self.space.layers)
        return self.space.weigh(as_it_is) - self._weight_of_values(as_it_is)

    @cached_property
    def _nodes(self) -> float:
        """Bytes one compressed layer adds beside its values, on average."""
        compressed = sum(not form.untouched for form in allocate.smallest(self.space.ladders))
        return self._all_nodes / max(compressed, 1)

    @cached_property
    def _all_nodes(self) -> float:
        """Bytes that all layers together add beside their values, each compressed."""
        forms = allocate.smallest(self.space.ladders)
        return max(0.0, self.space.weigh(forms) - self._weight_of_values(forms) - self._rest)

    def meet(self, allot: Allot) -> Forms | None:
        """The forms of the largest artifact an allocation makes within the limit: no single step up would still fit.

        Costs are known but for some bytes, so the artifact is weighed and the budget corrected by what it was off.
        """
        as_it_is = allocate.largest(self.ladders)
        if self.limit >= self.space.bytes and all(form.untouched for form in as_it_is):
            return as_it_is  # the model as it is: our own note would be all that is new
        budget = self.limit - self._rest
        found: Forms | None = None
        for _ in range(_ROUNDS):
            forms = allot(budget)
            if forms is None:
                break
            slack = self.limit - self.space.weigh(forms)
            if slack >= 0:
                found = forms
                if all(cost > slack for cost, _, _ in allocate.steps_up(self.ladders, forms)[:1]):
                    break
            unused = budget - allocate.total(self.ladders, forms)
            budget += slack - unused if slack < 0 else slack - min(unused, slack)
            if slack >= 0 and slack <= unused:
                break
        if found is None:
            forms = allocate.smallest(self.ladders)
            found = forms if self.space.weigh(forms) <= self.limit else None
        return None if found is None else self._to_the_last_step(found)

    def _to_the_last_step(self, forms: Forms) -> Forms:
        """Takes single steps that turn out to fit, the cheapest first, each weighed if it may turn out otherwise."""
        while True:
            forms = self._sure_steps(forms, self.limit - self.space.weigh(forms))
            slack = self.limit - self.space.weigh(forms)
            for cost, layer, form in allocate.steps_up(self.ladders, forms):
                # A step to the layer as it is takes its nodes away, and one layer may have nearly all there are.
                if cost > slack + _NEARLY + form.untouched * self._all_nodes:
                    continue
                raised = [*forms[:layer], form, *forms[layer + 1 :]]
                if self.space.weigh(raised) <= self.limit:
                    forms = raised
                    break
            else:
                return forms

    def _sure_steps(self, forms: Forms, slack: float) -> Forms:
        """Steps whose bytes are known: the nodes stay what they are."""
        while True:
            cost, layer, form = next(iter(allocate.steps_up(self.ladders, forms)), (math.inf, 0, UNTOUCHED))
            slack -= cost + _NEARLY
            if slack < 0 or form.untouched or form.structure in JOINED or family(form) != family(forms[layer]):
                return forms
            forms = [*forms[:layer], form, *forms[layer + 1 :]]

    @property
    def can_be_met(self) -> bool:
        """Whether the smallest artifact there is fits."""
        return self.space.weigh(allocate.smallest(self.ladders)) <= self.limit

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        space = self.space
        forms = allocate.smallest(self.ladders)
        closest = space.weigh(forms)
        others = closest - self._weight_of_values(forms)
        return TargetError(
            f"--size {space.target.amount} cannot be reached: with the smallest ranks {format_bytes(closest)} "
            f"({format_share(closest, space.bytes)}) remain",
            f"the closest is --size {closest}; {format_bytes(others)} are not in eligible layers; "
            "--best-effort writes it",
        )
