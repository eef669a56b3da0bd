"""What a layer saw on the fit samples, as sums that add up over batches, shards and machines (METHODS §2, §7)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Flag, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

SKETCH_WIDTH = 64
_TILE = (
    2048  # columns of a Gram computed at a time: one huge X @ X.T crashes OpenBLAS with several threads (METHODS §7)
)


class Need(Flag):
    """The statistics a factorization method asks for, beside count, sum and squares, which are always kept."""

    NONE = 0
    OUTPUT = auto()
    """Second moment of W x, m×m."""
    INPUT = auto()
    """Second moment of x, n×n."""
    SKETCH = auto()
    """Second moment of x times a fixed ±1 matrix, n×64: enough for tr C²."""
    ROWS = auto()
    """The rows themselves while there are fewer than n of them, the second moment of x from then on."""


class Statistics:
    """Sums over the rows x (n inputs each) that entered one layer y = W x, W m×n.

    Everything is a plain sum in float64, so `a + b` is the statistics of both sets of rows, in any order. Moments
    are kept uncentred and centred on reading.

    Attributes:
        m: Outputs of the layer.
        n: Inputs of the layer.
        needs: Which of the optional sums are kept.
        count: Rows that entered.
        total: Σ x, [n].
        squares: Σ x∘x, [n].
        output_total: Σ W x, [m], kept with OUTPUT.
        output: Σ (W x)(W x)ᵀ, [m, m], or None.
        input: Σ x xᵀ, [n, n], or None.
        sketch: Σ x (xᵀ Ω), [n, 64], or None.
        rows: With ROWS and fewer than n rows: the rows, [count, n] float64; else None.
    """

    def __init__(self, m: int, n: int, needs: Need) -> None:
        self.m, self.n, self.needs = m, n, needs
        self.count = 0
        self.total: Float64 = np.zeros(n)
        self.squares: Float64 = np.zeros(n)
        self.output_total: Float64 | None = np.zeros(m) if Need.OUTPUT in needs else None
        self.output: Float64 | None = np.zeros((m, m)) if Need.OUTPUT in needs else None
        self.input: Float64 | None = np.zeros((n, n)) if Need.INPUT in needs else None
        self.sketch: Float64 | None = np.zeros((n, SKETCH_WIDTH)) if Need.SKETCH in needs else None
        self._rows: list[Float64] | None = [] if Need.ROWS in needs and Need.INPUT not in needs else None

    @property
    def rows(self) -> Float64 | None:
        """The kept rows, [count, n], or None when they are not kept (any more)."""
        if self._rows is None:
            return None
        return np.concatenate(self._rows) if self._rows else np.zeros((0, self.n))

    def update(self, x: NDArray[Any], weight: NDArray[Any] | None = None) -> None:
        """Adds the rows of `x`, [p, n], that entered the layer with weight W, [m, n]; OUTPUT alone reads W.

        The products W x are taken in the wider of the two precisions (at least float32): they only choose a
        subspace. Every sum is float64.
        """
        wide = x.astype(np.float64)
        self.count += len(x)
        self.total += wide.sum(axis=0)
        self.squares += np.einsum("pn,pn->n", wide, wide)
        if self.sketch is not None:
            self.sketch += wide.T @ (wide @ sketch_matrix(self.n))
        if self.input is not None:
            add_gram(self.input, wide)
        if self._rows is not None:
            self._keep_rows([wide])
        if self.output is not None and self.output_total is not None:
            if weight is None:
                raise ValueError("the output moment needs the weight")
            product_type = np.result_type(x.dtype, weight.dtype, np.float32)
            y = (x.astype(product_type, copy=False) @ weight.T.astype(product_type, copy=False)).astype(np.float64)
            self.output_total += y.sum(axis=0)
            add_gram(self.output, y)

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of both sets of rows.

        Raises:
            ValueError: The two are not of the same layer shape or do not keep the same sums.
        """
        if (self.m, self.n, self.needs) != (other.m, other.n, other.needs):
            raise ValueError("statistics of different layers or needs do not add up")
        both = Statistics(self.m, self.n, self.needs)
        both._rows = [] if both._rows is not None else None
        for part in (self, other):
            both.count += part.count
            both.total += part.total
            both.squares += part.squares
            for name in ("output_total", "output", "sketch"):
                mine, more = getattr(both, name), getattr(part, name)
                if mine is not None and more is not None:
                    mine += more
            if part.input is not None:
                both._fold_rows()
                assert both.input is not None
                both.input += part.input
            if part._rows:
                both._keep_rows(part._rows)
        return both

    def _keep_rows(self, parts: Iterable[Float64]) -> None:
        if self._rows is None:
            if self.input is not None:
                for part in parts:
                    add_gram(self.input, part)
            return
        self._rows.extend(part.astype(np.float64) for part in parts)
        if sum(map(len, self._rows)) >= self.n:
            self._fold_rows()

    def _fold_rows(self) -> None:
        """With as many rows as inputs the n×n moment is the smaller of the two."""
        if self._rows is None:
            return
        parts, self._rows = self._rows, None
        self.input = np.zeros((self.n, self.n))
        for part in parts:
            add_gram(self.input, part)

    @staticmethod
    def bytes_needed(m: int, n: int, needs: Need, rows: int) -> int:
        """Bytes these statistics hold once `rows` rows have entered."""
        held = 16 * n + 8 * SKETCH_WIDTH * n * (Need.SKETCH in needs)
        held += 8 * (m * m + m) * (Need.OUTPUT in needs)
        held += 8 * n * n * (Need.INPUT in needs or (Need.ROWS in needs and rows >= n))
        held += 8 * n * rows * (Need.ROWS in needs and Need.INPUT not in needs and rows < n)
        return int(held)

    # What the methods read: per-row averages, centred where their name says covariance.

    @property
    def mean(self) -> Float64:
        """μ, [n]."""
        return self.total / self.count

    @property
    def input_covariance(self) -> Float64:
        """C = (X−μ)(X−μ)ᵀ/p, [n, n]."""
        assert self.input is not None
        return symmetric(self.input) / self.count - np.outer(self.mean, self.mean)

    @property
    def output_covariance(self) -> Float64:
        """S = W C Wᵀ, [m, m]."""
        assert self.output is not None
        assert self.output_total is not None
        mean = self.output_total / self.count
        return symmetric(self.output) / self.count - np.outer(mean, mean)

    @property
    def trace(self) -> float:
        """Tr C, the summed variance of the inputs; never negative."""
        return float(np.maximum(self.squares / self.count - self.mean**2, 0.0).sum())

    @property
    def trace_of_square(self) -> float:
        """Tr C²: exact where the input moment is kept, else estimated as ‖C Ω‖²/64."""
        if self.input is not None:
            return float(np.sum(self.input_covariance**2))
        assert self.sketch is not None
        omega = sketch_matrix(self.n)
        centred = self.sketch / self.count - np.outer(self.mean, self.mean @ omega)
        return float(np.sum(centred**2) / SKETCH_WIDTH)

    @property
    def learned_nothing(self) -> bool:
        """One row or a constant input: t ≤ 1e-12·‖μ‖²/n leaves no covariance to learn from."""
        return self.trace <= 1e-12 * float(self.mean @ self.mean)


def sketch_matrix(n: int) -> Float64:
    """Ω: the same ±1 matrix [n, 64] everywhere and always, so that sketches add up."""
    bits = np.random.Generator(np.random.PCG64(n)).integers(0, 2, size=(n, SKETCH_WIDTH))
    return (2 * bits - 1).astype(np.float64)


def add_gram(into: Float64, rows: Float64) -> None:
    """Adds rowsᵀ·rows, [d, d], of rows [p, d] to the upper block triangle of `into`; read it through `symmetric`."""
    width = rows.shape[1]
    for start in range(0, width, _TILE):
        stop = min(start + _TILE, width)
        into[start:stop, start:] += rows[:, start:stop].T @ rows[:, start:]


def symmetric(upper: Float64) -> Float64:
    """The full symmetric matrix of which `add_gram` filled the upper block triangle."""
    return np.triu(upper) + np.triu(upper, 1).T
