"""The second kernel by least squares, and one sweep that betters the first by it (methods.md §6.3, §6.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.view import View, root_of

_STEPS = 6
_RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Fit:
    """Two kernels.

    Attributes:
        V: The first, [K, U].
        H: The second, [r, K, B], in the core.
        through: (V ⊗ I)·Σ, [K·B, n]; None where only the weights count.
        latents: Cz, [K·B, K·B]; None where it is the identity.
        directions: E, [r, r2], orthonormal: what the second makes, as the metric sees it, where that was narrowed.
    """

    V: Float64
    H: Float64
    through: Float64 | None = None
    latents: Float64 | None = None
    directions: Float64 | None = None


def fitted(view: View, V: Float64, through: Float64 | None = None) -> Fit:
    """The second kernel that leaves the least of W behind these first ones, whatever the metric: X Cz⁻¹.

    It is W V⁺ and what the data add to that: so a weight that two kernels can be is one to the last digit, and where
    data say nothing V⁺ does.

    Args:
        view: Of the objective.
        V: [K, U].
        through: (V ⊗ I)·Σ, where it is known already.
    """
    K, B, r = len(V), view.split.offsets, view.objective.r
    seen = view.input_moment @ V.T
    back = scipy.linalg.cho_solve((root_of(V @ seen), True), seen.T, check_finite=False)
    H = np.ascontiguousarray(np.tensordot(view.weight, back, axes=(1, 1)).swapaxes(1, 2))
    if not view.objective.joint:
        return Fit(V, H)
    through = view.through(V) if through is None else through
    Cz = view.latents(through, V)
    left = view.weight.reshape(r, -1) - view.spread(V, H)
    more = scipy.linalg.cho_solve((root_of(Cz), True), through @ left.T, overwrite_b=True, check_finite=False)
    return Fit(V, H + more.T.reshape(r, K, B), through, Cz)


def distortion(view: View, fit: Fit) -> float:
    """Tr[G ΔW Σ ΔWᵀ] of two kernels, in units of t and t_G, from ΔW itself."""
    left = view.weight.reshape(view.objective.r, -1) - view.spread(fit.V, fit.H)
    seen = left
    if fit.through is not None:
        seen = view.product.reshape(left.shape) - fit.H.reshape(len(left), -1) @ fit.through
    return float(np.vdot(view.objective.weigh(left), view.objective.weigh(seen)))


def swept(view: View, fit: Fit, second: Callable[[Fit], Fit] = lambda fit: fit) -> Fit:
    """Two kernels after one sweep, first and second; as they were where that does not better them.

    Args:
        view: Of the objective.
        fit: Two kernels.
        second: What is made of a second kernel by least squares.
    """
    if fit.through is None:
        return fit
    new = second(fitted(view, *better_first(view, fit)))
    return new if distortion(view, new) < distortion(view, fit) else fit


def better_first(view: View, fit: Fit) -> tuple[Float64, Float64]:
    """V nearer to the best for its second kernel, and (V ⊗ I)·Σ of it.

    Σ_{b,b'} (H_bᵀ G H_b') V Σ[(·,b'),(·,b)] = Σ_b H_bᵀ G (W Σ)[:,(·,b)], six steps of conjugate gradients from the V
    that there is, preconditioned by what the left side is where Σ is S_u ⊗ S_b.
    """
    assert fit.through is not None
    K, U, B, r = len(fit.V), view.split.inputs, view.split.offsets, view.objective.r
    H = view.objective.weigh(fit.H).reshape(r, K * B)
    pairs = H.T @ H

    # numpy multiplies what lies apart in memory without BLAS: offset by offset they are laid together.
    rows = np.ascontiguousarray(pairs.reshape(K, B, K * B).swapaxes(0, 1))

    def of(through: Float64) -> Float64:
        by_offset = through.reshape(K * B, U, B)
        return np.asarray(sum(rows[b] @ np.ascontiguousarray(by_offset[:, :, b]) for b in range(B)))

    readers = np.ascontiguousarray(H.reshape(r, K, B).transpose(2, 1, 0))
    outputs = np.moveaxis(view.objective.weigh(view.product), 2, 0)
    wanted = np.asarray(
        sum(reader @ np.ascontiguousarray(output) for reader, output in zip(readers, outputs, strict=True))
    )
    outer = np.einsum("kblc,bc->kl", pairs.reshape(K, B, K, B), view.offset_moment)
    sides = _factor(outer), _factor(view.input_moment)

    V, through = fit.V.copy(), fit.through.copy()
    left = wanted - of(through)
    step = ready = _solved(sides, left)
    fall = float(np.vdot(left, ready))
    for _ in range(_STEPS):
        step_through = view.through(step)
        change = of(step_through)
        curvature = float(np.vdot(step, change))
        if not (fall > 0 and curvature > 0):
            break
        length = fall / curvature
        V += length * step
        through += length * step_through
        left -= length * change
        ready = _solved(sides, left)
        fall, before = float(np.vdot(left, ready)), fall
        step = ready + fall / before * step
    return V, through


def _factor(moment: Float64) -> tuple[Float64, bool]:
    damped = moment + _RIDGE * (float(np.trace(moment)) / len(moment) or 1.0) * np.eye(len(moment))
    return root_of(damped), True


def _solved(sides: tuple[tuple[Float64, bool], tuple[Float64, bool]], left: Float64) -> Float64:
    """outer⁻¹·left·inputs⁻¹."""
    half = scipy.linalg.cho_solve(sides[0], left, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(sides[1], half.T, check_finite=False)).T
