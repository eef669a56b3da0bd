"""Pieces in a number format: each is rounded for what it sees, and the last makes up for what the others lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.form import KEPT
from onnx_dalr.factorize.formats import Encoded, Format, rounding
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.factorize.unrolled import extent_of, unrolled, windows

_RIDGE = 1e-4


@dataclass(frozen=True, eq=False)
class Seen:
    """What enters a weight on the fit samples.

    Attributes:
        moment: E[x xᵀ], uncentred.
        mean: μ, [n].
    """

    moment: Moment
    mean: Float64

    def compact(self) -> Seen:
        """With the moment in float32."""
        return replace(self, moment=self.moment.compact())


def rounded(
    pieces: Sequence[Piece], format: Format, dtype: np.dtype[Any], seen: Seen | None
) -> tuple[tuple[Encoded, ...], Float64]:
    """The pieces of a weight as a format stores them, and what is to be added to its bias (methods.md §9.3).

    Every piece is rounded by the moment of what it sees: the first by that of the layer's inputs, every other by that
    of what the rounded ones before it make of them, of kernels over all places that they slide to in one patch. The
    last of several is fitted to that first: with P what the pieces before it make of a patch and P̂ of the rounded ones,
    A P C P̂ᵀ (P̂ C P̂ᵀ)⁻¹ takes the place of A, so that it absorbs their error. What rounding does to the mean goes to the
    bias.

    Args:
        pieces: In the order in which data meet them. All are rounded plainly where nothing is `seen`.
        format: How numbers are stored.
        dtype: Element type of the layer's weight.
        seen: What enters the layer; None where that is not known.

    Returns:
        Each piece as it is stored, and (W' − Ŵ)μ, [m], W' the product of the pieces as they were given; zeros where
        nothing is seen.
    """
    if seen is None:
        return tuple(format.encode(piece.values, dtype) for piece in pieces), np.zeros(len(pieces[-1].values))
    made: list[Encoded] = []
    exact = product = None
    grid = extent_of([piece.values.shape[2:] for piece in pieces])
    moment = seen.moment
    for number, piece in enumerate(pieces):
        values = piece.values.astype(np.float64)
        wanted = unrolled(values, exact, grid)
        if exact is not None and product is not None and number == len(pieces) - 1:
            A = values.reshape(len(values), -1)
            whole = wanted.reshape(len(A), -1)
            values = _fitted(A, whole, product.reshape(A.shape[1], -1), seen.moment).reshape(values.shape)
        places = windows(values.shape, grid)
        made.append(format.encode(values, dtype, moment.mean_over(places)))
        product = unrolled(made[-1].values.astype(np.float64), product, grid)
        exact, grid = wanted, product.shape[1:-1]
        if number < len(pieces) - 1:
            moment = seen.moment.through(product.reshape(-1, product.shape[-1]))
    assert exact is not None
    assert product is not None
    return tuple(made), (exact - product).reshape(len(exact), -1) @ seen.mean


def losses(
    formats: Iterable[Format], values: NDArray[Any], dtype: np.dtype[Any], seen: Seen | None
) -> tuple[dict[str, float], dict[str, float]]:
    """What rounding leaves of a weight: by format, the share of what it makes of its inputs, in one piece and apart.

    In one piece, of the weight itself where no inputs are seen. By how much error feedback is better than rounding to
    nearest hardly depends on the grid, and takes time to find out: it is tried with the coarsest. Apart there is hardly
    any feedback, since the directions that a weight is taken apart into have little to do with each other: what counts
    is what rounding to nearest leaves of numbers like these.

    Args:
        formats: How numbers may be stored.
        values: [out, in, *kernel].
        dtype: Element type of the layer's weight.
        seen: What enters the layer; None where that is not known.
    """
    kinds = [format for format in formats if format.name != KEPT]
    encoded = {format.name: format.encode(values, dtype) for format in kinds}
    plain = {name: rounding(one, values) for name, one in encoded.items()}
    if seen is None:
        return plain, plain
    found = {name: _lost(one, values, seen.moment) for name, one in encoded.items()}
    fed_back = [format for format in kinds if format.reads_moment and found[format.name] > 0]
    if fed_back:
        coarsest = max(fed_back, key=lambda format: found[format.name])
        better = _lost(coarsest.encode(values, dtype, seen.moment), values, seen.moment) / found[coarsest.name]
        found |= {format.name: better * found[format.name] for format in fed_back}
    return found, plain


def _lost(encoded: Encoded, values: NDArray[Any], moment: Moment) -> float:
    whole = values.reshape(len(values), -1).astype(np.float64)
    power = moment.power(whole)
    return moment.power(whole - encoded.values.reshape(whole.shape)) / power if power > 0 else 0.0


def _fitted(A: Float64, wanted: Float64, product: Float64, moment: Moment) -> Float64:
    """The matrix near A with the least mean ‖(wanted − · product) x‖²; A where rounding left nothing to fit on."""
    through = moment.times(product)
    latent = through @ product.T
    ridge = _RIDGE * float(np.trace(latent)) / len(latent)
    if not (np.isfinite(latent).all() and ridge > 0):
        return A
    system = latent + ridge * np.eye(len(latent))
    cross = through @ wanted.T + ridge * A.T
    try:
        return np.asarray(scipy.linalg.solve(system, cross, assume_a="pos", check_finite=False)).T
    except np.linalg.LinAlgError:
        return A
