"""Plans and analyses as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.plan import Plan
from onnx_dalr.report.text import add_row, as_text, curve_view, reason_lines, skipped_view, table
from onnx_dalr.units import format_count

if TYPE_CHECKING:
    from onnx_dalr.analysis import Analysis

_KEPT = (0.75, 0.5, 0.25, 0.1, 0.05)
"""Shares of a layer's parameters at which an analysis shows its error."""


def render_plan(plan: Plan) -> str:
    """The table of a Plan as plain text."""
    return as_text(plan_view(plan))


def render_analysis(analysis: Analysis) -> str:
    """The table of an Analysis as plain text."""
    return as_text(analysis_view(analysis))


def plan_view(plan: Plan) -> Group:
    """Layers with their ranks, why each, and the curve of what was scored."""
    columns = [("layer", "left"), ("rank", "right"), ("of at most", "right"), ("error", "right"), ("effect", "right")]
    made = table(*columns)
    for choice in plan.choices:
        cells = (
            choice.layer,
            "keep" if choice.rank is None else str(choice.rank),
            "" if choice.largest_rank is None else str(choice.largest_rank),
            "" if choice.expected_error is None else f"{choice.expected_error:.4f}",
            "" if choice.expected_distortion is None else f"{choice.expected_distortion:.2g}",
        )
        add_row(made, *cells, style="dim" if choice.rank is None else "")
    parts: list[RenderableType] = [made, Text()]
    parts += reason_lines((choice.layer, choice.rank, choice.reason) for choice in plan.choices)
    trusted = "" if plan.factors == "default" else f" (factors: {plan.factors})"
    parts += [Text(), Text.assemble(("plan ", "bold"), one_line(f"{plan.method}{trusted}, target {plan.target}"))]
    if plan.curve:
        parts += [Text(), curve_view(plan.curve)]
    return Group(*parts)


def analysis_view(analysis: Analysis) -> Group:
    """Layers with the error to expect of their own output when they keep so much of their parameters."""
    shares = [(f"{100 * share:g} %", "right") for share in _KEPT]
    made = table(("layer", "left"), ("op", "left"), ("shape", "right"), ("rows", "right"), *shares)
    for layer in analysis.layers:
        spectrum = analysis.learned.spectra["default"][layer.name]
        ranks = [int(share * layer.m * layer.n / (layer.m + layer.n)) for share in _KEPT]
        errors = [f"{spectrum.expected_error(rank):.4f}" if rank else "" for rank in ranks]
        rows = format_count(analysis.learned.rows[layer.name])
        add_row(made, layer.name, layer.op, f"{layer.m}×{layer.n}", rows, *errors)
    parts: list[RenderableType] = [
        Text("error of each layer's own output where it keeps so much of its parameters"),
        made,
    ]
    if analysis.skipped:
        parts += [Text(), skipped_view(analysis.skipped)]
    return Group(*parts)
