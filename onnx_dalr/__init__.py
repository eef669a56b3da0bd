"""Make an ONNX model smaller for the data it will really see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError, InputError, NothingToGainError, TargetError, VerificationError

if TYPE_CHECKING:
    from onnx_dalr.analysis import Analysis
    from onnx_dalr.budget import CheckResult, check
    from onnx_dalr.comparison import ModelComparison, compare
    from onnx_dalr.inspection import Inspection, inspect
    from onnx_dalr.pipeline import analyze, apply, optimize
    from onnx_dalr.plan import Plan
    from onnx_dalr.report.result import Result
    from onnx_dalr.stats_set import StatisticsSet

_LAZY = {
    "optimize": "onnx_dalr.pipeline",
    "analyze": "onnx_dalr.pipeline",
    "apply": "onnx_dalr.pipeline",
    "Analysis": "onnx_dalr.analysis",
    "Plan": "onnx_dalr.plan",
    "StatisticsSet": "onnx_dalr.stats_set",
    "Result": "onnx_dalr.report.result",
    "inspect": "onnx_dalr.inspection",
    "Inspection": "onnx_dalr.inspection",
    "check": "onnx_dalr.budget",
    "CheckResult": "onnx_dalr.budget",
    "compare": "onnx_dalr.comparison",
    "ModelComparison": "onnx_dalr.comparison",
}
"""Imported when first asked for, so that `onnx-dalr --help` loads neither ONNX Runtime nor SciPy."""

__all__ = [
    "Analysis",
    "CheckResult",
    "DalrError",
    "InputError",
    "Inspection",
    "ModelComparison",
    "NothingToGainError",
    "Plan",
    "Result",
    "StatisticsSet",
    "TargetError",
    "VerificationError",
    "__version__",
    "analyze",
    "apply",
    "check",
    "compare",
    "inspect",
    "optimize",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'onnx_dalr' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
