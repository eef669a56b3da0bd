"""Sums of squares of rows: Grams, kept as an upper block triangle, and their sketch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LARGE = 1024
"""Rows of a matrix of which products and decompositions take long enough to be worth less precision."""

MANY = 256
"""Columns of rows of which sums of products take long enough for the same."""

SKETCH_WIDTH = 64
# Columns of a Gram computed at a time: one huge X @ X.T crashes OpenBLAS with several threads (methods.md §7.2).
_TILE = 512
_ROWS = 512

_MOST_OFFSET = 100  # mean squares over variance
_TINY, _HUGE = 1e-20, 1e30
"""Sums of squares that float32 holds with room to spare."""


def product(rows: NDArray[Any], matrix: NDArray[Any], *, light: bool = False) -> NDArray[Any]:
    """Rows times matrix in the wider of the two precisions, at least float32; in float64 unless it is to stay light."""
    product_type = np.result_type(rows.dtype, matrix.dtype, np.float32)
    product = rows.astype(product_type, copy=False) @ matrix.astype(product_type, copy=False)
    return np.asarray(product) if light else np.asarray(product, np.float64)


def is_ordinary(rows: NDArray[Any]) -> bool:
    """Whether sums of squares of rows are neither too small nor too large for float32."""
    return _TINY < float(np.einsum("pd,pd->", rows, rows)) < _HUGE


def as_exact(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in the precision that their products are to be summed up in: float32 stays where little is lost.

    In float32 a sum of a few thousand squares is off by 1e-7 of itself or so. What is left of it once the mean is taken
    off is off by as much of the whole: where nearly all is mean, float64 it is.
    """
    if rows.dtype != np.float32 or not len(rows):
        return rows.astype(np.float64, copy=False)
    power, total = float(np.vdot(rows, rows)), rows.sum(axis=0, dtype=np.float64)
    spread = power - float(total @ total) / len(rows)
    return rows if is_ordinary(rows) and spread * _MOST_OFFSET > power else rows.astype(np.float64)


def times(W: NDArray[Any], right: NDArray[Any]) -> Float64:
    """W·right in float64, [m, …], of W [m, n]: some rows at a time, as W in float64 may be more than memory holds."""
    if W.dtype == np.float64 or len(W) <= _ROWS:
        return np.asarray(W.astype(np.float64, copy=False) @ right)
    parts = (W[start : start + _ROWS].astype(np.float64) @ right for start in range(0, len(W), _ROWS))
    return np.concatenate(list(parts))


def sketch_matrix(n: int) -> Float64:
    """Ω: the same ±1 matrix [n, 64] everywhere and always, so that sketches add up."""
    bits = np.random.Generator(np.random.PCG64(n)).integers(0, 2, size=(n, SKETCH_WIDTH))
    return (2 * bits - 1).astype(np.float64)


def add_gram(into: Float64, rows: NDArray[Any]) -> None:
    """Adds rowsᵀ·rows, [d, d], of rows [p, d] to the upper block triangle of `into`; read it through `symmetric`."""
    width = rows.shape[1]
    for start in range(0, width, _TILE):
        stop = min(start + _TILE, width)
        into[start:stop, start:] += rows[:, start:stop].T @ rows[:, start:]


def symmetric(upper: Float64) -> Float64:
    """The full symmetric matrix of which `add_gram` filled the upper block triangle."""
    return mirrored(upper.copy())


def mirrored(full: Float64) -> Float64:
    """The same matrix, its upper triangle below the diagonal too: what it held there is lost."""
    for start in range(0, len(full), _TILE):  # a tile at a time, since it may be as large as memory allows
        stop = min(start + _TILE, len(full))
        full[stop:, start:stop] = full[start:stop, stop:].T
        part = np.triu(full[start:stop, start:stop])
        full[start:stop, start:stop] = part + np.triu(part, 1).T
    return full
