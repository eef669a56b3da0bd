"""Cards that the pages of several results begin with."""

from __future__ import annotations

from onnx_dalr.quality.evaluate import Latency, Quality
from onnx_dalr.report.figures import percent, points_text
from onnx_dalr.report.page.parts import Card


def quality_card(quality: Quality) -> Card:
    """What was lost of the score that lost most."""
    if not quality.finite:
        return Card("Quality", "not finite", "NaN or infinity where the original has none", bad=True)
    n = f"n={quality.n}"
    if quality.score_before is not None:
        return Card(quality.score, f"{-quality.drop.value:+.4g}", f"in its own unit, {n}")
    if quality.score == "accuracy" and quality.accuracy_before and quality.accuracy_after:
        both = f"{percent(quality.accuracy_before.value)} → {percent(quality.accuracy_after.value)}"
        return Card("Accuracy", percent(quality.accuracy_after.value), f"{both}, {points_text(quality.drop)}, {n}")
    kept = 100 * (1 - quality.drop.value)
    return Card(quality.score.capitalize(), f"{kept:.2f} %", f"{points_text(quality.drop)}, {n}")


def speed_card(latency: Latency) -> Card:
    """How much faster a run is, with its interval."""
    speedup = latency.speedup
    spread = f"[{speedup.low:.2f}, {speedup.high:.2f}]"
    times = f"{latency.before:.3g} → {latency.after:.3g} ms a run, {spread}"
    return Card("Speed", f"{speedup.value:.2f}×", times, bad=speedup.high < 1)
