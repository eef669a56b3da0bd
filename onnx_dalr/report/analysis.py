"""The view of an analysis: what each layer can do without."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.candidate.forms import at_share
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.report.parts import fitting_table, skipped_view
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_count

_KEPT = (0.75, 0.5, 0.25, 0.1, 0.05)
"""Shares of a layer's parameters at which an analysis shows its error."""


def analysis_view(analysis: Analysis, width: int = PLAIN_WIDTH) -> Group:
    """Layers with the error to expect of their own output when they keep so much of their parameters."""
    columns = [("layer", "left"), ("op", "left"), ("shape", "right"), ("rows", "right")]
    columns += [(f"{100 * share:g} %", "right") for share in _KEPT]
    rows = []
    for layer in analysis.layers:
        spectra = analysis.learned.of(layer.name)
        forms = [at_share(layer, share) for share in _KEPT]
        errors = [f"{spectra.expected_error(form):.4f}" if form else "" for form in forms]
        seen = format_count(analysis.learned.rows.get(layer.name, 0))
        rows.append(([layer.name, layer.op, f"{layer.m}×{layer.n}", seen, *errors], ""))
    parts: list[RenderableType] = [
        Text("error of each layer's own output where it keeps so much of its parameters"),
        fitting_table(columns, rows, width, spare=("op", "rows", "75 %", "shape", "5 %")),
    ]
    if analysis.skipped:
        parts += [Text(), skipped_view(analysis.skipped)]
    return Group(*parts)
