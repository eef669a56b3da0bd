"""The table of a StatisticsSet."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.report.parts import facts_table, fitting_table, note_lines
from onnx_dalr.units import format_count


def statistics_view(held: StatisticsSet, width: int) -> Group:
    """What it is of, and for each layer how many rows entered which sums."""
    method = f"{held.method}, by onnx-dalr {held.version}"
    of = [("model", held.model), ("samples", f"{len(held.samples)}"), ("method", method), *held.settings.items()]
    columns = [("layer", "left"), ("shape", "right"), ("rows", "right"), ("sums", "left")]
    rows = []
    for name in held.layers:
        facts = held.facts(name)
        sums = ", ".join(need.name.lower().replace("_", " ") for need in facts.needs if need.name)
        rows.append(((name, f"{facts.m}×{facts.n}", format_count(facts.rows), sums), ""))
    notes = [Text(), *note_lines(held.notes)] if held.notes else []
    return Group(facts_table(of), Text(), fitting_table(columns, rows, width), *notes)
