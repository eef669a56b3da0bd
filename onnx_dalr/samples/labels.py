"""Class labels that come in a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.samples.arrays import as_array, load_npy
from onnx_dalr.samples.files import check_regular, printable


def read_labels(path: Path, count: int) -> NDArray[np.int64]:
    """Reads one class index per sample, in the order of the samples.

    Args:
        path: A `.npy` of integers, or a `.txt` or `.csv` with one integer per line.
        count: Number of samples.

    Returns:
        int64 [count].

    Raises:
        InputError: No such file, not integers, negative numbers, or not as many as samples.
    """
    suffix = path.suffix.lower()
    check_regular(path)
    try:
        if suffix == ".npy":
            return check_labels(load_npy(path), count, str(path))
        if suffix in (".txt", ".csv"):
            return check_labels(_lines(path), count, str(path))
    except OSError as error:
        raise InputError(
            f"{path}: the labels cannot be read: {error.strerror or error}",
            "give the path of a .npy, .txt or .csv file",
        ) from error
    raise InputError(
        f"{path}: labels cannot be read from a '{path.suffix}' file",
        "give a .npy of integers, or a .txt or .csv with one integer per line",
    )


def check_labels(labels: object, count: int, where: str = "labels") -> NDArray[np.int64]:
    """Returns labels as int64 [count].

    Raises:
        InputError: Not integers, negative numbers, or not as many as samples.
    """
    array = as_array(labels, where)
    if array.size == 0:
        array = np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"{where}: labels must be one integer per sample, not {array.dtype} of shape {list(array.shape)}",
            "class indices start at 0",
        )
    if len(array) != count:
        raise InputError(
            f"{where}: {len(array)} labels for {count} samples", "give one label per sample, in their order"
        )
    if len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{where}: label {int(array.max())} is too large", "class indices start at 0")
    if len(array) and int(array.min()) < 0:
        raise InputError(f"{where}: label {int(array.min())} is negative", "class indices start at 0")
    return array.astype(np.int64)


def _lines(path: Path) -> list[int]:
    """The integers of a text file, one per line; empty lines are passed over."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not a text file", "give one integer per line") from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            labels.append(int(line))
        except ValueError as error:
            raise InputError(
                f"{path}: line {number} is not an integer: '{printable(line[:40])}'", "give one per line"
            ) from error
    return labels
