"""What every step of one run shares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.progress import Progress
from onnx_dalr.quality.times import Times
from onnx_dalr.request.options import Options
from onnx_dalr.work_dir import WorkDir

UNNAMED = "model.onnx"


@dataclass(frozen=True, eq=False)
class Context:
    """What the steps of one call of `optimize`, `analyze` or `apply` share.

    Attributes:
        original: The model as it is.
        options: How.
        progress: Where to report to.
        file: Name of the file to be written, as far as it is known: external data is referred to by it.
        macs: What the original multiplies for one sample; None where no sample is known.
        times: What the original and its layers take, where that is a target; None where it was not measured.
        seconds: Wall time by phase so far.
        notes: What a reader of the report should know, so far.
        work: Where what was done is kept for the run after this one, should it be killed; None for nowhere.
    """

    original: Model
    options: Options
    progress: Progress
    file: str = UNNAMED
    macs: MultiplyAdds | None = None
    times: Times | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    work: WorkDir | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the wall time of the block to the phase's seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
