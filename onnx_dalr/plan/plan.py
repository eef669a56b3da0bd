"""What was decided, layer by layer: a Plan, to look at, to save and to apply."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from onnx import ModelProto

from onnx_dalr.candidate.candidate import build
from onnx_dalr.factorize.form import KEPT, Form
from onnx_dalr.files import write_text
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import load
from onnx_dalr.learn.gathering import check_fits
from onnx_dalr.learn.learn import learn_from, looked_at_in, needs_in
from onnx_dalr.learn.statistics_set import StatisticsSet, load_statistics
from onnx_dalr.plan import file
from onnx_dalr.plan.choice import Choice, Point
from onnx_dalr.plan.course import Course
from onnx_dalr.plan.fit import check_plan, fitted_to, options_of
from onnx_dalr.progress import Silent
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.request.wording import speaks_python
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.shown import Shown


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """The decisions for all Layers of a model, in graph order.

    Attributes:
        method: Name of the factorization.
        choices: One per Layer.
        evaluations: How often a candidate model was scored on the select samples to get here.
        passes: Forward passes over a few select samples that measured what layers do to the output.
        curve: Every model that was scored, the smallest first.
        target: What was asked for, in words.
        factors: How far covariance and metric are trusted: "default", or what did better on the select samples where
            samples are few: "cautious", "no metric" or "svd-bc".
        settings: What else the factors depend on: "ridge", "shrinkage", "metric", where they are not the default.
        model: Content hash of the model it is for; None while it is being made.
        version: Of onnx-dalr.
        tuning: How its numbers were tuned to the original's answers; None where they were not.
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
    tuning: Course | None = None

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of every layer."""
        return tuple(choice.form for choice in self.choices)

    @property
    def compressed(self) -> tuple[Choice, ...]:
        """The layers that change."""
        return tuple(choice for choice in self.choices if not choice.form.untouched)

    def finished(self, model: str, settings: dict[str, str], version: str) -> Plan:
        """This plan with what it is for and what it was made with."""
        return replace(self, model=model, settings=settings, version=version)

    def _brief(self) -> str:
        ranks = f"{len(self.compressed)} of {len(self.choices)} layers get a rank"
        return f"{self.target or 'no target'}: {self.method}, {ranks}"

    def to_json(self) -> str:
        """The plan as JSON text, to be reviewed, edited, committed and applied later."""
        return file.to_json(vars(self))

    @speaks_python
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON text, in place of an older file.

        Args:
            path: Where to.

        Raises:
            InputError: It cannot be written.
        """
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
        return Plan(**file.load(path))

    @speaks_python
    @on_one_blas_thread
    def apply(
        self, model: str | os.PathLike[str] | ModelProto, *, stats: StatisticsSet | str | os.PathLike[str]
    ) -> ModelProto:
        """The model rewritten by this plan, from statistics: no sample is run, so nothing is tuned.

        Args:
            model: The model the plan was made for, path or ModelProto.
            stats: Of the layers, `analysis.stats` or the path of a file written by `save_stats`.

        Returns:
            The new model.

        Raises:
            InputError: Plan or statistics are of another model, or do not fit each other.
        """
        options = options_of(self.method, self.settings, self.choices, make_options())
        context = Context(load(model), options, Silent())
        wanted = check_plan(self.choices, self.model, context.original)
        in_one_piece = any(choice.form.format != KEPT for choice in self.choices)
        found, _ = find(context.original, in_one_piece=in_one_piece)
        layers = [layer for layer in found if layer.name in wanted]
        held = stats if isinstance(stats, StatisticsSet) else load_statistics(Path(stats))
        name = "the set of statistics" if isinstance(stats, StatisticsSet) else str(stats)
        check_fits(
            held,
            name,
            model=context.original.content_hash,
            method=options.method,
            settings=held.settings,
            layers=looked_at_in(context, layers),
            needs=partial(needs_in, context),
        )
        learned = learn_from(context, layers, held)
        choices, _ = fitted_to(self.choices, self.curve, context, layers)
        return build(context, layers, learned, [choice.form for choice in choices], self.factors).proto
