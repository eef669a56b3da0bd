"""What onnx-dalr says it stands on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy

from onnx_dalr import InputError, __version__
from onnx_dalr.session import versions as module
from onnx_dalr.session.versions import versions


def test_versions_are_those_of_what_is_imported() -> None:
    found = versions()
    assert next(iter(found)) == "onnx-dalr"
    assert found["onnx-dalr"] == __version__
    assert found["onnx"] == onnx.__version__
    assert found["numpy"] == np.__version__
    assert found["scipy"] == scipy.__version__
    assert found["onnxruntime"].startswith(f"{onnxruntime.__version__} (onnxruntime")
    assert "thread" in found["BLAS"]


def test_a_provider_that_is_only_built_in_does_not_run_anything() -> None:
    found = versions()
    built_in = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    assert f"built for {', '.join(built_in)})" in found["onnxruntime"]
    assert found["runs on"] in ("CUDA", "CPU", "CPU (no usable CUDA here)")
    assert ("no usable CUDA" in found["runs on"]) == ("CUDA" in built_in and found["runs on"] != "CUDA")


def test_a_broken_onnx_runtime_is_told_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise InputError("onnxruntime and onnxruntime-gpu are both installed and break each other")

    monkeypatch.setattr(module, "onnxruntime", broken)
    found = versions()
    assert found["onnxruntime"] == "onnxruntime and onnxruntime-gpu are both installed and break each other"
    assert found["runs on"] == "nothing"
    assert found["numpy"] == np.__version__
