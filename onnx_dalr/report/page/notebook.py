"""The plots of a page alone: a notebook has the tables already."""

from __future__ import annotations

from functools import singledispatch

from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.report.page.analysis import analysis_plots
from onnx_dalr.report.page.check import check_plots
from onnx_dalr.report.page.compare import comparison_plots
from onnx_dalr.report.page.optimize import result_plots
from onnx_dalr.report.page.parts import Plot
from onnx_dalr.results.check import CheckResult
from onnx_dalr.results.compare import ModelComparison
from onnx_dalr.results.result import Result


@singledispatch
def plots_of(result: object) -> tuple[Plot, ...]:
    """The plots on the page of a result; none where it has no page, or no plots on it."""
    del result
    return ()


plots_of.register(Analysis, analysis_plots)
plots_of.register(CheckResult, check_plots)
plots_of.register(ModelComparison, comparison_plots)
plots_of.register(Result, result_plots)
