"""Every result as something to look at. Views take results; no result knows its view."""

from __future__ import annotations

from functools import partial, singledispatch
from typing import Any

from rich.console import RenderableType

from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.plan.plan import Plan
from onnx_dalr.report.analysis import analysis_view
from onnx_dalr.report.check import check_view
from onnx_dalr.report.compare import comparison_view
from onnx_dalr.report.inspect import inspection_view
from onnx_dalr.report.plan import plan_view
from onnx_dalr.report.result import result_view
from onnx_dalr.report.statistics import statistics_view
from onnx_dalr.report.tune import tune_view
from onnx_dalr.request.wording import in_python
from onnx_dalr.results.check import CheckResult
from onnx_dalr.results.compare import ModelComparison
from onnx_dalr.results.inspect import Inspection
from onnx_dalr.results.result import Result
from onnx_dalr.results.tune import TuneResult


@singledispatch
def view(result: object, width: int, **how: Any) -> RenderableType:
    """A result as somebody sees it who writes Python: texts, tables and groups of them, which every renderer can write.

    Args:
        result: Of any command.
        width: Characters a line has.
        how: What else its view can be told: `verbose`, `top`.

    Raises:
        NotImplementedError: There is no view of such a result.
    """
    raise NotImplementedError(f"there is no view of {type(result).__name__}: report/views.py names none")


# A new result is a new file with its view, and a line here.
view.register(Analysis, analysis_view)
view.register(CheckResult, check_view)
view.register(Inspection, partial(inspection_view, words=in_python))
view.register(ModelComparison, comparison_view)
view.register(Plan, plan_view)
view.register(Result, partial(result_view, words=in_python))
view.register(StatisticsSet, statistics_view)
view.register(TuneResult, partial(tune_view, words=in_python))
