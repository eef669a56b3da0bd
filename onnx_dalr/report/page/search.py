"""Plots of a search: what was tried, by size and by what it loses, and how tuning went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from onnx_dalr.report.page.parts import Plot
from onnx_dalr.report.page.plots import COLOURS, INK, bytes_axis, drawn, ticks_between
from onnx_dalr.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE_RANGE = 8.0  # from this ratio of the largest to the smallest on, an axis is logarithmic


@dataclass(frozen=True)
class Tried:
    """A model of the search.

    Attributes:
        bytes: Of its file.
        lost: What it loses, in the unit of the axis.
        chosen: It is the one that was taken.
    """

    bytes: int
    lost: float
    chosen: bool = False


@dataclass(frozen=True)
class Measured:
    """The file that was written, on the report samples.

    Attributes:
        bytes: Of it.
        lost: In the unit of the axis.
        low: Of its 95 % interval.
        high: Of it.
    """

    bytes: int
    lost: float
    low: float
    high: float


def quality_against_size(
    tried: Sequence[Tried], original: int, lost: str, allowed: float | None, file: Measured | None = None
) -> Plot | None:
    """Every model that was tried, by its size and by what it loses on the select samples.

    Args:
        tried: The models.
        original: Bytes of the original, which loses nothing.
        lost: What the other axis is.
        allowed: What may be lost, where that was the target.
        file: What was written in the end, where quality was measured.
    """
    points = [point for point in tried if math.isfinite(point.lost)]
    if not points:
        return None
    chosen = [point for point in points if point.chosen]
    told = f"{len(points)} models that were tried, by size on disk and {lost}. " + " ".join(
        f"The chosen one: {format_bytes(point.bytes)}, {point.lost:.3g}." for point in chosen
    )
    if file is not None:
        told += f" The file, on the report samples: {format_bytes(file.bytes)}, {file.lost:.3g}."
    made = drawn(partial(_quality, points, original, lost, allowed, file), told, height=340, narrow_height=320)
    caption = "Each dot is a whole model that was scored on the select samples. Lower and further left is better."
    if file is not None:
        caption += " The ring is the file that was written, on the report samples, with its 95 % interval."
    return Plot("Quality against size", told, made.wide, made.narrow, caption)


def _quality(
    points: Sequence[Tried],
    original: int,
    lost: str,
    allowed: float | None,
    file: Measured | None,
    figure: Figure,
    narrow: bool,
) -> None:
    axes = figure.subplots()
    rest = [point for point in points if not point.chosen]
    axes.scatter(
        [p.bytes for p in rest], [p.lost for p in rest], s=34, color=COLOURS["grey"], alpha=0.85, label="tried"
    )
    axes.scatter([original], [0.0], s=60, marker="s", color=INK, label="original", zorder=4)
    chosen = [point for point in points if point.chosen]
    if chosen:
        places = [p.bytes for p in chosen], [p.lost for p in chosen]
        axes.scatter(*places, s=110, marker="D", color=COLOURS["blue"], label="chosen", zorder=5)
    if allowed is not None:
        axes.axhline(allowed, color=COLOURS["red"], linewidth=1.2, linestyle=(0, (4, 3)), label="allowed")
    heights = [0.0, *(point.lost for point in points)]
    if file is not None and math.isfinite(file.lost):
        _ring(axes, file)
        heights += [file.low, file.high]
    sizes = [point.bytes for point in points] + [original]
    _size_scale(axes, min(sizes), max(sizes), 3 if narrow else 7)
    _loss_scale(axes, min(heights), max(heights), allowed)
    axes.set_xlabel("size on disk")
    axes.set_ylabel(lost)
    figure.legend(loc="outside upper left", ncols=2 if narrow else 5)


def _ring(axes: Axes, file: Measured) -> None:
    reach = [[max(file.lost - file.low, 0.0)], [max(file.high - file.lost, 0.0)]]
    axes.errorbar(
        [file.bytes],
        [file.lost],
        yerr=reach,
        fmt="o",
        markerfacecolor="none",
        markeredgewidth=2,
        markersize=13,
        color=COLOURS["orange"],
        capsize=4,
        linewidth=1.6,
        zorder=6,
        label="file",
    )


def _loss_scale(axes: Axes, low: float, high: float, allowed: float | None) -> None:
    """Linear, or where one model lost far more than is allowed, logarithmic above that."""
    step = max(allowed or 0.0, 1e-9)
    if allowed is not None and high > 10 * step:
        axes.set_yscale("symlog", linthresh=step, linscale=1.0)
        bottom, top = min(low * 1.2, -0.25 * step), high * 1.5
        powers = [step * 10.0**power for power in range(6)]
        axes.set_ylim(bottom, top)
        axes.set_yticks([value for value in (*(-power for power in powers), 0.0, *powers) if bottom <= value <= top])
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}".replace("-", "−"))
        axes.minorticks_off()
    else:
        room = 0.08 * max(high - low, 1e-9)
        axes.set_ylim(low - room, high + room)


def _size_scale(axes: Axes, low: float, high: float, count: int) -> None:
    if high > _WIDE_RANGE * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.3)
        axes.set_xticks(ticks_between(low / 1.3, high * 1.3, count))
        axes.minorticks_off()
    else:
        axes.set_xlim(0, high * 1.08)
        axes.locator_params(axis="x", nbins=count)
    bytes_axis(axes)


def tuning_curve(curve: Sequence[tuple[int, float]], unit: str) -> Plot | None:
    """Distortion of the select samples as the steps go on."""
    points = [(steps, lost) for steps, lost in curve if math.isfinite(lost)]
    if len(points) < 2:
        return None
    first, best = points[0][1], min(lost for _, lost in points)
    told = f"Distortion ({unit}) from {first:.3g} before tuning to {best:.3g} at best, in {points[-1][0]} steps."
    made = drawn(partial(_tuning, points, unit), told, height=240)
    return Plot("Tuning", told, made.wide, made.narrow, "On the select samples, each time they were looked at.")


def _tuning(points: Sequence[tuple[int, float]], unit: str, figure: Figure, narrow: bool) -> None:
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), color=COLOURS["blue"], marker="o", markersize=4, linewidth=1.6)
    best = min(points, key=lambda point: point[1])
    axes.scatter([best[0]], [best[1]], s=70, color=COLOURS["orange"], zorder=5)
    axes.set_ylim(0, max(lost for _, lost in points) * 1.08)
    axes.locator_params(axis="x", nbins=4 if narrow else 8, integer=True)
    axes.set_xlabel("steps")
    axes.set_ylabel(unit)
