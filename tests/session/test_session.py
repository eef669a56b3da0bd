"""Sessions say which provider really runs, and what ONNX Runtime refuses in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.session import installed
from onnx_dalr.session.session import open_session, provider_line
from onnx_dalr.session.values import all_finite
from tests.cli import tiny


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny.mlp().SerializeToString()


def test_a_session_runs_what_onnxruntime_runs(model: bytes) -> None:
    x = tiny.rows()
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    session = open_session(model, "cpu")
    for found in (session.run({"x": x}), session.run({"x": x}, ["y"])):
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert session.outputs == ("y",)


def test_a_model_loads_from_a_path_and_from_bytes_with_its_data_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny.mlp(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    feed = {"x": tiny.rows()}
    proto = onnx.load(path, load_external_data=False).SerializeToString()
    from_path, from_bytes = open_session(path, "cpu"), open_session(proto, "cpu", tmp_path)
    np.testing.assert_array_equal(from_path.run(feed)[0], from_bytes.run(feed)[0])


def test_the_signature_is_names_types_and_shapes_of_both_ends(model: bytes) -> None:
    assert open_session(model, "cpu").signature == (
        ("input", "x", "tensor(float)", ("N", 16)),
        ("output", "y", "tensor(float)", ("N", 4)),
    )


def test_cpu_means_cpu(model: bytes) -> None:
    session = open_session(model, "cpu")
    assert session.provider == "CPUExecutionProvider"
    assert provider_line(session.provider, "cpu") == "running on CPU"


def test_auto_names_the_provider_that_really_runs(model: bytes) -> None:
    session = open_session(model, "auto")
    assert session.provider == session.raw.get_providers()[0]
    line = provider_line(session.provider, "auto")
    assert line.startswith(f"running on {session.provider.removesuffix('ExecutionProvider')}")
    fell_back = session.provider == "CPUExecutionProvider"
    assert ("no usable CUDA here" in line) == (fell_back and "CUDAExecutionProvider" in ort.get_available_providers())


def test_cuda_never_falls_back_in_silence(model: bytes) -> None:
    if open_session(model, "auto").provider == "CUDAExecutionProvider":
        assert open_session(model, "cuda").provider == "CUDAExecutionProvider"
        return
    with pytest.raises(InputError, match="CUDA is not available"):
        open_session(model, "cuda")


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.ones((2, 15), np.float32)},
        {"x": np.ones((2, 16), np.int64)},
        {"z": np.ones((2, 16), np.float32)},
        {},
    ],
    ids=["shape", "type", "name", "nothing"],
)
def test_a_feed_that_does_not_fit_is_one_line_with_the_shapes(model: bytes, feed: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="cannot run the model on") as caught:
        open_session(model, "cpu").run(feed)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    for array in feed.values():
        assert str(list(array.shape)) in caught.value.message


def test_a_model_that_does_not_load_is_one_line_and_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(tiny.mlp().SerializeToString()[:2000])
    with pytest.raises(InputError, match="broken") as caught:
        open_session(path, "auto")
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny.mlp()
    model.graph.node[1].op_type = "Relux"
    with pytest.raises(InputError, match="Relux"):
        open_session(model.SerializeToString(), "cpu")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arrays", "finite"),
    [
        ([np.ones(3)], True),
        ([np.ones(3), np.array([1, np.nan])], False),
        ([np.array([np.inf], np.float16)], False),
        ([np.array([1, 2])], True),
        ([["a sequence"], np.array(["text"])], True),
        ([], True),
    ],
)
def test_finite_looks_at_floating_arrays_only(arrays: list[object], finite: bool) -> None:
    assert all_finite(arrays) is finite


def test_two_onnxruntime_packages_are_named_as_the_cause_where_the_module_is_broken(
    monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    monkeypatch.setattr(installed, "installed_packages", lambda: {"onnxruntime", "onnxruntime-gpu"})
    with pytest.raises(InputError, match="both installed") as caught:
        open_session(model, "cpu")
    assert "pip uninstall" in caught.value.hint
    monkeypatch.setattr(installed, "installed_packages", set)
    with pytest.raises(InputError, match="cannot be imported"):
        open_session(model, "cpu")


def test_numbers_are_fed_in_the_precision_that_the_model_takes(model: bytes) -> None:
    session = open_session(model)
    feed = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
    wide = session.fed({"x": feed.astype(np.float64), "other": feed.astype(np.int64)})
    assert wide["x"].dtype == np.float32
    assert wide["other"].dtype == np.int64
    assert session.fed({"x": feed})["x"] is feed
    assert session.fed({"x": feed.astype(np.int32)})["x"].dtype == np.int32
