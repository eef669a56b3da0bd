"""`--output NAME`: which outputs count, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.cli import tiny
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("bench")

TWO = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N,16] x) => (float[N,16] y, float[N,16] z) {
  [kept] y = Gemm<transB: int = 1>(x, W1)
  [ruined] z = Gemm<transB: int = 1>(x, W2)
}
"""
RUIN = ("--rank", "ruined=1")
RUINED = "output 'z' loses "


@pytest.fixture(autouse=True)
def two(bench: Path) -> None:
    """A model of two outputs, each of a layer of its own, and samples that go every way."""
    del bench
    random = np.random.default_rng(0)
    made = {name: (random.standard_normal((16, 16)) / 4).astype(np.float32) for name in ("W1", "W2")}
    onnx.save(tiny.with_weights(TWO, made), "two.onnx")
    np.savez("two.npz", x=random.standard_normal((200, 16)).astype(np.float32))


def facts(run: Run, *options: object, code: int = 0) -> dict[str, Any]:
    outcome = run("optimize", "two.onnx", "--calib", "two.npz", "--dry-run", "--json", "-", *options)
    assert outcome.code == code, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("optimize", "two.onnx", "out/small.onnx", "--calib", "two.npz"),
        ("analyze", "two.onnx", "--calib", "two.npz"),
        ("compare", "two.onnx", "two.onnx", "--data", "two.npz"),
    ],
    ids=lambda command: command[0],
)
def test_an_output_that_does_not_exist_is_refused_with_those_that_do_before_the_work(
    run: Run, command: tuple[str, ...]
) -> None:
    outcome = run(*command, "--output", "y", "--output", "w")
    assert outcome.code == 2
    assert outcome.errors[0].endswith("--output 'w' is no output of the model")
    assert outcome.hints == ["hint: its outputs: y, z"]
    assert "capturing" not in outcome.stderr
    assert "comparing" not in outcome.stderr
    assert list(Path("out").iterdir()) == []


def test_without_it_every_output_counts_and_the_worst_is_the_drop(run: Run) -> None:
    quality = facts(run, *RUIN)["quality"]
    assert quality["worst"] == "z"
    assert [each["counts"] for each in quality["outputs"]] == [True, True]
    assert quality["drop"] == quality["outputs"][1]["loss"]
    assert quality["drop"]["value"] > 0.5


def test_a_declared_output_alone_counts_and_the_ruin_of_another_is_a_note(run: Run) -> None:
    found = facts(run, *RUIN, "--output", "y")
    quality = found["quality"]
    assert (quality["worst"], quality["drop"]["value"], quality["error"]["value"]) == ("y", 0, 0)
    assert [(each["counts"], each["why"]) for each in quality["outputs"]] == [
        (True, "quantities"),
        (False, "not among --output"),
    ]
    (note,) = [note for note in quality["notes"] if note.startswith(RUINED)]
    assert note.endswith("points of 1 − error, which the drop does not show: not among --output")
    assert note in found["notes"]


def test_the_note_is_in_the_table_too(run: Run) -> None:
    outcome = run("optimize", "two.onnx", "--calib", "two.npz", "--dry-run", *RUIN, "--output", "y")
    shown = " ".join(outcome.stdout.split())
    assert f"note: {RUINED}" in shown
    assert "numbers; not scored: not among --output" in shown
    assert "output 'z': numbers (not among --output), not scored" in outcome.stderr


def test_what_is_left_whole_gets_no_note(run: Run) -> None:
    quality = facts(run, *RUIN, "--output", "z")["quality"]
    assert quality["worst"] == "z"
    assert not any("does not show" in note for note in quality["notes"])


def test_the_search_looks_at_the_declared_output_alone(run: Run) -> None:
    """The layer of an output that does not count can go, whatever it costs."""
    layers = facts(run, "--max-drop", "1%", "--output", "y")["layers"]
    assert [(layer["name"], layer["rank"]) for layer in layers] == [("kept", None), ("ruined", 1)]


def test_it_may_be_repeated(run: Run) -> None:
    quality = facts(run, *RUIN, "--output", "z", "--output", "y")["quality"]
    assert [each["counts"] for each in quality["outputs"]] == [True, True]


def test_task_speaks_of_a_declared_output(run: Run) -> None:
    quality = facts(run, *RUIN, "--output", "z", "--task", "embed")["quality"]
    assert [each["kind"] for each in quality["outputs"]] == ["numbers", "embedding"]
    assert (quality["task"], quality["score"]) == ("embed", "cosine")


def test_compare_takes_it_too(run: Run) -> None:
    assert run("optimize", "two.onnx", "out/small.onnx", "--calib", "two.npz", *RUIN).code == 0
    outcome = run("compare", "two.onnx", "out/small.onnx", "--data", "two.npz", "--output", "y", "--json", "-")
    quality = json.loads(outcome.stdout)["quality"]
    assert (quality["worst"], quality["drop"]["value"]) == ("y", 0)
    assert any(note.startswith(RUINED) for note in quality["notes"])


def test_statistics_of_other_outputs_gradients_do_not_add_up(run: Run) -> None:
    common = ("optimize", "two.onnx", "out/small.onnx", "--calib", "two.npz", "--force", *RUIN)
    assert run(*common, "--save-stats", "stats.npz").code == 0
    assert run(*common, "--stats", "stats.npz").code == 0
    outcome = run(*common, "--stats", "stats.npz", "--output", "y")
    assert outcome.code == 2
    assert "task of the metric numbers of y, numbers of z" in outcome.errors[0]
    assert outcome.hints == ["hint: say what the outputs are in both runs, with --task or --output"]
