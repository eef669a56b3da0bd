"""Which values of an output are no padding, where the samples have a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.measures import as_rows
from onnx_dalr.samples.masks import Kept, entries_kept, mask_axes


def values_kept(shape: Sequence[int], padding: Kept | None, channels: int | None = None) -> NDArray[np.bool_] | None:
    """Which values are no padding, of the output's shape; None where all are, or the mask does not fit.

    Args:
        shape: Of the output: [N, T, …], [N, …, T] or [T, N, …].
        padding: Which positions are real, [N, T].
        channels: The axis of channels, which is none of positions even where it is as long; None for no such axis.
    """
    found = None if padding is None else entries_kept(padding, _matched(shape, channels))
    return None if found is None else np.broadcast_to(found, tuple(shape))


def positions_axis(shape: Sequence[int], padding: Kept | None, channels: int | None = None) -> int | None:
    """The axis of the positions that the mask goes over; None without one. Arguments as of `values_kept`."""
    axes = None if padding is None else mask_axes(padding.shape, _matched(shape, channels))
    return None if axes is None else axes[1]


def rows_kept(mask: NDArray[np.bool_] | None, axis: int | None, samples: int | None) -> Kept | None:
    """Which rows are real, [samples, rows]: those all of whose values are, in a mask with the channels on `axis`."""
    return None if mask is None else np.asarray(as_rows(mask, axis, samples).all(axis=-1))


def _matched(shape: Sequence[int], channels: int | None) -> list[int]:
    """The shape with an axis of channels that matches nothing."""
    sizes = list(shape)
    if channels is not None:
        sizes[channels] = -1
    return sizes
