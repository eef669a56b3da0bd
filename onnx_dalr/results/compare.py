"""What `compare` found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnx_dalr.quality.evaluate import Latency, Quality
from onnx_dalr.results.json import to_json
from onnx_dalr.shown import Shown
from onnx_dalr.units import format_change


@dataclass(frozen=True)
class ModelFacts:
    """One of the two models.

    Attributes:
        path: Path of it, None for a ModelProto.
        bytes: Size of the whole artifact.
        params: Numbers it computes with, in whatever format.
        formats: What these are stored as, and how many bytes that takes: "float32", "int8", …, the most first.
    """

    path: Path | None
    bytes: int
    params: int
    formats: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class ModelComparison(Shown):
    """What `compare` found. `str()` is the table, `to_json()` the same facts.

    Attributes:
        version: Of onnx-dalr.
        a: The model that is compared with: "before", "the original" in the figures.
        b: The other one: "after", "the new model".
        description: What the samples were read from.
        settings: Preprocessing that was applied.
        available: Samples there.
        seed: Of the choice of those used, where not all were.
        samples: Ids of those used.
        quality: B's outputs against A's, and both against the labels or the user's score.
        latency: Interleaved medians of both models.
        device: Device asked for.
        provider: Execution provider that really ran.
        notes: What a reader should know.
    """

    version: str
    a: ModelFacts
    b: ModelFacts
    description: str
    settings: dict[str, str]
    available: int
    seed: int
    samples: tuple[str, ...]
    quality: Quality
    latency: Latency
    device: str
    provider: str
    notes: tuple[str, ...]

    def _brief(self) -> str:
        a, b = (model.path.name if model.path else "in memory" for model in (self.a, self.b))
        return f"{a} → {b}: {format_change(self.a.bytes, self.b.bytes)}, {self.quality.drop_in_brief}"

    def to_json(self) -> str:
        """The facts of the table as JSON text."""
        return to_json(self)
