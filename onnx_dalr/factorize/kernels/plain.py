"""What kernels of the weights alone lose on the data, at every rank (methods.md §6.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.nested import Nested
from onnx_dalr.factorize.kernels.view import View


@dataclass(frozen=True, eq=False)
class Latents:
    """What z = (V ⊗ I) x goes with on the fit rows, without their means where these are compensated.

    Attributes:
        pairs: E[z zᵀ], [R·B, R·B].
        outputs: E[z yᵀ], y = W x in the core, [R·B, r].
        power: E[‖y‖²].
    """

    pairs: Float64
    outputs: Float64
    power: float


def latents_of(view: View, V: Float64) -> Latents:
    """Of the first kernels V, [R, U], of an objective of the weights alone."""
    objective = view.objective
    data = View(replace(objective, a=0.0), view.split)
    through = data.through(V)
    pairs = objective.t * data.latents(through, V)
    outputs = objective.t * (through @ view.weight.reshape(objective.r, -1).T)
    power = objective.t * float(np.vdot(objective.core, objective.product))
    if not objective.compensates:
        z = (V @ view.split.columns(objective.mean[None])[0]).ravel()
        y = objective.core @ objective.mean
        pairs += np.outer(z, z)
        outputs += np.outer(z, y)
        power += float(y @ y)
    return Latents(pairs, outputs, power)


def errors(view: View, found: Nested) -> Float64:
    """The mean of ‖ΔW x‖² at every rank, [R + 1], where H = W Vᵀ with orthonormal V: what is left out is what follows.

    Σ_{i,j > K} Σ_{b,b'} (H_bᵀ H_b')_ij E[z_ib z_jb']: sums of an R × R matrix from its end. Where only channels are
    known, of b = b' alone.
    """
    R, B, objective = found.rank, view.split.offsets, view.objective
    data = View(replace(objective, a=0.0), view.split)
    if data.objective.joint:
        pairs = latents_of(view, found.first).pairs
        pairs *= found.gains @ found.gains.T
        by_rank = pairs.reshape(R, B, R, B).sum(axis=(1, 3))
    else:
        alike = found.gains.reshape(R, -1)
        by_rank = objective.t * (found.first @ data.input_moment @ found.first.T) * (alike @ alike.T)
        if not objective.compensates:
            z = found.first @ view.split.columns(objective.mean[None])[0]
            means = np.einsum("kb,kbr->kr", z, found.gains.reshape(R, B, -1))
            by_rank += means @ means.T
    left = np.diagonal(by_rank[::-1, ::-1].cumsum(axis=0).cumsum(axis=1))[::-1]
    return np.asarray(np.maximum(np.append(left, 0.0), 0.0))
