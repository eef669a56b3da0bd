"""What every cost is: a price of each form, and how a limit on the whole model is met to the last step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from onnx_dalr.choose.allocate import Forms, Ladder
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import Form
from onnx_dalr.graph.layers import Layer

Allot = Callable[[float], Forms | None]
"""What an allocation makes of a budget for the layers together; None where it cannot be met."""


class Budget(Protocol):
    """A limit on one cost of the whole model."""

    @property
    def ladders(self) -> list[Ladder]:
        """By layer: choices and what they cost."""
        ...

    @property
    def leaves_rest(self) -> bool:
        """Whether one ratio for all leaves something of the budget to be spent by single steps."""
        ...

    @property
    def can_be_met(self) -> bool:
        """Whether the cheapest forms there are keep within it."""
        ...

    def meet(self, allot: Allot) -> Forms | None:
        """The forms that an allocation makes of it; None where it cannot be met."""
        ...

    def refusal(self) -> TargetError:
        """Says what can be reached instead."""
        ...


class Cost(Protocol):
    """Something that forms cost, and a target may limit. A cost is a file in this folder and a line in `COSTS`."""

    @property
    def name(self) -> str:
        """Of the target, as on the command line."""
        ...

    @property
    def measure(self) -> str:
        """What it counts, in a sentence: "the model meets its …"."""
        ...

    @property
    def needs_samples(self) -> bool:
        """Whether it is not known before samples were run: how many rows a layer sees, say."""
        ...

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        """What a layer costs in a form."""
        ...

    def whole(self, space: SearchSpace) -> int:
        """Of the model as it is: what a share is of."""
        ...

    def budget(self, space: SearchSpace, limit: int) -> Budget:
        """A limit on it."""
        ...
