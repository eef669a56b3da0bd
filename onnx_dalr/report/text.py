"""A view as plain text: what `print` shows of a result."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from onnx_dalr.shown import PLAIN_WIDTH

UNBROKEN = 1000
"""Characters of a line in a log, where none is to be broken."""


def as_text(view: RenderableType, width: int = PLAIN_WIDTH) -> str:
    """A view as plain text without colours or trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True, highlight=False, legacy_windows=False).print(view)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
