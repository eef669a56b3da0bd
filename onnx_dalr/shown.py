"""What results have in common for people: a table as text and in a notebook, and one line of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_dalr.errors import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDEST = 400
"""Characters a line may have in a notebook, which scrolls: no column has to be left out."""


class Shown:
    """`str()` is the whole view, `repr()` a line that says which result it is, and a notebook shows the view as tables.

    A subclass says both: `_view`, in rich's terms, and `_brief`.
    """

    def _view(self, width: int) -> RenderableType:
        """The view, for so many characters a line."""
        raise NotImplementedError

    def _brief(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        from onnx_dalr.report.text import PLAIN_WIDTH, as_text  # noqa: PLC0415 - heavy: rich

        return as_text(self._view(PLAIN_WIDTH))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {one_line(self._brief())}>"

    def _repr_html_(self) -> str:
        from onnx_dalr.report.html import as_html  # noqa: PLC0415 - heavy: rich

        return as_html(self._view(WIDEST))
