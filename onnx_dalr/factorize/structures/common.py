"""What the structures of one kernel have in common, made when the first of them asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from onnx_dalr.factorize.kernels.nested import Nested, nested
from onnx_dalr.factorize.kernels.objective import Objective
from onnx_dalr.factorize.kernels.split import Split
from onnx_dalr.factorize.kernels.view import View
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Statistics


@dataclass(frozen=True, eq=False)
class Common:
    """One weight and all that is known of it.

    Attributes:
        W: [m, n].
        shape: Of it.
        stats: What the structures need.
        method: Of the factorization.
        settings: Of the method.
    """

    W: NDArray[Any]
    shape: Shape
    stats: Statistics
    method: Method
    settings: Settings

    @cached_property
    def objective(self) -> Objective:
        """What several kernels are to keep of the one."""
        return Objective.of(self.W, self.stats, self.method, self.settings)

    def nested(self, first: tuple[int, ...]) -> tuple[View, Nested]:
        """The closed form with a first kernel that spans these axes."""
        if not first:
            return self._of_channels
        view = View(self.objective, Split.of(self.shape, first))
        return view, nested(view)

    @cached_property
    def _of_channels(self) -> tuple[View, Nested]:
        """That of `in`, which `tucker` goes on from."""
        view = View(self.objective, Split.of(self.shape))
        return view, nested(view)
