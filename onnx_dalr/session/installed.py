"""ONNX Runtime as it is installed here, imported when it is first needed."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from onnx_dalr.errors import InputError

FATAL_ONLY = 4


def onnxruntime() -> Any:
    """The onnxruntime module.

    From 1.29 on it sends what it is used for, names of models among it, to its makers, unless it is told not to before
    it is imported. So it is, by the variable that its documentation names, where that is not set to something else.

    Raises:
        InputError: It is not installed, or two of its packages have overwritten each other.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    both = {"onnxruntime", "onnxruntime-gpu"}
    try:
        import onnxruntime as ort  # noqa: PLC0415 - heavy: not for --help

        ort.set_default_logger_severity(FATAL_ONLY)
    except (ImportError, AttributeError) as error:
        broken = installed_packages() >= both
        raise InputError(
            "onnxruntime and onnxruntime-gpu are both installed and break each other"
            if broken
            else f"onnxruntime cannot be imported: {error}",
            "uninstall both and install one: pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu"
            if broken
            else "pip install --force-reinstall onnxruntime-gpu (or onnxruntime)",
        ) from error
    return ort


def installed_packages() -> set[str]:
    """Which of the packages that provide the onnxruntime module are installed; more than one overwrite each other."""
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
    found = set()
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def be_ready() -> None:
    """Imports ONNX Runtime, which takes a while the first time.

    Raises:
        InputError: It is not installed, or two of its packages have overwritten each other.
    """
    onnxruntime()
