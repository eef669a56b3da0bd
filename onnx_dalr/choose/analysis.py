"""A model and what samples say of it: what plans are made from."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from onnx_dalr._version import __version__
from onnx_dalr.choose.decide import decide
from onnx_dalr.choose.deeper import Deeper
from onnx_dalr.choose.feasible import check_confidence, check_target
from onnx_dalr.choose.in_time import timed
from onnx_dalr.graph.layers import Layer, Skipped
from onnx_dalr.learn.learn import Learned
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.plan.plan import Plan
from onnx_dalr.quality.evaluate import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import check_ranks
from onnx_dalr.request.target import Target, make_target
from onnx_dalr.request.wording import speaks_python, told_to
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.shown import Shown


class Analysis(Shown):
    """A model, and what the samples of the target domain say of its layers.

    It holds the samples open for the plans to come: close it, use it in a `with`, or let it go.

    Attributes:
        context: What the run shares.
        layers: The layers that take part.
        skipped: Nodes that look like one and do not.
        sets: The samples, None where statistics came from files alone; `sets.only_report` where beside them there are
            samples to measure quality on and no others.
        learned: What the fit samples taught.
        task: What the model is for; None without samples.
        provider: The execution provider that ran it, "none" where nothing ran.
        deeper: How models smaller than that of the last plan would be made; None where its target is no tolerance.
    """

    def __init__(
        self,
        context: Context,
        layers: Sequence[Layer],
        skipped: Sequence[Skipped],
        sets: Sets | None,
        learned: Learned,
        task: Task | None,
        provider: str,
        settings: dict[str, str],
        checked: Target | None = None,
    ) -> None:
        self.context, self.layers = context, list(layers)
        self.skipped = [told_to(context.progress, one) for one in skipped]
        self.sets, self.learned, self.task, self.provider = sets, learned, task, provider
        self._settings, self._checked = settings, checked
        self.deeper: Deeper | None = None
        self._closing: weakref.finalize[Any, Any] | None = None

    @speaks_python
    @on_one_blas_thread
    def plan(
        self,
        *,
        rank: int | str | Sequence[int | str] | None = None,
        size: str | float | None = None,
        params: str | float | None = None,
        macs: str | float | None = None,
        latency: str | float | None = None,
        max_drop: str | float | None = None,
        max_error: str | float | None = None,
        energy: str | float | None = None,
        rank_multiple: int = 1,
        min_rank: int = 1,
        confidence: str | float | None = None,
        best_effort: bool = False,
    ) -> Plan:
        """The plan for a target: one of those of `optimize`, `max_drop=0.01` where none is given.

        Args:
            rank: Target: a rank for every layer, or "GLOB=64" for some (one or a list); beside another target,
                "GLOB=64" and "GLOB=keep" pin single layers.
            size: Target: bytes on disk of the whole artifact, "12MB", "40%" or a number.
            params: Target: parameters of the whole model, "6M", "40%" or a number.
            macs: Target: multiply-adds of the whole model for one sample, "300M", "50%" or a number.
            latency: Target: time of a run on one sample, "50%" or 0.5 of what the original takes here; it is measured.
            max_drop: Target: score that may be lost, "1%" or 0.01. The default target, with 1 %.
            max_error: Target: relative error of the worst output, 0.02.
            energy: Target: share of each layer's own output variance to keep, 0.99 (LRDKT's rule).
            rank_multiple: Choose ranks that are multiples of it.
            min_rank: Choose no rank below it.
            confidence: Hold `max_drop` or `max_error` with this confidence, "95%" or 0.95, not just on the samples.
            best_effort: Where the target cannot be met, take the closest model there is, with a note.

        Returns:
            The plan, to look at, to save and to apply.

        Raises:
            InputError: The target cannot be read, or there is nothing to measure it on (exit code 2).
            TargetError: It cannot be met (3).
            NothingToGainError: No layer can be made smaller (5).
        """
        given = dict(locals())
        del given["self"]
        return self.plan_for(make_target(**given))

    def plan_for(self, target: Target) -> Plan:
        """The plan for a Target that is made already; see `plan`."""
        check_ranks(target, self.layers, self.skipped)
        self.context = timed(self.context, target, self.layers, self.sets)
        if target != self._checked:  # which these layers and samples were held against before the work
            if self.sets is not None:
                check_confidence(target, self.task, self.sets)
            has_select = self.sets is not None and self.task is not None and len(self.sets.select) > 0
            check_target(self.context, target, self.layers, select=has_select)
        # Ranks that are asked for, and one name of factors: there is nothing to choose, and no model to score for it.
        asked = target.name == "rank" and len(self.learned.by_factors) == 1
        sets = None if asked else self.sets
        plan, self.deeper = decide(self.context, target, self.layers, self.learned, sets, self.task)
        return plan.finished(self.context.original.content_hash, self.context.options.described(), __version__)

    def forget(self) -> None:
        """Lets go of what was learned; no plan can be made any more."""
        self.learned, self.deeper = Learned({}, {}, frozenset(), {}, 0, ()), None

    @property
    def stats(self) -> StatisticsSet:
        """The statistics behind it, to apply plans with, to save and to add up with those of other samples."""
        return StatisticsSet(
            model=self.context.original.content_hash,
            method=self.context.options.method.name,
            settings=self._settings,
            version=__version__,
            samples=self.learned.digests,
            layers=self.learned.statistics,
            notes=self.learned.notes,
        )

    def _brief(self) -> str:
        path, fitted = self.context.original.path, len(self.learned.digests)
        layers = f"{len(self.layers)} layers, {len(self.skipped)} skipped"
        return (
            f"{path.name if path else 'in memory'}: {layers}; {self.context.options.method.name} from {fitted} samples"
        )

    def close(self) -> None:
        """Lets go of the samples."""
        if self._closing is not None:
            self._closing()

    def closed_by(self, stack: ExitStack) -> Analysis:
        """This analysis, which closes what the stack holds when it is closed or let go."""
        self._closing = weakref.finalize(self, stack.close)
        return self

    def __enter__(self) -> Analysis:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
