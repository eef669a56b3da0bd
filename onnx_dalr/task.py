"""What a model is for, found out from what it says on a few samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.score import UserScore

TaskName = Literal["auto", "classify", "regress", "embed"]
Float64 = NDArray[np.float64]
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Task:
    """What the model is for, which says what its score is.

    Attributes:
        kind: "classify", "regress" or "embed".
        output: Position of the output that is scored; None where all are (regress).
        why: How it was found out.
        score: The user's own score, in place of the task's; None without.
        complete: Every sample is a complete feed, whose outputs such a score sees each as a whole.
    """

    kind: Literal["classify", "regress", "embed"]
    output: int | None
    why: str
    score: UserScore | None = field(default=None, repr=False)
    complete: bool = field(default=False, repr=False)


def find_task(
    name: TaskName,
    outputs: Sequence[Any],
    classes: int,
    score: UserScore | None = None,
    complete: bool = False,
) -> Task:
    """What the model is for, from its outputs on a few samples.

    auto says classify where the rows of an output are non-negative and sum to 1, or an output's last axis is as long
    as there are class folders or labels; embed where the rows of a 2-D output have unit length; else regress.

    Args:
        name: What the user says.
        outputs: Of the original, on one batch.
        classes: Number of classes the samples come in, 0 where unknown.
        score: The user's own; the task then only says which figures go beside it.
        complete: The samples are complete feeds.

    Raises:
        InputError: classify or embed is asked for and no output fits; no output is numeric.
    """
    if not any(map(is_numeric, outputs)):
        raise nothing_to_compare()
    return replace(_find(name, outputs, classes), score=score, complete=complete)


def _find(name: TaskName, outputs: Sequence[Any], classes: int) -> Task:
    rows = {i: y.astype(np.float64) for i, y in enumerate(outputs) if _is_float(y) and y.ndim >= 2 and y.size}
    if name in ("auto", "classify"):
        found = _classification(name, rows, classes)
        if found is not None:
            return found
    if name in ("auto", "embed"):
        for i, y in rows.items():
            unit = y.ndim == 2 and y.shape[-1] >= 2 and np.allclose(np.linalg.norm(y, axis=-1), 1, atol=1e-3)
            if unit or name == "embed":
                return Task("embed", i, "as asked" if name == "embed" else "outputs have unit length")
        if name == "embed":
            raise InputError("--task embed: no output has rows of numbers", "use --task regress")
    if name == "regress":
        return Task("regress", None, "as asked")
    return Task(
        "regress", None, "outputs are neither classes nor unit vectors" + _could_be_classes(list(rows.values()))
    )


def _classification(name: TaskName, rows: dict[int, Float64], classes: int) -> Task | None:
    """The output with the classes on its last axis: as many as the samples have, or probabilities; else as asked."""
    wide = {i: y for i, y in rows.items() if y.shape[-1] >= 2}
    for i, y in wide.items():
        if classes >= 2 and y.shape[-1] == classes:
            return Task("classify", i, "as many outputs as classes")
    for i, y in wide.items():
        if are_probabilities(y):
            return Task("classify", i, "outputs are probabilities")
    if name != "classify":
        return None
    if not wide:
        raise InputError("--task classify: no output has classes on its last axis", "use --task regress")
    return Task("classify", next(iter(wide)), "as asked")


def _could_be_classes(outputs: list[Float64]) -> str:
    """A hint where there is a single output of a classifier's shape."""
    if len(outputs) == 1 and outputs[0].ndim == 2 and 2 <= outputs[0].shape[-1] <= _MOST_CLASSES:
        return "; if they are class scores, say --task classify"
    return ""


def is_numeric(y: Any) -> bool:
    """Whether an output is an array of numbers."""
    return isinstance(y, np.ndarray) and y.dtype.kind in "fiub"


def _is_float(y: Any) -> bool:
    return isinstance(y, np.ndarray) and y.dtype.kind == "f"


def are_probabilities(y: Float64) -> bool:
    """Whether the rows of an output are non-negative and sum to 1."""
    return bool((y >= 0).all() and np.allclose(y.sum(axis=-1), 1, atol=1e-3))


def nothing_to_compare() -> InputError:
    """The error of a model that gives no numbers."""
    return InputError(
        "the model has no numeric output to compare on these samples",
        "--holdout 0 with --rank or --params compresses without measuring",
    )
