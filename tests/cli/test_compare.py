"""`compare` on the command line: the table, the JSON, and what is wrong in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.cli import tiny
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("bench")

GREY = """
<ir_version: 8, opset_import: ["" : 17]>
pictures (float[N,1,8,8] image) => (float[N,4] y) {
  flat = Flatten(image)
  [fc] y = Gemm<transB: int = 1>(flat, W)
}
"""


@pytest.fixture(autouse=True)
def other(bench: Path) -> None:
    """A second model beside the bench's, of other weights, and a score."""
    del bench
    onnx.save(tiny.mlp((16, 8, 8, 4), seed=1), "other.onnx")
    Path("mine.py").write_text(
        "def peak(outputs, labels):\n    return outputs['y'].max(axis=1)\n\n"
        "def broken(outputs, labels):\n    return outputs['z']\n"
    )


def test_it_shows_a_table(run: Run) -> None:
    outcome = run("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "--task", "regress")
    assert outcome.code == 0
    first = [line.split()[0] for line in outcome.stdout.splitlines() if line]
    assert first[:7] == ["A", "B", "samples", "size", "parameters", "multiply-adds", "speed"]
    assert first[7:11] == ["error", "output", "y", "worst"]
    assert {"calib.npz[27]", "drift", "tensor"} <= set(first)
    assert "samples: calib.npz: 64 samples" in outcome.stderr


def test_quiet_is_only_the_table(run: Run) -> None:
    assert run("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "-q").stderr == ""


def test_the_json_goes_to_a_file_or_to_standard_output(run: Run) -> None:
    run("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "--json", "facts.json")
    outcome = run("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "--json", "-")
    one, two = json.loads(Path("facts.json").read_text()), json.loads(outcome.stdout)
    assert one["quality"] == two["quality"]
    assert one["a"] == {
        "path": "model.onnx",
        "bytes": Path("model.onnx").stat().st_size,
        "params": 3364,
        "formats": {"float32": 4 * 3364},
        "macs": 16 * 48 + 48 * 48 + 48 * 4,
    }


def test_options_reach_the_comparison(run: Run) -> None:
    np.save("labels.npy", np.arange(64) % 4)
    outcome = run(
        *("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "--labels", "labels.npy"),
        *("--samples", 40, "--seed", 3, "--batch-size", 5, "--device", "cpu", "--task", "classify"),
        *("--score", "mine.py:peak", "--json", "-"),
    )
    facts = json.loads(outcome.stdout)
    assert (facts["quality"]["n"], facts["seed"], facts["device"]) == (40, 3, "cpu")
    assert facts["quality"]["score"] == "peak"
    assert facts["quality"]["task"] == "classify"
    assert facts["quality"]["agreement"]["n"] == 40


def test_what_is_named_can_be_told(run: Run) -> None:
    given = ("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "-q")
    shown = run(*given, "--worst", 2).stdout
    assert len([line for line in shown.splitlines() if line.startswith("calib.npz[")]) == 2
    shown = run(*given, "--worst", 0, "--no-drift").stdout
    assert "worst samples" not in shown
    assert "drift" not in shown
    assert run(*given, "--worst", -1).code == 2


def test_images_are_read_as_the_options_say(run: Run) -> None:
    onnx.save(
        tiny.with_weights(GREY, {"W": np.random.default_rng(0).standard_normal((4, 64), np.float32)}), "grey.onnx"
    )
    Path("images").mkdir()
    for number in range(6):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(f"images/{number}.png")
    outcome = run("compare", "grey.onnx", "grey.onnx", "--data", "images", "--mean", ".5", "--std", "1/4", "-q")
    assert outcome.code == 0
    assert "mean 0.5, std 0.25" in " ".join(outcome.stdout.split())
    outcome = run("compare", "grey.onnx", "grey.onnx", "--data", "images", "--preset", "nonsense")
    assert outcome.errors == ["error: --preset 'nonsense' is not known"]


def test_a_model_that_gives_nan_is_no_failure(run: Run) -> None:
    made = tiny.mlp()
    made.graph.node[1].op_type = "Log"
    onnx.save(made, "nan.onnx")
    outcome = run("compare", "model.onnx", "nan.onnx", "--data", "calib.npz")
    assert outcome.code == 0
    assert "finite         no: B gives NaN or infinity" in outcome.stdout


def other_width() -> None:
    onnx.save(tiny.mlp((12, 8, 8, 4)), "other.onnx")


def other_input() -> None:
    made = tiny.mlp()
    made.graph.input[0].name = made.graph.node[0].input[0] = "u"
    onnx.save(made, "other.onnx")


def other_key() -> None:
    np.savez("calib.npz", x=tiny.rows(), extra=tiny.rows())


@pytest.mark.parametrize(
    ("arrange", "options", "said"),
    [
        (other_width, (), "the inputs differ: 'x' float32 [?, 16] in model.onnx, 'x' float32 [?, 12] in other.onnx"),
        (other_input, (), "the inputs differ: only model.onnx has 'x'; only other.onnx has 'u'"),
        (lambda: Path("other.onnx").unlink(), (), "no such model: other.onnx"),
        (lambda: Path("other.onnx").write_text("hello"), (), "other.onnx is not an ONNX model, or it is damaged"),
        (lambda: Path("calib.npz").unlink(), (), "calib.npz: no such file or folder"),
        (other_key, (), "calib.npz: 'extra' is not an input of the model"),
        (None, ("--labels", "labels.npy"), "labels.npy: the labels cannot be read: No such file or directory"),
        (None, ("--score", "mine.py:best"), "--score mine.py:best: mine.py has no function best"),
        (
            None,
            ("--score", "mine.py:broken"),
            "--score broken on the outputs of the original: KeyError: 'z' (line 5 of mine.py)",
        ),
        (None, ("--task", "guess"), "--task 'guess' is not known"),
        (None, ("--mean", "much"), "--mean 'much' is not a number or a list of them"),
        (None, ("--mean", "1"), "--mean: image options do nothing for an .npz file"),
        (None, ("--json", "other.onnx"), "--json other.onnx would overwrite another file of this run"),
        (None, ("--json", "mine.py", "--score", "mine.py:peak"), "--json mine.py would overwrite another file"),
        # Before the work, which would end with another error.
        (None, ("--json", "nowhere/it.json", "--score", "mine.py:best"), "cannot write nowhere/it.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(
    run: Run, arrange: Callable[[], object] | None, options: tuple[str, ...], said: str
) -> None:
    if arrange is not None:
        arrange()
    outcome = run("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "-q", *options)
    assert outcome.code == 2
    (line,) = outcome.errors
    assert line.startswith(f"error: {said}")
    assert outcome.stdout == ""


def test_samples_have_to_be_given(run: Run) -> None:
    outcome = run("compare", "model.onnx", "other.onnx")
    assert outcome.code == 2
    assert "--data" in outcome.stderr


def test_the_help_names_every_group_of_options(run: Run) -> None:
    text = run("compare", "--help").stdout
    assert all(word in text for word in ("Samples", "Images", "Output", "--score", "--preset", "A.onnx"))


def test_markdown_goes_to_a_file_or_to_standard_output(run: Run) -> None:
    given = ("compare", "model.onnx", "other.onnx", "--data", "calib.npz", "--task", "regress")
    assert run(*given, "--markdown", "out.md").stdout.startswith("A ")
    text = Path("out.md").read_text(encoding="utf-8")
    assert "| **A** | model.onnx |" in text
    assert "| **A** | model.onnx |" in run(*given, "--markdown", "-").stdout
    assert run(*given, "--markdown", "other.onnx").code == 2
