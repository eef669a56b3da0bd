"""What a chosen candidate goes through before it is written: a step is a file in this folder and a line in `STEPS`."""

from __future__ import annotations

from typing import Protocol

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.plan.plan import Plan
from onnx_dalr.tune.front_to_back import refit


class TuningStep(Protocol):
    """Makes a candidate better without changing its forms."""

    def __call__(self, candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
        """The candidate, its tensors changed in place of those it had.

        Args:
            candidate: The student, with the names of its new tensors.
            plan: What it was made by.
            analysis: The teacher, its samples, and what was learned of them.
        """
        ...


STEPS: dict[str, TuningStep] = {"refit": refit}
"""By name, in the order in which they are taken."""


def tuned(candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
    """The candidate after every step."""
    for step in STEPS.values():
        candidate = step(candidate, plan, analysis)
    return candidate
