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

FUNCTIONS = {
    "optimize": "onnx_dalr.pipeline",
    "analyze": "onnx_dalr.pipeline",
    "apply": "onnx_dalr.pipeline",
    "inspect": "onnx_dalr.inspection",
    "check": "onnx_dalr.budget",
    "compare": "onnx_dalr.comparison",
}
"""The module of each. The command line calls them there; from here they speak Python."""

_CLASSES = {
    "Analysis": "onnx_dalr.analysis",
    "Plan": "onnx_dalr.plan",
    "StatisticsSet": "onnx_dalr.stats_set",
    "Result": "onnx_dalr.report.result",
    "Inspection": "onnx_dalr.inspection",
    "CheckResult": "onnx_dalr.budget",
    "ModelComparison": "onnx_dalr.comparison",
}

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


if not TYPE_CHECKING:  # to which the names above are all there is

    def __getattr__(name: str) -> Any:
        """Imported when first asked for, so that `onnx-dalr --help` loads neither ONNX Runtime nor SciPy."""
        from importlib import import_module  # noqa: PLC0415

        if name in _CLASSES:
            return getattr(import_module(_CLASSES[name]), name)
        if name not in FUNCTIONS:
            raise AttributeError(f"module 'onnx_dalr' has no attribute {name!r}")
        from onnx_dalr.wording import speaks_python  # noqa: PLC0415

        function = speaks_python(getattr(import_module(FUNCTIONS[name]), name))
        function.__module__ = __name__  # where pickle and people find it
        return globals().setdefault(name, function)  # the same function every time


def __dir__() -> list[str]:
    return __all__
