"""A page as one HTML file: style and script are in it, pictures too; it loads nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from onnx_dalr.errors import one_line
from onnx_dalr.report.page.parts import Page, Plot
from onnx_dalr.report.page.plots import without_page

_HERE = "onnx_dalr.report.page"


def written(page: Page) -> str:
    """The whole file."""
    made: str = _template("page.html").render(page=page, style=_text("style.css"), script=_text("sort.js"))
    return made


def fragment(parts: Sequence[Plot]) -> str:
    """Some parts without a page around them, for notebooks."""
    made: str = _template("fragment.html").render(parts=[(plot, without_page(plot.wide)) for plot in parts])
    return made


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only where a page is written

    made = Environment(
        loader=PackageLoader(_HERE, "templates"),
        autoescape=True,  # names in a model may hold anything
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = lambda png: f"data:image/png;base64,{b64encode(png).decode()}"
    made.filters["kind"] = lambda part: type(part).__name__
    return made.get_template(name)


def _shown(value: Any) -> Any:
    """Text of others without what would control anything: a line break in a name is two characters."""
    return one_line(value) if type(value) is str else value


def _text(name: str) -> str:
    return files(_HERE).joinpath("templates", name).read_text(encoding="utf-8")
