"""`onnx-dalr optimize` does what its options say, and prints its report on stdout and nothing else there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from tests.cli.conftest import Run

METHODS = ("dalr", "dalr-2017", "svd-bc", "svd")


@pytest.fixture
def model(demo: Path) -> Path:
    return demo / "digits-target.onnx"


@pytest.fixture
def calib(demo: Path) -> Path:
    return demo / "digits" / "calib"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return tmp_path / "small.onnx"


def accuracy(path: Path, images: Path) -> float:
    """Top-1 of a model on a folder of class folders, measured without any code of ours."""
    files = sorted(images.glob("*/*.png"))
    classes = sorted({file.parent.name for file in files})
    pixels = np.stack([np.asarray(Image.open(file).convert("L"), np.float32) / 255 for file in files])[:, None]
    logits = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": pixels})[0]
    return float(np.mean(logits.argmax(1) == [classes.index(file.parent.name) for file in files]))


def rank_of(path: Path, weight: str) -> int | None:
    """The inner dimension of the factors of a weight, None where it is still whole."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    if weight in shapes:
        return None
    return next(shape[1] for name, shape in shapes.items() if name.startswith(f"{weight}.dalr_B"))


def test_without_a_target_it_loses_at_most_one_point(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib)
    assert outcome.code == 0
    assert "max-drop 1% (default)" in outcome.stdout
    onnx.checker.check_model(small, full_check=True)
    assert small.stat().st_size < 0.2 * model.stat().st_size
    assert accuracy(small, calib) >= accuracy(model, calib) - 0.015


def test_the_report_is_on_stdout_and_the_facts_on_the_way_are_on_stderr(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8)
    for shown in ("fc6", "512×512", "parameters", "accuracy", "speed", "conv2_2", "32×288"):
        assert shown in outcome.stdout
    for fact in ("462 images in 4 classes", "value range 0 .. 1", "fit 323", "running on ", "in 7 layers; "):
        assert fact in outcome.stderr
        assert fact not in outcome.stdout


def test_quiet_leaves_only_the_report(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--quiet")
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert "parameters" in outcome.stdout


@pytest.mark.parametrize("amount", ["30%", "163119", "163.2k"])
def test_params_is_an_upper_bound_on_the_whole_model(
    run: Run, model: Path, calib: Path, small: Path, amount: str
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--params", amount)
    assert outcome.code == 0
    before = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(model).graph.initializer)
    after = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(small).graph.initializer)
    assert 0.295 * before < after <= 0.3002 * before


def test_a_rank_is_for_every_layer_and_dense_where_it_saves_nothing(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8)
    assert outcome.code == 0
    assert [rank_of(small, f"fc{i}.weight") for i in (6, 7, 8)] == [8, 8, None]
    assert "rank 8 would not make it smaller: 3 is the largest" in outcome.stdout


