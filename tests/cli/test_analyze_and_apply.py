"""`onnx-dalr analyze` writes a plan and nothing else; `onnx-dalr apply` does what the plan says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_dalr import Plan
from tests.cli import tiny
from tests.cli.conftest import Outcome, Run

pytestmark = pytest.mark.usefixtures("bench")

ANALYZE = ("analyze", "model.onnx", "--calib", "calib.npz")
PLAN = (*ANALYZE, "-o", "plan.json")
RANKS = ("--rank", "first=4", "--rank", "second=9")


def snapshot() -> dict[str, bytes]:
    """Every file in the folder with what is in it."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def expect(outcome: Outcome, code: int, fragment: str) -> None:
    """One line that holds the fragment, one hint, nothing on stdout, no traceback."""
    assert outcome.code == code, outcome.stderr
    assert len(outcome.errors) == len(outcome.hints) == 1, outcome.stderr
    assert fragment in outcome.errors[0]
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


def edit(change: Callable[[dict[str, Any]], object]) -> None:
    """Changes plan.json as a person with an editor does."""
    facts = json.loads(Path("plan.json").read_text())
    change(facts)
    Path("plan.json").write_text(json.dumps(facts, indent=2))


def forms(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(facts: dict[str, Any]) -> None:
        for entry in facts["layers"]:
            entry["form"] = changes.get(entry["layer"], entry["form"])

    return change


def noted_ranks(path: str) -> dict[str, int]:
    """The ranks that a written model says it has."""
    (entry,) = [entry for entry in onnx.load(path).metadata_props if entry.key == "onnx_dalr"]
    found: dict[str, int] = json.loads(entry.value)["ranks"]
    return found


# analyze


def test_analyze_writes_the_plan_and_nothing_else(run: Run) -> None:
    before = snapshot()
    outcome = run(*PLAN, "--params", "60%")
    assert outcome.code == 0, outcome.stderr
    after = snapshot()
    del after["plan.json"]
    assert after == before
    plan = Plan.load("plan.json")
    assert plan.target == "params 60%"
    assert plan.compressed


def test_the_page_of_a_plan_has_the_command_that_was_typed_and_what_saves_most_first(run: Run) -> None:
    assert run(*PLAN, "--params", "60%", "--report", "plan.html").code == 0
    page = Path("plan.html").read_text(encoding="utf-8")
    assert "--calib calib.npz --save-plan plan.json --params 60% --report plan.html</code>" in page
    told = page.partition("parameters that is kept. ")[2].partition('"')[0]
    assert told.startswith("second: ")  # 48×48, and the first of the model is 48×16


def test_analyze_prints_the_curves_of_the_layers_and_the_plan(run: Run) -> None:
    outcome = run(*PLAN, "--params", "60%")
    for shown in ("48×16", "50 %", "of at most", "plan dalr", "target params 60%", "own error", "distortion"):
        assert shown in outcome.stdout
    for fact in ("64 samples", "fit 45", "output 'y': ", "eligible: ", "this takes "):
        assert fact in outcome.stderr
        assert fact not in outcome.stdout


def test_analyze_without_an_output_only_shows(run: Run) -> None:
    before = snapshot()
    outcome = run(*ANALYZE, *RANKS, "--quiet")
    assert outcome.code == 0
    assert "as asked (first 4, second 9)" in outcome.stdout
    assert outcome.stderr == ""
    assert snapshot() == before


def test_a_dash_puts_the_plan_and_nothing_else_on_standard_output(run: Run) -> None:
    outcome = run(*ANALYZE, "-o", "-", *RANKS)
    facts = json.loads(outcome.stdout)
    assert [layer["form"] for layer in facts["layers"]] == ["pair 4", "pair 9", "dense"]
    assert not Path("-").exists()


def test_analyze_saves_the_statistics_where_asked(run: Run) -> None:
    before = snapshot()
    assert run(*PLAN, *RANKS, "--save-stats", "stats.npz").code == 0
    assert set(snapshot()) - set(before) == {"plan.json", "stats.npz"}


def test_the_model_is_parsed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    parse = onnx.load
    monkeypatch.setattr(onnx, "load", lambda file, *rest, **named: parsed.append(file) or parse(file, *rest, **named))
    assert run(*PLAN, "--size", "70%").code == 0
    assert parsed == [Path("model.onnx")]


def test_the_same_analysis_writes_the_same_plan(run: Run) -> None:
    for name in ("a.json", "b.json"):
        assert run(*ANALYZE, "-o", name, "--size", "70%").code == 0
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()


def test_the_plan_of_analyze_is_that_of_optimize(run: Run) -> None:
    for target in (("--params", "60%"), ("--max-error", "0.5"), ("--energy", "0.9")):
        assert run(*PLAN, *target, "--force").code == 0
        dry = ("optimize", "model.onnx", "out/s.onnx", "--calib", "calib.npz", *target, "--force")
        assert run(*dry, "--save-plan", "other.json").code == 0
        assert Path("other.json").read_bytes() == Path("plan.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "fragment"),
    [
        (("--params", "1%"), 3, "--params 1% cannot be reached"),
        (("--size", "1%"), 3, "--size 1% cannot be reached"),
        (("--rank", "999"), 5, "every layer stays dense"),
        (("--rank", "fourth=8"), 2, "--rank 'fourth' matches no layer"),
        (("--size", "60%", "--params", "60%"), 2, "--size and --params are different targets"),
        (("--size", "60%", "--rank", "8"), 2, "--size and --rank are different targets"),
        (("--size", "60%", "--rank", "fourth=8"), 2, "--rank 'fourth' matches no layer"),
        (("--max-error", "2"), 2, "--max-error '2' is not an error"),
        (("--energy", "1"), 2, "--energy '1' is not a share"),
        (("--holdout", "0"), 2, "without held-out samples no drop"),
        (("--stats", "missing.npz"), 2, "no such file: missing.npz"),
        (("--score", "missing.py:score"), 2, "missing.py"),
    ],
)
def test_a_failed_analysis_writes_nothing(run: Run, options: tuple[str, ...], code: int, fragment: str) -> None:
    Path("plan.json").write_text("mine")
    before = snapshot()
    expect(run(*PLAN, "--save-stats", "stats.npz", "--force", *options), code, fragment)
    assert snapshot() == before


@pytest.mark.parametrize(
    "options",
    [("--params", "1%"), ("--rank", "999"), ("--rank", "fourth=8"), ("--energy", "2"), ("--holdout", "0")],
    ids=str,
)
def test_what_cannot_be_planned_is_refused_before_the_samples_are_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("onnx_dalr.commands.learning.learn", lambda *_, **__: pytest.fail("samples are run"))
    assert run(*PLAN, *options).code in (2, 3, 5)


def test_analyze_without_samples_or_statistics_says_what_is_missing(run: Run) -> None:
    expect(run("analyze", "model.onnx", "-o", "plan.json"), 2, "there are no samples")
    assert not Path("plan.json").exists()


def external_model() -> None:
    onnx.save(tiny.mlp(), "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)


@pytest.mark.parametrize("option", ["-o", "--save-stats"])
@pytest.mark.parametrize(
    "name", ["model.onnx", "weights.bin", "calib.npz", "labels.npy", "score.py", "given.npz", "out/../model.onnx"]
)
def test_analyze_never_replaces_what_it_reads(run: Run, option: str, name: str) -> None:
    external_model()
    run(*ANALYZE, "--save-stats", "given.npz", *RANKS)
    np.save("labels.npy", np.arange(64) % 4)
    Path("score.py").write_text("def score(outputs, labels):\n    return 1.0\n")
    before = snapshot()
    inputs = ("--labels", "labels.npy", "--score", "score.py:score", "--stats", "given.npz")
    expect(run(*ANALYZE, *RANKS, *inputs, option, name), 2, "would overwrite another file of this run")
    assert snapshot() == before


def test_analyze_never_replaces_a_sample_in_the_folder(run: Run) -> None:
    Path("feeds").mkdir()
    np.savez("feeds/a.npz", x=tiny.rows())
    before = snapshot()
    outcome = run("analyze", "model.onnx", "--calib", "feeds", *RANKS, "--save-stats", "feeds/a.npz")
    expect(outcome, 2, "would overwrite another file of this run")
    assert snapshot() == before


def test_plan_and_statistics_go_to_two_files(run: Run) -> None:
    expect(run(*ANALYZE, *RANKS, "-o", "same", "--save-stats", "same"), 2, "would overwrite another file of this run")
    assert not Path("same").exists()


@pytest.mark.parametrize("name", ["out", "nowhere/plan.json"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("onnx_dalr.commands.learning.learn", lambda *_, **__: pytest.fail("samples are run"))
    expect(run(*ANALYZE, *RANKS, "-o", name), 2, name)


@pytest.mark.parametrize(("option", "name"), [("-o", "plan.json"), ("--save-stats", "stats.npz")])
def test_an_older_plan_or_statistics_are_replaced_with_force_alone_and_that_is_said_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    """A plan may have been edited by hand, and statistics are hours of samples."""
    Path(name).write_text("mine")
    before = snapshot()
    with monkeypatch.context() as patched:
        patched.setattr("onnx_dalr.commands.learning.learn", lambda *_, **__: pytest.fail("samples are run"))
        outcome = run(*ANALYZE, *RANKS, option, name)
        expect(outcome, 2, f"{option} {name} exists already")
        assert "--force" in outcome.hints[0]
        assert snapshot() == before
    assert run(*ANALYZE, *RANKS, option, name, "--force").code == 0
    assert set(snapshot()) == set(before)
    assert snapshot()[name] != before[name]


def test_plan_and_statistics_come_into_place_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, replace = snapshot(), os.replace

    def full(source: Path, target: Path) -> None:
        if target == Path("plan.json"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    expect(run(*PLAN, *RANKS, "--save-stats", "stats.npz"), 2, "cannot write plan.json: No space left on device")
    assert snapshot() == before


# apply


APPLY = ("apply", "model.onnx", "plan.json", "out/small.onnx")


@pytest.fixture
def planned(run: Run, bench: Path) -> None:
    """plan.json with ranks 4 and 9 and a layer as it is, and stats.npz, on the bench."""
    assert Path().resolve() == bench.resolve()
    assert run(*PLAN, *RANKS, "--save-stats", "stats.npz").code == 0


@pytest.mark.usefixtures("planned")
def test_a_plan_is_applied_with_the_samples_or_with_their_statistics_to_the_same_bytes(run: Run) -> None:
    made = []
    for given in (("--calib", "calib.npz"), ("--stats", "stats.npz"), ("--stats", "stats.npz", "--calib", "calib.npz")):
        outcome = run(*APPLY, *given, "--force")
        assert outcome.code == 0, outcome.stderr
        made.append(Path("out/small.onnx").read_bytes())
    optimize = ("optimize", "model.onnx", "out/small.onnx", "--plan", "plan.json", "--calib", "calib.npz", "--force")
    assert run(*optimize).code == 0
    assert {Path("out/small.onnx").read_bytes(), *made} == {made[0]}
    assert noted_ranks("out/small.onnx") == {"first": 4, "second": 9}


@pytest.mark.usefixtures("planned")
def test_with_statistics_alone_no_sample_is_read(run: Run) -> None:
    Path("calib.npz").unlink()
    outcome = run(*APPLY, "--stats", "stats.npz")
    assert outcome.code == 0, outcome.stderr
    assert "not measured" in outcome.stdout
    onnx.checker.check_model("out/small.onnx", full_check=True)


@pytest.mark.usefixtures("planned")
def test_edits_are_applied(run: Run) -> None:
    edit(forms(first="dense", second="pair 11", third="pair 2"))
    assert run(*APPLY, "--stats", "stats.npz").code == 0
    assert noted_ranks("out/small.onnx") == {"second": 11, "third": 2}


@pytest.mark.usefixtures("planned")
def test_a_rank_that_saves_nothing_keeps_the_layer_and_says_so(run: Run) -> None:
    edit(forms(second="pair 24"))
    outcome = run(*APPLY, "--calib", "calib.npz")
    assert outcome.code == 0
    assert noted_ranks("out/small.onnx") == {"first": 4}
    assert "rank 24 would not make it smaller: 23 is the largest" in " ".join(outcome.stdout.split())


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda facts: facts.pop("model"), "'model' is a required property"),
        (forms(second="x"), "layers[1].form"),
        (forms(second="pair 0"), "layers[1].form: 'pair 0'"),
        (forms(second=2.5), "layers[1].form: 2.5"),
        (lambda facts: facts.update(note="mine"), "'note'"),
        (lambda facts: facts.update(schema=4), "schema 4 is newer"),
        (lambda facts: facts["layers"].append(facts["layers"][0]), "layers[3].layer 'first' is there twice"),
        (lambda facts: facts["layers"][0].update(layer="fourth"), "layer 'fourth', which the model has not"),
        (lambda facts: facts.update(model="0" * 32), "the plan belongs to another model: it is of 00000000"),
    ],
)
def test_a_wrong_edit_is_named_and_nothing_is_written(
    run: Run, change: Callable[[dict[str, Any]], object], fragment: str
) -> None:
    edit(change)
    before = snapshot()
    expect(run(*APPLY, "--stats", "stats.npz"), 2, fragment)
    assert snapshot() == before


@pytest.mark.usefixtures("planned")
def test_a_plan_that_is_no_json_says_where(run: Run) -> None:
    Path("plan.json").write_text('{\n  "schema": 1,\n}')
    expect(run(*APPLY, "--stats", "stats.npz"), 2, "plan.json is not JSON: ")


@pytest.mark.usefixtures("planned")
def test_a_plan_that_keeps_everything_has_nothing_to_gain(run: Run) -> None:
    edit(forms(first="dense", second="dense"))
    expect(run(*APPLY, "--calib", "calib.npz"), 5, "every layer stays dense")
    assert list(Path("out").iterdir()) == []


@pytest.mark.usefixtures("planned")
def test_another_model_is_refused(run: Run) -> None:
    onnx.save(tiny.mlp(seed=1), "other.onnx")
    outcome = run("apply", "other.onnx", "plan.json", "out/small.onnx", "--calib", "calib.npz")
    expect(outcome, 2, "the plan belongs to another model")
    assert list(Path("out").iterdir()) == []


@pytest.mark.usefixtures("planned")
def test_apply_replaces_neither_an_output_without_force_nor_its_inputs(run: Run) -> None:
    Path("out/small.onnx").write_bytes(b"precious")
    expect(run(*APPLY, "--stats", "stats.npz"), 2, "small.onnx exists already")
    before = snapshot()
    for name in ("plan.json", "stats.npz", "calib.npz", "model.onnx"):
        outcome = run(
            "apply", "model.onnx", "plan.json", name, "--stats", "stats.npz", "--calib", "calib.npz", "--force"
        )
        assert outcome.code == 2, name
        assert snapshot() == before


@pytest.mark.usefixtures("planned")
def test_apply_measures_quality_and_reports_as_optimize_does(run: Run) -> None:
    outcome = run(*APPLY, "--stats", "stats.npz", "--calib", "calib.npz", "--json", "-")
    facts = json.loads(outcome.stdout)
    assert facts["quality"]["n"] == 19
    assert facts["target"] == "rank first=4, second=9"
    assert [layer["rank"] for layer in facts["layers"]] == [4, 9]


@pytest.mark.usefixtures("planned")
def test_a_dry_run_of_apply_writes_nothing(run: Run) -> None:
    before = snapshot()
    outcome = run("apply", "model.onnx", "plan.json", "--stats", "stats.npz", "--dry-run")
    assert outcome.code == 0
    assert "nothing (dry run)" in outcome.stdout
    assert snapshot() == before


@pytest.mark.usefixtures("planned")
def test_apply_without_an_output_or_samples_says_what_is_missing(run: Run) -> None:
    expect(run("apply", "model.onnx", "plan.json", "--stats", "stats.npz"), 2, "OUT.onnx is missing")
    expect(run(*APPLY), 2, "there are no samples")
    expect(run("apply", "model.onnx", "missing.json", "out/s.onnx", "--stats", "stats.npz"), 2, "no such plan")


def test_a_model_with_its_data_beside_is_analyzed_and_applied(run: Run) -> None:
    external_model()
    assert run(*PLAN, "--size", "70%", "--save-stats", "stats.npz").code == 0
    assert run(*APPLY, "--stats", "stats.npz").code == 0
    assert {path.name for path in Path("out").iterdir()} == {"small.onnx", "small.onnx.data"}
    onnx.checker.check_model("out/small.onnx", full_check=True)
    size = sum(path.stat().st_size for path in Path("out").iterdir())
    assert size <= 0.7 * (Path("model.onnx").stat().st_size + Path("weights.bin").stat().st_size)


def test_shards_add_up_on_the_command_line(run: Run) -> None:
    x = tiny.rows(120)
    for name, part in (("a", x[:70]), ("b", x[50:])):
        np.savez(f"{name}-calib.npz", x=part)
        options = ("--holdout", "0", *RANKS, "--save-stats", f"{name}.npz")
        assert run("analyze", "model.onnx", "--calib", f"{name}-calib.npz", *options).code == 0
    outcome = run("analyze", "model.onnx", "--stats", "a.npz", "--stats", "b.npz", "--params", "60%", "-o", "plan.json")
    assert outcome.code == 0, outcome.stderr
    assert "20 samples are in both a.npz and b.npz: they count twice" in outcome.stdout
    assert run(*APPLY, "--stats", "a.npz", "--stats", "b.npz").code == 0
    onnx.checker.check_model("out/small.onnx", full_check=True)
