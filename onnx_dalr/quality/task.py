"""What a model's outputs are, and with that what is scored: every output by a measure of its own kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.quality.measures import Classes, Dense, Embedding, Measure, Numbers, Values
from onnx_dalr.quality.score import UserScore

TaskName = Literal["auto", "classify", "regress", "embed"]
TaskKind = Literal["classify", "regress", "embed"]
_TASK_KINDS: dict[type[Measure], TaskKind] = {
    Classes: "classify",
    Dense: "classify",
    Values: "classify",
    Embedding: "embed",
    Numbers: "regress",
}


@dataclass(frozen=True, eq=False)
class Measured:
    """One output and its measure.

    Attributes:
        name: Of the output.
        position: Among the outputs; those of hidden tensors follow the model's own.
        measure: What it is measured by.
        counts: It is part of the model's loss. Others are reported.
        why: How its kind was found out, or why it does not count.
        hidden: It is a tensor inside the model that stands for class numbers: it has gradients, they have none. Looked
            at while forms are chosen, never in the report, which is of the file on disk.
        tensor: It is one; a map of class probabilities by name has no gradients either.
        padded: The samples' mask goes over it where their shapes fit; not where an axis of it is as long by chance.
        whole: It has no row per sample: a batch counts as one.
    """

    name: str
    position: int
    measure: Measure
    counts: bool = True
    why: str = ""
    hidden: bool = False
    tensor: bool = True
    padded: bool = True
    whole: bool = False

    def samples(self, count: int) -> int | None:
        """How many samples of a batch it has rows of; None where the batch counts as one."""
        return None if self.whole else count

    @property
    def has_gradients(self) -> bool:
        """Whether gradients can start from it."""
        return self.tensor and not isinstance(self.measure, Values)

    def __str__(self) -> str:
        return f"output {self.name!r}: {self.measure.describes} ({self.why})"


@dataclass(frozen=True, eq=False)
class Task:
    """What the model is for: the measures of its outputs. The model's loss is the worst of those that count.

    Attributes:
        measured: In the order of the outputs, hidden ones last.
        labelled: Position of the output that labels are of; None where they fit none.
        score: The user's own score, in place of the measures' losses; None without.
        complete: Every sample is a complete feed, whose outputs such a score sees each as a whole.
    """

    measured: tuple[Measured, ...]
    labelled: int | None = None
    score: UserScore | None = field(default=None, repr=False)
    complete: bool = field(default=False, repr=False)

    @property
    def main(self) -> Measured:
        """The first output that counts."""
        return next((one for one in self.measured if one.counts and not one.hidden), self.measured[0])

    @property
    def kind(self) -> TaskKind:
        """Of the main output, as `--task` has it."""
        return _TASK_KINDS[type(self.main.measure)]

    @property
    def hidden(self) -> tuple[str, ...]:
        """Tensors inside the model that are looked at too while forms are chosen."""
        return tuple(one.name for one in self.measured if one.hidden)

    @property
    def seeded(self) -> tuple[Measured, ...]:
        """What gradients start from: everything that counts and has any."""
        return tuple(one for one in self.measured if one.counts and one.has_gradients)

    @property
    def summary(self) -> str:
        """What the gradients are of: statistics add up where it is the same."""
        return ", ".join(f"{one.measure.kind} of {one.name}" for one in self.seeded)

    @property
    def takes_labels(self) -> bool:
        """Whether labels can be used."""
        return self.labelled is not None or self.score is not None


def output_array(y: Any) -> np.ndarray[Any, Any] | None:
    """An output as an array; None for other sequences and maps than class probabilities by name (ZipMap)."""
    if isinstance(y, np.ndarray):
        return y
    if isinstance(y, list) and y and all(isinstance(one, dict) for one in y) and len({tuple(one) for one in y}) == 1:
        return np.array([[float(value) for value in one.values()] for one in y], dtype=np.float64)
    if isinstance(y, list) and y and all(isinstance(one, np.ndarray) for one in y):
        flat = np.concatenate([one.reshape(-1) for one in y])
        return flat if flat.size else None
    return None


def nothing_to_compare() -> InputError:
    """The error of a model that gives nothing to compare."""
    return InputError(
        "the model has no numeric output to compare on these samples",
        "--holdout 0 with --rank or --params compresses without measuring",
    )
