"""What comes before the first layer that may change is run once for all candidates, and changes no score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from onnx_dalr import Result, optimize
from onnx_dalr.candidate import onward
from onnx_dalr.quality import evaluate
from onnx_dalr.session.session import Session
from tests.graph.helpers import model

DEEP = """g (float[N,24] x) => (float[N,5] z) {
    h = MatMul(x, W)
    r = Relu(h)
    t = Gemm(r, V, c)
    u = Relu(t)
    z = Gemm(u, Q, d)
}"""
SAMPLES = np.random.default_rng(0).normal(size=(160, 24)).astype(np.float32)


@dataclass
class Runs:
    """What sessions were run on, by what they are fed."""

    inputs: list[tuple[str, ...]] = field(default_factory=list)


def run(**options: Any) -> Result:
    proto = model(DEEP, W=(24, 40), V=(40, 30), c=(30,), Q=(30, 5), d=(5,))
    return optimize(proto, None, calib=SAMPLES, exclude=["W"], max_drop=0.2, tune="off", **options)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    seen, before = Runs(), Session.run

    def noted(self: Session, batch: Any, outputs: Any = None) -> list[Any]:
        seen.inputs.append(tuple(sorted(batch)))
        return before(self, batch, outputs)

    monkeypatch.setattr(Session, "run", noted)
    return seen


def points(result: Result) -> list[tuple[Any, ...]]:
    return [(point.allocation, point.params, point.bytes) for point in result.curve]


def scores(result: Result) -> np.ndarray:
    return np.array([(point.drop, point.error, point.distortion) for point in result.curve])


def test_candidates_go_on_from_what_is_kept_and_score_the_same(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = run()
    assert ("r",) in runs.inputs
    runs.inputs.clear()
    monkeypatch.setattr(onward, "_WORTH", 2.0)
    whole = run()
    assert ("r",) not in runs.inputs
    assert len(whole.curve) > 3
    assert points(cut) == points(whole)
    np.testing.assert_allclose(scores(cut), scores(whole), rtol=1e-3, atol=1e-6)


def test_where_memory_does_not_take_it_candidates_are_run_as_they_are(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate.Recalled.__init__, "__defaults__", (1000, 0))
    assert run().evaluations > 3
    assert ("r",) not in runs.inputs
