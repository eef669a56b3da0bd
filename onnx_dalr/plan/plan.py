"""What was decided, layer by layer: a Plan, and the points of the search that led to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onnx_dalr.factorize.form import KEPT, Form
from onnx_dalr.request.wording import speaks_python
from onnx_dalr.shown import Shown

if TYPE_CHECKING:
    import os

    from onnx import ModelProto
    from rich.console import RenderableType

    from onnx_dalr.learn.statistics_set import StatisticsSet

REFUSED = "would not make it smaller"
"""In the reason of a layer that stays as it is though a form was asked for."""


def refused(form: Form, largest: int) -> str:
    """Why a layer stays as it is though a form was asked for; `largest` is the largest rank it could have."""
    if len(form.rank) == 1 and form.format == KEPT:
        return f"rank {form.rank[0]} {REFUSED}: {largest} is the largest"
    return f"{form} {REFUSED}"


@dataclass(frozen=True)
class Choice:
    """The decision for one Layer.

    Attributes:
        layer: Its name.
        form: What it becomes.
        reason: Why, in plain words.
        expected_error: √(Σ‖y−ŷ‖² / Σ‖y‖²) of the layer's output to expect in this form on unseen rows; None where it
            stays as it is or is not known.
        expected_distortion: What compressing this layer alone is expected to do to the network's output, in the task's
            unit (KL, 1 − cosine or squared error), by its output metric; None without one.
        largest_rank: The largest rank that makes the layer smaller; None where it is not known.
    """

    layer: str
    form: Form
    reason: str
    expected_error: float | None = None
    expected_distortion: float | None = None
    largest_rank: int | None = None


@dataclass(frozen=True)
class Point:
    """One whole model that was scored on the select samples: a point of the curve of size against quality.

    Attributes:
        allocation: How its forms were chosen.
        params: Its floating constants.
        bytes: Its size on disk.
        drop: Score lost against the original, as a fraction; infinite where outputs are not finite.
        error: Of the worst output.
        distortion: How far the outputs moved: KL, 1 − cosine or squared error, as the task is.
        chosen: It is the plan.
    """

    allocation: str
    params: int
    bytes: int
    drop: float
    error: float
    distortion: float
    chosen: bool = False


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """The decisions for all Layers of a model, in graph order.

    Attributes:
        method: Name of the factorization.
        choices: One per Layer.
        evaluations: How often a candidate model was scored on the select samples to get here.
        passes: Forward passes over a few select samples to measure the sensitivity of the layers.
        curve: Every model that was scored, the smallest first.
        target: What was asked for, in words.
        factors: How far covariance and metric are trusted: "default", or what did better on the select samples where
            samples are few: "cautious", "no metric" or "svd-bc".
        settings: What else the factors depend on: "ridge", "shrinkage", "metric", where they are not the default.
        model: Content hash of the model it is for; None while it is being made.
        version: Of onnx-dalr.
    """

    method: str
    choices: tuple[Choice, ...]
    evaluations: int = 0
    passes: int = 0
    curve: tuple[Point, ...] = ()
    target: str = ""
    factors: str = "default"
    settings: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    version: str = ""

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of every layer."""
        return tuple(choice.form for choice in self.choices)

    @property
    def compressed(self) -> tuple[Choice, ...]:
        """The layers that change."""
        return tuple(choice for choice in self.choices if not choice.form.untouched)

    def finished(self, model: str, settings: dict[str, str], version: str) -> Plan:
        """The same plan with what it is for."""
        return replace(self, model=model, settings=settings, version=version)

    def _view(self, width: int) -> RenderableType:
        from onnx_dalr.report.planned import plan_view  # noqa: PLC0415 - heavy: rich

        return plan_view(self, width)

    def _brief(self) -> str:
        ranks = f"{len(self.compressed)} of {len(self.choices)} layers get a rank"
        return f"{self.target or 'no target'}: {self.method}, {ranks}"

    def to_json(self) -> str:
        """The plan as JSON text, to be reviewed, edited, committed and applied later."""
        from onnx_dalr.plan.file import to_json  # noqa: PLC0415 - reads this module

        return to_json(self)

    @speaks_python
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON text, in place of an older file.

        Args:
            path: Where to.

        Raises:
            InputError: It cannot be written.
        """
        from pathlib import Path  # noqa: PLC0415

        from onnx_dalr.write.destination import write_text  # noqa: PLC0415 - reads the graph room

        write_text(Path(path), self.to_json())

    @staticmethod
    @speaks_python
    def load(path: str | os.PathLike[str]) -> Plan:
        """Reads a plan file.

        Args:
            path: Of a file written by `save`, `save_plan` or `onnx-dalr analyze`.

        Returns:
            The plan, to apply.

        Raises:
            InputError: It is none; the message names the field that is wrong.
        """
        from onnx_dalr.plan.file import load  # noqa: PLC0415 - reads this module

        return load(path)

    @speaks_python
    def apply(
        self, model: str | os.PathLike[str] | ModelProto, *, stats: StatisticsSet | str | os.PathLike[str]
    ) -> ModelProto:
        """The model rewritten by this plan, from statistics: no sample is run.

        Args:
            model: The model the plan was made for, path or ModelProto.
            stats: Of the layers, `analysis.stats` or the path of a file written by `save_stats`.

        Returns:
            The new model.

        Raises:
            InputError: Plan or statistics are of another model, or do not fit each other.
        """
        from onnx_dalr.plan.fit import apply_to_proto  # noqa: PLC0415 - reads this module

        return apply_to_proto(self, model, stats)
