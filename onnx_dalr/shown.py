"""What results have in common for people: a table as text and in a notebook, and one line of it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from onnx_dalr.errors import one_line
from onnx_dalr.files import write_text

PLAIN_WIDTH = 120
"""Characters of a line where nothing says how wide it is."""

PAGE = "page"
"""The renderer that makes a whole report of a result, as a file that stands alone."""

RENDERERS = "onnx_dalr.report.renderers"
"""Where results are rendered for people: found by this name when one is shown.

It is the one arrow that runs up. So no result imports what renders it, and who shows none loads no tables.
"""


class Shown:
    """`str()` is the whole view, `repr()` a line that says which result it is, and a notebook shows the view as tables.

    A subclass says the line, `_brief`; its view is registered in `report/views.py`.
    """

    def _brief(self) -> str:
        raise NotImplementedError

    def render(self, renderer: str, **how: Any) -> str:
        """The result as text in one of the ways there are: "text", "html", "page", "markdown", "json".

        Args:
            renderer: One of `report/renderers.py`.
            how: What its view can be told: `width`, `verbose`, `top`.

        Raises:
            KeyError: There is no such renderer.
        """
        return str(import_module(RENDERERS).RENDERERS[renderer](self, **how))

    def save_html(self, path: str | os.PathLike[str], **how: Any) -> None:
        """Writes the whole report as one HTML page that needs nothing else, in place of an older one.

        Args:
            path: Of the file.
            how: What its page can be told: of an analysis, the `plan`.

        Raises:
            InputError: It cannot be written.
        """
        write_text(Path(path), self.render(PAGE, **how))

    def __str__(self) -> str:
        return self.render("text")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {one_line(self._brief())}>"

    def _repr_html_(self) -> str:
        return self.render("html")
