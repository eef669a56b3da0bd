"""Plots of two models: where they begin to differ, and what their numbers are stored as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from onnx_dalr.report.page.parts import Plot
from onnx_dalr.report.page.plots import COLOURS, INK, bytes_axis, drawn, plain, short, ticks_between
from onnx_dalr.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMALLEST_ERROR = 1e-9


def tensor_errors(errors: Sequence[tuple[str, float]], first: str | None) -> Plot | None:
    """Relative error of every tensor that two models both compute, in the order in which they are computed.

    Args:
        errors: (tensor, its error).
        first: The one at which they begin to differ; None where they do not.
    """
    known = [(at, max(error, _SMALLEST_ERROR)) for at, (_, error) in enumerate(errors) if math.isfinite(error)]
    if len(known) < 2:
        return None
    told = f"Relative error of {len(errors)} tensors in the order in which they are computed. " + (
        f"They begin to differ at {first}." if first is not None else "None differs by more than rounding."
    )
    at = next((place for place, (name, _) in enumerate(errors) if name == first), None)
    made = drawn(partial(_tensors, known, at, first), told, height=260)
    caption = "√(Σ‖a−b‖² / Σ‖a‖²) of each tensor that both models compute, from the input to the outputs."
    return Plot("Error from tensor to tensor", told, made.wide, made.narrow, caption)


def _tensors(
    known: Sequence[tuple[int, float]], at: int | None, first: str | None, figure: Figure, narrow: bool
) -> None:
    axes = figure.subplots()
    axes.plot(*zip(*known, strict=True), color=COLOURS["blue"], linewidth=1.4, marker="o", markersize=3)
    axes.set_yscale("log")
    low, high = min(error for _, error in known) / 1.5, max(error for _, error in known) * 1.5
    axes.set_ylim(low, high)
    axes.set_yticks(ticks_between(low, high, 6))
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.minorticks_off()
    axes.locator_params(axis="x", nbins=4 if narrow else 8, integer=True)
    if at is not None and first is not None:
        axes.axvline(at, color=COLOURS["orange"], linewidth=1.4)
        name = plain(short(first, 20 if narrow else 44))
        right = at > known[-1][0] / 2
        axes.annotate(
            name,
            (at, axes.get_ylim()[1]),
            xytext=(-6 if right else 6, -4),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=11,
            color=INK,
        )
    axes.set_xlabel("tensor")
    axes.set_ylabel("error")


def format_bars(sizes: Mapping[str, tuple[int, int]]) -> Plot | None:
    """Bytes of numbers in each format, of two models.

    Args:
        sizes: (bytes in A, bytes in B) by format.
    """
    if not sizes:
        return None
    told = "Bytes of numbers by format: " + "; ".join(
        f"{name} {format_bytes(a)} in A, {format_bytes(b)} in B" for name, (a, b) in sizes.items()
    )
    made = drawn(partial(_formats, sizes), told, height=64 + 44 * len(sizes))
    return Plot("Bytes by format", told, made.wide, made.narrow)


def _formats(sizes: Mapping[str, tuple[int, int]], figure: Figure, narrow: bool) -> None:
    axes = figure.subplots()
    for side, (shift, colour, name) in enumerate(((-0.2, "grey", "A"), (0.2, "blue", "B"))):
        places = [at + shift for at in range(len(sizes))]
        axes.barh(places, [pair[side] for pair in sizes.values()], height=0.38, color=COLOURS[colour], label=name)
    axes.set_yticks(range(len(sizes)), [plain(name) for name in sizes])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=3 if narrow else 7)
    bytes_axis(axes)
    figure.legend(loc="outside upper left", ncols=2)
