"""From the user's element type to the model's: silent only where no value changes its meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import Array, InputSpec
from onnx_dalr.samples.masks import is_additive

_TEXT = "OUS"
_NUMBERS = "biuf"


def check_kind(dtype: np.dtype[Any], spec: InputSpec, where: str) -> None:
    """Refuses element types that no values could make fit: text for numbers, Python objects, records.

    Args:
        dtype: Element type of the user's array.
        spec: The input it is for.
        where: Where the array comes from, for the message.

    Raises:
        InputError: Values of `dtype` can never feed the input.
    """
    if spec.dtype.kind in _TEXT:
        fits = dtype.kind in _TEXT
    elif spec.dtype.kind == "c":
        fits = dtype.kind in _NUMBERS + "c"
    else:
        fits = dtype.kind in _NUMBERS or dtype == spec.dtype
    if not fits:
        raise InputError(f"{where}: {dtype} values cannot feed the input {spec}", f"give {spec.dtype.name} values")


def to_model_dtype(array: Array, spec: InputSpec, where: str) -> Array:
    """Returns the array in the element type of the model, C-contiguous, of the same shape.

    Floats may lose digits (float64 → float32) but not become infinite; every other change of type must keep
    each value exactly.

    Args:
        array: Values of one sample or feed.
        spec: The input they are for.
        where: The sample, for the message ("calib.npz[17]").

    Raises:
        InputError: NaN, infinity anywhere but in an additive mask, or a value the model's type cannot hold.
    """
    check_kind(array.dtype, spec, where)
    if spec.dtype.kind in _TEXT:
        text = array.astype(np.str_) if array.dtype.kind == "S" else array
        return np.asarray(text, dtype=spec.dtype, order="C")
    _check_finite(array, spec, where)
    if array.dtype == spec.dtype:
        return np.asarray(array, order="C")
    with np.errstate(all="ignore"):
        cast = np.asarray(array, dtype=spec.dtype, order="C")
    if not _keeps_values(array, cast):
        raise InputError(
            f"{where}: the {array.dtype} values for the input {spec} do not fit into {spec.dtype.name}",
            f"the values run from {array.min()} to {array.max()}: round, scale or cast them yourself "
            f"if {spec.dtype.name} is what you want",
        )
    return cast


def _check_finite(array: Array, spec: InputSpec, where: str) -> None:
    """Raises InputError at NaN or infinity; −∞ is what some additive masks hold."""
    if array.dtype.kind in "biu":
        return
    finite = np.isfinite(array)
    may_be_mask = array.dtype.kind == spec.dtype.kind == "f" and array.size > 1
    if not finite.all() and not (may_be_mask and is_additive(array)):
        bad = array[~finite].ravel()
        what = "NaN" if np.isnan(bad).any() else "infinity"
        raise InputError(
            f"{where}: the values for the input '{spec.name}' hold {what} ({bad.size} of {array.size})",
            "remove or repair this sample",
        )


def _keeps_values(array: Array, cast: Array) -> bool:
    """Whether the cast kept the values; between floats, whether it kept them finite."""
    if array.size == 0:
        return True
    if cast.dtype.kind in "iu" and array.dtype.kind != "b":
        limits = np.iinfo(cast.dtype)
        inside = int(array.min()) >= limits.min and int(array.max()) <= limits.max
        return inside and bool((cast == array).all())
    if cast.dtype.kind == "b" or array.dtype.kind in "iu":
        with np.errstate(all="ignore"):
            return bool(np.isfinite(cast).all()) and bool((cast.astype(array.dtype) == array).all())
    return bool((np.isfinite(cast) | (cast == array)).all())
