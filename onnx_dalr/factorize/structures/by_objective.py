"""A kernel taken apart by least squares: what its structures answer alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.fit import Fit
from onnx_dalr.factorize.kernels.gauge import balance
from onnx_dalr.factorize.kernels.objective import Objective
from onnx_dalr.factorize.kernels.split import Split
from onnx_dalr.factorize.kernels.view import View


@dataclass(frozen=True, eq=False)
class ByObjective:
    """One kernel as several at every rank, made from the covariance of its patches when they are asked for.

    Attributes:
        objective: What they are to keep.
        split: Which inputs the first of them sums over.
        first: First kernels, [R, U], best first.
    """

    objective: Objective
    split: Split
    first: NDArray[Any]

    @property
    def method(self) -> str:
        """Name of the method that made it."""
        return self.objective.method

    @property
    def power(self) -> float:
        """Mean of ‖y‖² over the fit rows."""
        return self.objective.power

    @property
    def ridge(self) -> float | None:
        """λ of the method's objective."""
        return self.objective.ridge

    @property
    def shrinkage(self) -> float | None:
        """Share of t·I in the covariance."""
        return self.objective.shrinkage

    @property
    def metric_shrinkage(self) -> float | None:
        """Share of t_G·I in the metric."""
        return self.objective.metric_shrinkage

    @property
    def has_effect(self) -> bool:
        """Whether there is an output metric."""
        return not math.isnan(self.objective.unit)

    @property
    def moves_bias(self) -> bool:
        """Whether the mean patch is compensated, and is not zero."""
        return self.objective.moves_bias

    def error(self, rank: Rank) -> float:
        """Of the pieces themselves: this makes them."""
        return self.objective.error(self.left(self.fit(rank)))

    def fit(self, rank: Rank, *, sweeps: bool = True) -> Fit:
        """The first kernel and, as one, those after it, in the core.

        Raises:
            ValueError: The rank is out of range.
        """
        raise NotImplementedError

    def left(self, fit: Fit) -> Float64:
        """ΔW = W − W' in the core, [r, n]."""
        return np.asarray(self.objective.core - self.split.whole(fit.V, fit.H))

    def shift(self, fit: Fit) -> Float64:
        """What goes to the bias: ΔW μ, [m]."""
        if not self.objective.moves_bias:
            return np.zeros(self.objective.m)
        return self.objective.lift(self.left(fit) @ self.objective.mean)

    def gauge(self, fit: Fit, reader: Float64) -> Float64:
        """g, [K], by which the latents of the first kernel are multiplied, from what reads them, [..., K, B]."""
        view = View(self.objective, self.split)
        power = np.einsum("ku,ku->k", fit.V @ view.input_moment, fit.V)
        if self.objective.fits:
            mean = self.split.columns(self.objective.mean[None])[0]
            power = self.objective.t * power + np.mean((fit.V @ mean) ** 2, axis=1)
        return balance(np.sqrt(power), np.sqrt(np.sum(reader**2, axis=(0, 2))))

    def compact(self) -> Self:
        """With what is large in float32."""
        raise NotImplementedError
