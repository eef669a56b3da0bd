"""The pages that tools/benchmark.py writes: docs/benchmark-tables.md, and the table at the head of docs/benchmarks.md.

The page of tables is what was measured. A run takes its rows' places there and leaves all others as they are, so that a
part can be measured again; the table at the head is read from that page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pages import Part

TABLES_PAGE = "benchmark-tables.md"
RESULTS_PAGE = "benchmarks.md"
PART = Part(
    RESULTS_PAGE, "<!-- made by tools/benchmark.py from benchmark-tables.md -->", "<!-- end of what is made -->"
)
SHOWN = {
    "VGG moved to six animal classes, fc6 alone": ("k = 8", "k = 64"),
    "VGG moved to six animal classes, fc7 alone": ("k = 8", "k = 64"),
    "VGG moved to six animal classes, fc6 and fc7": ("20 %", "5 %"),
    "VGG on its own ten classes, fc6 alone": ("k = 8", "k = 64"),
    "VGG on its own ten classes, fc6 and fc7": ("20 %", "5 %"),
    "MNIST MLP, all four layers": ("20 %", "10 %"),
    "MNIST MLP, all four layers, calibrated on the digits 0–2 only": ("20 %", "10 %"),
    "MiniLM-L6 sentence encoder on banking77, its 36 MatMul": ("70 %", "50 %", "35 %"),
}
COMPARED = {"svd": "svd", "svd-bc": "svd-bc", "dalr-2017, λ tuned": "dalr-2017, best λ", "optimize": "ours"}
_MOST_SAMPLES = 2000  # a table of more is not at the head: few have so many
_UNSEEN = " 3–9"  # digits that the shifted calibration did not show have a paragraph of their own

Key = tuple[str, str, str]  # title, samples, measure


@dataclass
class Table:
    """Lines of a Markdown table, by the first cell of each."""

    columns: list[str]
    rule: str
    rows: dict[str, list[str]] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """What its cells are: the first cell of its head."""
        return self.columns[0]

    def cell(self, label: str, column: str) -> str:
        """Without the stars that make it bold."""
        return self.rows[label][self.columns.index(column) - 1].strip("*")

    def take(self, new: Table) -> None:
        """Puts another run's cells in the places of its own; the best of a column is bold again."""
        if not set(new.columns) <= set(self.columns):
            self.columns, self.rule, self.rows = new.columns, new.rule, new.rows
            return
        for label, cells in new.rows.items():
            if label.startswith("*") and label in self.rows:
                continue  # sizes, the mean over all rows
            row = self.rows.setdefault(label, [""] * (len(self.columns) - 1))
            for column, cell in zip(new.columns[1:], cells, strict=True):
                row[self.columns.index(column) - 1] = cell
        for column in self.columns[1:]:
            if column != "seconds":
                self._embolden(self.columns.index(column) - 1)

    def _embolden(self, place: int) -> None:
        rows = [row for label, row in self.rows.items() if not label.startswith("*") and row[place]]
        for row, text in zip(rows, best_bold([row[place] for row in rows], low=is_low(self.measure)), strict=True):
            row[place] = text

    def lines(self) -> Iterator[str]:
        """As Markdown."""
        yield f"| {' | '.join(self.columns)} |"
        yield self.rule
        for label, cells in self.rows.items():
            yield f"| {' | '.join([label, *cells])} |".replace("|  |", "| |")


def is_low(measure: str) -> bool:
    """Whether less of it is better."""
    return measure.startswith("KL")


def best_bold(cells: list[str], *, low: bool) -> list[str]:
    """Cells as they are printed, with the best mean among them bold."""
    plain = [cell.strip("*") for cell in cells]
    means = [float(cell.split()[0]) for cell in plain]
    best = (min if low else max)(means, default=0.0)
    return [f"**{cell}**" if mean == best else cell for cell, mean in zip(plain, means, strict=True)]


def _parsed(lines: list[str]) -> Table:
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    width = len(cells[0])
    rows = {row[0]: (row[1:] + [""] * width)[: width - 1] for row in cells[2:]}
    return Table(cells[0], lines[1], rows)


def walk(text: str) -> Iterator[tuple[str, str, Table | None, list[str]]]:
    """A page in pieces: title, samples, and a table or other lines as they are."""
    title = samples = ""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("## "):
            title, samples = line[3:], ""
        elif line.startswith("### "):
            samples = line[4:].partition(" samples")[0]
        if line.startswith("| ") and at + 1 < len(lines) and lines[at + 1].startswith("|--"):
            end = next((i for i in range(at, len(lines)) if not lines[i].startswith("|")), len(lines))
            yield title, samples, _parsed(lines[at:end]), lines[at:end]
            at = end
        else:
            yield title, samples, None, [line]
            at += 1


