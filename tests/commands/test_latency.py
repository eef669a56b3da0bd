"""A share of the time, from what was asked for to the file that is written; no test depends on how long it took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import InputError, Result, TargetError
from onnx_dalr.candidate import timing
from onnx_dalr.choose import in_time
from onnx_dalr.quality.evaluate import Latency
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.report.views import view
from onnx_dalr.session.session import Runtime
from onnx_dalr.session.stopwatch import Runnable
from onnx_dalr.write import produce, verify
from tests.cli import tiny

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4,12,12] x) => (float[N,5] y) {
  [first] c = Conv<pads: ints = [1,1,1,1]>(x, K, b)
  r = Relu(c)
  [second] d = Conv<pads: ints = [1,1,1,1]>(r, L, b)
  s = Relu(d)
  p = GlobalAveragePool(s)
  f = Flatten(p)
  [head] y = Gemm<transB: int = 1>(f, W, e)
}
"""
SHAPES = {"K": (64, 4, 3, 3), "b": (64,), "L": (64, 64, 3, 3), "W": (5, 64), "e": (5,)}
X = np.random.default_rng(1).standard_normal((60, 4, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> ModelProto:
    random = np.random.default_rng(0)
    return tiny.with_weights(TEXT, {k: random.standard_normal(s).astype(np.float32) for k, s in SHAPES.items()})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And less time for measuring: what is measured does not matter here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "SECONDS", 0.1)
    monkeypatch.setattr(in_time, "SECONDS", 0.01)
    monkeypatch.setattr(produce, "SECONDS", 0.01)


def small(net: ModelProto, output: Path | None = None, **more: object) -> Result:
    return onnx_dalr.optimize(net, output, calib=X, latency="90%", method="svd", structures="v", task="regress", **more)  # type: ignore[arg-type]


def by_work(models: Sequence[Runnable], runtime: Runtime, seconds: float) -> NDArray[np.float64]:
    """A second for each number of a model's weights, whatever the machine does meanwhile."""
    del runtime, seconds

    def weighs(model: bytes | Path) -> int:
        made = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
        return sum(int(np.prod(tensor.dims)) for tensor in made.graph.initializer)

    return np.tile([float(weighs(one.model)) for one in models], (3, 1))


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers take as long as they are large, so that what is chosen does not depend on the machine."""
    monkeypatch.setattr(in_time, "time_layers", partial(timing.time_layers, watch=by_work))


def taking(share: float, noise: float = 0.01) -> Latency:
    return Latency(10.0, 10 * share, 1, 50, Estimate(1 / share, 1 / (share + noise), 1 / (share - noise), 50))


def test_the_report_carries_the_promise_and_what_was_measured_of_it(net: ModelProto, tmp_path: Path) -> None:
    result = small(net, tmp_path / "out.onnx", best_effort=True)
    assert result.latency is not None
    assert result.promise is not None
    assert result.promise.asked == 0.9
    assert result.promise.measured == result.latency.share
    facts = json.loads(result.to_json())["promise"]
    assert (facts["asked"], facts["met"]) == (0.9, result.promise.met)
    assert facts["measured"]["low"] <= facts["measured"]["value"] <= facts["measured"]["high"]
    (row,) = [line for line in result.to_text(width=160).splitlines() if line.startswith("promise")]
    assert row.split(maxsplit=1)[1].startswith("at most 90 % of the original's time: ")
    assert "at most 90 % of the original" in result.render("html")
    assert "time layers" in result.seconds
    assert list((tmp_path / "cache" / "onnx-dalr" / "times").iterdir())


@pytest.mark.usefixtures("certain")
def test_a_file_that_misses_it_by_more_than_noise_is_not_left_behind(
    net: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_time, "measure_latency", lambda *_: taking(0.8))
    monkeypatch.setattr(verify, "measure_latency", lambda *_: taking(0.95))
    with pytest.raises(TargetError, match=r"is not met: the model takes 95.0 % of the original"):
        small(net, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
    result = small(net, tmp_path / "out.onnx", best_effort=True)
    assert result.promise is not None
    assert not result.promise.met
    assert any("is not met: the model takes 95.0 %" in note for note in result.notes)
    assert "not kept" in str(result)


@pytest.mark.usefixtures("certain")
def test_what_lies_within_noise_is_written_and_said(
    net: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_time, "measure_latency", lambda *_: taking(0.8))
    monkeypatch.setattr(verify, "measure_latency", lambda *_: taking(0.905))
    result = small(net, tmp_path / "out.onnx")
    assert "90.50 % [89.50, 91.50], kept within noise" in result.to_text(width=200)


@pytest.mark.usefixtures("certain")
def test_an_analysis_measures_when_a_plan_for_a_time_is_asked_for(
    net: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_time, "measure_latency", lambda *_: taking(0.8))
    with onnx_dalr.analyze(net, calib=X, method="svd", structures="v", task="regress") as analysis:
        assert analysis.context.times is None
        plan = analysis.plan(latency="90%")
        assert analysis.context.times is not None
    assert plan.target == "latency 90%"
    assert plan.compressed


def test_without_samples_there_is_nothing_to_measure_on(net: ModelProto, tmp_path: Path) -> None:
    stats = tmp_path / "stats.npz"
    with onnx_dalr.analyze(net, calib=X, method="svd", structures="v", task="regress") as analysis:
        analysis.stats.save(stats)
    with pytest.raises(InputError, match="no sample to measure the time of a run on"):
        onnx_dalr.optimize(net, stats=stats, latency="50%", method="svd")


def test_other_targets_measure_no_layer(net: ModelProto) -> None:
    result = onnx_dalr.optimize(net, calib=X, macs="60%", method="svd", task="regress")
    assert result.promise is None
    assert "time layers" not in result.seconds
    assert "promise" not in str(view(result))