def test_ranks_by_pattern_can_be_repeated_and_the_last_match_counts(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    ranks = ("--rank", "fc*=9", "--rank", "fc7=5", "--rank", "fc8.weight=2")
    assert run("optimize", model, small, "--calib", calib, *ranks).code == 0
    assert [rank_of(small, f"fc{i}.weight") for i in (6, 7, 8)] == [9, 5, 2]


def test_a_layer_without_a_rank_stays_dense_and_says_so(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", "fc6=8", "--verbose")
    assert [rank_of(small, f"fc{i}.weight") for i in (6, 7, 8)] == [8, None, None]
    assert "no --rank for it" in outcome.stdout


@pytest.mark.parametrize("amount", ["30%", "653000", "653kB"])
def test_size_is_an_upper_bound_on_the_file(run: Run, model: Path, calib: Path, small: Path, amount: str) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--size", amount)
    assert outcome.code == 0
    assert 640_000 < small.stat().st_size <= 653_000.4


def test_a_pattern_beside_another_target_pins_its_layers(run: Run, model: Path, calib: Path, small: Path) -> None:
    pins = ("--rank", "fc6=20", "--rank", "fc8=keep")
    outcome = run("optimize", model, small, "--calib", calib, "--params", "30%", *pins)
    assert outcome.code == 0
    assert [rank_of(small, f"fc{i}.weight") for i in (6, 8)] == [20, None]
    assert rank_of(small, "fc7.weight") not in (None, 20)
    assert "asked for params 30%, rank fc6=20, fc8=keep" in " ".join(outcome.stdout.split())


@pytest.mark.parametrize("target", [("--max-error", "0.1"), ("--energy", "0.95"), ("--rank-multiple", "8")])
def test_other_targets_make_a_model_that_is_good(
    run: Run, model: Path, calib: Path, small: Path, target: tuple[str, str]
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, *target)
    assert outcome.code == 0
    assert accuracy(small, calib) > 0.98
    assert small.stat().st_size < 0.6 * model.stat().st_size
    if target[0] == "--rank-multiple":
        assert {rank_of(small, f"fc{i}.weight") for i in (6, 7)} <= {8, 16, 24, None}


def test_a_score_of_ones_own_is_in_the_report(run: Run, model: Path, calib: Path, small: Path, tmp_path: Path) -> None:
    code = "def right(outputs, labels):\n    return (outputs['logits'].argmax(1) == labels).astype(float)\n"
    (tmp_path / "mine.py").write_text(code)
    outcome = run("optimize", model, small, "--calib", calib, "--score", f"{tmp_path / 'mine.py'}:right")
    assert outcome.code == 0, outcome.stderr
    assert "right " in outcome.stdout


def test_a_confidence_the_samples_cannot_give_is_refused_early_and_says_what_would_do(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--confidence", "95%")
    assert outcome.code == 3
    assert outcome.errors == [
        "error: 139 select samples cannot show a drop of at most 1 % with a confidence of 95 %: with no answer "
        "changed, the bound is 2.1 points"
    ]
    assert outcome.hints == [
        "hint: it takes 299 of them, 1994 samples at --holdout 0.3; or allow more (--max-drop 2.2%)"
    ]
    assert "capturing" not in outcome.stderr
    assert not small.exists()


def test_a_confidence_that_they_can_give_is_in_the_report(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--max-drop", "5%", "--confidence", "95%")
    assert outcome.code == 0
    assert "asked for max-drop 5%, confidence 95%" in " ".join(outcome.stdout.split())
    assert accuracy(small, calib) >= accuracy(model, calib) - 0.05


def test_a_confidence_beside_a_target_that_is_not_measured_is_refused(run: Run, model: Path, calib: Path) -> None:
    outcome = run("optimize", model, "--dry-run", "--calib", calib, "--rank", 8, "--confidence", "95%")
    assert (outcome.code, outcome.errors) == (2, ["error: --confidence means nothing to this target"])


def test_a_smaller_max_drop_makes_a_larger_model(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    sizes = []
    for drop in ("60%", "0%"):
        path = tmp_path / f"{drop}.onnx"
        assert run("optimize", model, path, "--calib", calib, "--max-drop", drop).code == 0
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1] < model.stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_every_method_works_and_is_named_in_the_report(
    run: Run, model: Path, calib: Path, small: Path, method: str
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 16, "--method", method)
    assert outcome.code == 0
    assert f"rank 16; method {method}" in outcome.stdout
    onnx.checker.check_model(small, full_check=True)
    assert accuracy(small, calib) > (0.95 if method.startswith("dalr") else 0.3)


def test_ridge_changes_what_dalr_2017_makes(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    made = set()
    for ridge in ("1e-3", "abs:1000"):
        path = tmp_path / "ridge.onnx"
        options = ("--rank", 8, "--method", "dalr-2017", "--ridge", ridge, "--force")
        assert run("optimize", model, path, "--calib", calib, *options).code == 0
        made.add(path.read_bytes())
    assert len(made) == 2


def test_dry_run_measures_everything_and_writes_nothing(
    run: Run, model: Path, calib: Path, small: Path, tmp_path: Path
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--dry-run")
    assert outcome.code == 0
    assert "nothing (dry run)" in outcome.stdout
    assert "accuracy" in outcome.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_needs_no_output_and_leaves_an_existing_one_alone(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    small.write_bytes(b"precious")
    assert run("optimize", model, "--calib", calib, "--rank", 8, "--dry-run").code == 0
    assert run("optimize", model, small, "--calib", calib, "--rank", 8, "--dry-run").code == 0
    assert small.read_bytes() == b"precious"


def test_json_goes_to_a_file_beside_the_table(run: Run, model: Path, calib: Path, small: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--json", report)
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["bytes_after"] == small.stat().st_size
    assert facts["output"] == str(small)
    assert "parameters" in outcome.stdout


def test_json_dash_makes_stdout_nothing_but_json(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--json", "-")
    facts = json.loads(outcome.stdout)
    assert facts["schema"] == 2
    ranks = [None, 8, 8, 8, 8, 8, None]  # conv1_1 and fc8 are too small for it
    assert [layer["rank"] for layer in facts["layers"]] == ranks
    assert [layer["form"] for layer in facts["layers"]] == ["dense", *["out 8"] * 3, "pair 8", "pair 8", "dense"]


def test_force_replaces_an_existing_output(run: Run, model: Path, calib: Path, small: Path, tmp_path: Path) -> None:
    small.write_bytes(b"old")
    assert run("optimize", model, small, "--calib", calib, "--rank", 8, "--force").code == 0
    onnx.checker.check_model(small, full_check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.onnx"]


@pytest.mark.parametrize(
    ("options", "compressed"),
    [
        (("--include", "fc6"), {"fc6.weight"}),
        (("--include", "fc6", "--include", "*7*"), {"fc6.weight", "fc7.weight"}),
        (("--exclude", "fc6.weight"), {"fc7.weight"}),
        (("--include", "fc*", "--exclude", "fc7"), {"fc6.weight"}),
    ],
)
def test_include_and_exclude_choose_layers_by_node_or_weight_name(
    run: Run, model: Path, calib: Path, small: Path, options: tuple[str, ...], compressed: set[str]
) -> None:
    assert run("optimize", model, small, "--calib", calib, "--rank", 8, *options).code == 0
    assert {w for w in ("fc6.weight", "fc7.weight", "fc8.weight") if rank_of(small, w) is not None} == compressed


def test_what_is_left_out_by_a_pattern_is_listed_with_the_pattern(
    run: Run, model: Path, calib: Path, small: Path
) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--exclude", "fc7")
    assert "excluded by --exclude 'fc7'" in outcome.stdout


def test_eval_brings_a_report_set_of_its_own(run: Run, model: Path, calib: Path, small: Path, demo: Path) -> None:
    test = demo / "digits" / "test"
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--eval", test, "--json", "-")
    facts = json.loads(outcome.stdout)
    assert facts["quality"]["n"] == 253
    assert not facts["samples"]["select_is_report"]
    assert facts["quality"]["accuracy_before"]["value"] == pytest.approx(accuracy(model, test))
    assert facts["quality"]["accuracy_after"]["value"] == pytest.approx(accuracy(small, test))


def test_labels_from_a_file_make_accuracy_of_plain_arrays(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    files = sorted(calib.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file), np.float32) / 255 for file in files])[:, None]
    np.savez(tmp_path / "calib.npz", image=pixels)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(file.parent.name[0] for file in files))
    common = ("optimize", model, "--calib", tmp_path / "calib.npz", "--rank", 8, "--dry-run", "--json", "-")
    assert json.loads(run(*common).stdout)["quality"]["accuracy_before"] is None
    with_labels = json.loads(run(*common, "--labels", labels).stdout)["quality"]
    assert with_labels["accuracy_before"]["value"] == 1.0
    assert with_labels["score"] == "accuracy"


def test_labels_that_do_not_fit_the_model_fall_back_to_agreement(
    run: Run, model: Path, calib: Path, small: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.npy"
    np.save(labels, np.random.default_rng(0).integers(0, 4, 462))
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--labels", labels)
    assert outcome.code == 0
    assert "agreement with the original is used instead" in " ".join(outcome.stdout.split())
    assert "top-1, drop" not in outcome.stdout


def test_holdout_zero_with_an_amount_reads_not_measured(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--holdout", 0)
    assert outcome.code == 0
    assert "not measured" in outcome.stdout
    assert "fit 462, select 0, report 0" in outcome.stderr


def test_samples_limits_how_many_are_used(run: Run, model: Path, calib: Path, small: Path) -> None:
    outcome = run("optimize", model, small, "--calib", calib, "--rank", 8, "--samples", 100)
    assert "fit 70, select 30, report 30 (the same set)" in outcome.stderr


def test_an_optimized_model_says_so_when_it_is_optimized_again(
    run: Run, model: Path, calib: Path, small: Path, tmp_path: Path
) -> None:
    run("optimize", model, small, "--calib", calib, "--rank", 64)
    outcome = run("optimize", small, tmp_path / "smaller.onnx", "--calib", calib, "--rank", 8)
    assert outcome.code == 0
    assert "has been optimized before" in outcome.stderr
    assert "has been optimized before" in outcome.stdout


@pytest.mark.usefixtures("bench")
def test_the_report_as_markdown_goes_to_a_file_or_takes_the_place_of_the_table(run: Run) -> None:
    outcome = run("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 8, "--markdown", "a.md")
    assert outcome.code == 0
    assert "\nwritten " in outcome.stdout
    text = Path("a.md").read_text(encoding="utf-8")
    assert "| **written** | out/small.onnx |" in text
    assert "| layer | op | shape |" in text
    again = run("optimize", "model.onnx", "b.onnx", "--calib", "calib.npz", "--rank", 8, "--markdown", "-")
    assert "| **written** | b.onnx |" in again.stdout
    assert "\nwritten " not in again.stdout


@pytest.mark.parametrize("place", ["model.onnx", "out/small.onnx", "calib.npz"])
@pytest.mark.usefixtures("bench")
def test_markdown_replaces_no_other_file_of_the_run(run: Run, place: str) -> None:
    outcome = run("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 8, "--markdown", place)
    assert outcome.code == 2
    assert outcome.errors[0] == f"error: --markdown {place} would overwrite another file of this run"
    assert not Path("out/small.onnx").exists()
