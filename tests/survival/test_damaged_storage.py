"""External data that is not what the model says: refused with exit code 2, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_dalr
from onnx_dalr.cli.main import main
from tests.survival.helpers import optimize
from tests.survival.layouts import SAMPLES, one_file


def _missing(path: Path) -> None:
    path.with_name("weights.bin").unlink()


def _truncated(path: Path) -> None:
    os.truncate(path.with_name("weights.bin"), 5000)


def _a_folder(path: Path) -> None:
    path.with_name("weights.bin").unlink()
    path.with_name("weights.bin").mkdir()


def _relocate(**entries: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        proto = onnx.load(path, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                entry.value = str(entries.get(entry.key, entry.value))
        path.write_bytes(proto.SerializeToString())

    return change


def _outside(path: Path) -> None:
    path.with_name("weights.bin").rename(path.parent.parent / "weights.bin")
    _relocate(location="../weights.bin")(path)


def _absolute(path: Path) -> None:
    _relocate(location=path.with_name("weights.bin").resolve())(path)


def _a_link_out(path: Path) -> None:
    path.with_name("weights.bin").rename(path.parent.parent / "weights.bin")
    path.with_name("weights.bin").symlink_to(path.parent.parent / "weights.bin")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (_missing, "external data of '.*' is missing: no file .*weights.bin"),
    "truncated": (_truncated, "ends too early in weights.bin"),
    "a folder": (_a_folder, "external data of '.*'"),
    "outside": (_outside, "points outside the model's folder: ../weights.bin"),
    "absolute": (_absolute, "points outside the model's folder: /"),
    "a link out": (_a_link_out, "points outside the model's folder: weights.bin"),
    "offset beyond the end": (_relocate(offset=10**9), "ends too early in weights.bin"),
    "negative offset": (_relocate(offset=-4096), "external data of '.*'"),
    "offset that is no number": (_relocate(offset="many"), "external data of '.*'"),
    "length that is too short": (_relocate(length=4), "external data of '.*'"),
    "no location": (_relocate(location=""), "external data of '.*'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_external_data_that_cannot_be_used(damage: str, path: Path, output: Path) -> None:
    change, message = DAMAGES[damage]
    one_file(path)
    change(path)
    with pytest.raises(onnx_dalr.InputError, match=message) as caught:
        optimize(path, output, calib=SAMPLES, rank=12)
    assert "\n" not in caught.value.message
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_command_line_says_so_in_one_line_with_exit_code_2(
    damage: str,
    path: Path,
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_file(path)
    DAMAGES[damage][0](path)
    np.save(tmp_path / "calib.npy", SAMPLES)
    arguments = ["optimize", str(path), str(output), "--calib", str(tmp_path / "calib.npy"), "--rank", "12"]
    monkeypatch.setattr("sys.argv", ["onnx-dalr", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


def test_a_tensor_that_claims_more_numbers_than_any_machine_holds(path: Path, output: Path) -> None:
    one_file(path)
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].dims[:] = [2**31, 2**31]
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(onnx_dalr.InputError):
        optimize(path, output, calib=SAMPLES, rank=12)


def test_a_model_proto_with_external_data_is_asked_for_by_path(path: Path) -> None:
    one_file(path)
    with pytest.raises(onnx_dalr.InputError, match="the ModelProto refers to external data files") as caught:
        optimize(onnx.load(path, load_external_data=False), calib=SAMPLES, rank=12)
    assert caught.value.hint == "pass the path of the model instead"
