"""Plots of layers: their bytes before and after, and what they lose at every size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from onnx_dalr.factorize import KEPT, Form
from onnx_dalr.factorize.joined import is_one
from onnx_dalr.report.page.parts import Plot
from onnx_dalr.report.page.plots import COLOURS, FAINT, INK, LINE, bytes_axis, drawn, labels, plain
from onnx_dalr.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 24
MOST_SPECTRA = 12
_BAR = 22  # pixels of a row


@dataclass(frozen=True)
class Bar:
    """A layer before and after.

    Attributes:
        name: Of the layer, as short as it can be told by.
        before: Bytes.
        after: Bytes.
        kind: What it became, one of KINDS.
        form: In words.
    """

    name: str
    before: int
    after: int
    kind: str
    form: str


KINDS = {"as it was": "grey", "fewer directions": "blue", "fewer bits": "orange", "both": "purple"}
"""What a layer can become, and the colour of it."""


def kind_of(form: Form) -> str:
    """What a layer in this form has fewer of, one of KINDS."""
    if form.untouched:
        return "as it was"
    if is_one(form):
        return "fewer bits"
    return "fewer directions" if form.format == KEPT else "both"


@dataclass(frozen=True)
class Curve:
    """What one layer loses at every size.

    Attributes:
        name: Of the layer.
        kept: Shares of its parameters.
        error: Relative error of its own output to expect at each.
        chosen: (share kept, error) of the form that was chosen; None where it stays as it was.
        form: That form, in words.
    """

    name: str
    kept: tuple[float, ...]
    error: tuple[float, ...]
    chosen: tuple[float, float] | None
    form: str


def layer_bars(bars: Sequence[Bar]) -> Plot | None:
    """The largest layers before and after, coloured by what became of them."""
    shown = sorted(bars, key=lambda bar: -bar.before)[:MOST_BARS]
    if not shown:
        return None
    saved = sum(bar.before - bar.after for bar in bars)
    told = (
        f"{len(shown)} layers before and after, {format_bytes(saved)} smaller together in all {len(bars)}: "
        + "; ".join(
            f"{bar.name} {format_bytes(bar.before)} to {format_bytes(bar.after)} ({bar.form})" for bar in shown[:8]
        )
    )
    height = 64 + _BAR * len(shown)
    made = drawn(partial(_bars, shown), told, height=height, narrow_height=height + 24)
    rest = f" The {len(bars) - len(shown)} smaller ones are in the table." if len(bars) > len(shown) else ""
    caption = f"Outlined: bytes before. Filled: bytes after, coloured by what became of the layer.{rest}"
    return Plot("Bytes by layer", told, made.wide, made.narrow, caption)


def _bars(bars: Sequence[Bar], figure: Figure, narrow: bool) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - heavy: only where a plot is drawn

    axes = figure.subplots()
    places = range(len(bars))
    axes.barh(places, [bar.before for bar in bars], height=0.72, color="none", edgecolor=LINE, linewidth=1)
    axes.barh(places, [bar.after for bar in bars], height=0.72, color=[COLOURS[KINDS[bar.kind]] for bar in bars])
    most = 18 if narrow else 40
    axes.set_yticks(list(places), labels([bar.name for bar in bars], most))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.invert_yaxis()
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=3 if narrow else 7)
    bytes_axis(axes)
    kinds = [kind for kind in KINDS if any(bar.kind == kind for bar in bars)]
    handles = [Patch(color=COLOURS[KINDS[kind]], label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 4)


def spectra(curves: Sequence[Curve]) -> Plot | None:
    """What layers lose of their own output at every size, with the form that was chosen."""
    shown = [curve for curve in curves if len(curve.kept) > 1][:MOST_SPECTRA]
    if not shown:
        return None
    told = "Error of the layers' own outputs by the share of their parameters that is kept. " + "; ".join(
        f"{curve.name}: {curve.form}" + (f", error {curve.chosen[1]:.3g}" if curve.chosen else "") for curve in shown
    )
    rows, narrow_rows = math.ceil(len(shown) / 4), math.ceil(len(shown) / 2)
    made = drawn(partial(_spectra, shown), told, height=40 + 150 * rows, narrow_height=40 + 130 * narrow_rows)
    caption = (
        "Error of a layer's own output to expect on unseen rows, by the share of its parameters that is kept, in the "
        "structure that was chosen for it. The dot is what was chosen."
    )
    return Plot("Spectra", told, made.wide, made.narrow, caption)


def _spectra(curves: Sequence[Curve], figure: Figure, narrow: bool) -> None:
    columns = min(2 if narrow else 4, len(curves))
    rows = math.ceil(len(curves) / columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    names = labels([curve.name for curve in curves], 18 if narrow else 22)
    for axes, curve, name in zip(grid.flat, curves, names, strict=False):
        shares = [max(share, 1e-4) for share in curve.kept]
        axes.plot(shares, list(accumulate(curve.error, min)), color=COLOURS["blue"], linewidth=1.6)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.05)
        if curve.chosen is not None:
            axes.axvline(max(curve.chosen[0], 1e-4), color=LINE, linewidth=1)
            axes.scatter([max(curve.chosen[0], 1e-4)], [curve.chosen[1]], s=36, color=COLOURS["orange"], zorder=5)
        axes.set_title(name, fontsize=11, loc="left", color=INK)
        axes.text(
            0.97, 0.93, plain(curve.form), transform=axes.transAxes, ha="right", va="top", fontsize=10, color=FAINT
        )
        axes.xaxis.set_major_formatter(lambda value, place: f"{100 * value:g} %")
        axes.minorticks_off()
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("parameters kept", fontsize=12, color=FAINT)
    figure.supylabel("error", fontsize=12, color=FAINT)
