"""First kernels of every rank at once, and what is left by the best second kernel for each (methods.md §6.2, §6.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.view import View, root_of
from onnx_dalr.factorize.linalg import eigenvectors, roots


@dataclass(frozen=True, eq=False)
class Nested:
    """One closed form whose first K kernels are those of rank K.

    Attributes:
        first: V, [R, U], best first; R is the rank at which nothing is left.
        gains: Y, [R·B, r]: row by row what a latent at an offset adds, in coordinates in which latents are independent.
    """

    first: Float64
    gains: Float64

    @property
    def rank(self) -> int:
        """R."""
        return len(self.first)

    def left(self, root: Float64 | None = None) -> Float64:
        """What is left of tr[L Lᵀ W Σ Wᵀ] at every rank, [R + 1], in units of t; L the identity where left out."""
        seen = self.gains if root is None else self.gains @ root
        by_rank = np.einsum("ij,ij->i", seen, seen).reshape(self.rank, -1).sum(axis=1)
        return np.append(np.cumsum(by_rank[::-1])[::-1], 0.0)


def nested(view: View) -> Nested:
    """The closed form of an objective: V = Qᵀ S_u^-½, Q the first eigenvectors of A Aᵀ, A = S_u^½ W (G^½ ⊗ S_b^½).

    Then H = X Cz⁻¹ at every rank, with Cz = (V ⊗ I) Σ (V ⊗ I)ᵀ = L Lᵀ and X = W Σ (V ⊗ I)ᵀ, takes Y_Kᵀ Y_K with
    Y = L⁻¹ Xᵀ from W Σ Wᵀ: both are those of the highest rank, cut off.
    """
    V = first_kernels(view)
    X = np.tensordot(V, view.product, axes=(1, 1)).swapaxes(1, 2).reshape(len(V) * view.split.offsets, -1)
    if not view.objective.joint:
        return Nested(V, X)
    L = root_of(view.latents(view.through(V), V))
    gains = scipy.linalg.solve_triangular(L, X, lower=True, overwrite_b=True, check_finite=False)
    return Nested(V, np.asarray(gains))


def first_kernels(view: View) -> Float64:
    """V, [R, U], with V S_u Vᵀ = I."""
    W = view.weighed
    root, inverse = roots(view.input_moment)
    spread = (W @ view.offset_moment).swapaxes(0, 1).reshape(view.split.inputs, -1)
    M = root.T @ (spread @ W.swapaxes(0, 1).reshape(view.split.inputs, -1).T) @ root
    _, Q = eigenvectors((M + M.T) / 2)
    rank = min(view.split.inputs, len(W) * view.split.offsets)
    return np.ascontiguousarray((inverse @ Q[:, :rank]).T)
