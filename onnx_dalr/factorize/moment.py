"""The second moment of what enters a weight, block by block along its diagonal: what rounding knows of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64

LARGEST_BLOCK = 2048
"""Inputs whose products with each other are known; of more, blocks along the diagonal give the most of it."""

_DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Block:
    """Inputs whose moment is looked at together.

    Attributes:
        inputs: Which, [b], in the order in which they are rounded: those that carry most come first.
        R: [b, b], upper, R Rᵀ = C/t + .01·I of these inputs.
    """

    inputs: NDArray[np.intp]
    R: Float64


@dataclass(frozen=True, eq=False)
class Feedback:
    """What a moment says about rounding (methods.md §9.2)."""

    blocks: tuple[Block, ...]

    @property
    def weights(self) -> Float64:
        """What the squared error of rounding an input counts in the end, [n]: R_jj²."""
        found = np.empty(sum(len(block.inputs) for block in self.blocks))
        for block in self.blocks:
            found[block.inputs] = np.diag(block.R) ** 2
        return found


@dataclass(frozen=True, eq=False)
class Moment:
    """C = E[x xᵀ], [n, n], uncentred; between blocks it is taken for 0.

    Attributes:
        blocks: Along the diagonal, each [b, b], in the order of the inputs.
    """

    blocks: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, C: NDArray[Any]) -> Moment:
        """The blocks of a whole one, [n, n]."""
        return cls(tuple(C[inputs, inputs] for inputs in _slices(len(C))))

    @classmethod
    def of_blocks(cls, n: int, stacked: Float64) -> Moment:
        """Of what `add_blocks` filled, of n inputs."""
        sizes = [inputs.stop - inputs.start for inputs in _slices(n)]
        return cls(tuple(block[:size, :size] for block, size in zip(stacked, sizes, strict=True)))

    @property
    def n(self) -> int:
        """Inputs."""
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Block by block: (which inputs, [b, b])."""
        start = 0
        for block in self.blocks:
            yield slice(start, start + len(block)), block
            start += len(block)

    def times(self, W: NDArray[Any]) -> Float64:
        """W C, [m, n]."""
        return np.concatenate([np.asarray(W[:, inputs] @ block, np.float64) for inputs, block in self], axis=1)

    def through(self, W: NDArray[Any]) -> Moment:
        """W C Wᵀ: the moment of y = W x."""
        return Moment.of(self.times(W) @ W.T)

    def mean_over(self, choices: Sequence[NDArray[np.intp]]) -> Moment:
        """The mean of the moments of choices among the inputs, each in its own order; itself where one is all of them.

        Args:
            choices: Of one length each.
        """
        if len(choices) == 1 and len(choices[0]) == self.n:
            return self
        total = np.zeros((len(choices[0]), len(choices[0])))
        for choice in choices:
            for inputs, block in self:
                (at,) = np.nonzero((choice >= inputs.start) & (choice < inputs.stop))
                own = choice[at] - inputs.start
                total[np.ix_(at, at)] += block[np.ix_(own, own)]
        return Moment.of(total / len(choices))

    def power(self, W: NDArray[Any]) -> float:
        """Tr[W C Wᵀ]: the mean of ‖y‖²."""
        return max(float(np.einsum("mn,mn->", self.times(W), W)), 0.0)

    @cached_property
    def feedback(self) -> Feedback | None:
        """What it says about rounding; None where it says nothing: it is zero, not finite, or no moment at all."""
        t = sum(float(np.trace(block, dtype=np.float64)) for block in self.blocks) / max(self.n, 1)
        if not np.isfinite(t) or t <= 0:
            return None
        found = []
        for inputs, block in self:
            known = _block(inputs.start, block.astype(np.float64) / t)
            if known is None:
                return None
            found.append(known)
        return Feedback(tuple(found))

    def compact(self) -> Moment:
        """In float32."""
        return Moment(tuple(block.astype(np.float32) for block in self.blocks))


def blocks_shape(n: int) -> tuple[int, int, int]:
    """Of the blocks of n inputs, stacked: [count, size, size]."""
    count = -(-n // LARGEST_BLOCK)
    size = -(-n // max(count, 1))
    return count, size, size


def add_blocks(into: Float64, rows: NDArray[Any]) -> None:
    """Adds the blocks of rowsᵀ·rows, of rows [p, n], to those stacked in `into`; the last may not fill its place."""
    for block, inputs in zip(into, _slices(rows.shape[1]), strict=True):
        part = rows[:, inputs]
        block[: part.shape[1], : part.shape[1]] += part.T @ part


def _slices(n: int) -> list[slice]:
    count, size, _ = blocks_shape(n)
    return [slice(at * size, min((at + 1) * size, n)) for at in range(count)]


def _block(start: int, C: Float64) -> Block | None:
    """Of C + .01·I: R is the lower root of the matrix with its inputs turned round, turned back."""
    if not np.isfinite(C).all():
        return None
    order = np.argsort(-np.diag(C), kind="stable")
    turned = order[::-1]
    damped = C[np.ix_(turned, turned)]
    damped[np.diag_indices_from(damped)] += _DAMPING
    try:
        lower = scipy.linalg.cholesky(damped, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    return Block(start + order, np.ascontiguousarray(lower[::-1, ::-1]))
