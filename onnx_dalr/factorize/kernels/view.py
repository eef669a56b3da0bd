"""An objective as a split of its inputs sees it: moments of what first kernels make of patches (methods.md §6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.objective import Objective
from onnx_dalr.factorize.kernels.split import Split

_DEAD = 1e-9
"""Of the trace: what an input that was always zero is taken for where nothing is shrunk."""
_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)


@dataclass(frozen=True, eq=False)
class View:
    """The inputs of an objective as pairs (u, b). Moments are of Σ, in units of t.

    Attributes:
        objective: What is to be kept.
        split: Which inputs the first kernel sums over.
    """

    objective: Objective
    split: Split

    @cached_property
    def weight(self) -> Float64:
        """The core, [r, U, B]."""
        return self.split.columns(self.objective.core).astype(np.float64)

    @cached_property
    def weighed(self) -> Float64:
        """The core as the metric sees it, [r, U, B]."""
        return np.asarray(self.objective.weigh(self.weight))

    @cached_property
    def product(self) -> Float64:
        """core·Σ, [r, U, B]."""
        a = self.objective.a
        seen = self.split.columns(self.objective.product).astype(np.float64)
        return (1 - a) * seen + a * self.weight

    @cached_property
    def covariance(self) -> NDArray[Any]:
        """C/t, [n, n], both sides ordered as (u, b)."""
        return self.split.moment(self.objective.covariance)

    @cached_property
    def input_moment(self) -> Float64:
        """S_u, [U, U]: the mean over the offsets of what the first kernel sees."""
        if not self.objective.fits:
            return np.eye(self.split.inputs)
        a, U, B = self.objective.a, self.split.inputs, self.split.offsets
        if self.objective.joint:
            C = self.covariance.reshape(U, B, U, B)
            seen = np.asarray(sum(C[:, b, :, b].astype(np.float64) for b in range(B))) / B
        else:
            seen = self.objective.covariance.astype(np.float64)
        found = (1 - a) * seen + a * np.eye(U)
        found[np.diag_indices(U)] += _DEAD * float(np.trace(found))
        return found

    @cached_property
    def offset_moment(self) -> Float64:
        """S_b, [B, B]: how what is seen at one offset goes with what is seen at another; trace B."""
        if not self.objective.joint:
            return np.eye(self.split.offsets)
        a, U, B = self.objective.a, self.split.inputs, self.split.offsets
        C = self.covariance.reshape(U, B, U, B)
        total = np.zeros((B, B))
        for u in range(U):
            total += C[u, :, u, :]
        total = (1 - a) * total + a * U * np.eye(B)
        return np.asarray(total * B / np.trace(total))

    def through(self, V: Float64) -> Float64:
        """(V ⊗ I)·Σ, [K·B, n], of first kernels V, [K, U]: their latents with all inputs."""
        a, U, B = self.objective.a, self.split.inputs, self.split.offsets
        C = self.covariance
        found = (V.astype(C.dtype) @ C.reshape(U, -1)).astype(np.float64, copy=False)
        found *= 1 - a
        by_offset = found.reshape(len(V), B, U, B)
        for b in range(B):
            by_offset[:, b, :, b] += a * V
        return np.asarray(found.reshape(len(V) * B, U * B))

    def latents(self, through: Float64, V: Float64) -> Float64:
        """Cz = (V ⊗ I)·Σ·(V ⊗ I)ᵀ, [K·B, K·B], from the product on the left."""
        K, B = len(V), self.split.offsets
        found = np.empty((len(through), K, B))
        for b, columns in enumerate(np.moveaxis(through.reshape(len(through), self.split.inputs, B), 2, 0)):
            found[:, :, b] = np.ascontiguousarray(columns) @ V.T
        return found.reshape(len(through), K * B)

    def spread(self, V: Float64, H: Float64) -> Float64:
        """H·(V ⊗ I), [r, n] in the order (u, b), of H, [r, K, B]."""
        return np.asarray(np.tensordot(H, V, axes=(1, 0)).swapaxes(1, 2).reshape(len(H), -1))


def root_of(moment: Float64) -> Float64:
    """L, lower, with L Lᵀ the moment of latents and a ridge that rounding needs: the smallest with which it works.

    Raises:
        LinAlgError: The moment is not finite.
    """
    size = float(np.trace(moment)) / len(moment) or 1.0
    for ridge in _RIDGES:
        damped = moment.T.copy(order="F")  # as LAPACK wants it: not copied again
        damped[np.diag_indices_from(damped)] += ridge * size
        try:
            return np.asarray(scipy.linalg.cholesky(damped, lower=True, overwrite_a=True, check_finite=False))
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("a moment that is no moment")
