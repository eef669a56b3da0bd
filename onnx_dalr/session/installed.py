"""ONNX Runtime as it is installed here, imported when it is first needed."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from onnx_dalr.errors import InputError

FATAL_ONLY = 4


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        InputError: It is not installed, or two of its packages have overwritten each other.
    """
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
