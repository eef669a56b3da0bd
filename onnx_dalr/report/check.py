"""The view of `check`: a line for every budget, and what grew where one is not met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.report.amounts import brief, change, exact, sentence
from onnx_dalr.report.parts import note_lines
from onnx_dalr.results.check import BudgetLine, CheckResult, Contributor
from onnx_dalr.shown import PLAIN_WIDTH

_SHOWN = 5
"""Contributors that are shown."""

_MARK, _WHAT = len("FAIL"), len("against")


def check_view(found: CheckResult, width: int = PLAIN_WIDTH) -> RenderableType:
    """Every budget of every model, folded where the width asks for it, and how many are over."""
    del width
    parts: list[RenderableType] = []
    made = _grid()
    for line in found.lines:
        said = one_line(f"{line.model}: {sentence(line)}")
        if line.passed:
            notes = "".join(f"; {one_line(note)}" for note in line.notes)
            made.add_row(Text("ok", style="green"), Text.assemble(said, (notes, "dim")))
            continue
        made.add_row(Text("FAIL"), Text(said), style="bold red")
        parts += [made, *_details(line)]
        made = _grid()
    parts += [made] if made.row_count else []
    if found.notes:
        parts += [Text(), *note_lines(found.notes)]
    if found.over and len(found.lines) > 1:
        parts += [Text(), Text(summary(found), style="bold red")]
    return Group(*parts)


def _grid() -> Table:
    """Lines that begin with a mark, and fold beside it."""
    made = Table.grid(padding=(0, 1))
    made.add_column(no_wrap=True, min_width=_MARK)
    made.add_column(overflow="fold")
    return made


def summary(found: CheckResult) -> str:
    """How many budgets are met, in one line."""
    count, models = len(found.lines), len(found.models)
    of = f"{count} budget{'' if count == 1 else 's'} of {models} model{'' if models == 1 else 's'}"
    return f"over {len(found.over)} of {of}" if found.over else f"within {of}"


def details(line: BudgetLine) -> Iterator[tuple[str, str]]:
    """(what, what there is to say of it) of a budget that is not met, all but what grew."""
    yield "limit", f"{exact(line.unit, line.limit)}: {line.allowed}"
    yield "value", exact(line.unit, line.value)
    if line.left < 0 and math.isfinite(line.left):
        yield "over by", exact(line.unit, -line.left)
    if line.against is not None:
        yield "against", line.against
    yield from (("note", note) for note in line.notes)
    yield "change", f"{line.where}, if this is meant"


def heading(line: BudgetLine) -> str:
    """What the contributors are."""
    if line.unit in ("points", "score", "relative error"):
        return "lost"
    return "grew" if any(one.before is not None for one in line.contributors) else "largest"


def moved(line: BudgetLine, one: Contributor) -> tuple[str, str]:
    """(by how much something grew, from what to what)."""
    if one.before is None:
        return brief(line.unit, one.after), ""
    both = f"{brief(line.unit, one.before)} → {brief(line.unit, one.after)}"
    return change(line.unit, one.grown), both if one.before else "new"


def named(one: Contributor) -> str:
    """What it is called, and what it is."""
    return f"{one.name} ({one.what})" if one.what else one.name


def shown(line: BudgetLine, most: int = _SHOWN) -> list[Contributor]:
    """The largest contributors, and last what all others come to."""
    every = list(line.contributors)
    if len(every) <= most + 1:
        return every
    rest = every[most:]
    compared = rest[0].before is not None
    before = sum(one.before or 0 for one in rest) if compared else None
    return [*every[:most], Contributor("everything else", "", before, sum(one.after for one in rest))]


def _details(line: BudgetLine) -> Iterator[Table]:
    """What there is to say of a budget that is not met, under its line."""
    rows = list(details(line))
    last = len(rows) - 1 if line.contributors else len(rows)
    yield _facts(rows[:last])
    if line.contributors:
        yield _contributors(line)
        yield _facts(rows[last:])


def _facts(rows: Sequence[tuple[str, str]]) -> Table:
    made = _indented()
    made.add_column(overflow="fold")
    for what, said in rows:
        made.add_row("", what, Text(one_line(said)))
    return made


def _contributors(line: BudgetLine) -> Table:
    made = _indented()
    made.add_column(overflow="fold")
    made.add_column(no_wrap=True, justify="right")
    made.add_column(no_wrap=True)
    for at, one in enumerate(shown(line)):
        grown, both = moved(line, one)
        made.add_row("", "" if at else heading(line), Text(one_line(named(one))), Text(grown), Text(both))
    return made


def _indented() -> Table:
    """A table of what is said under a line: its first column is empty, its second says what it is."""
    made = Table.grid(padding=(0, 1))
    made.add_column(no_wrap=True, min_width=_MARK)
    made.add_column(no_wrap=True, min_width=_WHAT, style="bold")
    return made
