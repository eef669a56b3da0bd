"""The plot of budgets: how much of each is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from onnx_dalr.report.page.parts import Plot
from onnx_dalr.report.page.plots import COLOURS, INK, drawn, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 30
_BAR = 24  # pixels of a row
_FARTHEST = 3.0  # times the limit: what is beyond is cut off


@dataclass(frozen=True)
class Used:
    """How much of a budget is used.

    Attributes:
        name: Of the model and the budget.
        share: Value over limit.
        passed: It is met.
    """

    name: str
    share: float
    passed: bool


def budget_bars(used: Sequence[Used]) -> Plot | None:
    """How much of each budget is used, those that are over it first.

    Args:
        used: The budgets.
    """
    shown = sorted(used, key=lambda one: (one.passed, -one.share))[:_MOST]
    if not shown:
        return None
    told = "Share of each budget that is used: " + "; ".join(f"{one.name} {100 * one.share:.0f} %" for one in shown)
    made = drawn(partial(_bars, shown), told, height=56 + _BAR * len(shown))
    rest = f" {len(used) - len(shown)} more are in the table." if len(used) > len(shown) else ""
    cut = f" Bars end at {100 * _FARTHEST:.0f} %." if any(one.share > _FARTHEST for one in shown) else ""
    return Plot("How much is used", told, made.wide, made.narrow, f"The line is the limit.{cut}{rest}")


def _bars(used: Sequence[Used], figure: Figure, narrow: bool) -> None:
    axes = figure.subplots()
    shares = [min(max(100 * one.share, 0.0), 100 * _FARTHEST) for one in used]
    axes.barh(range(len(used)), shares, height=0.68, color=[COLOURS["blue" if one.passed else "red"] for one in used])
    axes.axvline(100, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(used)), labels([one.name for one in used], 20 if narrow else 48))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(used) - 0.4, -0.6)
    axes.set_xlim(0, max(110.0, 1.08 * max(shares)))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g} %")
    axes.locator_params(axis="x", nbins=3 if narrow else 7)
