"""Weights in one piece are rounded by what enters them, with statistics from samples or from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.factorize import Need
from onnx_dalr.learn.statistics_set import load_statistics, save_statistics
from tests.graph.helpers import initializers, model, run

NET = model(  # kernels that are turned on the way
    """g (float[N,8,20] x) => (float[N,?,?] y) {
        k = Transpose <perm=[1,0,2]> (K)
        h = Conv <pads=[1,1]> (x, k, b)
        r = Relu(h)
        v = Transpose <perm=[1,0,2]> (V)
        [deep] y = Conv <pads=[2,2]> (r, v)
    }""",
    K=(8, 48, 3),
    b=(48,),
    V=(48, 16, 5),
)


def samples(count: int = 60, seed: int = 0) -> dict[str, Any]:
    """Channels that say much the same, smooth over positions."""
    rng = np.random.default_rng(seed)
    few = np.repeat(rng.standard_normal((count, 2, 5)), 4, axis=2)
    mixed = np.random.default_rng(1).standard_normal((8, 2)) @ few.transpose(1, 0, 2).reshape(2, -1)
    x = mixed.reshape(8, count, 20).transpose(1, 0, 2) + 0.1 * rng.standard_normal((count, 8, 20)) + 1
    return {"x": x.astype(np.float32)}


def rounded(**options: Any) -> onnx_dalr.Result:
    given = {"calib": samples(), "max_error": 0.9, "weights": "int4", "device": "cpu", "holdout": 0.3} | options
    return onnx_dalr.optimize(NET, **given)


def error_of(made: ModelProto) -> float:
    feeds = samples(40, seed=5)
    y, other = run(NET, feeds)["y"], run(made, feeds)["y"]
    return float(np.sum((y - other) ** 2) / np.sum(y**2))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    made = rounded(save_stats=folder / "all.npz", save_plan=folder / "plan.json")
    assert all(layer.rows for layer in made.layers)
    save_statistics(replace(load_statistics(folder / "all.npz"), layers={}), folder / "none.npz")
    assert made.model == onnx_dalr.apply(NET, folder / "plan.json", stats=folder / "all.npz").model
    return folder


def test_the_report_says_how_many_rows_there_were_and_that_nothing_is_rounded_plainly() -> None:
    made = rounded()
    assert [(layer.name, layer.form.structure, layer.rows) for layer in made.layers] == [
        ("K", "dense", 42 * 20),
        ("deep", "dense", 42 * 20),
    ]
    assert "rounded to nearest" not in made.to_text()
    assert all(layer.expected_error is not None and layer.expected_distortion is None for layer in made.layers)


def test_statistics_hold_the_blocks_alone(files: Path) -> None:
    stats = load_statistics(files / "all.npz")
    assert {name: stats.facts(name).needs for name in stats.layers} == {"K": Need.BLOCKS, "deep": Need.BLOCKS}


def test_without_statistics_of_them_they_are_rounded_to_nearest_and_lose_more(files: Path) -> None:
    known, plain = (onnx_dalr.apply(NET, files / "plan.json", stats=files / name) for name in ("all.npz", "none.npz"))
    assert [layer.rows for layer in plain.layers] == [0, 0]
    assert "rounded to nearest 2 that no samples are captured for" in plain.to_text()
    assert error_of(known.model) < 0.5 * error_of(plain.model)


def test_their_biases_stay_as_they_are() -> None:
    made = rounded().model
    np.testing.assert_array_equal(initializers(made)["b"], initializers(NET)["b"])
    assert [node.op_type for node in made.graph.node if node.op_type in ("Conv", "Relu", "Add")] == [
        "Conv",
        "Relu",
        "Conv",
    ]


def test_formats_that_do_not_read_the_data_need_no_rows() -> None:
    made = rounded(weights="float16")
    assert [layer.rows for layer in made.layers] == [0, 0]
    assert "capture" not in made.seconds


def test_the_result_does_not_depend_on_the_batch_size() -> None:
    one, all_at_once = (rounded(batch_size=size).model for size in (1, 64))
    for name, tensor in initializers(one).items():
        same = initializers(all_at_once)[name]
        assert np.mean(tensor == same) > 0.99  # sums differ in their last bits
