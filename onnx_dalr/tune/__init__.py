"""What a chosen candidate goes through before it is written: fitted front to back, then taught by the original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.plan.plan import Plan
from onnx_dalr.tune.below import Ready, below
from onnx_dalr.tune.everything import with_everything
from onnx_dalr.tune.front_to_back import refit
from onnx_dalr.tune.schooling import explored, taught
from onnx_dalr.tune.tuning import Tuning

__all__ = ["STEPS", "Ready", "Tuned", "below", "tuned"]


class TuningStep(Protocol):
    """Makes a candidate better without changing its forms, layer by layer."""

    def __call__(self, candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
        """The candidate, its tensors changed in place of those it had.

        Args:
            candidate: With the names of its new tensors.
            plan: What it was made by.
            analysis: The original, its samples, and what was learned of them.
        """
        ...


STEPS: dict[str, TuningStep] = {"refit": refit}
"""By name, in the order in which they are taken where the candidate does not learn from the original's outputs."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A candidate after all of it.

    Attributes:
        candidate: Its forms are what they were, its numbers better.
        plan: With how it was tuned, so that it can be done again.
        tuning: For the report; None where it was not asked for.
    """

    candidate: Candidate
    plan: Plan
    tuning: Tuning | None = None


def tuned(candidate: Candidate, plan: Plan, analysis: Analysis, ready: Ready | None = None) -> Tuned:
    """The candidate, its numbers changed in place of those it had.

    Args:
        candidate: The student, with the names of its new tensors.
        plan: What it was made by.
        analysis: The teacher, its samples, and what was learned of them.
        ready: What the search has done of it already.
    """
    if not analysis.context.options.tunes:
        candidate = _stepped(candidate, plan, analysis)
        return Tuned(with_everything(candidate, plan, analysis), replace(plan, tuning=None))
    found = explored(candidate, plan, analysis) if ready is None else ready.found
    if not found.tuning.kept:  # what learns from the outputs needs no refit, and starts better without it (§10.6)
        candidate = _stepped(candidate, plan, analysis)
    everything = with_everything(candidate, plan, analysis)
    candidate, tuning = taught(everything, plan, analysis, found, candidate)
    return Tuned(candidate, replace(plan, tuning=tuning.course if tuning.kept else None), tuning)


def _stepped(candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
    for step in STEPS.values():
        candidate = step(candidate, plan, analysis)
    return candidate
