"""What the result of `check` can be written as. A new format is a new file, a line here, and a word of `--format`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx_dalr.report.check import check_view
from onnx_dalr.report.check_github import as_github
from onnx_dalr.report.check_junit import as_junit
from onnx_dalr.report.check_markdown import as_markdown
from onnx_dalr.report.text import UNBROKEN, as_text
from onnx_dalr.results.check import CheckResult

CHECK_FORMATS: Mapping[str, Callable[[CheckResult], str]] = {
    "text": lambda found: as_text(check_view(found), UNBROKEN) + "\n",
    "json": CheckResult.to_json,
    "markdown": as_markdown,
    "github": as_github,
    "junit": as_junit,
}
"""By name: the text of it."""
