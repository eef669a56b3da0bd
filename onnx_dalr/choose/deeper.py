"""Below the smallest model that stays within a tolerance: what a tuned one may reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.choose.trials import Trial
from onnx_dalr.plan.plan import Plan
from onnx_dalr.request.target import Target


@dataclass(frozen=True, eq=False)
class Deeper:
    """What a search for a tolerance knows when it has ended.

    Attributes:
        low: What the layers cost at least, in the unit of the search, what is pinned apart.
        high: What they cost in the smallest model that passed.
        at: The plan for a cost between.
        score: A candidate on the select samples.
        target: The tolerance.
    """

    low: float
    high: float
    at: Callable[[float], Plan]
    score: Callable[[Candidate], Trial]
    target: Target
