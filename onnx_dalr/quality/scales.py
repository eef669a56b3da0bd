"""What quantities are relative to: channels and their scales, learned from the original's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_dalr.quality.looks import map_channels
from onnx_dalr.quality.measures import Scales
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.seen import Seen
from onnx_dalr.samples.masks import Kept

_APART = 10.0
"""Scales that differ by more are scales of different things (boxes in pixels, scores 0…1)."""

_MOST_CHANNELS = 4096
_FEWEST_ROWS = 8  # from which it shows how much a channel moves
_FAR = 4.0  # standard deviations from which a value stands out
_RARE = 0.01  # share of values up to which standing out is rare
_LEAST_SPREAD = (
    1e-3  # of a channel's size: one that varies less is a constant, and its own rounding would be all there is
)


def channel_axis(seen: Seen) -> int | None:
    """The axis of channels that are different things, None without one.

    Their scales differ by more than ten times; or each hardly varies about a mean of its own (a temperature and a
    pressure, the points of a face), so that a constant would look good beside the size of all of them.
    """
    rows = {axis: seen.rows(axis) for axis in _possible_axes(seen)}
    ratios = {axis: _ratio(found) for axis, found in rows.items()}
    best = max(ratios, key=lambda axis: ratios[axis], default=None)
    if best is not None and ratios[best] > _APART:
        return best
    return next((axis for axis, found in rows.items() if _stand_still(found)), None)


def _possible_axes(seen: Seen) -> list[int]:
    """Axes that may be of channels: no free ones, no positions, no height and width of a map."""
    arrays, dims, positions = seen.floats or [], seen.facts.dims, seen.positions
    shape = arrays[0].shape
    axes = [map_channels(shape)] if len(shape) >= 4 else [1, len(shape) - 1]
    found = []
    for axis in dict.fromkeys(axes):
        if not 0 < axis < len(shape) or axis in positions or not 2 <= shape[axis] <= _MOST_CHANNELS:
            continue
        named = dims is not None and len(dims) == len(shape) and isinstance(dims[axis], str)
        if not named and all(y.ndim == len(shape) and y.shape[axis] == shape[axis] for y in arrays):
            found.append(axis)
    return found


def _ratio(rows: Float64) -> float:
    """Of the largest size of a channel to the smallest that is not zero."""
    power = np.sum(rows**2, axis=0)
    known = power[power > 0]
    return float(np.sqrt(known.max() / known.min())) if len(known) > 1 else 1.0


def _stand_still(rows: Float64) -> bool:
    """Whether channels move by less than a tenth of their size, though not about one common mean."""
    if len(rows) < _FEWEST_ROWS:
        return False
    least = float(np.sqrt(np.mean(rows**2))) / _APART
    return 0 < float(np.sqrt(np.mean(rows.var(axis=0)))) < least <= float(rows.std())


@dataclass(frozen=True, eq=False)
class LearnedScales:
    """Scales, and the mean over the samples of Σ((y − centre)/scale)² by field."""

    scales: Scales
    power: Float64


def learned_scales(rows: Sequence[Float64], kept: Sequence[Kept | None] = ()) -> LearnedScales:
    """Scales of channels from values, batch by batch.

    Args:
        rows: The values, [samples, rows, channels].
        kept: Which rows are no padding, [samples, rows]; None where all are.
    """
    padding = kept or [None] * len(rows)
    parts = zip(rows, padding, strict=True)
    values = np.concatenate([y.reshape(-1, y.shape[-1]) if real is None else y[real] for y, real in parts])
    values = values if len(values) else np.zeros((1, rows[0].shape[-1]))  # all of it is padding
    samples = sum(map(len, rows))
    mean, square = values.mean(axis=0), np.mean(values**2, axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    size = np.sqrt(square)
    several = len(size) > 1
    # A channel that hardly varies about its mean (a temperature in kelvin) is relative to how much it does vary.
    steady = (size > _APART * deviation) & (deviation > 0) & (len(values) > 1)
    own = np.where(steady, np.maximum(deviation, _LEAST_SPREAD * size), size)
    field = _fields(size) if several else np.zeros(1, np.int64)
    scale = _floored(own, field) if several else np.where(steady, own, 1.0)
    centre = np.where(steady, mean, 0.0)
    away = np.abs(values - mean)
    far = _FAR * deviation
    rare = 0 < float(np.mean(away > far)) <= _RARE
    power = ((values - centre) / scale) ** 2
    by_field = np.array([power[:, field == number].sum() for number in range(int(field.max()) + 1)]) / max(samples, 1)
    return LearnedScales(Scales(centre, scale, field, mean, far if rare else np.full(len(far), np.inf)), by_field)


def _fields(size: Float64) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Channels in groups: in order of size, a new one begins where the next is more than ten times as large."""
    order = np.argsort(size, kind="stable")
    ordered = np.maximum(size[order], 1e-300)
    starts = np.concatenate([[False], ordered[1:] > _APART * ordered[:-1]])
    starts[1:] &= size[order][:-1] > 0  # channels that are always zero go with the smallest that are not
    field = np.zeros(len(size), np.int64)
    field[order] = np.cumsum(starts)
    return field


def _floored(own: Float64, field: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Float64:
    """No channel is taken to be smaller than a tenth of its field: what hardly ever fires is all noise."""
    scale = own.copy()
    for number in range(int(field.max()) + 1):
        members = field == number
        typical = float(np.sqrt(np.mean(own[members] ** 2)))
        scale[members] = np.maximum(own[members], typical / _APART if typical > 0 else 1.0)
    return scale
