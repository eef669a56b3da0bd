"""From a candidate to one that was taught, or to the reason why it was not (methods.md §10.6)."""

from __future__ import annotations

import time
from dataclasses import replace

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.errors import InputError
from onnx_dalr.plan.course import Course
from onnx_dalr.plan.plan import Plan
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.budget import FLOOR
from onnx_dalr.tune.student import pupil_of
from onnx_dalr.tune.tensors import replaced
from onnx_dalr.tune.transfer import Explored, Transfer, are_few, why_not
from onnx_dalr.tune.tuning import Tuning

_PHASE = "tune"
_WITH_REFIT = 2.0  # a refit takes about as long as what is before it


def explored(
    candidate: Candidate, plan: Plan, analysis: Analysis, seconds: float | None = None, *, again: bool = True
) -> Explored:
    """Whether it helps a candidate to learn from the original, and how.

    Args:
        candidate: The student.
        plan: What it was made by. Where it says how it was tuned, and the samples are the same, that was proven.
        analysis: The teacher, its samples, and what was learned of them.
        seconds: It may take; None for what the options say.
        again: What is found is going to be done once more, with all samples, in that time.
    """
    refused = why_not(analysis.sets, analysis.task)
    known, options = plan.tuning, analysis.context.options
    if refused is not None:
        tuned_once = (
            "" if known is None else ": the plan was tuned, and --calib with the same samples would tune it again"
        )
        return Explored(Tuning(False, refused + tuned_once))
    if known is not None and known.samples == analysis.learned.calibration and known.seed == _seed(analysis):
        return Explored(Tuning(True, "as the plan says", known))
    steps = options.tune if isinstance(options.tune, int) else None if known is None else known.steps
    if steps is None or options.tune_time is not None:
        seconds = seconds if seconds is not None else seconds_for(analysis)
    with analysis.context.phase(_PHASE):
        try:
            found = _transfer(candidate, plan, analysis).explore(seconds, steps, again=again)
        except InputError as error:
            return Explored(Tuning(False, error.message))
    if found.tuning.course is not None and not found.tuning.stopped:
        course = replace(found.tuning.course, samples=analysis.learned.calibration)
        return replace(found, tuning=replace(found.tuning, course=course))
    return found


def taught(
    candidate: Candidate, plan: Plan, analysis: Analysis, found: Explored, proven: Candidate
) -> tuple[Candidate, Tuning]:
    """A candidate that learned by a course which is known to help, from all samples but those of the report.

    Args:
        candidate: The student.
        plan: What it was made by.
        analysis: The teacher and its samples.
        found: What exploring found.
        proven: The student it was found with, to which what was proven belongs: numbers of the other may be rounded to
            other whole ones.
    """
    course, start = found.tuning.course, time.perf_counter()
    if not found.tuning.kept or course is None:
        analysis.context.progress.detail(f"tuning: {found.tuning.reason}; nothing is changed")
        return candidate, found.tuning
    assert analysis.sets is not None
    tensors, count = None, 0
    if not found.tuning.stopped:
        with analysis.context.phase(_PHASE):
            transfer = _transfer(candidate, plan, analysis, course)
            tensors, count = transfer.taught(course, analysis.sets.teaching)
    if tensors is None:  # it was stopped: what was proven is kept
        stopped = replace(found.tuning, course=None, stopped=True)
        tensors = found.tensors
        return with_tensors(proven, tensors) if tensors else candidate, replace(stopped, kept=bool(tensors))
    seconds = found.tuning.seconds + time.perf_counter() - start
    return with_tensors(candidate, tensors), replace(found.tuning, taught=count, seconds=seconds)


def with_tensors(candidate: Candidate, tensors: Tensors) -> Candidate:
    """The candidate with these numbers."""
    return replace(candidate, proto=replaced(candidate.proto, tensors)) if tensors else candidate


def _transfer(candidate: Candidate, plan: Plan, analysis: Analysis, course: Course | None = None) -> Transfer:
    context, sets, task = analysis.context, analysis.sets, analysis.task
    assert sets is not None
    assert task is not None
    few = are_few(sets) if course is None else course.biases_only
    pupil = pupil_of(candidate, analysis.layers, plan.forms, context.options, biases_only=few)
    return Transfer(pupil, context, sets, task, course)


def seconds_for(analysis: Analysis) -> float:
    """What is left of the time there is: as long as all before it and the refit it replaces, or what the user says."""
    options, seconds = analysis.context.options, analysis.context.seconds
    spent = seconds.get(_PHASE, 0.0)
    before = sum(seconds.values()) - spent
    whole = options.tune_time or max(before * (_WITH_REFIT if options.refits else 1.0), FLOOR)
    return max(whole - spent, 0.0)


def _seed(analysis: Analysis) -> int:
    assert analysis.sets is not None
    return analysis.sets.options.seed
