"""The view of a plan: what was decided, why, and what was tried."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.factorize.form import Form
from onnx_dalr.plan.choice import Point
from onnx_dalr.plan.plan import Plan
from onnx_dalr.report.parts import fitting_table, some
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_bytes, format_count


def plan_view(plan: Plan, width: int = PLAIN_WIDTH, *, verbose: bool = True) -> Group:
    """What was decided and why; with `verbose` also every model that was tried.

    Args:
        plan: The plan.
        width: Characters a line has.
        verbose: Show the models that were tried.
    """
    columns = [("layer", "left"), ("rank", "right"), ("of at most", "right"), ("own error", "right")]
    columns.append(("distortion", "right"))
    rows = []
    for choice in plan.choices:
        cells = [
            choice.layer,
            "keep" if choice.form.untouched else choice.form.brief,
            "" if choice.largest_rank is None else str(choice.largest_rank),
            "" if choice.expected_error is None else f"{choice.expected_error:.4f}",
            "" if choice.expected_distortion is None else f"{choice.expected_distortion:.2g}",
        ]
        rows.append((cells, "dim" if choice.form.untouched else ""))
    trusted = "" if plan.factors == "default" else f" (factors: {plan.factors})"
    parts: list[RenderableType] = [
        Text.assemble(("plan ", "bold"), one_line(f"{plan.method}{trusted}, target {plan.target}")),
        Text(),
        fitting_table(columns, rows, width, spare=("distortion", "of at most")),
        Text(),
    ]
    parts += reason_lines((choice.layer, choice.form, choice.reason) for choice in plan.choices)
    if plan.curve and verbose:
        parts += [Text(), curve_view(plan.curve, width)]
    return Group(*parts)


def reason_lines(layers: Iterable[tuple[str, Form, str]]) -> Iterable[Text]:
    """Why each form, one line per reason, of (layer, form, reason)."""
    by_reason: dict[str, list[str]] = {}
    for layer, form, reason in layers:
        by_reason.setdefault(reason, []).append(layer if form.untouched else f"{layer} {form.brief}")
    for reason, names in by_reason.items():
        yield Text.assemble(("why ", "bold"), f"{one_line(reason)} ", (f"({some(names)})", "dim"))


def curve_view(curve: Iterable[Point], width: int = PLAIN_WIDTH) -> Table:
    """Size against quality on the select samples, for every model that was tried; the chosen one is marked."""
    columns = [("tried", "left"), ("parameters", "right"), ("size", "right"), ("lost", "right")]
    columns += [("error", "right"), ("distortion", "right"), ("ranks", "left")]
    rows = []
    for point in curve:
        cells = (
            "chosen" if point.chosen else "",
            format_count(point.params),
            format_bytes(point.bytes),
            f"{100 * point.drop:.2f} points" if math.isfinite(point.drop) else "NaN",
            f"{point.error:.4f}",
            f"{point.distortion:.3g}",
            point.allocation,
        )
        rows.append((cells, "bold" if point.chosen else ""))
    return fitting_table(columns, rows, width, spare=("parameters", "error"))
