"""`--stats` without `--calib`: what is said about samples that are not there is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.request.option import SAMPLES
from onnx_dalr.request.table import of_command
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("bench", "statistics")

COMMANDS: dict[str, tuple[object, ...]] = {
    "optimize": ("optimize", "model.onnx", "out.onnx", "--rank", 4, "--stats", "s.npz"),
    "apply": ("apply", "model.onnx", "plan.json", "out.onnx", "--stats", "s.npz"),
    "analyze": ("analyze", "model.onnx", "--rank", 4, "--stats", "s.npz"),
}
OF_CALIB = (
    ("--labels", "labels.npy"),
    ("--samples", 9),
    ("--seed", 3),
    ("--holdout", 0.2),
    ("--workers", 2),
    ("--cluster", "tcp://scheduler:8786"),
    ("--work-dir", "work"),
)
OF_ANY = (("--batch-size", 8), ("--task", "classify"), ("--score", "mine.py:score"))
OF_SOME = (("--mask-input", "x"), ("--mean", 0.5), ("--preset", "imagenet"))
EVAL = ("--eval", "calib.npz")


@pytest.fixture
def statistics(run: Run, bench: Path) -> None:
    """s.npz and plan.json on the bench, and files to name in options."""
    assert Path().resolve() == bench.resolve()
    made = ("--calib", "calib.npz", "--rank", 4, "-o", "plan.json", "--save-stats", "s.npz")
    assert run("analyze", "model.onnx", *made).code == 0
    np.save("labels.npy", np.zeros(64, int))
    Path("mine.py").write_text("def score(outputs, labels):\n    return 1.0\n")


def refused(run: Run, command: str, *options: object) -> None:
    """In one line that names the last option and one that says what to do; nothing is written."""
    before = sorted(Path().rglob("*"))
    outcome = run(*COMMANDS[command], *options)
    assert outcome.code == 2, outcome.stderr
    (error,), (hint,) = outcome.errors, outcome.hints
    assert str(options[-2]) in error
    assert "leave it out" in hint
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("option", OF_CALIB, ids=lambda option: option[0])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_asked_of_samples_to_learn_from_is_refused(run: Run, command: str, option: tuple[object, ...]) -> None:
    refused(run, command, *option)
    if command != "analyze":
        refused(run, command, *EVAL, *option)


@pytest.mark.parametrize("option", [*OF_ANY, *OF_SOME], ids=lambda option: option[0])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_asked_of_any_samples_is_refused_where_there_are_none(
    run: Run, command: str, option: tuple[object, ...]
) -> None:
    refused(run, command, *option)


def test_no_option_about_samples_is_forgotten_here() -> None:
    about = {option.flag for option in of_command("optimize").values() if option.group == SAMPLES}
    asked = {option[0] for option in (*OF_CALIB, *OF_ANY, *OF_SOME)}
    assert about - asked == {"--calib", "--stats", "--eval", "--eval-labels", "--device", "--threads", "--ops-library"}


def test_so_are_a_sheet_of_thumbnails_and_labels_of_no_samples(run: Run) -> None:
    refused(run, "analyze", "--thumbnails", "sheet.png")
    refused(run, "optimize", *EVAL, "--thumbnails", "sheet.png")
    refused(run, "apply", "--eval-labels", "labels.npy")


def test_all_of_them_are_named_at_once_with_what_would_give_them_a_meaning(run: Run) -> None:
    outcome = run(*COMMANDS["optimize"], "--seed", 1, "--holdout", 0, "--samples", 9)
    assert outcome.errors == [
        "error: --samples, --seed, --holdout mean nothing without --calib: the statistics of --stats are taken as they "
        "are"
    ]
    assert outcome.hints == ["hint: add --calib PATH, or leave them out"]
    outcome = run(*COMMANDS["optimize"], "--task", "classify", "--batch-size", 8)
    assert outcome.errors == ["error: --batch-size, --task mean nothing to --stats alone: no sample is run"]
    assert outcome.hints == ["hint: add --eval PATH to measure quality on, or leave them out"]


@pytest.mark.parametrize("option", OF_ANY, ids=lambda option: option[0])
def test_samples_to_report_on_give_them_a_meaning(run: Run, option: tuple[object, ...]) -> None:
    outcome = run(*COMMANDS["apply"], *EVAL, *option)
    assert outcome.code == 0, outcome.stderr
    assert "64 held out" in outcome.stdout
    assert "split: report 64; statistics are given" in outcome.stderr


def test_what_is_left_at_its_default_is_not_given(run: Run) -> None:
    outcome = run(*COMMANDS["apply"], "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert "not measured" in outcome.stdout
