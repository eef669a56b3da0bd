"""What every step of one run shares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from onnx_dalr.graph.model import Model
from onnx_dalr.options import Options
from onnx_dalr.plan import Target
from onnx_dalr.progress import Progress


@dataclass(frozen=True, eq=False)
class Run:
    """One call of `optimize`.

    Attributes:
        original: The model as it is.
        target: What was asked for.
        options: How.
        progress: Where to report to.
        seconds: Wall time by phase so far.
        notes: What a reader of the report should know, so far.
    """

    original: Model
    target: Target
    options: Options
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the wall time of the block to the phase's seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
