"""What tuning did, or why it did not: for the report and for the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx_dalr.plan.course import Course


@dataclass(frozen=True)
class Tuning:
    """What tuning did to a student.

    Attributes:
        kept: Its numbers are in the file.
        reason: Why, or why not, in a sentence.
        course: How it went; None where no step was made.
        curve: (steps, distortion of the select samples) each time it was looked, 0 steps for the start.
        proof: Samples that chose neither forms nor steps, and taught nothing: they decide whether it is kept.
        before: Distortion of these before, in the task's unit (KL, 1 − cosine or squared error).
        after: And after.
        errors: How many standard errors of the paired differences they gained.
        score: What is lost on them by the task's own score.
        lost_before: So much of it before, as a fraction.
        lost_after: And after.
        numbers: How many numbers are tuned.
        tensors: In how many tensors.
        taught: Samples the steps of the file were made on.
        rates: (rate, distortion) of the trials that chose the rate.
        stopped: It was stopped before its end.
        seconds: It took.
        bought: What the search gained by it: bytes of the smallest model that passes without; None where it was no part
            of the search.
    """

    kept: bool
    reason: str
    course: Course | None = None
    curve: tuple[tuple[int, float], ...] = ()
    proof: int = 0
    before: float | None = None
    after: float | None = None
    errors: float | None = None
    score: str = ""
    lost_before: float | None = None
    lost_after: float | None = None
    numbers: int = 0
    tensors: int = 0
    taught: int = 0
    rates: tuple[tuple[float, float], ...] = field(default=())
    stopped: bool = False
    seconds: float = 0.0
    bought: int | None = None
