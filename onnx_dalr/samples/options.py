"""Where the samples of a run come from and how they are divided, as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.samples.images.settings import ImageSettings
from onnx_dalr.samples.labels import GivenLabels

DEFAULT_BATCH = 32


@dataclass(frozen=True, eq=False)
class SampleOptions:
    """Where the samples come from and how they are divided. See `optimize` for the meaning of each."""

    calib: Any
    eval: Any = None
    eval_labels: GivenLabels | None = None
    labels: GivenLabels | None = None
    samples: int | None = None
    seed: int = 0
    batch_size: int | None = None
    holdout: float = 0.3
    mask_input: str | None = None
    image: ImageSettings = field(default_factory=ImageSettings)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size} must be at least 1", "leave it out for 32")
        for option, given, of in (("--labels", self.labels, "calib"), ("--eval-labels", self.eval_labels, "eval")):
            if given is not None and getattr(self, of) is None:
                raise InputError(f"{option} is given and no samples that it is for", f"give --{of}, or leave it out")
