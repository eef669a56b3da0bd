"""What `compare` found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnx_dalr.quality.drift import Drift
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
        macs: Multiply-adds for one sample; None where not all of them are known.
    """

    path: Path | None
    bytes: int
    params: int
    formats: dict[str, int] = field(default_factory=dict)
    macs: int | None = None


@dataclass(frozen=True)
class WorstSample:
    """A sample on which B differs most from A.

    Attributes:
        id: Its name: the path of an image in its folder, or where in an array it is.
        output: The output that lost most on it.
        loss: What the score loses on it: 1 for an answer that stayed right, or the same, in A alone; of dense
            predictions what is lost of their overlap or their probabilities; of numbers the error of this sample; of a
            score of the user's own what it gives by sample.
        distortion: How far its outputs moved: KL, 1 − cosine, squared relative error.
        a: What A says, where that is one answer: the name of its class, or else its number; or the one number it gives.
        b: What B says.
        label: What is right, where labels say so.
        finite: B gives no NaN or infinity on it where A does not.
        thumbnail: The sample as the model sees it, a small PNG; None where it is no picture. Not in reports of facts.
    """

    id: str
    output: str
    loss: float
    distortion: float
    a: str | None = None
    b: str | None = None
    label: str | None = None
    finite: bool = True
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)


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
        worst: The samples on which B differs most, the worst first.
        drift: Which tensors inside differ; None where that was not asked for.
        command: The call that made it, as it can be made again.
        versions: Of what it was made with, by name.
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
    worst: tuple[WorstSample, ...] = ()
    drift: Drift | None = None
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def _brief(self) -> str:
        a, b = (model.path.name if model.path else "in memory" for model in (self.a, self.b))
        return f"{a} → {b}: {format_change(self.a.bytes, self.b.bytes)}, {self.quality.drop_in_brief}"

    def to_json(self) -> str:
        """The facts of the table as JSON text."""
        return to_json(self)
