"""Labels that are given beside the samples: in a file of their own, or in Python as an array."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_dalr.errors import InputError, one_line
from onnx_dalr.samples.arrays.stored import as_array, load_npy
from onnx_dalr.samples.files import check_regular

NO_LABEL = -100
"""Stands where a sample, a token or a pixel has no label: what training frameworks leave out of their loss."""

GivenLabels = str | os.PathLike[str] | ArrayLike
"""How labels can be given: the path of a file, or integers."""

_FORM = f"classes count from 0; {NO_LABEL} says that there is no label; of tokens or pixels give an array [N, …]"


def labels_of(given: GivenLabels, count: int, where: str) -> NDArray[np.int64]:
    """Labels from a file or an array, whichever is given.

    Args:
        given: A path, or integers of one of the shapes that `check_labels` takes.
        count: Number of samples.
        where: What an array is called in messages.

    Returns:
        int64 [count] or [count, …].

    Raises:
        InputError: As `read_labels` and `check_labels`.
    """
    if isinstance(given, str | os.PathLike):
        return read_labels(Path(given), count)
    return check_labels(given, count, where)


def read_labels(path: Path, count: int) -> NDArray[np.int64]:
    """Reads the labels of samples, in their order.

    Args:
        path: A `.npy` of integers [N] or [N, …], or a `.txt` or `.csv` with one integer per line.
        count: Number of samples.

    Returns:
        int64 [count] or [count, …].

    Raises:
        InputError: No such file, or as `check_labels`.
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
    """Returns labels as int64: one per sample, or an array of them, one per token or pixel.

    Args:
        labels: Integers, [N] or [N, …]: classes from 0, or −100 where there is no label. A column [N, 1] is [N].
        count: Number of samples.
        where: What they are called in messages.

    Returns:
        int64 [count] or [count, …].

    Raises:
        InputError: Not integers, other negative numbers, not as many as samples, or −100 throughout.
    """
    array = as_array(labels, where)
    if array.size == 0:
        array = np.zeros(0, dtype=np.int64)
    if array.ndim == 0 or array.dtype.kind not in "iu":
        raise InputError(
            f"{where}: labels must be one integer per sample, not {array.dtype} of shape {list(array.shape)}", _FORM
        )
    if len(array) != count:
        raise InputError(
            f"{where}: {len(array)} labels for {count} samples", "give one label per sample, in their order"
        )
    if array.size == count:
        array = array.reshape(count)
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{where}: label {int(array.max())} is too large", _FORM)
    wide = array.astype(np.int64)
    lowest = int(wide.min(initial=0, where=wide != NO_LABEL))
    if lowest < 0:
        raise InputError(f"{where}: label {lowest} is negative", _FORM)
    if wide.size and int(wide.max()) == NO_LABEL:
        raise InputError(f"{where}: all labels are {NO_LABEL}, which says that there is none", "leave them out")
    return wide


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
                f"{path}: line {number} is not an integer: '{one_line(line[:40])}'", "give one per line"
            ) from error
    return labels
