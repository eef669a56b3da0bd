"""Items of loaders that were made for training: pairs (x, y), of which y is labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.samples.arrays.stored import as_array
from onnx_dalr.samples.base import InputSpec
from onnx_dalr.samples.labels import check_labels

Integers = NDArray[np.integer[Any]]


def as_pair(item: object, specs: Sequence[InputSpec], where: str) -> tuple[object, Integers | None]:
    """Takes an item apart into what feeds the model and labels.

    A pair is a tuple or list of two: what feeds the model (a dict, or for a model with one input an array), and
    integers, or one for a single sample.

    Args:
        item: What an iterable gave.
        specs: The model's inputs.
        where: Which item it is, for messages.

    Returns:
        (what feeds the model, labels of any shape); (item, None) for what is no pair.
    """
    if not isinstance(item, list | tuple) or len(item) != 2:
        return item, None
    fed, labels = item
    rows = isinstance(fed, list | tuple)
    feeds = isinstance(fed, Mapping) or (len(specs) == 1 and (rows or hasattr(fed, "__array__")))
    # Two lists of numbers are the rows of one array.
    counts = isinstance(labels, Integral) or hasattr(labels, "__array__") or (isinstance(labels, list) and not rows)
    if not feeds or not counts:
        return item, None
    found = as_array(labels, f"{where}: its labels")
    single = not isinstance(fed, Mapping | list | tuple) and as_array(fed, where).ndim == 0
    if found.dtype.kind not in "iu" or single or (rows and found.ndim > 0):
        return item, None
    return fed, found


def joined_labels(parts: Sequence[Integers], counts: Sequence[int] | None, name: str) -> NDArray[np.int64]:
    """The labels of all pairs, in the order of the samples.

    Args:
        parts: The labels of each item.
        counts: Samples in each item; None where each item is one sample: a complete feed, or one without axis 0.
        name: What the samples are called in messages.

    Returns:
        int64 [samples] or [samples, …].

    Raises:
        InputError: Not one label per sample, or as `check_labels`.
    """
    rows: list[Integers] = []
    for number, part in enumerate(parts):
        count = 1 if counts is None else counts[number]
        # One sample may come with axis 0 and its label without.
        row = part[None] if counts is None or (part.ndim == 0 and count == 1) else part
        if row.shape[:1] != (count,):
            raise InputError(
                f"item {number} of the {name}: labels of shape {list(part.shape)} for {count} samples",
                "yield pairs of an array and one label per sample of it",
            )
        if rows and row.shape[1:] != rows[0].shape[1:]:
            raise InputError(
                f"item {number} of the {name}: its labels differ in shape from those before it: {list(row.shape[1:])} "
                f"for each sample, not {list(rows[0].shape[1:])}",
                "fill them up with -100, which says that there is no label",
            )
        rows.append(row)
    return check_labels(
        np.concatenate(rows), sum(counts) if counts is not None else len(parts), f"labels of the {name}"
    )
