"""Candidates in sessions, handed their weights or loaded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from onnx_dalr.candidate.lean import Lean
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.storage.model import load
from onnx_dalr.session.session import CPU, Runtime
from tests.graph.helpers import model, rewritten, run, some_feeds

TWO = """g (float[N,64] x) => (float[N,40] z) {
    h = Gemm(x, W, b)
    r = Relu(h)
    z = MatMul(r, V)
}"""


def two() -> ModelProto:
    return model(TWO, W=(64, 48), b=(48,), V=(48, 40))


@pytest.mark.parametrize("provider", [CPU, "CUDAExecutionProvider"])
@pytest.mark.parametrize("external", [False, True])
def test_a_candidate_computes_what_its_file_would(tmp_path: Path, provider: str, external: bool) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two(), path, save_as_external_data=external, size_threshold=0, location="m.data")
    original = load(path)
    made = rewritten(two(), 1.0)
    before = made.SerializeToString()
    session = Lean(original, Runtime("cpu"), provider).open(made, lambda named: exposing(named, ["r"]))
    feeds = some_feeds(two())
    assert session.outputs == ("z", "r")
    np.testing.assert_allclose(session.run(feeds)[0], run(made, feeds)["z"], rtol=1e-5, atol=1e-5)
    assert made.SerializeToString() == before


def test_arrays_of_a_session_live_as_long_as_it_does() -> None:
    session = Lean(load(two()), Runtime("cpu"), CPU).open(two())
    assert {array.shape for array in session.held} == {(64, 48), (48, 40)}
