"""The rows of a tensor: which are real, and of which sample each is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.learn.rows import RowReader, Rows
from onnx_dalr.samples.masks import Kept

N, T, D = 3, 4, 2
REAL = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
SAMPLE = np.repeat(np.arange(N)[:, None], T, axis=1)
POSITION = np.repeat(np.arange(T)[None], N, axis=0)
X = np.stack([SAMPLE, POSITION], axis=-1)  # [N, T, D]: every row says where it is from
LENGTH_FIRST = X.transpose(1, 0, 2)
CHANNELS_FIRST = X.transpose(0, 2, 1)


def read(*tensors: Any, kept: Kept | None = REAL, samples: int = N, axis: int = -1) -> Rows:
    """The rows of the last of several tensors of a batch."""
    reader = RowReader(samples, kept)
    return [reader.read(np.moveaxis(tensor, axis, -1), D) for tensor in tensors][-1]


def from_where(rows: Rows) -> list[tuple[int, ...]]:
    return sorted(map(tuple, rows.values.tolist()))


EXPECTED = sorted((int(n), int(t)) for n, t in zip(*np.nonzero(REAL), strict=True))
EVERY = sorted((n, t) for n in range(N) for t in range(T))
HEADS = np.repeat(X[:, None], 5, axis=1)  # [N, 5, T, D]


@pytest.mark.parametrize(
    ("tensors", "axis"),
    [
        ([X], -1),
        ([LENGTH_FIRST], -1),
        ([CHANNELS_FIRST], 1),
        ([X.reshape(N * T, D)], -1),
        ([X.reshape(N, 2, 2, D)], -1),
        ([X, X.reshape(N * T, D)], -1),
        ([LENGTH_FIRST, LENGTH_FIRST.reshape(T * N, D)], -1),
        ([LENGTH_FIRST, X, X.reshape(N * T, D)], -1),
    ],
    ids=["rows", "length first", "conv", "joined", "grid", "joined after", "length first joined", "back again"],
)
@pytest.mark.parametrize("kept", [REAL, None], ids=["masked", "not masked"])
def test_every_row_is_of_its_own_sample_and_none_of_padding(tensors: list[Any], axis: int, kept: Kept | None) -> None:
    rows = read(*tensors, kept=kept, axis=axis)
    assert rows.masked
    assert from_where(rows) == (EVERY if kept is None else EXPECTED)
    assert rows.owners.tolist() == rows.values[:, 0].tolist()


def test_every_head_of_a_position_is_a_row() -> None:
    rows = read(HEADS)
    assert from_where(rows) == sorted(EXPECTED * 5)
    assert rows.owners.tolist() == rows.values[:, 0].tolist()


def test_rows_that_the_mask_does_not_fit_are_all_there() -> None:
    pooled = X[:, 0]
    rows = read(pooled)
    assert not rows.masked
    assert (len(rows.values), rows.owners.tolist()) == (N, [0, 1, 2])


def test_all_rows_of_a_complete_feed_are_of_one_sample() -> None:
    rows = read(X, samples=1)
    assert from_where(rows) == EXPECTED
    assert set(rows.owners.tolist()) == {0}


def test_where_there_is_no_axis_of_samples_rows_are_shared_out_evenly() -> None:
    rows = read(np.zeros((7, D)), kept=None)
    assert rows.owners.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_tensor_may_be_empty_or_a_single_row() -> None:
    assert len(read(np.zeros((N, 0, D)), kept=None).values) == 0
    assert len(read(np.zeros((T, 0, D)), np.zeros((0, D)), kept=None).values) == 0
    assert read(np.zeros(D), kept=None).owners.tolist() == [0]
