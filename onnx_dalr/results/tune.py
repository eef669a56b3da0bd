"""What `tune` did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_dalr.quality.figures import Quality
from onnx_dalr.results.json import to_json
from onnx_dalr.samples.sets import SampleSets
from onnx_dalr.shown import Shown
from onnx_dalr.tune.tuning import Tuning


@dataclass(frozen=True, repr=False)
class TuneResult(Shown):
    """What a student learned from its teacher; `print(result)` is the table.

    Attributes:
        version: Of onnx-dalr.
        student: Path of the student as it was, None for a ModelProto.
        teacher: Path of the teacher, likewise.
        output: Path written, None where it is `model`.
        tuning: What it did, or why it did not.
        samples: The sample sets.
        before: What the student was worth beside the teacher on the report samples.
        after: And what the file is.
        provider: Execution provider that ran.
        notes: What a reader should know.
        model: The tuned student, where no output path was given.
    """

    version: str
    student: Path | None
    teacher: Path | None
    output: Path | None
    tuning: Tuning
    samples: SampleSets
    before: Quality
    after: Quality
    provider: str
    notes: tuple[str, ...]
    model: Any = field(default=None, repr=False, compare=False)

    def _brief(self) -> str:
        return f"{'tuned' if self.tuning.kept else 'as it was'}: {self.tuning.reason}"

    def to_json(self) -> str:
        """The facts of the table, and the sample ids, as JSON text."""
        return to_json(self)
