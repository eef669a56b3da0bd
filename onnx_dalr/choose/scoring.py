"""A plan's model, scored on the select samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

from onnx_dalr.candidate.candidate import build
from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import Scorer, Trial
from onnx_dalr.graph.answers import exposing
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import LOADING, SCORING, numbered
from onnx_dalr.quality.evaluate import Quality, Recalled, Task, evaluate
from onnx_dalr.request.context import Context
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import Session, open_session, reference_session
from onnx_dalr.units import format_bytes


def scorer(context: Context, space: SearchSpace, sets: Sets, task: Task, most: int) -> Scorer:
    """What scores a plan's model on the select samples.

    Args:
        context: Of the run.
        space: The layers, and what was learned of them.
        sets: Of which the select samples are run.
        task: What the outputs are.
        most: So many models are going to be scored at most, which progress tells.
    """
    learned, target = space.learned, space.target
    assert learned is not None
    with context.progress.stage(LOADING, None):
        session = reference_session(context.original, context.options.runtime, task.hidden)
    reference, numbers = Recalled(session, sets.select), itertools.count(1)

    def score(plan: Plan) -> Trial:
        number = next(numbers)
        with context.progress.stage(numbered(SCORING, number, max(number, most)), len(sets.select)) as advance:
            return scored(plan, advance)

    def scored(plan: Plan, advance: Callable[[int], None]) -> Trial:
        made = build(context, space.layers, learned, plan.forms, plan.factors, swept=False)
        proto, params = made.proto, made.params
        with loadable(context.original, exposing(proto, task.hidden), context.file) as (source, size):
            del proto, made  # of a large model, not beside the session
            candidate = open_session(source, context.options.runtime)
        del source
        quality = compared(reference, candidate, sets, task, advance, intervals=target.confidence is not None)
        drop = quality.drop.value if quality.finite else math.inf
        context.progress.detail(
            f"tried {params:,} parameters ({100 * params / context.original.params:.1f} %, {format_bytes(size)}): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        return trial_of(quality, size, target.confidence)

    return score


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
