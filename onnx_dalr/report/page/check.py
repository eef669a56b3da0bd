"""The page of `check`: every budget, and what grew where one is not met."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx_dalr._version import __version__
from onnx_dalr.report.amounts import brief, exact
from onnx_dalr.report.check import details, heading, moved, named, summary
from onnx_dalr.report.page.budgets import Used, budget_bars
from onnx_dalr.report.page.parts import Card, Cell, DataTable, Facts, Note, Page, Part, Plot, Section
from onnx_dalr.report.page.shared import made_by, reproduce
from onnx_dalr.results.check import BudgetLine, CheckResult
from onnx_dalr.session.versions import versions


def check_page(found: CheckResult, *, command: str = "") -> Page:
    """What is over its budget first, then all of them.

    Args:
        found: What there is to show.
        command: The call that made it, as it can be made again.
    """
    return Page(
        title="Budgets of models",
        line=summary(found),
        passed=found.passed,
        cards=tuple(_card(line) for line in found.over[:6]),
        notes=tuple(Note(said) for said in found.notes),
        sections=(
            *(Section(f"Over: {line.model}, {line.budget}", tuple(_over(line))) for line in found.over),
            Section("All budgets", (*check_plots(found), _table(found))),
            Section("How it was checked", tuple(reproduce(command, versions()))),
        ),
        foot=made_by(__version__),
    )


def check_plots(found: CheckResult) -> tuple[Plot, ...]:
    """The plots of the page alone."""
    used = [
        Used(f"{line.model}: {line.budget}", line.value / line.limit, line.passed)
        for line in found.lines
        if line.limit > 0 and math.isfinite(line.value)
    ]
    plot = budget_bars(used)
    return () if plot is None else (plot,)


def _card(line: BudgetLine) -> Card:
    over = brief(line.unit, -line.left) if math.isfinite(line.left) else "not finite"
    limits = f"{brief(line.unit, line.value)}, limit {brief(line.unit, line.limit)}"
    return Card(f"{line.model}: {line.budget}", f"{over} over", limits, bad=True)


def _over(line: BudgetLine) -> Iterator[Part]:
    yield Facts(tuple(details(line)))
    if not line.contributors:
        return
    compared = any(one.before is not None for one in line.contributors)
    columns = [("what", False), ("by" if compared else "takes", True)]
    columns += [("before → after", False)] if compared else []
    rows = []
    for one in line.contributors:
        grown, both = moved(line, one)
        cells = (Cell(named(one), code=True), Cell(grown, one.grown), Cell(both))
        rows.append(cells[: len(columns)])
    title = "The largest" if heading(line) == "largest" else f"What {heading(line)}"
    yield DataTable(title, tuple(columns), tuple(rows))


def _table(found: CheckResult) -> DataTable:
    columns = (
        ("", False), ("model", False), ("budget", False), ("value", True), ("limit", True), ("left", True),
        ("of the limit", True), ("as given", False),
    )  # fmt: skip
    rows = tuple(tuple(_cells(line)) for line in found.lines)
    strong = frozenset(at for at, line in enumerate(found.lines) if not line.passed)
    return DataTable("Every budget", columns, rows, strong)


def _cells(line: BudgetLine) -> Iterator[Cell]:
    yield Cell("ok" if line.passed else "over", mark="green" if line.passed else "red")
    yield Cell(line.model, code=True)
    yield Cell(line.budget)
    finite = math.isfinite(line.value)
    yield Cell(exact(line.unit, line.value) if finite else "not finite", line.value if finite else 1e300)
    yield Cell(exact(line.unit, line.limit), line.limit)
    yield Cell(brief(line.unit, line.left) if finite else "", line.left if finite else -1e300)
    share = line.value / line.limit if line.limit > 0 and finite else None
    yield Cell("" if share is None else f"{100 * share:.1f} %", 1e300 if share is None else share)
    yield Cell(f"{line.allowed} ({line.where})")
