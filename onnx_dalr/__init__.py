"""Make an ONNX model smaller for the data it will really see."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError, InputError, NothingToGainError, TargetError, VerificationError

if TYPE_CHECKING:
    from onnx_dalr.choose.analysis import Analysis
    from onnx_dalr.commands.analyze import analyze
    from onnx_dalr.commands.apply import apply
    from onnx_dalr.commands.check import check
    from onnx_dalr.commands.compare import compare
    from onnx_dalr.commands.inspect import inspect
    from onnx_dalr.commands.optimize import optimize
    from onnx_dalr.commands.tune import tune
    from onnx_dalr.learn.statistics_set import StatisticsSet
    from onnx_dalr.plan.plan import Plan
    from onnx_dalr.results.check import CheckResult
    from onnx_dalr.results.compare import ModelComparison
    from onnx_dalr.results.inspect import Inspection
    from onnx_dalr.results.result import Result
    from onnx_dalr.results.tune import TuneResult

FUNCTIONS = ("optimize", "analyze", "apply", "inspect", "check", "compare")
"""Each is in a module of its name. The command line calls them there; from here they speak Python."""

_CLASSES = {
    "Analysis": "onnx_dalr.choose.analysis",
    "Plan": "onnx_dalr.plan.plan",
    "StatisticsSet": "onnx_dalr.learn.statistics_set",
    "Result": "onnx_dalr.results.result",
    "TuneResult": "onnx_dalr.results.tune",
    "Inspection": "onnx_dalr.results.inspect",
    "CheckResult": "onnx_dalr.results.check",
    "ModelComparison": "onnx_dalr.results.compare",
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
    "TuneResult",
    "VerificationError",
    "__version__",
    "analyze",
    "apply",
    "check",
    "compare",
    "inspect",
    "optimize",
    "tune",
]


_made: dict[str, Any] = {}

if not TYPE_CHECKING:  # to which the names above are all there is

    def __getattr__(name: str) -> Any:
        """Imported when first asked for, so that `onnx-dalr --help` loads neither ONNX Runtime nor SciPy."""
        from importlib import import_module  # noqa: PLC0415

        if name in _made:
            return _made[name]
        if name in _CLASSES:
            return getattr(import_module(_CLASSES[name]), name)
        if name not in (*FUNCTIONS, "tune"):
            raise AttributeError(f"module 'onnx_dalr' has no attribute {name!r}")
        from onnx_dalr.request.wording import speaks_python  # noqa: PLC0415

        function = speaks_python(getattr(import_module(f"onnx_dalr.commands.{name}"), name))
        function.__module__ = __name__  # where pickle and people find it
        return _made.setdefault(name, function)  # the same function every time

    class _Package(ModuleType):
        """`tune` is a function, though a room has that name: where that is imported, it does not take its place."""

        @property
        def tune(self) -> Any:
            return _made.get("tune") or __getattr__("tune")

        @tune.setter
        def tune(self, room: ModuleType) -> None:
            del room  # Python sets it when it imports one; `from onnx_dalr.tune import …` finds it elsewhere

    sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return __all__
