"""Fields of stored statistics, taken out one by one: each says what is wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64


def take(fields: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Float64:
    """Takes a copy of an array of numbers of this shape out of the fields."""
    if name not in fields:
        raise ValueError(f"field {name!r} is missing")
    array = np.asarray(fields.pop(name))
    if array.shape != shape:
        raise ValueError(f"field {name!r} has the shape {list(array.shape)}, not {list(shape)}")
    if (array.dtype.kind, array.dtype.itemsize) != ("f", 8):
        raise ValueError(f"field {name!r} holds {array.dtype}, not float64")
    return np.array(array, np.float64, order="C")


def take_integer(fields: dict[str, NDArray[Any]], name: str) -> int:
    """Takes a number that counts something out of the fields."""
    if name not in fields:
        raise ValueError(f"field {name!r} is missing")
    array = np.asarray(fields.pop(name))
    if array.shape != () or array.dtype.kind not in "iu" or array < 0:
        raise ValueError(f"field {name!r} is not a whole number of 0 or more")
    return int(array)
