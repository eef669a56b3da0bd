"""The one result object: its text is the table, its JSON has the same facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_dalr.choose.spectrum import Spectrum
from onnx_dalr.factorize.form import Form
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.plan.choice import Point
from onnx_dalr.quality.evaluate import Latency, Quality
from onnx_dalr.quality.memory import Memory
from onnx_dalr.quality.promise import Promise
from onnx_dalr.results.json import to_json
from onnx_dalr.samples.sets import SampleSets
from onnx_dalr.shown import Shown
from onnx_dalr.tune.tuning import Tuning
from onnx_dalr.units import format_change


@dataclass(frozen=True)
class LayerResult:
    """One Layer before and after.

    Attributes:
        name: Layer name.
        weight: Name of its weight in the original.
        op: Operator.
        nodes: Names of the nodes that use it.
        m: Outputs.
        n: Inputs.
        rank: New rank, or None where it stayed as it is or its form has none or several.
        form: What it became.
        break_even: The largest rank that saves parameters.
        params_before: Parameters of the weight.
        params_after: Parameters of the factors and what the bias grew by.
        bytes_before: Bytes of the weight.
        bytes_after: Bytes of what takes its place.
        method: Factorization that was used, None where it stayed as it is.
        calibration_error: √(Σ‖y−ŷ‖² / Σ‖y‖²) of y = W x over the fit rows.
        expected_error: √(E‖y−ŷ‖² / E‖y‖²) of y = W x to expect on unseen rows.
        expected_distortion: What this layer alone is expected to do to the network's output, in the task's unit (KL,
            1 − cosine or squared error), by its output metric; None without one.
        rows: Rows that entered the statistics.
        ridge: λ, None where the method has none or it is infinite (shrinkage 1).
        shrinkage: a, None where the method has none.
        metric_shrinkage: s of the output metric, None without one; at 1 it has no say.
        reason: Why this form.
        spectrum: What its output would lose at other sizes, a few points of it; not in JSON.
    """

    name: str
    weight: str
    op: str
    nodes: tuple[str, ...]
    m: int
    n: int
    rank: int | None
    form: Form
    break_even: int
    params_before: int
    params_after: int
    bytes_before: int
    bytes_after: int
    method: str | None
    calibration_error: float | None
    expected_error: float | None
    expected_distortion: float | None
    rows: int
    ridge: float | None
    shrinkage: float | None
    metric_shrinkage: float | None
    reason: str
    spectrum: Spectrum | None = field(default=None, repr=False)


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """What `optimize` did.

    `str(result)` is the table; `to_json()` the same facts for machines.

    Attributes:
        version: Of onnx-dalr.
        input: Path of the original, None for a ModelProto.
        output: Path written, None for a dry run or a ModelProto result.
        dry_run: Nothing was written.
        method: Factorization asked for.
        factors: How far covariance and metric were trusted, "default" or what did better on the select samples, where
            a layer that got a rank had so few of them that this was a choice.
        target: What was asked for, in words.
        bytes_before: Size of the original artifact.
        bytes_after: Size of the new one.
        params_before: Numbers the original computes with, in whatever format.
        params_after: Of the new model.
        layers: Every Layer.
        skipped: Every node that looks like one and is not.
        samples: The sample sets; None where statistics came from files and no samples beside them. Where these are
            there to report on alone, fit and select are empty.
        quality: Held-out quality of the file on disk; None where nothing was held out.
        latency: Interleaved medians of both models.
        device: Device asked for.
        provider: Execution provider that really ran.
        evaluations: Candidate models scored on the select set.
        passes: Forward passes that measured what layers do to the output.
        metric_passes: Forward passes over (some of) the fit samples that the output metric was worth.
        curve: Every candidate that was scored on the select samples, the smallest first.
        seconds: Wall time by phase.
        notes: What a reader should know.
        bytes_with_formats: About the size that these forms would have with `weights="auto"`, which may find smaller
            ones still; None where formats were chosen already.
        macs_before: Multiply-adds of the original for one sample; None where not all of them are known.
        macs_after: Of the new model.
        refitted: Names of the layers that were fitted again to what the layers before them have become; their errors
            are those from before.
        tuning: What the numbers learned from the original, or why they did not; None where that was not asked for.
        command: The call that made it, as it can be made again.
        versions: Of what it was made with, by name.
        pictures: (name, PNG) of some fit samples as the model sees them, where a page was asked for; not in JSON.
        memory: Of both models in fresh processes; None where it was of no concern, or cannot be measured.
        promise: Of time, and what was measured of it on the written file; None where that was no target.
        model: The new model, where no output path was given.
    """

    version: str
    input: Path | None
    output: Path | None
    dry_run: bool
    method: str
    factors: str
    target: str
    bytes_before: int
    bytes_after: int
    params_before: int
    params_after: int
    layers: tuple[LayerResult, ...]
    skipped: tuple[Skipped, ...]
    samples: SampleSets | None
    quality: Quality | None
    latency: Latency | None
    device: str
    provider: str
    evaluations: int
    passes: int
    metric_passes: int
    curve: tuple[Point, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...]
    bytes_with_formats: int | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    refitted: tuple[str, ...] = ()
    tuning: Tuning | None = None
    memory: Memory | None = None
    promise: Promise | None = None
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    pictures: tuple[tuple[str, bytes], ...] = field(default=(), repr=False, compare=False)
    model: Any = field(default=None, repr=False, compare=False)

    def _brief(self) -> str:
        place = "dry run" if self.dry_run else self.output.name if self.output else "in memory"
        quality = self.quality.drop_in_brief if self.quality else "quality not measured"
        return f"{place}: {format_change(self.bytes_before, self.bytes_after)}, {quality}"

    def to_text(self, *, verbose: bool = False, width: int = 120) -> str:
        """The table as `str()` has it, or with more in it.

        Args:
            verbose: Also why each layer has its form, every model that was tried, and where the time went.
            width: Characters a line has.

        Returns:
            Plain text.
        """
        return self.render("text", width=width, verbose=verbose)

    def to_json(self) -> str:
        """The facts of the table, and the sample ids, as JSON text."""
        return to_json(self)
