"""Memory of a model in a fresh process, and where it cannot be measured."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from onnx_dalr.quality import memory as memory_file
from onnx_dalr.quality.memory import Memory, measure_memory
from onnx_dalr.session import resident as resident_file
from onnx_dalr.session.memory import memory_available
from onnx_dalr.session.resident import resident
from tests.graph.helpers import model, values

MB = 1_000_000
BATCH = {"x": np.ones((1, 1024), np.float32)}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").is_file(), reason="the system does not say what is resident"
)


def of_megabytes(count: int) -> ModelProto:
    text = f"g (float[N,1024] x) => (float[N,{256 * count}] y) {{ y = MatMul(x, W) }}"
    return model(text, W=values("W", (1024, 256 * count)))


def test_a_larger_model_takes_more(tmp_path: Path) -> None:
    onnx.save(of_megabytes(40), tmp_path / "large.onnx")
    onnx.save(of_megabytes(1), tmp_path / "small.onnx")
    found = measure_memory(tmp_path / "large.onnx", tmp_path / "small.onnx", BATCH, 1)
    assert found is not None
    assert found.before > 38 * MB
    assert found.before - found.after > 30 * MB
    assert found.batch == 1


def test_a_model_in_memory_and_one_with_a_data_file_are_measured_too(tmp_path: Path) -> None:
    inside = resident(of_megabytes(20).SerializeToString(), BATCH)
    onnx.save_model(of_megabytes(20), tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    outside = resident(tmp_path / "m.onnx", BATCH)
    assert inside is not None
    assert outside is not None
    assert min(inside, outside) > 19 * MB


def test_a_model_that_does_not_run_there_is_not_measured(tmp_path: Path) -> None:
    assert resident(b"no model", BATCH) is None
    assert resident(of_megabytes(1).SerializeToString(), {"another": BATCH["x"]}) is None
    assert resident(of_megabytes(1).SerializeToString(), BATCH, [tmp_path / "missing.so"]) is None
    assert resident(of_megabytes(1).SerializeToString(), {"x": np.array(["a", 1], object)}) is None


def test_one_that_may_be_too_large_for_the_machine_is_not_loaded() -> None:
    assert resident(of_megabytes(1).SerializeToString(), BATCH, room=2 * MB) is None
    assert resident(of_megabytes(1).SerializeToString(), BATCH, room=20 * MB) is not None


def test_what_cannot_be_measured_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    onnx.save(of_megabytes(1), tmp_path / "m.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "missing"))
        assert resident(tmp_path / "m.onnx", BATCH) is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", None)
        assert resident(tmp_path / "m.onnx", BATCH) is None
    with monkeypatch.context() as patch:
        patch.setattr(resident_file, "_KERNEL", tmp_path / "missing")
        assert resident(tmp_path / "m.onnx", BATCH) is None
    with monkeypatch.context() as patch:
        patch.setattr(resident_file, "_SECONDS", 0.01)
        assert resident(tmp_path / "m.onnx", BATCH) is None
    monkeypatch.setattr(memory_file, "resident", lambda *_: None)
    assert measure_memory(tmp_path / "m.onnx", tmp_path / "m.onnx", BATCH, 1) is None


def test_the_program_imports_nothing_of_ours() -> None:
    """It would be in memory too. It does not lie on the path of modules either: files beside it have common names."""
    program = Path(resident_file.__file__).with_name("fresh_process.py")
    assert "import onnx_dalr" not in program.read_text(encoding="utf-8").replace("from ", "import ")


def test_memory_available_is_some() -> None:
    assert (memory_available() or 0) > MB


def test_it_grows_by_more_than_measurements_differ() -> None:
    assert Memory(100 * MB, 115 * MB, 1).grows
    assert not Memory(100 * MB, 108 * MB, 1).grows
    assert not Memory(1 * MB, 2 * MB, 1).grows
