"""What tuning did, in a few lines: the figures of the samples that prove it, and its curve with --verbose."""

from __future__ import annotations

from onnx_dalr.tune.tuning import Tuning

_FEW = 8  # points of a curve


def tuning_text(tuning: Tuning) -> str:
    """One line: kept or not, and why."""
    if not tuning.kept:
        return f"not kept: {tuning.reason}"
    if tuning.before is None or tuning.after is None or tuning.course is None:
        return f"{tuning.reason}, on {tuning.taught} samples"
    errors = "" if tuning.errors is None else f", {tuning.errors:.1f} standard errors"
    lost = ""
    if tuning.lost_before is not None and tuning.lost_after is not None:
        lost = f"; {tuning.score} lost {_points(tuning.lost_before)} → {_points(tuning.lost_after)}"
    return (
        f"distortion {tuning.before:.3g} → {tuning.after:.3g} on {tuning.proof} samples that chose and taught nothing"
        f"{errors}{lost}"
    )


def tuning_facts(tuning: Tuning) -> list[tuple[str, str]]:
    """How it went."""
    found = []
    if tuning.course is not None:
        course = tuning.course
        how = f"{course.steps} steps at {course.rate:g}" + (", samples mixed" if course.mixed else "")
        what = f"{tuning.numbers:,} numbers" + (" (biases alone: few samples)" if course.biases_only else "")
        taught = f", on {tuning.taught} samples in the end" if tuning.taught else ""
        found.append(("tuned", f"{what}; {course.loss}; {how}{taught}; {tuning.seconds:.1f} s"))
    if tuning.curve:
        step = max(len(tuning.curve) // _FEW, 1)
        shown = [*tuning.curve[:-1:step], tuning.curve[-1]]
        found.append(("tuning curve", ", ".join(f"{steps}: {lost:.3g}" for steps, lost in shown)))
    return found


def _points(lost: float) -> str:
    return f"{100 * lost:.2f}"
