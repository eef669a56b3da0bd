"""Inside the search: the smallest size at which the tuned model passes, where that is below what passes as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx_dalr.candidate.candidate import Candidate, build
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.trials import ROUNDING, Trial
from onnx_dalr.plan.choice import Point
from onnx_dalr.plan.plan import Plan
from onnx_dalr.quality.figures import Quality
from onnx_dalr.request.target import Target
from onnx_dalr.tune.schooling import explored, seconds_for, with_tensors
from onnx_dalr.tune.transfer import Explored, why_not

TUNINGS = 3
"""That a search may try."""

_INTERVAL = 1.96  # standard errors of a 95 % interval
_DEEPEST = 8.0  # times smaller than what passes as it is


@dataclass(frozen=True, eq=False)
class Ready:
    """A candidate that passes because of what it learned.

    Attributes:
        plan: What it was made by.
        candidate: Before it learned.
        found: How it learned.
    """

    plan: Plan
    candidate: Candidate
    found: Explored


def below(plan: Plan, analysis: Analysis) -> Ready | None:
    """Bisects, on a logarithmic scale, below the smallest model that passes: each is tuned, and scored as it is then.

    None where nothing smaller passes, or the target is no tolerance. All of it takes no longer than one tuning may.

    Args:
        plan: Of the smallest model that passes untuned.
        analysis: That it was made from.
    """
    deeper = analysis.deeper
    if deeper is None or not analysis.context.options.tunes or why_not(analysis.sets, analysis.task) is not None:
        return None
    seconds = seconds_for(analysis) / (TUNINGS + 1)  # what is found is done once more in the end
    low, high = max(deeper.low, deeper.high / _DEEPEST), deeper.high
    best: Ready | None = None
    untuned = next((point.bytes for point in plan.curve if point.chosen), None)
    known = {plan.forms}
    for _ in range(TUNINGS):
        middle = math.sqrt(low * high)
        tried = deeper.at(middle)
        if tried.forms in known or not tried.compressed:
            low = middle
            continue
        known.add(tried.forms)
        ready = _tried(tried, plan, analysis, seconds)
        if ready is None:
            low = middle
            continue
        best, high = ready, middle
    if best is None:
        return None
    tuning = replace(best.found.tuning, bought=untuned)
    return replace(best, found=replace(best.found, tuning=tuning))


def _tried(tried: Plan, plan: Plan, analysis: Analysis, seconds: float) -> Ready | None:
    """A plan's candidate, if it passes once it is tuned."""
    deeper, context = analysis.deeper, analysis.context
    assert deeper is not None
    with context.phase("rewrite"):
        made = build(context, analysis.layers, analysis.learned, tried.forms, tried.factors)
    found = explored(made, tried, analysis, seconds, again=False)
    if not found.tensors:  # it is what it was, and as it was it is beyond the tolerance
        context.progress.detail(f"tuning {made.params:,} parameters: {found.tuning.reason}")
        return None
    student = with_tensors(made, found.tensors)
    with context.phase("decide"):
        trial = deeper.score(student)
    passes = _passes(trial, found, deeper.target)
    context.progress.detail(
        f"tuning {made.params:,} parameters: {found.tuning.reason}; {'within' if passes else 'beyond'} the tolerance"
    )
    if not passes:
        return None
    size = student.params, trial.bytes
    point = Point("tuned", *size, trial.drop, trial.error, trial.distortion, chosen=True)
    others = tuple(replace(each, chosen=False) for each in plan.curve)
    curve = tuple(sorted((*others, point), key=lambda each: (each.params, each.bytes)))
    made_by = tried.finished(plan.model or "", plan.settings, plan.version)
    counted = replace(made_by, evaluations=plan.evaluations + 1, passes=plan.passes, curve=curve)
    return Ready(counted, made, found)


def _passes(trial: Trial, found: Explored, target: Target) -> bool:
    """Whether a tuned model stays within a tolerance.

    Who states one has it kept on the select samples, as by a model that is not tuned. Without that a drop
    is counted on the proof samples too, and one answer more or less of a few hundred is not to decide: what counts is
    the drop that the original's own probabilities expect, which varies far less (methods.md §11.2), and the counted one
    may be more by no more than its standard error.
    """
    counted, expected = _together(found.qualities, "drop"), _together(found.qualities, "expected_drop")
    if target.stated or target.name != "max-drop" or counted is None or expected is None:
        return trial.stays_within(target)
    return expected[0] <= target.value + ROUNDING and counted[0] <= target.value + counted[1] + ROUNDING


def _together(qualities: Sequence[Quality], name: str) -> tuple[float, float] | None:
    """(a figure of all samples, its standard error); None where one of the sets has none."""
    found = [getattr(quality, name) for quality in qualities]
    if not found or any(one is None for one in found):
        return None
    n = sum(one.n for one in found)
    errors = [(one.high - one.low) / (2 * _INTERVAL) for one in found]
    mean = sum(one.n * one.value for one in found) / n
    return mean, math.sqrt(sum((one.n * error / n) ** 2 for one, error in zip(found, errors, strict=True)))
