"""Every result as a page. Pages take results; no result knows its page."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.report.page.analysis import analysis_page
from onnx_dalr.report.page.check import check_page
from onnx_dalr.report.page.compare import comparison_page
from onnx_dalr.report.page.optimize import result_page
from onnx_dalr.report.page.parts import Page
from onnx_dalr.results.check import CheckResult
from onnx_dalr.results.compare import ModelComparison
from onnx_dalr.results.result import Result


@singledispatch
def page(result: object, **how: Any) -> Page:
    """A result as a whole report.

    Args:
        result: Of any command.
        how: What else its page can be told.

    Raises:
        NotImplementedError: There is no page of such a result.
    """
    raise NotImplementedError(f"there is no page of {type(result).__name__}: report/page/pages.py names none")


# A new page is a new file, and a line here.
page.register(Analysis, analysis_page)
page.register(CheckResult, check_page)
page.register(ModelComparison, comparison_page)
page.register(Result, result_page)
