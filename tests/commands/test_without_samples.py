"""Statistics without samples to learn from: samples to report on may stand beside them; nothing is chosen on any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import InputError
from onnx_dalr.learn.statistics_set import save_statistics
from tests.cli import tiny


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return tiny.mlp((16, 64, 64, 4))


@pytest.fixture(scope="module")
def folder(model: ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, stats.npz and plan.json."""
    made = tmp_path_factory.mktemp("given")
    onnx.save(model, made / "model.onnx")
    with onnx_dalr.analyze(model, calib=tiny.rows(100)) as analysis:
        analysis.plan(rank=["first=4", "second=9"]).save(made / "plan.json")
        save_statistics(analysis.stats, made / "stats.npz")
    return made


@pytest.fixture
def stats(folder: Path) -> Path:
    return folder / "stats.npz"


def test_quality_is_measured_on_samples_that_are_given_to_report_on(model: ModelProto, stats: Path) -> None:
    x = tiny.rows(40, seed=5)
    alone = onnx_dalr.optimize(model, stats=stats, rank=8)
    result = onnx_dalr.optimize(model, stats=stats, rank=8, eval=x)
    assert result.model == alone.model
    assert alone.quality is None
    assert result.quality is not None
    assert result.quality.n == 40
    assert result.latency is not None
    assert result.samples is not None
    assert (result.samples.fit, result.samples.select, len(result.samples.report)) == ((), (), 40)
    assert not result.samples.select_is_report
    expected = onnx_dalr.optimize(model, stats=stats, rank=8, calib=tiny.rows(100), eval=x).quality
    assert result.quality == expected


def test_so_it_is_when_a_plan_is_applied(folder: Path, stats: Path) -> None:
    paths = (folder / "model.onnx", folder / "plan.json")
    result = onnx_dalr.apply(*paths, stats=stats, eval=tiny.rows(40, seed=5), eval_labels=None, batch_size=7)
    assert result.quality is not None
    assert result.quality.n == 40
    assert [layer.rank for layer in result.layers] == [4, 9]


def test_nothing_is_chosen_on_samples_to_report_on(model: ModelProto, stats: Path) -> None:
    plans = []
    for samples in ({}, {"eval": tiny.rows(300)}):
        with onnx_dalr.analyze(model, stats=stats, **samples) as analysis:
            plans.append(analysis.plan(params="50%"))
            with pytest.raises(InputError, match="without held-out samples no drop can be measured"):
                analysis.plan(max_drop=0.1)
    assert plans[0] == plans[1]
    assert plans[1].evaluations == 0


def test_samples_that_the_statistics_are_of_are_counted(model: ModelProto, stats: Path) -> None:
    result = onnx_dalr.optimize(model, stats=stats, rank=8, eval=tiny.rows(100))
    assert "70 of the 100 report samples are among those that were fitted on" in result.notes


def test_labels_and_a_score_are_those_of_the_samples_to_report_on(
    model: ModelProto, stats: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "labels.npy", np.arange(40) % 4)

    def score(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is not None
        assert labels.tolist() == (np.arange(40) % 4).tolist()
        return float((outputs["y"].argmax(axis=1) == labels).mean())

    given: dict[str, Any] = {"eval": tiny.rows(40), "eval_labels": tmp_path / "labels.npy", "score": score}
    result = onnx_dalr.optimize(model, stats=stats, rank=8, task="classify", **given)
    assert result.quality is not None
    assert result.quality.score == "score"


def test_images_to_report_on_are_prepared_as_those_the_statistics_are_of(demo: Path, tmp_path: Path) -> None:
    model, images = demo / "digits-target.onnx", demo / "digits"
    with onnx_dalr.analyze(model, calib=images / "calib", method="svd-bc", samples=40, mean=0.5) as analysis:
        save_statistics(analysis.stats, tmp_path / "stats.npz")
    given: dict[str, Any] = {"stats": tmp_path / "stats.npz", "method": "svd-bc", "rank": "fc7=16"}
    result = onnx_dalr.optimize(model, eval=images / "test", mean=0.5, **given)
    assert result.quality is not None
    assert result.quality.score == "accuracy"
    assert result.samples is not None
    assert "mean" in result.samples.settings
    with pytest.raises(InputError, match=r"stats\.npz has mean .*, this run has mean "):
        onnx_dalr.optimize(model, eval=images / "test", **given)
