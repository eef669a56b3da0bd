"""What two kernels are to keep of one: tr[G (W−W') Σ (W−W')ᵀ], from the statistics of its patches (methods.md §6.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.linalg import roots
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.metric import metric_share
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shrinkage import oas, ridge_of
from onnx_dalr.factorize.statistics import Statistics

SERVED = ("dalr", "svd", "svd-bc")
"""Methods that choose W' among all products of two kernels; `dalr-2017` is a projection of outputs and nothing else."""

_NOTHING = 1e-12
_REACHED = 1e-6  # of the largest eigenvalue of WᵀW


@dataclass(frozen=True, eq=False)
class Objective:
    """Tr[G (W−W') Σ (W−W')ᵀ], Σ = (1−a)·C + a·t·I and G = (1−s)·Ĝ + s·t_G·I, each in units of its mean diagonal.

    Where m > n, all there is to W' lies in the range of W = Q·core: the problem is that of the n rows of the core.

    Attributes:
        method: Name of the method that it is of; "svd-bc" where `dalr` had nothing to learn from.
        compensates: The mean is taken back by the bias.
        core: [r, n], r = min(m, n); W itself where Q is left out.
        frame: Q, [m, r], orthonormal, or None for the identity.
        root: L, [r, r], G/t_G = L Lᵀ; None for the identity.
        inverse: L^-ᵀ; None for the identity.
        unit: t_G, NaN where there is no metric.
        mean: μ, [n].
        covariance: C/t, [n, n], float64 or, once `compact`, float32; where only channels are known that of these, for
            C/t ⊗ I over the taps of a kernel.
        product: core·C/t, [r, n].
        t: The mean variance of an input, 1 where there is none; where only channels are known, what makes the power of
            the outputs what it is.
        a: Share of t·I in Σ. At 1 only the weights count.
        shrinks: What is expected on unseen rows is that of Σ; otherwise it is what is seen on the fit rows.
        scale: What a unit of Σ is worth on unseen rows: t, but where nothing was learned.
        power: Mean of ‖y‖² over the fit rows, y = W x.
        ridge: λ of the method's objective; None where it has none.
        shrinkage: a where the method has one.
        metric_shrinkage: s; None without a metric.
    """

    method: str
    compensates: bool
    core: NDArray[Any]
    frame: Float64 | None
    root: Float64 | None
    inverse: Float64 | None
    unit: float
    mean: Float64
    covariance: NDArray[Any]
    product: NDArray[Any]
    t: float
    a: float
    shrinks: bool
    scale: float
    power: float
    ridge: float | None = None
    shrinkage: float | None = None
    metric_shrinkage: float | None = None

    @classmethod
    def of(cls, W: NDArray[Any], stats: Statistics, method: Method, settings: Settings) -> Objective:
        """The one of a method, from the moment of the inputs or their channels, and of gradients where there are any.

        Args:
            W: [m, n].
            stats: With INPUT, or with CHANNELS and, to tell how large it all is, OUTPUT.
            method: One of `SERVED`.
            settings: Of the method.
        """
        assert method.name in SERVED
        C, mean = stats.channel_covariance if stats.input is None else stats.input_covariance, stats.mean
        t = stats.trace / stats.n or 1.0
        C /= t
        frame, core, inverse_core = _core(W)
        product = _times(core, C)
        weight_mean = W.astype(np.float64) @ mean
        size = t if stats.input is not None else t * _how_much_larger(core, t * product, stats)
        power = size * float(np.vdot(core, product)) + float(weight_mean @ weight_mean)
        plain = cls(
            method=method.name,
            compensates=method.compensates,
            core=core,
            frame=frame,
            root=None,
            inverse=None,
            unit=math.nan,
            mean=mean,
            covariance=C,
            product=product,
            t=size,
            a=1.0,
            shrinks=method.name == "dalr",
            scale=size,
            power=power,
        )
        if method.name != "dalr":
            return plain
        if stats.learned_nothing:
            whole = float(np.vdot(core.astype(np.float64), core))
            return replace(plain, method="svd-bc", scale=power / whole if whole > 0 else 0.0)
        whole = t**2 * float(np.vdot(C, C)) if stats.input is not None else stats.trace_of_square
        a = oas(stats.count, stats.n, t * stats.n, whole) if settings.shrinkage is None else settings.shrinkage
        found = replace(plain, a=a, shrinkage=a, ridge=ridge_of(a, t))
        s = metric_share(W, stats, settings.metric)
        if s is None:
            return found
        unit = stats.metric_trace / stats.m
        found = replace(found, unit=unit, metric_shrinkage=s)
        if s == 1:
            return found
        G = stats.output_metric / unit
        if inverse_core is not None:
            G = inverse_core.T @ G @ inverse_core
        # Where nothing is shrunk and W reaches nothing there is no metric at all.
        root, inverse = roots((1 - s) * G + (s + _NOTHING) * np.eye(len(G)))
        if stats.input is None:
            unit *= _how_much_larger(core, size * product, stats, root)
        return replace(found, unit=unit, root=root, inverse=inverse)

    @property
    def m(self) -> int:
        """Outputs of the layer."""
        return len(self.core if self.frame is None else self.frame)

    @property
    def r(self) -> int:
        """Rows of the core."""
        return len(self.core)

    @property
    def fits(self) -> bool:
        """Whether the data have a say beside the weights."""
        return self.a < 1

    @property
    def moves_bias(self) -> bool:
        """Whether the mean input is compensated, and is not zero."""
        return self.compensates and bool(self.mean.any())

    @property
    def joint(self) -> bool:
        """Whether the data have a say, and it is known what different taps see together."""
        return self.fits and len(self.covariance) == self.core.shape[1]

    def weigh(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Lᵀ rows: what has the core's rows, [r, …], as the metric sees it."""
        return rows if self.root is None else np.tensordot(self.root, rows, axes=(0, 0))

    def unweigh(self, rows: Float64) -> Float64:
        """L^-ᵀ rows: back again."""
        return rows if self.inverse is None else np.asarray(np.tensordot(self.inverse, rows, axes=(1, 0)))

    def lift(self, rows: Float64) -> Float64:
        """Q rows: what has the core's rows as the outputs of the layer, [m, …]."""
        return rows if self.frame is None else np.asarray(np.tensordot(self.frame, rows, axes=(1, 0)))

    def seen(self, rows: NDArray[Any]) -> Float64:
        """Rows·C/t, [j, n], of rows over the inputs."""
        return _times(rows.astype(self.covariance.dtype), self.covariance)

    def shrunk(self, rows: NDArray[Any]) -> Float64:
        """Rows·Σ/t, [j, n]."""
        return (1 - self.a) * self.seen(rows) + self.a * rows if self.fits else np.asarray(rows, np.float64)

    def error(self, left: NDArray[Any]) -> float:
        """Mean of ‖ΔW x‖² over the fit rows, of ΔW in the core, [r, n], without its mean where that is compensated."""
        offset = 0.0 if self.compensates else float(np.sum((left @ self.mean) ** 2))
        return self.t * max(float(np.vdot(left, self.seen(left))), 0.0) + offset

    def expected(self, left: NDArray[Any]) -> tuple[float, float]:
        """Mean of ‖ΔW x‖² to expect on unseen rows, and the effect on the network's output, of ΔW in the core."""
        if not self.shrinks:
            return self.error(left), math.nan
        shrunk = self.shrunk(left)
        tail = self.scale * max(float(np.vdot(left, shrunk)), 0.0)
        return tail, self.unit * self.scale * max(float(np.vdot(self.weigh(left), self.weigh(shrunk))), 0.0)

    @cached_property
    def _compacted(self) -> Objective:
        small = self.covariance.astype(np.float32), self.product.astype(np.float32)
        return replace(self, covariance=small[0], product=small[1])

    def compact(self) -> Objective:
        """With what is large in float32: the same one whoever asks, since several structures hold it."""
        return self if self.covariance.dtype == np.float32 else self._compacted


def _how_much_larger(core: NDArray[Any], product: Float64, stats: Statistics, root: Float64 | None = None) -> float:
    """Tr[Lᵀ S L] of the outputs' own covariance over what C ⊗ I makes of it; 1 where that is not kept."""
    if stats.output is None:
        return 1.0
    S, guess = stats.output_covariance, product @ core.T
    if root is not None:
        S, guess = root.T @ S @ root, root.T @ guess @ root
    true, guessed = float(np.trace(S)), float(np.trace(guess))
    return true / guessed if guessed > 0 and true > 0 else 1.0


def _times(rows: NDArray[Any], C: NDArray[Any]) -> Float64:
    """Rows·C, [j, n], where C may be that of the channels alone, for C ⊗ I."""
    by_tap = rows.reshape(len(rows), len(C), -1)
    return np.asarray(np.tensordot(by_tap, C, axes=(1, 0)).swapaxes(1, 2).reshape(rows.shape), np.float64)


def _core(W: NDArray[Any]) -> tuple[Float64 | None, NDArray[Any], Float64 | None]:
    """Q, the core, and what takes a metric seen through W, Wᵀ G W, to that of the core, [n, r]: Wᵀ G W = coreᵀ G core.

    Directions that W hardly reaches say nothing of the metric: there it is what it is shrunk toward.
    """
    m, n = W.shape
    if m <= n:
        return None, W, None
    Q, sizes, Vt = scipy.linalg.svd(W.astype(np.float64), full_matrices=False, check_finite=False)
    reached = sizes**2 > _REACHED * sizes[0] ** 2
    inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=reached)
    return Q, sizes[:, None] * Vt, Vt.T * inverse
