"""Whether a model's outputs are numbers to measure anything against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def all_finite(arrays: Sequence[Any]) -> bool:
    """Whether no floating array holds NaN or infinity."""
    return all(
        bool(np.isfinite(array).all()) for array in arrays if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    )


def not_numbers(names: Sequence[str], outputs: Sequence[Any]) -> str:
    """What a model's outputs hold that nothing can be measured against, in words; "" where all is well.

    Some infinities are no fault: a mask may be made of them.
    """
    for name, y in zip(names, outputs, strict=True):
        if isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.size:
            if np.isnan(y).any():
                return f"NaN in output {name!r}"
            if not np.isfinite(y).any():
                return f"nothing but infinity in output {name!r}"
    return ""
