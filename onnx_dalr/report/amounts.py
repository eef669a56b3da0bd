"""What `check` measures in words: briefly for a line, exactly for the details."""

from __future__ import annotations

import math

from onnx_dalr.results.check import BudgetLine
from onnx_dalr.units import format_bytes, format_count, format_share

_COUNTED = ("bytes", "parameters", "multiply-adds")
_MANY = 5  # times a limit: from here on percent are hard to read


def brief(unit: str, amount: float) -> str:
    """An amount in the unit of a budget, to be read."""
    if not math.isfinite(amount):
        return "NaN or infinity"
    if unit == "bytes":
        return format_bytes(amount)
    if unit in ("parameters", "multiply-adds"):
        return format_count(amount)
    if unit == "points":
        return f"{100 * amount:.2f} points"
    return f"{amount:.2f}×" if unit == "times" else _digits(amount)


def exact(unit: str, amount: float) -> str:
    """The same with all its digits where they are counted."""
    if unit in _COUNTED and math.isfinite(amount):
        return f"{amount:,.0f} {unit.removesuffix('s') if amount == 1 else unit}"
    return brief(unit, amount)


def change(unit: str, amount: float) -> str:
    """An amount with its sign."""
    return f"{'−' if amount < 0 else '+'}{brief(unit, abs(amount))}"


def value_text(line: BudgetLine) -> str:
    """What there is; of growth, with its sign."""
    return change(line.unit, line.value) if line.budget == "growth" else brief(line.unit, line.value)


def left_text(line: BudgetLine) -> str:
    """How much is left, or how much it is over, and what share of the limit that is."""
    over = line.left < 0 or not line.passed
    verdict = "over" if over else "left"
    if not math.isfinite(line.left):
        return verdict
    said = f"{brief(line.unit, abs(line.left))} {verdict}"
    if line.passed and over:
        return f"{said}, within the interval: not counted"
    if line.unit not in _COUNTED or line.limit <= 0:
        return said
    times = line.value / line.limit
    return (
        f"{said} ({times:.0f}× the limit)" if times >= _MANY else f"{said} ({format_share(abs(line.left), line.limit)})"
    )


def interval_text(line: BudgetLine) -> str:
    """The 95 % interval of the value with what is behind it; empty where there is none."""
    if line.low is None or line.high is None:
        return ""
    runs = "runs" if line.unit == "times" else "n"
    low, high = (_bare(line.unit, end) for end in (line.low, line.high))
    return f"[{low}, {high}] ({runs}={line.n})"


def sentence(line: BudgetLine) -> str:
    """A budget without its model: what there is, of how much, and what is left."""
    interval = f" {interval_text(line)}" if line.low is not None else ""
    return f"{line.budget} {value_text(line)}{interval} of {brief(line.unit, line.limit)}, {left_text(line)}"


def _bare(unit: str, amount: float) -> str:
    """A figure without its unit."""
    if unit in ("points", "times"):
        return f"{100 * amount if unit == 'points' else amount:.2f}"
    return _digits(amount)


def _digits(amount: float) -> str:
    """Three significant digits, as a decimal number."""
    return f"{amount:.3g}" if amount == 0 or 1e-4 <= abs(amount) < 1e6 else f"{amount:.2e}"
