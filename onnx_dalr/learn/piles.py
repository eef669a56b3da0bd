"""What single batches tell of rows that are summed up around their means, and what it says of the rows as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.graph.moments import Rows

_SMALLEST, _LARGEST = 1e-15, 1e15
"""Squares of what lies between, and sums of some thousands of them, are numbers in single precision."""

_TILE = 2048

Values = Mapping[str, NDArray[Any]]
"""By name of the tensor."""


def is_safe(rows: Rows, values: Values) -> bool:
    """Whether single precision holds these sums: no number among the rows is too large, too small, or none."""
    largest = float(values[rows.largest])
    told = all(np.isfinite(values[name]).all() for name in rows.told)
    return told and (largest == 0 or _SMALLEST < largest < _LARGEST)


@dataclass(frozen=True, eq=False)
class Total:
    """Of several batches, [batches, n] each: count c, means s, and d around them; x = s + d.

    Attributes:
        count: Rows of all batches.
        means: s.
        rest: Σ d.
        sums: Σ x = c s + Σ d.
        squares: Σ x∘x.
    """

    count: int
    means: Float64
    rest: Float64
    sums: Float64
    squares: Float64

    def add_between(self, into: Float64, inputs: slice) -> None:
        """Adds Σ x xᵀ − Σ d dᵀ of some inputs, [i, i]."""
        means, rest = self.means[:, inputs], self.rest[:, inputs]
        for start in range(0, len(into), _TILE):
            left = slice(inputs.start + start, min(inputs.start + start + _TILE, inputs.stop))
            into[start : start + _TILE] += self.means[:, left].T @ rest + self.sums[:, left].T @ means

    def add_sketch(self, into: Float64, omega: Float64) -> None:
        """Adds Σ x xᵀ Ω − Σ d dᵀ Ω."""
        into += self.means.T @ (self.rest @ omega) + self.sums.T @ (self.means @ omega)


@dataclass(frozen=True, eq=False)
class Pile:
    """What batches told of some rows, one after the other.

    Attributes:
        rows: Which.
    """

    rows: Rows
    _batches: list[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]] = field(default_factory=list)

    def __len__(self) -> int:
        """Batches."""
        return len(self._batches)

    def add(self, count: int, values: Values) -> None:
        """Takes what one batch of so many rows told."""
        rows = self.rows
        assert rows.mean is not None
        self._batches.append((count, values[rows.mean].reshape(-1), values[rows.rest], values[rows.squares]))

    def taken(self) -> Total:
        """All of it, and nothing is left."""
        counts, *told = zip(*self._batches, strict=True)
        self._batches.clear()
        c = np.array(counts, np.float64)[:, None]
        means, rest, around = (np.stack(each).astype(np.float64) for each in told)
        sums = c * means + rest
        return Total(sum(counts), means, rest, sums, around + (rest + sums) * means)
