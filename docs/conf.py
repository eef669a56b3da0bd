"""The docs site, built without network from the root of the repository: `python -m sphinx -c docs . build/site`.

The source folder is the repository, so that links between pages, also to those outside docs/, are the same on the site
as where the files lie.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from onnx_dalr import __version__  # noqa: E402

project = "onnx-dalr"
author = "The onnx-dalr developers"
version = release = __version__
copyright = author

root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/*.rst", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md"]
exclude_patterns = [".*", "build", "dist", "shared", "tests", "tools", "onnx_dalr", "models/digits"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|numpy|onnx|os|pathlib|typing)\..*"),  # has pages of its own, elsewhere
    (r"py:.*", r"onnx_dalr\..*\.(Context|Layer|Learned|Model|RankRule|Sets|Shared|Statistics|Task|Tensor)"),  # inside
    (r"py:class", r"'\w+'"),  # of a Literal
]

default_role = "code"  # what docstrings have in single backticks
smartquotes = False  # "40%" is to be typed as it stands
myst_heading_anchors = 4

autodoc_preserve_defaults = True
autodoc_type_aliases = {
    "PathLike": "onnx_dalr.PathLike",
    "GivenLabels": "onnx_dalr.GivenLabels",
    "ModelProto": "onnx.ModelProto",
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"onnx-dalr {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]

_ALIAS = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")
_RETURNS = re.compile(r"^Returns:\n +((?:.+\n?)+)", re.MULTILINE)
_LONGEST = 160  # characters of a description


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Gives a page its description: the first paragraph of it."""
    del app, page, template
    first = next(doctree.findall(nodes.paragraph), None) if doctree is not None else None
    if first is not None:
        text = re.sub(r"\s+", " ", first.astext())
        short = text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(' ')[0]} …"
        context["metatags"] += f'<meta name="description" content="{escape(short)}" />'


def name_aliases(*given: Any) -> tuple[str | None, str | None]:
    """A signature in which a type alias that is one of several types is its name, as one that stands alone is."""
    *_, signature, returns = given
    return tuple(text and _ALIAS.sub(r"\1", text) for text in (signature, returns))


def keep_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keeps napoleon from taking what stands before a colon for a type, in properties and in what is returned."""
    del app, name, thing, options
    if what == "property":
        lines.insert(0, "\\ ")  # which is nothing, in a line of its own
    lines[:] = _RETURNS.sub(r":returns: \1\n", "\n".join(lines)).splitlines()


def dash_fields(app: Sphinx, doctree: nodes.document) -> None:
    """Puts a dash between a parameter and what is said of it, which Sphinx leaves to the quotes it would change."""
    del app
    for text in [node for node in doctree.findall(nodes.Text) if node == " -- "]:
        text.parent.replace(text, nodes.Text(" – "))


def setup(app: Sphinx) -> None:
    """Hooks in what Sphinx has no setting for."""
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
    app.connect("html-page-context", describe)
    app.connect("doctree-read", dash_fields)
