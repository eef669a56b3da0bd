"""The table of `check`."""

from __future__ import annotations

from rich.console import RenderableType

from onnx_dalr.report.parts import add_row, table
from onnx_dalr.results.check import CheckResult
from onnx_dalr.shown import PLAIN_WIDTH


def check_view(found: CheckResult, width: int = PLAIN_WIDTH) -> RenderableType:
    """A row for every budget of every model, folded where the width asks for it."""
    del width
    sides = {"": "left", "model": "left", "budget": "left", "is": "right", "limit": "right", "given": "left"}
    made = table(*sides.items(), ("verdict", "right"))
    for line in found.lines:
        value, limit, left = (line.shown(amount) for amount in (line.value, line.limit, abs(line.left)))
        mark, verdict = ("ok", "left") if line.passed else ("FAIL", "over")
        style = "" if line.passed else "bold red"
        add_row(made, mark, line.model, line.budget, value, limit, line.allowed, f"{left} {verdict}", style=style)
    return made
