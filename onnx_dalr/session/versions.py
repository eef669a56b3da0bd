"""What onnx-dalr stands on here: for reports, and for people who report a bug."""

from __future__ import annotations

import importlib.metadata
import platform

import threadpoolctl

from onnx_dalr._version import __version__
from onnx_dalr.errors import DalrError
from onnx_dalr.graph.smallest import smallest
from onnx_dalr.session.installed import installed_packages, onnxruntime
from onnx_dalr.session.session import open_session

_BLAS = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS", "accelerate": "Accelerate"}


def versions(provider: str = "") -> dict[str, str]:
    """What runs here, by its name, onnx-dalr first.

    Which execution provider ONNX Runtime really takes is tried with a model of one node, where it is not known: what it
    was built for needs drivers and libraries that may not be there. Where ONNX Runtime is broken its entry says how.

    Args:
        provider: That ran a model; "" to try.

    Returns:
        "onnx-dalr", "Python", "platform", "onnx", "onnxruntime", "runs on", "numpy", "BLAS", "scipy" → their versions.
    """
    return {
        "onnx-dalr": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "onnx": importlib.metadata.version("onnx"),
        **_runtime(provider),
        "numpy": importlib.metadata.version("numpy"),
        "BLAS": _blas(),
        "scipy": importlib.metadata.version("scipy"),
    }


def _runtime(provider: str) -> dict[str, str]:
    try:
        ort = onnxruntime()
        packages = ", ".join(sorted(installed_packages())) or "of no known package"
        runs = _short(provider or open_session(smallest()).provider)
    except DalrError as error:
        return {"onnxruntime": error.message, "runs on": "nothing"}
    built_for = [_short(name) for name in ort.get_available_providers()]
    unusable = " (no usable CUDA here)" if "CUDA" in built_for and runs != "CUDA" else ""
    return {
        "onnxruntime": f"{ort.__version__} ({packages}; built for {', '.join(built_for)})",
        "runs on": runs + unusable,
    }


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _blas() -> str:
    """The libraries that multiply matrices: those that are loaded, which NumPy's is."""
    found = {
        f"{_BLAS.get(each['internal_api'], each['internal_api'])} {each['version'] or '?'}, "
        f"{each['num_threads']} {'thread' if each['num_threads'] == 1 else 'threads'}": None
        for each in threadpoolctl.threadpool_info()
        if each["user_api"] == "blas"
    }
    return "; ".join(found) or "of a kind that cannot be told"
