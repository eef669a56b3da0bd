"""Make an ONNX model smaller for the data it will really see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError, InputError, NothingToGainError, TargetError, VerificationError

if TYPE_CHECKING:
    from onnx_dalr.budget import CheckResult, check
    from onnx_dalr.inspection import Inspection, inspect
    from onnx_dalr.pipeline import optimize
    from onnx_dalr.report.result import Result

_LAZY = {
    "optimize": "onnx_dalr.pipeline",
    "Result": "onnx_dalr.report.result",
    "inspect": "onnx_dalr.inspection",
    "Inspection": "onnx_dalr.inspection",
    "check": "onnx_dalr.budget",
    "CheckResult": "onnx_dalr.budget",
}
"""Imported when first asked for, so that `onnx-dalr --help` loads neither ONNX Runtime nor SciPy."""

__all__ = [
    "CheckResult",
    "DalrError",
    "InputError",
    "Inspection",
    "NothingToGainError",
    "Result",
    "TargetError",
    "VerificationError",
    "__version__",
    "check",
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
