"""A view as GitHub-flavoured Markdown: what people paste into pull requests and issues."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.report.text import as_text

_SPECIAL = re.compile(r"[\\`*\[\]<|~$&]")
"""What emphasis, code, links, tables, formulas and HTML begin with, wherever it stands."""

_UNDERSCORES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
"""Those that are not inside a word, where they mean nothing."""

_OPENING = re.compile(r"^([-+#=>])|^(\d{1,9})([.)])(?=\s|$)")
"""What makes a list, a heading or a quotation of a line, or underlines the one before."""

_REFERENCE = re.compile(r"(?<!\w)@(?=\w)|#(?=\d)|:(?=[\w+-]+:)")
"""What GitHub makes links and pictures of, and tells people that somebody spoke of them: @name, #12, :name:."""

_APART = "<!-- -->"  # between two characters it is nothing but an end of what they would be together


def as_markdown(view: RenderableType) -> str:
    """A view of texts, tables and groups of them as Markdown; whatever it says is shown as it is said."""
    return "\n\n".join(_parts(view)) + "\n"


def _parts(view: RenderableType) -> Iterator[str]:
    if isinstance(view, Group):
        yield from _grouped(view.renderables)
    elif isinstance(view, Table):
        yield _table(view)
    elif isinstance(view, Text):
        if view.plain.strip():  # an empty one parts two tables, as a paragraph does
            yield _paragraph(view)
    elif isinstance(view, str):
        yield from _parts(Text.from_markup(view))
    else:
        yield _as_it_is(as_text(view))


def _grouped(parts: Sequence[RenderableType]) -> Iterator[str]:
    """Lines of text that follow each other stay lines of one paragraph."""
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Text) and part.plain.strip():
            lines.append(_paragraph(part))
            continue
        if lines:
            yield "\\\n".join(lines)
            lines = []
        yield from _parts(part)
    if lines:
        yield "\\\n".join(lines)


def _paragraph(text: Text) -> str:
    """Its lines broken where they are."""
    lines = [line for line in text.split("\n") if line.plain.strip()]
    return "\\\n".join(_OPENING.sub(_opened, _inline(line).strip()) for line in lines)


def _opened(found: re.Match[str]) -> str:
    """The beginning of a line that shall only be read."""
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def _table(table: Table) -> str:
    """With a head that says nothing where there is none: Markdown knows no table without."""
    headed = table.show_header and any(column.header for column in table.columns)
    heads = [_cell(column.header) if headed else "" for column in table.columns]
    sides = ["---:" if column.justify == "right" else "---" for column in table.columns]
    rows = [heads, sides]
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        styles = (f"{row.style or ''} {column.style or ''}" for column in table.columns)
        rows.append([_cell(cell, style) for cell, style in zip(cells, styles, strict=True)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: RenderableType, style: str = "") -> str:
    """In one line, whatever it holds."""
    if isinstance(cell, str):
        cell = Text.from_markup(cell)
    if not isinstance(cell, Text):
        cell = Text(as_text(cell))
    return "<br>".join(_inline(line, bold=_is_bold(style)) for line in cell.split("\n"))


def _inline(text: Text, *, bold: bool = False) -> str:
    """A line with what is bold in it; colours have no Markdown, and what is faint is said all the same."""
    if bold or _is_bold(text.style):
        return _marked(text.plain, bold=True)
    ends = sorted({0, len(text), *(min(end, len(text)) for span in text.spans for end in (span.start, span.end))})
    return "".join(
        _marked(
            text.plain[start:end],
            bold=any(_is_bold(span.style) for span in text.spans if span.start <= start and end <= span.end),
        )
        for start, end in pairwise(ends)
    )


def _marked(text: str, *, bold: bool) -> str:
    """Escaped; marks of bold stand next to characters, not to blanks."""
    inside = text.strip()
    said = escaped(text if not bold else inside)
    if not bold or not inside:
        return said if inside else text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}**{said}**{after}"


def escaped(text: str) -> str:
    """Text that no reader of Markdown takes for anything else, control characters written out."""
    safe = _SPECIAL.sub(lambda found: f"\\{found[0]}", one_line(text))
    safe = _UNDERSCORES.sub(lambda found: "\\_" * len(found[0]), safe)
    return _REFERENCE.sub(lambda found: f"{found[0]}{_APART}", safe)


def _is_bold(style: str | Style) -> bool:
    """Headings, names of facts, and what failed."""
    return bool((Style.parse(style) if isinstance(style, str) else style).bold)


def _as_it_is(text: str) -> str:
    """What is neither text nor table, between fences longer than any in it."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