def tables(text: str) -> dict[Key, Table]:
    """All tables of a page that stand under a title and a number of samples."""
    return {
        (title, samples, table.measure): table
        for title, samples, table, _ in walk(text)
        if table is not None and title and samples
    }


def merged(page: str, made: str, lists: Iterable[str] = ()) -> str:
    """The page with the rows of another run in their places.

    Args:
        page: As it is.
        made: Markdown of the run, of the same form.
        lists: Titles of sections that list cells: what they say of a draw that the run has is replaced.
    """
    new, listed = tables(made), set(lists)
    known = set(tables(page))
    measured = {(title, samples) for title, samples, _ in new}
    out: list[str] = []
    for title, samples, table, lines in walk(page):
        if table is not None and (title, samples, table.measure) in new:
            table.take(new[title, samples, table.measure])
            out += table.lines()
        elif title in listed and _is_of(lines[0], measured):
            continue
        else:
            out += lines
    for head in listed:
        place = next((i for i, line in enumerate(out) if line == f"## {head}"), None)
        found = [line for title, _, _, (line, *_) in walk(made) if title == head and line.startswith("- ")]
        if place is not None and found:
            last = max((i for i in range(place, _end(out, place)) if out[i].strip()), default=place)
            out[last + 1 : last + 1] = [*([] if out[last].startswith("- ") else [""]), *found]
    absent = {title for title, samples, measure in new if (title, samples, measure) not in known}
    for head in dict.fromkeys(title for title, *_ in walk(made)):
        if head in absent and f"## {head}" not in out:
            out += ["", *[line for title, _, _, lines in walk(made) if title == head for line in lines]]
    return "\n".join(out).rstrip() + "\n"


def _end(lines: list[str], place: int) -> int:
    return next((i for i in range(place + 1, len(lines)) if lines[i].startswith("## ")), len(lines))


def _is_of(line: str, measured: set[tuple[str, str]]) -> bool:
    return any(line.startswith(f"- {title}, {samples} samples,") for title, samples in measured)


def headline(page: str) -> str:
    """The table at the head of the results, read from the page of tables."""
    heads = ["network", "samples", "kept", "MB", *COMPARED.values(), "accuracy %, before → ours"]
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---:|---:|" + "---:|" * (len(COMPARED) + 1)]
    held, before = tables(page), _originals(page)
    for (title, samples, measure), table in held.items():
        kind, _, group = measure.partition(", digits")
        rows = {label.removesuffix(", one ratio"): label for label in table.rows}
        if title not in SHOWN or int(samples.replace(",", "")) > _MOST_SAMPLES or not COMPARED.keys() <= rows.keys():
            continue
        if not measure.startswith(("KL", "cosine")) or group == _UNSEEN:
            continue
        right = _accuracy(held, title, samples, group)
        for column in SHOWN[title]:
            cells = best_bold([table.cell(rows[name], column) for name in COMPARED], low=is_low(kind))
            ours = right.cell("optimize", column).split()[0]
            name = title + (f"; digits{group}" if group else "")
            first = [name, samples, column, table.cell("*model, MB*", column)]
            lines.append(f"| {' | '.join([*first, *cells, f'{before[title, group]} → {ours}'])} |")
    return "\n".join(lines)


def _accuracy(held: dict[Key, Table], title: str, samples: str, group: str) -> Table:
    wanted = f"accuracy %, digits{group}" if group else "accuracy %"
    return next(
        table for (*place, name), table in held.items() if place == [title, samples] and name.startswith(wanted)
    )


def _originals(page: str) -> dict[tuple[str, str], str]:
    """What each original gets: by title and group of test samples."""
    found = {}
    for title, _, _, (line, *_) in walk(page):
        if line.startswith("Original ("):
            for group, value in re.findall(r"(?:accuracy|on digits( \S+)) ([\d.]+) %", line):
                found[title, group] = value
    return found


def update(folder: Path, made: str, lists: Iterable[str] = ()) -> None:
    """Both pages in the folder of the docs."""
    path = folder / TABLES_PAGE
    tables = merged(path.read_text(encoding="utf-8"), made, lists)
    path.write_text(tables, encoding="utf-8")
    PART.update(folder, headline(tables))
