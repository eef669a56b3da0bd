"""How far a step may move each tensor, and which tensors have gradients that are nothing but noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.tune.adam import Tensors

_NOISE = 1e-6
"""Of the largest, below which a gradient is what float32 leaves of zero: 1e-9 for the bias of attention keys, which a
softmax takes out again; 1e-3 is the least that was seen of any that mean something (methods.md §10.4)."""

_SMALL = 1e-2  # a bias of zeros where there are no others


def sizes_of(tensors: Tensors) -> dict[str, float]:
    """The rms of each tensor; of one that is all zeros that of its like, rows or larger ones, in the median."""
    found = {name: _rms(values) for name, values in tensors.items()}
    rows = [size for name, size in found.items() if size > 0 and _is_row(tensors[name])]
    others = [size for name, size in found.items() if size > 0 and not _is_row(tensors[name])]
    for name, size in found.items():
        if size == 0:
            alike = rows if _is_row(tensors[name]) else others
            found[name] = float(np.median(alike)) if alike else _SMALL
    return found


def heard(
    sizes: Mapping[str, float], gradients: Sequence[Mapping[str, NDArray[np.float32]]]
) -> tuple[dict[str, float], list[str]]:
    """The sizes without the tensors whose gradients are noise, and the names of these.

    Adam divides by the size of a gradient: it would make steps of one that is zero but for rounding.

    Args:
        sizes: By tensor.
        gradients: Of some batches.
    """
    felt = {
        name: size * max(float(np.abs(one[name]).mean(dtype=np.float64)) for one in gradients)
        for name, size in sizes.items()
    }
    finite = [value for value in felt.values() if np.isfinite(value)]
    least = _NOISE * max(finite, default=0.0)
    noise = [name for name, value in felt.items() if not value > least]
    return {name: size for name, size in sizes.items() if name not in noise}, noise


def _rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def _is_row(values: NDArray[np.float32]) -> bool:
    return bool(sum(size > 1 for size in values.shape) <= 1)
