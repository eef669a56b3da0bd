"""A plan's model, scored on the select samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

from onnx_dalr.candidate.candidate import Candidate, build
from onnx_dalr.candidate.onward import Runner
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import Trial
from onnx_dalr.graph.storage.model import saved_size
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import LOADING, SCORING, numbered
from onnx_dalr.quality.evaluate import Quality, Recalled, Runs, Task, evaluate
from onnx_dalr.request.context import Context
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import Sets
from onnx_dalr.units import format_bytes


class Scoring:
    """Scores models on the select samples; the original is run on them once."""

    def __init__(self, context: Context, space: SearchSpace, sets: Sets, task: Task, most: int) -> None:
        """Loads the original.

        Args:
            context: Of the run.
            space: The layers, and what was learned of them.
            sets: Of which the select samples are run.
            task: What the outputs are.
            most: So many models are going to be scored at most, which progress tells.
        """
        self._context, self._space, self._sets, self._task, self._most = context, space, sets, task, most
        with context.progress.stage(LOADING, None) as advance:
            self._runner = Runner(context, space.layers, sets, task, advance)
        self._numbers, self._last = itertools.count(1), ""

    def __call__(self, plan: Plan) -> Trial:
        """A plan's model."""
        number = next(self._numbers)
        stage = numbered(SCORING, number, max(number, self._most))
        self._tell(plan)
        with self._context.progress.stage(stage, len(self._sets.select)) as advance:
            learned = self._space.learned
            assert learned is not None
            made = build(self._context, self._space.layers, learned, plan.forms, plan.factors, swept=False)
            return self._scored([made], advance, "tried")

    def _tell(self, plan: Plan) -> None:
        """What is tried, and what came of the one before."""
        tried = (
            f"{100 * self._space.params_at(list(plan.forms)) / self._context.original.params:.1f} % of the parameters"
        )
        self._context.progress.about(tried + self._last, tried)

    def candidate(self, made: Candidate) -> Trial:
        """A model that is made already."""
        return self._scored([made], lambda count: None, "tuned")

    def _scored(self, holder: list[Candidate], advance: Callable[[int], None], how: str) -> Trial:
        context, confidence = self._context, self._space.target.confidence
        made = holder.pop()
        proto, params = made.proto, made.params
        del made
        size = saved_size(proto, context.original, context.file)
        runs = self._runner.open(proto)
        del proto  # of a large model, not while it runs
        wanted = confidence is not None
        quality = compared(self._runner.reference, runs, self._sets, self._task, advance, intervals=wanted)
        drop = quality.drop.value if quality.finite else math.inf
        self._last = f", the last one lost {100 * drop:.2f} points" if quality.finite else ", the last one gave NaN"
        context.progress.detail(
            f"{how} {params:,} parameters ({100 * params / context.original.params:.1f} %, {format_bytes(size)}): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        return trial_of(quality, size, confidence)


def compared(
    reference: Recalled,
    candidate: Runs,
    sets: Sets,
    task: Task,
    advance: Callable[[int], None] = lambda count: None,
    *,
    intervals: bool = False,
) -> Quality:
    """A candidate and the original on the select samples, which the reference holds."""
    return evaluate(
        reference,
        candidate,
        reference,
        task,
        sets.select.labels,
        advance,
        intervals=intervals,
        padding=partial(kept_in, name=sets.mask_input),
    )


def trial_of(quality: Quality, size: int, confidence: float | None = None) -> Trial:
    """What of a comparison decides between candidates; `size` is the artifact's, in bytes."""
    if not quality.finite:
        return Trial(math.inf, math.inf, math.inf, size, (), "", math.inf, math.inf)
    bounds: tuple[float | None, float | None] = (None, None)
    if confidence is not None:
        bounds = quality.drop_bound(confidence), quality.error_bound(confidence)
    several = sum(output.counts for output in quality.outputs) > 1
    worst = (quality.worst or "") if several else ""
    error = quality.error.value
    return Trial(quality.drop.value, quality.distortion, error, size, quality.distortions, worst, *bounds)
