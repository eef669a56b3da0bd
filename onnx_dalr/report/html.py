"""A view as HTML for notebooks: the tables of the terminal as tables, in the colours of the page they stand in."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Column, Row, Table
from rich.text import Text

from onnx_dalr.report.text import as_text

WIDEST = 400
"""Characters a line may have in a notebook, which scrolls: no column has to be left out."""

_COLOURS = {"red": "#d9534f", "yellow": "#b8860b", "cyan": "#2a92a5", "green": "#3f9142"}
"""Readable on white and on black; what has no colour takes the page's."""

_PAGE = "overflow-x: auto; line-height: 1.4"
_TABLE = "border-collapse: collapse; border: none; margin: 0.5em 0; color: inherit; font-size: inherit"
_CELL = "text-align: {side}; vertical-align: top; padding: 0.1em 1.2em 0.1em 0; border: none; background: none"
_NUMBERS = "; white-space: pre; font-variant-numeric: tabular-nums"
_WORDS = "; white-space: pre-wrap; overflow-wrap: break-word; max-width: 60em"


def as_html(view: RenderableType) -> str:
    """A view of texts, tables and groups of them as HTML; it loads nothing, and all its style is in its tags."""
    return f'<div style="{_PAGE}">{"".join(_parts(view))}</div>'


def _parts(view: RenderableType) -> Iterator[str]:
    if isinstance(view, Group):
        for part in view.renderables:
            yield from _parts(part)
    elif isinstance(view, Table):
        yield from _table(view)
    elif isinstance(view, Text):
        if view:  # an empty one parts two tables, which have margins here
            yield f"<div>{_text(view)}</div>"
    elif isinstance(view, str):
        yield from _parts(Text.from_markup(view))
    else:
        yield f"<pre>{escape(as_text(view))}</pre>"


def _table(table: Table) -> Iterator[str]:
    yield f'<table style="{_TABLE}">'
    if table.show_header and any(column.header for column in table.columns):
        heads = (_cell("th", column, column.header, "bold") for column in table.columns)
        yield f"<thead><tr>{''.join(heads)}</tr></thead>"
    yield "<tbody>"
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        shown = (_cell("td", column, cell) for column, cell in zip(table.columns, cells, strict=True))
        yield f"<tr{_row_style(row)}>{''.join(shown)}</tr>"
    yield "</tbody></table>"


def _row_style(row: Row) -> str:
    css = _css(row.style or "")
    return f' style="{css}"' if css else ""


def _cell(tag: str, column: Column, cell: RenderableType, style: str = "") -> str:
    side = "right" if column.justify == "right" else "left"
    css = "; ".join(filter(None, (_CELL.format(side=side), _css(style), _css(column.style))))
    css += _NUMBERS if column.no_wrap else _WORDS
    inside = _text(Text.from_markup(cell) if isinstance(cell, str) else cell) if isinstance(cell, str | Text) else None
    return f'<{tag} style="{css}">{"".join(_parts(cell)) if inside is None else inside}</{tag}>'


def _text(text: Text) -> str:
    """A text with its styles; where they overlap, each stretch has what lies on it."""
    ends = sorted({0, len(text), *(end for span in text.spans for end in (span.start, span.end))})
    shown = []
    for start, end in pairwise(ends):
        styles = [_css(span.style) for span in text.spans if span.start <= start and end <= span.end]
        css = "; ".join(filter(None, styles))
        plain = escape(text.plain[start:end])
        shown.append(f'<span style="{css}">{plain}</span>' if css else plain)
    whole, inside = _css(text.style), "".join(shown).replace("\n", "<br>")
    return f'<span style="{whole}">{inside}</span>' if whole else inside


def _css(style: str | Style) -> str:
    """A style of rich's as CSS, as far as the views have it: weight, a faint tone and a few colours."""
    made = Style.parse(style) if isinstance(style, str) else style
    colour = _COLOURS.get(made.color.name) if made.color is not None else None
    rules = (
        "font-weight: bold" if made.bold else "",
        "opacity: 0.65" if made.dim else "",
        "font-style: italic" if made.italic else "",
        f"color: {colour}" if colour else "",
    )
    return "; ".join(filter(None, rules))
