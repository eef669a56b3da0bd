"""What a result can be rendered as. A new renderer is a new file that writes views, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx_dalr.report.html import WIDEST, as_html
from onnx_dalr.report.markdown import as_markdown
from onnx_dalr.report.page.notebook import plots_of
from onnx_dalr.report.page.pages import page
from onnx_dalr.report.page.writing import fragment, written
from onnx_dalr.report.text import as_text
from onnx_dalr.report.views import view
from onnx_dalr.shown import PAGE, PLAIN_WIDTH

RENDERERS: Mapping[str, Callable[..., str]] = {
    "text": lambda result, width=PLAIN_WIDTH, **how: as_text(view(result, width, **how), width),
    "html": lambda result, width=WIDEST, **how: as_html(view(result, width, **how)) + fragment(plots_of(result)),
    PAGE: lambda result, **how: written(page(result, **how)),
    "markdown": lambda result, width=WIDEST, **how: as_markdown(view(result, width, **how)),
    "json": lambda result: result.to_json(),
}
"""By name: what writes a result. `how` is what its view can be told, see `views.view`."""
