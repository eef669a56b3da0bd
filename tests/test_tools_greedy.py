"""tools/greedy.py: the search that ours is compared with does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import greedy
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import load

PLAIN = METHODS["dalr-2017"]


class Table:
    """Stands in for the bench: the drop of a pair of ranks is looked up, and 0 where it is not listed."""

    def __init__(self, layers: list[Any], drops: dict[greedy.Ranks, float]) -> None:
        self.layers, self.drops = layers, drops
        self.model = SimpleNamespace(params=sum(layer.params for layer in layers))
        self.scored: list[greedy.Ranks] = []

    def build(self, ranks: greedy.Ranks) -> greedy.Ranks:
        return ranks

    def score(self, ranks: greedy.Ranks, samples: object) -> Any:
        del samples
        self.scored.append(ranks)
        return SimpleNamespace(finite=True, drop=SimpleNamespace(value=self.drops.get(ranks, 0.0)))


@pytest.fixture
def table(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a bench of two layers, 512×512 each, from a table of drops."""
    layers = greedy.choose(find(load(demo / "digits-target.onnx"))[0], ["fc6", "fc7"])
    monkeypatch.setattr(greedy, "count_params", lambda ranks: sum(512**2 if k is None else 1024 * k for k in ranks))
    return lambda drops: Table(layers, drops)


def ranks_of(bench: Any, **options: Any) -> tuple[list[greedy.Ranks], int]:
    rule: dict[str, Any] = {"max_drop": 0.01, "notch": 0.25, "evaluations": 1000} | options
    steps, spent = greedy.search(bench, PLAIN, None, **rule)  # type: ignore[arg-type]
    return [step.ranks for step in steps], spent


def test_the_layers_are_the_two_largest_or_those_that_are_named(demo: Path) -> None:
    layers, _ = find(load(demo / "digits-target.onnx"))
    assert [layer.name for layer in greedy.choose(layers, [])] == ["fc6", "fc7"]
    assert [layer.name for layer in greedy.choose(layers, ["fc8", "fc6*"])] == ["fc6", "fc8"]
    with pytest.raises(InputError, match="'fc9' matches no layer"):
        greedy.choose(layers, ["fc9"])


def test_a_ladder_holds_dense_and_the_ranks_that_save_parameters(demo: Path) -> None:
    layers, _ = find(load(demo / "digits-target.onnx"))
    fc6, fc8 = (greedy.choose(layers, [name])[0] for name in ("fc6", "fc8"))
    assert greedy.ladder(fc6, PLAIN, 0.5) == [None, 128, 64, 32, 16, 8, 4, 2, 1]
    assert greedy.ladder(fc8, PLAIN, 0.5) == [None, 2, 1]


def test_every_step_takes_the_layer_that_loses_least(table: Any) -> None:
    bench = table({(128, None): 0.004, (None, 128): 0.002, (128, 128): 0.009, (None, 32): 0.02})
    taken, spent = ranks_of(bench, evaluations=4)
    assert taken == [(None, None), (None, 128), (128, 128)]
    assert bench.scored == [(128, None), (None, 128), (128, 128), (None, 32)]
    assert spent == 4


def test_of_steps_that_lose_the_same_the_one_that_saves_more_is_taken(table: Any) -> None:
    bench = table({(128, None): 0.004, (None, 128): 0.002})
    taken, _ = ranks_of(bench, evaluations=4)
    assert taken[-1] == (128, 128)  # 128 to 32 in the other layer would save less


def test_the_search_ends_where_every_step_loses_too_much(table: Any) -> None:
    bench = table({(128, None): 0.02, (None, 128): 0.01, (128, 128): 0.03, (None, 32): 0.02})
    taken, spent = ranks_of(bench)
    assert taken == [(None, None), (None, 128)]
    assert spent == 4  # those of the step that was not taken count too


def test_the_search_ends_at_the_end_of_the_ladders(table: Any) -> None:
    taken, spent = ranks_of(table({}))
    assert taken[-1] == (2, 2)
    assert spent == 2 * 2 * 4 - 1  # a ladder of four ranks each; for the last step one layer is left


def test_a_step_that_would_need_too_many_evaluations_is_not_begun(table: Any) -> None:
    assert ranks_of(table({}), evaluations=3)[1] == 2


def test_the_demo_model_loses_less_than_a_point_of_the_samples_that_decide(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "greedy.json"
    data = [
        str(demo / "digits-target.onnx"),
        "--calib",
        str(demo / "digits/calib"),
        "--test",
        str(demo / "digits/test"),
    ]
    greedy.main([*data, "--notch", "0.125", "--evaluations", "6", "--json", str(report)])
    found = json.loads(report.read_text(encoding="utf-8"))
    last = found["steps"][-1]
    assert found["layers"] == ["fc6", "fc7"]
    assert 2 <= found["evaluations"] <= 6
    assert last["drop"] <= 0.01
    assert last["params"] == 543_732 - 2 * 512**2 + sum(1024 * rank for rank in last["ranks"])
    assert last["of_layers"] == pytest.approx(sum(1024 * rank for rank in last["ranks"]) / (2 * 512**2))
    assert found["test"]["n"] == 253
    assert f"{last['params']:,}" in capsys.readouterr().out


def test_what_the_user_has_wrong_is_one_line(demo: Path) -> None:
    with pytest.raises(SystemExit, match="error: --layers 'fc9' matches no layer"):
        greedy.main([str(demo / "digits-target.onnx"), "--calib", str(demo / "digits/calib"), "--layers", "fc9"])
