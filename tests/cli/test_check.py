"""`onnx-dalr check`: what goes where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

from tests.cli import tiny
from tests.cli.conftest import Run

CONFIG = '[[budgets]]\nmodels = "model.onnx"\nmax-size = "1kB"\nmax-params = "1M"\n'
pytestmark = pytest.mark.usefixtures("bench")


@pytest.fixture(autouse=True)
def outside_of_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


def test_without_arguments_the_config_is_held_to(run: Run) -> None:
    Path("onnx-dalr.toml").write_text(CONFIG)
    outcome = run("check")
    assert outcome.code == 3
    assert outcome.stdout.startswith("FAIL model.onnx: size 13.8 kB of 1 kB, 12.8 kB over")
    assert "change  max-size in onnx-dalr.toml:3" in outcome.stdout
    assert outcome.stderr == ""
    Path("onnx-dalr.toml").write_text(CONFIG.replace("1kB", "1MB"))
    assert run("check").code == 0
    assert run("check", "model.onnx").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG.replace("max-size", "max-sise"), "onnx-dalr.toml:3: max-sise is not known"),
        (CONFIG.replace('"model.onnx"', '"modle.onnx"'), "matches nothing"),
        ('[[budgets]]\nmodels = "model.onnx"\n', "there is no limit"),
    ],
)
def test_a_config_that_is_wrong_is_two(run: Run, text: str, said: str) -> None:
    Path("onnx-dalr.toml").write_text(text)
    outcome = run("check")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert said in outcome.errors[0]
    assert len(outcome.errors) == len(outcome.hints) == 1


def test_many_formats_of_one_run_each_go_where_they_are_sent(run: Run) -> None:
    Path("onnx-dalr.toml").write_text(CONFIG)
    outcome = run("check", "--format", "junit=r.xml", "--format", "markdown=c.md", "--json", "facts.json")
    assert outcome.code == 3
    assert outcome.stdout.startswith("FAIL model.onnx")
    assert ElementTree.parse("r.xml").getroot().get("failures") == "1"
    assert Path("c.md").read_text(encoding="utf-8").startswith("### onnx-dalr check: over 1 of 2")
    assert json.loads(Path("facts.json").read_text(encoding="utf-8"))["passed"] is False
    outcome = run("check", "--format", "json")
    assert json.loads(outcome.stdout)["lines"][0]["left"] < 0
    assert run("check", "--format", "markdown").stdout == Path("c.md").read_text(encoding="utf-8")


def test_github_has_annotations_and_a_summary_of_the_job(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("onnx-dalr.toml").write_text(CONFIG)
    Path("summary.md").write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    outcome = run("check", "--format", "github")
    assert "\n::error file=model.onnx,title=" in outcome.stdout
    assert Path("summary.md").read_text(encoding="utf-8").startswith("before\n### onnx-dalr check: over 1")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "none/summary.md")
    outcome = run("check", "--format", "github")
    assert outcome.code == 3
    assert outcome.errors == ["error: cannot write GITHUB_STEP_SUMMARY: No such file or directory"]


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("--format", "jnit"), "--format 'jnit' is not known", "did you mean junit?"),
        (("--format", "xyz"), "--format 'xyz' is not known", "one of text, json"),
        (("--format", "junit", "--format", "github"), "two formats go to one place", "--format junit=report.xml"),
        (("--format", "junit=a", "--json", "a"), "two formats go to one place", "a file"),
        (("--format", "junit=model.onnx"), "--format junit model.onnx would overwrite another file", "its own name"),
        (("--format", "junit=none/r.xml"), "cannot write none", "check the folder"),
        (("--margin", "3%"), "--margin means nothing without --update", "add --update"),
        (("--update",), "--max-size means nothing beside --update", "the config"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    run: Run, arguments: tuple[str, ...], said: str, hint: str
) -> None:
    outcome = run("check", "model.onnx", "--max-size", "1MB", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.errors[0].startswith(f"error: {said}")
    assert hint in outcome.hints[0]


def test_update_says_what_became_of_each_limit(run: Run) -> None:
    assert run("check", "model.onnx", "--update").stdout.splitlines() == [
        "model.onnx: max-size 14.06kB",
        "model.onnx: max-params 3.432k",
        "model.onnx: max-macs 3.33k",
        "onnx-dalr.toml is written",
    ]
    assert run("check").code == 0
    assert run("check", "--update").stdout == "onnx-dalr.toml is up to date\n"
    assert run("check", "--update", "--margin", "0%").stdout.splitlines()[0] == "model.onnx: max-size 14.06kB → 13.79kB"
    assert run("check", "--update", "--format", "json").errors == ["error: --format means nothing beside --update"]


def test_what_is_run_is_said_on_standard_error_unless_it_is_to_be_quiet(run: Run) -> None:
    onnx.save(tiny.mlp(), "same.onnx")
    given = ("check", "same.onnx", "--reference", "model.onnx", "--data", "calib.npz", "--max-error", "0.1")
    outcome = run(*given)
    assert outcome.code == 0
    assert "samples: calib.npz" in outcome.stderr
    assert outcome.stdout.startswith("ok   same.onnx: error 0 [0, 0] (n=64) of 0.02".replace("0.02", "0.1"))
    assert run(*given, "--quiet").stderr == ""


def test_a_pointer_in_place_of_a_model_is_named(run: Run) -> None:
    Path("model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    outcome = run("check", "model.onnx", "--max-size", "1MB")
    assert outcome.code == 2
    assert "Git LFS pointer" in outcome.errors[0]
    assert "git lfs pull" in outcome.hints[0]
