"""What two models take of memory when they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_dalr.samples.base import Batch
from onnx_dalr.session.memory import memory_available
from onnx_dalr.session.resident import resident

_MORE = 1.1
_NOTICEABLE = 10_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes that are resident once a model is loaded and has run once, each in a fresh process of its own.

    What the process held before, ONNX Runtime and the batch, is not among them.

    Attributes:
        before: The original.
        after: The new model.
        batch: Samples in the batch they ran on.
    """

    before: int
    after: int
    batch: int

    @property
    def grows(self) -> bool:
        """Whether the new model takes more, by more than two measurements of one model differ."""
        return self.after > max(_MORE * self.before, self.before + _NOTICEABLE)


def measure_memory(
    original: Path | bytes, new: Path, batch: Batch, count: int, libraries: Sequence[Path] = ()
) -> Memory | None:
    """Loads and runs both on the CPU, one after the other; None where the system does not let it be measured."""
    taken = []
    for model in (original, new):
        found = resident(model, batch, libraries, memory_available())
        if found is None:
            return None
        taken.append(found)
    before, after = taken
    return Memory(before, after, count)
