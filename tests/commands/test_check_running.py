"""Budgets that models are run for: what is lost, and the time beside a baseline."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_dalr.commands.check import check
from onnx_dalr.commands.compare import compare
from onnx_dalr.errors import InputError
from onnx_dalr.request.budgets.source import Where
from onnx_dalr.results.check import BudgetLine
from tests.cli import tiny


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models that answer alike but for a little, and samples."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.mlp(), "a.onnx")
    near = tiny.mlp()
    weight = near.graph.initializer[4]
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(near, "b.onnx")
    np.savez("d.npz", x=tiny.rows())
    return tmp_path


def test_drop_and_error_are_those_of_compare() -> None:
    quality = compare("a.onnx", "b.onnx", data="d.npz").quality
    drop, error = check("b.onnx", reference="a.onnx", data="d.npz", max_drop="90%", max_error=0.9).lines
    assert (drop.budget, drop.unit, drop.value, drop.limit) == ("drop", "points", quality.drop.value, 0.9)
    assert (error.budget, error.value, error.low, error.high, error.n) == (
        "error",
        quality.error.value,
        quality.error.low,
        quality.error.high,
        64,
    )
    assert error.against == "a.onnx"
    assert drop.passed
    assert error.passed


def test_over_it_the_outputs_that_lost_are_named() -> None:
    (line,) = check("b.onnx", baseline="a.onnx", data="d.npz", max_error=0.01).lines
    assert not line.passed
    assert [(one.name, one.after) for one in line.contributors] == [("y", line.value)]


def test_the_same_model_has_no_error_and_that_may_be_asked_for() -> None:
    (line,) = check("a.onnx", baseline="a.onnx", data="d.npz", max_error=0).lines
    assert (line.value, line.limit, line.passed) == (0, 0, True)
    assert not check("b.onnx", baseline="a.onnx", data="d.npz", max_error=0).passed


def test_what_is_not_a_number_is_over_every_budget() -> None:
    broken = onnx.load("a.onnx")
    weight = broken.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
    onnx.save(broken, "nan.onnx")
    lines = check("nan.onnx", reference="a.onnx", data="d.npz", max_drop="99%", max_error=0.99).lines
    assert [(line.passed, line.value) for line in lines] == [(False, math.inf)] * 2
    assert all(line.notes[0] == "it gives NaN or infinity where the reference does not" for line in lines)
    assert all(line.notes[1].startswith("the worst samples: ") for line in lines)
    assert '"value": null' in check("nan.onnx", reference="a.onnx", data="d.npz", max_error=0.99).to_json()


def test_a_score_of_ones_own_keeps_its_unit() -> None:
    def negative_sum(outputs: dict[str, np.ndarray], labels: object) -> float:
        del labels
        return -float(np.abs(outputs["y"]).mean())

    (line,) = check("b.onnx", reference="a.onnx", data="d.npz", score=negative_sum, max_drop=0.5).lines
    assert (line.unit, line.passed) == ("score", True)


def test_time_is_a_ratio_of_two_that_are_measured_in_turn() -> None:
    (line,) = check("b.onnx", baseline="a.onnx", data="d.npz", max_latency_ratio=1000).lines
    assert (line.budget, line.unit, line.passed, line.against) == ("latency-ratio", "times", True, "a.onnx")
    assert line.low is not None
    assert line.high is not None
    assert 0 < line.low <= line.value <= line.high
    assert "ms a run, medians of " in line.notes[0]
    (line,) = check("b.onnx", baseline="a.onnx", data="d.npz", max_latency_ratio=0.001).lines
    assert not line.passed
    assert line.notes[0].endswith(", measured twice")


def test_time_is_over_where_all_of_the_interval_is() -> None:
    def line(low: float, value: float) -> BudgetLine:
        where = Where("--max-latency-ratio")
        return BudgetLine(
            "m", "latency-ratio", "times", 1.1, value, "", where, low=low, high=2.0, n=9, by_lower_end=True
        )

    assert line(1.0, 1.2).passed
    assert not line(1.11, 1.2).passed
    assert not line(math.nan, math.nan).passed


def test_nothing_is_run_where_a_model_cannot_be_read() -> None:
    Path("bad.onnx").write_text("no model")
    Path("d.npz").unlink()
    with pytest.raises(InputError, match=r"bad\.onnx is not an ONNX model"):
        check(["b.onnx", "bad.onnx"], reference="a.onnx", data="d.npz", max_error=0.1, max_size="1MB")


def test_an_error_on_samples_says_which_budget_it_is_of() -> None:
    text = '[[budgets]]\nmodels = "b.onnx"\nreference = "a.onnx"\ndata = "none.npz"\nmax-error = 0.1\n'
    Path("onnx-dalr.toml").write_text(text)
    with pytest.raises(InputError, match=r"^onnx-dalr\.toml:1: .*none\.npz"):
        check()


def test_a_config_says_all_of_it() -> None:
    text = """
        [[budgets]]
        models = "*.onnx"
        max-size = "15kB"

        [[budgets]]
        models = "b.onnx"
        baseline = "a.onnx"
        data = "d.npz"
        samples = 32
        max-growth = 0
        max-error = 0.5
    """
    Path("onnx-dalr.toml").write_text(text)
    result = check()
    assert [(line.model, line.budget) for line in result.lines] == [
        ("a.onnx", "size"),
        ("b.onnx", "size"),
        ("b.onnx", "growth"),
        ("b.onnx", "error"),
    ]
    assert result.passed
    assert result.lines[-1].n == 32
    assert str(result.lines[-1].where) == "max-error in onnx-dalr.toml:12"
    assert [line.model for line in check("a.onnx").lines] == ["a.onnx"]
