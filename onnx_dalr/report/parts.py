"""What every view is made of: tables that fit, lines of text, names that hold no markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Group
from rich.table import Table
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.units import format_names

_SHOWN_NAMES = 3
_LEAST_NAME = 16  # characters that a column of names needs at least


def facts_table(facts: Iterable[tuple[str, str]] = ()) -> Table:
    """Names in bold and what there is to say of each, folded where it is long."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, said in facts:
        add_row(made, name, said)
    return made


def table(*columns: tuple[str, str]) -> Table:
    """A table in the house style; columns are (heading, "left" or "right")."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, side in columns:
        made.add_column(
            heading, justify="right" if side == "right" else "left", overflow="fold", no_wrap=side == "right"
        )
    return made


def add_row(made: Table, *cells: str, style: str = "") -> None:
    """A row of plain text: names may hold anything, rich's markup and what would move a terminal's cursor among it."""
    made.add_row(*(Text(one_line(cell)) for cell in cells), style=style)


def fitting_table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[tuple[Sequence[str], str]],
    width: int,
    *,
    spare: Sequence[str] = (),
) -> Table:
    """A table without the columns that others imply, as far as the width asks for it.

    Args:
        columns: (heading, "left" or "right"); a left one folds, down to 16 characters, a right one never breaks.
        rows: (cells, style), a cell for every column.
        width: Characters there are.
        spare: Headings to leave out, the first first, until the rest fits.
    """
    left_out = set[str]()
    for heading in spare:
        if _width(columns, rows, left_out) <= width:
            break
        left_out.add(heading)
    made = table(*(column for column in columns if column[0] not in left_out))
    for cells, style in rows:
        shown = [cell for cell, (heading, _) in zip(cells, columns, strict=True) if heading not in left_out]
        add_row(made, *shown, style=style)
    return made


def _width(columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Sequence[str], str]], left_out: set[str]) -> int:
    """Characters a table needs so that no number breaks and names keep 16."""
    total = 0
    for at, (heading, side) in enumerate(columns):
        if heading in left_out:
            continue
        longest = max([len(heading), *(len(cells[at]) for cells, _ in rows)])
        total += (longest if side == "right" else min(longest, max(_LEAST_NAME, len(heading)))) + 2
    return total - 2


def note_lines(notes: Iterable[str]) -> list[Text]:
    """A line each."""
    return [Text.assemble(("note: ", "yellow"), one_line(note)) for note in notes]


def some(names: Sequence[str], shown: int = _SHOWN_NAMES) -> str:
    """The first few of several names, and how many more there are."""
    return format_names(list(map(one_line, names)), shown)


def skipped_view(skipped: Iterable[Skipped]) -> Group:
    """Skipped nodes, one line per operator and reason."""
    lines = []
    by_reason = sorted(skipped, key=lambda entry: (entry.op, entry.reason))
    for (op, reason), group in groupby(by_reason, key=lambda entry: (entry.op, entry.reason)):
        names = [entry.name for entry in group]
        lines.append(
            Text.assemble(("skipped ", "bold"), f"{len(names)} {op}: {one_line(reason)} ", (f"({some(names)})", "dim"))
        )
    return Group(*lines)
