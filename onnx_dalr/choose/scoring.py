"""A plan's model, scored on the select samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

from onnx_dalr.candidate.candidate import Candidate, build
from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import Trial
from onnx_dalr.graph.answers import exposing
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import LOADING, SCORING, numbered
from onnx_dalr.quality.evaluate import Quality, Recalled, Task, evaluate
from onnx_dalr.request.context import Context
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import PACKED_BELOW, Session, open_session, reference_session
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
        with context.progress.stage(LOADING, None):
            session = reference_session(context.original, context.options.runtime, task.hidden)
            self._reference, self._numbers = Recalled(session, sets.select), itertools.count(1)
            del session
            if context.original.size >= PACKED_BELOW:
                self._reference.listen()

    def __call__(self, plan: Plan) -> Trial:
        """A plan's model."""
        number = next(self._numbers)
        stage = numbered(SCORING, number, max(number, self._most))
        with self._context.progress.stage(stage, len(self._sets.select)) as advance:
            learned = self._space.learned
            assert learned is not None
            made = build(self._context, self._space.layers, learned, plan.forms, plan.factors, swept=False)
            return self._scored([made], advance, "tried")

    def candidate(self, made: Candidate) -> Trial:
        """A model that is made already."""
        return self._scored([made], lambda count: None, "tuned")

    def _scored(self, holder: list[Candidate], advance: Callable[[int], None], how: str) -> Trial:
        context, confidence = self._context, self._space.target.confidence
        made = holder.pop()
        proto, params = made.proto, made.params
        del made
        with loadable(context.original, exposing(proto, self._task.hidden), context.file) as (source, size):
            del proto  # of a large model, not beside the session
            session = open_session(source, context.options.runtime)
        del source
        wanted = confidence is not None
        quality = compared(self._reference, session, self._sets, self._task, advance, intervals=wanted)
        drop = quality.drop.value if quality.finite else math.inf
        context.progress.detail(
            f"{how} {params:,} parameters ({100 * params / context.original.params:.1f} %, {format_bytes(size)}): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        return trial_of(quality, size, confidence)


def compared(
    reference: Recalled,
    candidate: Session,
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
