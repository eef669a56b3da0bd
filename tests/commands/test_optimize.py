"""`onnx_dalr.optimize` from Python: what it takes, what it gives back, and what it promises about it."""

from __future__ import annotations

import json
import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader

import onnx_dalr
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.graph.storage import model as room
from onnx_dalr.learn.statistics_set import save_statistics
from onnx_dalr.progress import Silent
from onnx_dalr.write.verify import verify
from tests.cli import tiny

optimize = onnx_dalr.optimize


@pytest.fixture
def model() -> ModelProto:
    return tiny.mlp((16, 64, 64, 4))


@pytest.fixture
def path(tmp_path: Path, model: ModelProto) -> Path:
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def note_of(model: ModelProto | Path) -> dict[str, Any]:
    """The entry the tool leaves in a model."""
    proto = onnx.load(model) if isinstance(model, Path) else model
    (entry,) = [entry for entry in proto.metadata_props if entry.key == "onnx_dalr"]
    found: dict[str, Any] = json.loads(entry.value)
    return found


# What goes in and what comes out.


def test_a_path_in_and_a_path_out_write_the_file(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    result = optimize(path, output, calib=tiny.rows(), rank=8)
    assert result.output == output
    assert result.input == path
    assert result.model is None
    assert result.bytes_after == output.stat().st_size < result.bytes_before == path.stat().st_size


def test_text_is_a_path(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "calib.npy", tiny.rows())
    result = optimize(str(path), str(tmp_path / "small.onnx"), calib=str(tmp_path / "calib.npy"), rank=8)
    assert result.output is not None
    assert result.output.exists()


@pytest.mark.parametrize("given", ["path", "proto"])
def test_without_an_output_the_model_is_in_the_result_and_nothing_on_disk(
    path: Path, model: ModelProto, tmp_path: Path, given: str
) -> None:
    before = sorted(tmp_path.iterdir())
    result = optimize(path if given == "path" else model, calib=tiny.rows(), rank=8)
    assert sorted(tmp_path.iterdir()) == before
    onnx.checker.check_model(result.model, full_check=True)
    assert result.model.ByteSize() == result.bytes_after < model.ByteSize()
    outputs = ort.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert outputs.run(None, {"x": tiny.rows(3)})[0].shape == (3, 4)


def test_the_model_given_is_left_as_it_was(model: ModelProto) -> None:
    before = model.SerializeToString()
    optimize(model, calib=tiny.rows(), rank=8)
    assert model.SerializeToString() == before


def test_a_model_with_external_data_stays_one(tmp_path: Path, model: ModelProto) -> None:
    path, output = tmp_path / "big.onnx", tmp_path / "out" / "small.onnx"
    output.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="big.data", size_threshold=0)
    whole = path.stat().st_size + (tmp_path / "big.data").stat().st_size
    result = optimize(path, output, calib=tiny.rows(), rank=8)
    assert result.bytes_before == whole
    assert result.bytes_after == sum(file.stat().st_size for file in output.parent.iterdir()) < whole
    onnx.checker.check_model(output, full_check=True)


@pytest.mark.parametrize("given", ["samples", "samples to be kept", "statistics", "a tolerance"])
def test_while_the_file_is_verified_nothing_of_what_was_learned_is_in_memory(
    model: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Statistics and spectra are the largest thing there is, and two models are about to be loaded."""
    held: list[weakref.ref[object]] = []
    alive: list[int] = []

    class Watched(Analysis):
        def forget(self) -> None:
            held.extend(weakref.ref(each) for spectra in self.learned.by_factors.values() for each in spectra.values())
            held.extend(weakref.ref(each) for each in self.learned.statistics.values() if given == "samples to be kept")
            held.append(weakref.ref(self.learned))
            super().forget()

    def verifying(*arguments: Any) -> Any:
        alive.append(sum(each() is not None for each in held))
        return verify(*arguments)

    monkeypatch.setattr("onnx_dalr.commands.learning.Analysis", Watched)
    monkeypatch.setattr("onnx_dalr.write.produce.verify", verifying)
    options: dict[str, Any] = {"calib": tiny.rows(100), "rank": 8}
    if given == "a tolerance":
        options = {"calib": tiny.rows(100), "max_error": 0.3}
    if given == "samples to be kept":
        options["save_stats"] = tmp_path / "stats.npz"
    if given == "statistics":
        with onnx_dalr.analyze(model, calib=tiny.rows(100)) as analysis:
            save_statistics(analysis.stats, tmp_path / "stats.npz")
        options = {"stats": tmp_path / "stats.npz", "rank": 8}
    optimize(model, **options)
    assert len(held) > 3
    assert alive == [0]


@pytest.fixture
def walks(path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often all of the model of `path` is gone through, and what for: of a large one each time takes seconds."""
    counted: Counter[str] = Counter()
    parse, count, content = onnx.load, room.count_params, room.Model.__dict__["content_hash"].func

    def parsing(file: Any, *arguments: Any, **named: Any) -> ModelProto:
        counted["parse"] += file == path
        return parse(file, *arguments, **named)

    def counting(proto: ModelProto) -> int:
        counted["count"] += not proto.metadata_props  # a candidate says that it is one
        return count(proto)

    def hashing(model: room.Model) -> Any:
        counted["hash"] += 1
        return content(model)

    once = cached_property(hashing)
    once.__set_name__(room.Model, "content_hash")
    monkeypatch.setattr(onnx, "load", parsing)
    monkeypatch.setattr(room, "count_params", counting)
    monkeypatch.setattr(room.Model, "content_hash", once)
    return counted


@pytest.mark.parametrize("external", [False, True], ids=["inline", "external data"])
def test_all_of_the_model_is_gone_through_once_for_whatever_is_asked_of_it(
    path: Path, tmp_path: Path, walks: Counter[str], external: bool
) -> None:
    if external:
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
        walks.clear()
    files = {"save_plan": tmp_path / "plan.json", "save_stats": tmp_path / "stats.npz"}
    optimize(path, tmp_path / "small.onnx", calib=tiny.rows(), size="70%", json=tmp_path / "r.json", **files)
    assert walks == {"parse": 1, "count": 1, "hash": 1}
    walks.clear()
    onnx_dalr.apply(path, files["save_plan"], tmp_path / "again.onnx", stats=files["save_stats"])
    assert walks == {"parse": 1, "count": 1, "hash": 1}


# Samples in every form.


class Reader(CalibrationDataReader):
    """Feeds of eight, as onnxruntime's own calibration wants them."""

    def __init__(self, x: np.ndarray) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = iter([{"x": part} for part in np.split(x, 8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "an array": lambda x: x,
    "a dict": lambda x: {"x": x},
    "a list of dicts": lambda x: [{"x": part} for part in np.split(x, 8)],
    "a list of samples": lambda x: [{"x": row} for row in x],
    "a generator of dicts": lambda x: ({"x": part} for part in np.split(x, 8)),
    "a generator of arrays": lambda x: (part for part in np.split(x, 8)),
    "a calibration data reader": Reader,
}


@pytest.mark.parametrize("form", FORMS)
def test_samples_in_any_form_give_the_same_model(model: ModelProto, form: str) -> None:
    x = tiny.rows()
    expected = optimize(model, calib=x, rank=8, holdout=0)
    result = optimize(model, calib=FORMS[form](x), rank=8, holdout=0)
    assert result.samples.fingerprint == expected.samples.fingerprint
    assert result.model == expected.model


def test_labels_may_be_arrays(model: ModelProto, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(64) % 4)
    common = {"calib": tiny.rows(), "rank": 8, "score": lambda outputs, labels: outputs["y"].argmax(1) == labels}
    by_path, by_array = (
        optimize(model, **common, labels=labels) for labels in (tmp_path / "labels.npy", [i % 4 for i in range(64)])
    )
    assert by_path.quality.score_before == by_array.quality.score_before


def test_eval_takes_the_same_forms(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(), rank=8, eval=({"x": row} for row in tiny.rows(20, seed=5)))
    assert result.quality is not None
    assert result.quality.n == len(result.samples.report) == 20
    assert len(result.samples.fit) + len(result.samples.select) == 64


# Same in, same out.


def test_the_same_seed_gives_the_same_file_byte_by_byte(path: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one.onnx", "two.onnx"):
        optimize(path, tmp_path / name, calib=tiny.rows(), params="60%", seed=3)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_another_seed_fits_on_other_samples(model: ModelProto) -> None:
    one, two = (optimize(model, calib=tiny.rows(), rank=8, seed=seed).samples for seed in (0, 1))
    assert one.fit != two.fit
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_neither_fingerprint_nor_factors_depend_on_the_batch_size(model: ModelProto, size: int) -> None:
    expected = optimize(model, calib=tiny.rows(), rank=8, batch_size=32)
    result = optimize(model, calib=tiny.rows(), rank=8, batch_size=size)
    assert result.samples.fingerprint == expected.samples.fingerprint
    x = tiny.rows(10, seed=4)
    outputs = [
        ort.InferenceSession(made.model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for made in (expected, result)
    ]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def test_the_fingerprint_depends_on_what_is_in_the_samples(model: ModelProto) -> None:
    x = tiny.rows()
    x[:, 3] += 1e-3
    one, two = (optimize(model, calib=samples, rank=8).samples.fingerprint for samples in (tiny.rows(), x))
    assert one != two


# The record in the model.


def test_the_written_model_says_how_it_was_made(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    result = optimize(path, output, calib=tiny.rows(), rank=["first=8", "second=9"], method="svd-bc")
    assert note_of(output) == {
        "version": onnx_dalr.__version__,
        "method": "svd-bc",
        "calibration": result.samples.fingerprint,
        "of": path.stat().st_size,
        "tuned": 0,
        "ranks": {"first": 8, "second": 9},
    }


def test_other_metadata_of_the_model_stays(model: ModelProto) -> None:
    model.metadata_props.add(key="author", value="someone")
    model.doc_string = "what it is for"
    made = optimize(model, calib=tiny.rows(), rank=8).model
    assert made.doc_string == "what it is for"
    assert {entry.key: entry.value for entry in made.metadata_props}["author"] == "someone"


def test_optimizing_an_optimized_model_says_so_and_keeps_the_history(model: ModelProto) -> None:
    once = optimize(model, calib=tiny.rows(), rank=11)
    assert not any("optimized before" in note for note in once.notes)
    twice = optimize(once.model, calib=tiny.rows(), rank=2)
    assert any("optimized before" in note for note in twice.notes)
    assert json.loads(note_of(twice.model)["before"]) == note_of(once.model)
    assert onnx_dalr.inspect(twice.model).optimized is not None


# A score, factors, and what is written beside the model.


def test_a_score_of_ones_own_is_what_a_drop_is_measured_in(model: ModelProto) -> None:
    def near(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> float:
        assert labels is None
        return float(np.mean(outputs["y"][:, 0] > 0))

    result = optimize(model, calib=tiny.rows(400), score=near, max_drop=0.05)
    assert result.quality is not None
    assert result.quality.score == "near"
    assert result.quality.score_before is not None
    assert result.quality.score_after is not None
    left = result.quality.score_before.value - result.quality.score_after.value
    assert left == pytest.approx(result.quality.drop.value, abs=1e-6)
    assert left <= 0.05


def test_without_the_metric_no_gradient_is_run(model: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.learn.passes.add_metric", lambda *_, **__: pytest.fail("gradients are run"))
    result = optimize(model, calib=tiny.rows(400), rank=8, metric=False)
    assert result.metric_passes == 0
    assert {layer.metric_shrinkage for layer in result.layers} == {None}


def test_with_the_metric_every_layer_says_what_it_is_expected_to_do_to_the_output(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(400), rank=3)
    assert result.metric_passes == 7
    for layer in result.layers:
        assert layer.metric_shrinkage is not None
        assert 0 < layer.metric_shrinkage <= 1
        assert layer.expected_distortion is not None
        assert layer.expected_distortion > 0


def test_the_shrinkage_asked_for_is_the_one_used(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(400), rank=8, shrinkage=0.25)
    assert {layer.shrinkage for layer in result.layers} == {0.25}


def test_plan_and_statistics_are_written_beside_the_model_and_in_a_dry_run_not(path: Path, tmp_path: Path) -> None:
    extras: dict[str, Any] = {"save_plan": tmp_path / "plan.json", "save_stats": tmp_path / "stats.npz"}
    before = set(tmp_path.iterdir())
    optimize(path, calib=tiny.rows(), rank=8, dry_run=True, **extras)
    assert set(tmp_path.iterdir()) == before
    optimize(path, tmp_path / "small.onnx", calib=tiny.rows(), rank=8, **extras)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "small.onnx", *extras.values()}
    again = optimize(path, stats=extras["save_stats"], plan=extras["save_plan"]).model
    assert again.SerializeToString() == (tmp_path / "small.onnx").read_bytes()


@pytest.mark.parametrize("option", ["save_plan", "save_stats"])
@pytest.mark.parametrize("name", ["model.onnx", "small.onnx", "report.json", "calib.npz"])
def test_what_is_written_beside_the_model_replaces_nothing_of_the_run(
    path: Path, tmp_path: Path, option: str, name: str
) -> None:
    np.savez(tmp_path / "calib.npz", x=tiny.rows())
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(onnx_dalr.InputError, match="would overwrite another file of this run"):
        optimize(
            path,
            tmp_path / "small.onnx",
            calib=tmp_path / "calib.npz",
            rank=8,
            json=tmp_path / "report.json",
            **{option: tmp_path / name},  # type: ignore[arg-type]
        )
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("option", ["save_plan", "save_stats"])
def test_a_plan_or_statistics_that_exist_are_replaced_with_force_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    options: dict[str, Any] = {"calib": tiny.rows(), "rank": 8, option: mine}
    with monkeypatch.context() as patched:
        patched.setattr("onnx_dalr.commands.learning.learn", lambda *_, **__: pytest.fail("samples are run"))
        named = f"{option} .*mine exists already"
        with pytest.raises(onnx_dalr.InputError, match=named):
            optimize(path, tmp_path / "small.onnx", **options)
        assert not (tmp_path / "small.onnx").exists()
    optimize(path, tmp_path / "small.onnx", dry_run=True, **options)
    assert mine.read_text() == "mine"
    optimize(path, tmp_path / "small.onnx", force=True, **options)
    assert mine.read_bytes() != b"mine"


@pytest.mark.parametrize("existing", [True, False], ids=["over older files", "where nothing is"])
@pytest.mark.parametrize("fails", ["small.onnx", "plan.json", "stats.npz", "report.json"])
def test_all_files_of_a_run_come_into_place_or_none_of_them(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, existing: bool
) -> None:
    """A report of a model that is not there is worse than none."""
    names = {"output": "small.onnx", "save_plan": "plan.json", "save_stats": "stats.npz", "json": "report.json"}
    files: dict[str, Any] = {option: tmp_path / name for option, name in names.items()}
    if existing:
        for file in files.values():
            file.write_text("of an earlier run")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target == tmp_path / fails:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(onnx_dalr.InputError, match=rf"cannot write .*{fails}: No space left on device"):
            optimize(path, calib=tiny.rows(), rank=8, force=True, **files)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    optimize(path, calib=tiny.rows(), rank=8, force=True, **files)
    assert set(tmp_path.iterdir()) == {path, *files.values()}
    assert json.loads(files["json"].read_text())["output"] == str(files["output"])


# The sets.


def test_the_sets_are_disjoint_and_complete(model: ModelProto) -> None:
    sets = json.loads(optimize(model, calib=tiny.rows(1400), rank=8).to_json())["samples"]
    parts = [set(sets[name]) for name in ("fit", "select", "report")]
    assert [len(part) for part in parts] == [980, 210, 210]
    assert set.union(*parts) == {f"array[{i}]" for i in range(1400)}
    assert not sets["select_is_report"]


def test_with_few_samples_select_and_report_are_one_set_and_the_report_says_so(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(400), rank=8)
    sets = result.samples
    assert sets.select == sets.report
    assert sets.select_is_report
    assert not set(sets.fit) & set(sets.select)
    assert len(set(sets.fit) | set(sets.select)) == 400
    assert "also used to choose" in str(result)


def test_with_many_samples_the_report_set_is_used_for_nothing_else(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(1400), rank=8)
    assert not result.samples.select_is_report
    assert "also used to choose" not in str(result)


def test_nothing_held_out_is_nothing_measured(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(), rank=8, holdout=0)
    assert result.quality is None
    assert result.samples.report == ()
    assert "not measured" in str(result)


@pytest.mark.parametrize("distinct", [1, 10])
def test_report_samples_that_were_fitted_on_too_are_counted_one_by_one(model: ModelProto, distinct: int) -> None:
    """A camera that stood still, a loop that never advanced: it is all of them, however few are different."""
    x = np.repeat(tiny.rows(distinct), 100 // distinct, axis=0)
    result = optimize(model, calib=x, rank=8)
    assert "30 of the 30 report samples are among those that were fitted on" in result.notes
    assert not any("fitted on" in note for note in optimize(model, calib=tiny.rows(100), rank=8).notes)


ROOTS = """
<ir_version: 8, opset_import: ["" : 17]>
roots (float[N,16] x) => (float[N,64] y) {
  [fc] h = MatMul(x, W)
  y = END
}
"""


@pytest.mark.parametrize(
    ("end", "what"),
    [("Sqrt(h)", "NaN in output 'y'"), ("Div(h, zeros)", "nothing but infinity in output 'y'")],
)
def test_an_original_that_gives_no_numbers_is_told_so_before_the_work(
    monkeypatch: pytest.MonkeyPatch, end: str, what: str
) -> None:
    weights = {"W": tiny.mlp_weights((16, 64, 64, 4))["W1"].T, "zeros": np.zeros(1, np.float32)}
    broken = tiny.with_weights(ROOTS.replace("END", end), weights)
    result = optimize(broken, calib=tiny.rows(), rank=8, holdout=0, metric=False)
    assert f"the original model gives {what} on these samples" in result.notes
    assert not any("random" in note for note in result.notes)
    monkeypatch.setattr("onnx_dalr.commands.learning.learn", lambda *_, **__: pytest.fail("samples are run"))
    with pytest.raises(onnx_dalr.InputError, match=f"the original model gives {what}") as caught:
        optimize(broken, calib=tiny.rows(), rank=8)
    assert "preprocessing" in caught.value.hint


def test_an_original_with_infinities_on_purpose_is_measured_beside_them() -> None:
    mask = np.array([-np.inf, *[0] * 63], np.float32)
    weights = {"W": tiny.mlp_weights((16, 64, 64, 4))["W1"].T, "mask": mask}
    masked = tiny.with_weights(ROOTS.replace("END", "Add(h, mask)"), weights)
    result = optimize(masked, calib=tiny.rows(), rank=8)
    assert result.quality is not None
    assert result.quality.finite
    assert not any("random" in note or "infinity" in note for note in result.notes)


def test_quality_is_that_of_the_model_that_comes_out(model: ModelProto) -> None:
    x = tiny.rows(400)
    result = optimize(model, calib=x, rank=8)
    assert result.quality is not None
    ids = [int(name.split("[")[1].rstrip("]")) for name in result.samples.report]
    before, after = (
        ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x[ids]})[0]
        for made in (model, result.model)
    )
    measured = np.linalg.norm(before.astype(float) - after) / np.linalg.norm(before.astype(float))
    assert result.quality.error.value == pytest.approx(measured, rel=1e-4)
    assert result.quality.error.low <= measured <= result.quality.error.high


# Targets.


@pytest.mark.parametrize("amount", ["70%", 4500, "4.5k"])
def test_params_is_met_and_used_up(model: ModelProto, amount: str | int) -> None:
    result = optimize(model, calib=tiny.rows(), params=amount)
    budget = 0.7 * result.params_before if amount == "70%" else 4500
    assert 0.97 * budget < result.params_after <= budget


@pytest.mark.parametrize(
    ("method", "most"),
    [("svd-bc", 10 + 3), ("dalr", 10 + 3 + 3)],
    ids=["one kind of factors", "few samples: four kinds to choose from"],
)
def test_the_search_takes_ten_evaluations_those_of_families_and_factors_and_ends_on_one_it_scored(
    demo: Path, method: str, most: int
) -> None:
    """Families: kernels by their axes alone, by their channels alone, and the first as it was."""
    said: list[str] = []

    class Listening(Silent):
        def detail(self, line: str) -> None:
            said.append(line)

    result = optimize(demo / "digits-target.onnx", calib=demo / "digits/calib", method=method, progress=Listening())
    tried = [line for line in said if line.startswith("tried")]
    assert 1 <= len(tried) == result.evaluations == len(result.curve) <= most
    assert any(f"{result.params_after:,} parameters" in line for line in tried)
    assert result.quality is not None
    assert result.quality.drop.value <= 0.01


@pytest.mark.parametrize("without", [1, 3], ids=["one layer without a metric", "no layer with one"])
def test_where_layers_can_neither_be_weighed_nor_measured_the_report_says_what_stands_for_their_effect(
    model: ModelProto, monkeypatch: pytest.MonkeyPatch, without: int
) -> None:
    monkeypatch.setattr("onnx_dalr.choose.decide.is_affordable", lambda *_: False)
    statistics_alone = Statistics.bytes_needed(64, 64, METHODS["dalr"].needs(64, 64), 0)
    monkeypatch.setattr("onnx_dalr.learn.learn.memory_limit", lambda: 1)
    monkeypatch.setattr("onnx_dalr.learn.capture.memory_limit", lambda: statistics_alone)
    result = optimize(model, calib=tiny.rows(400), params="50%", metric=without == 1)
    assert result.passes == 0
    (note,) = [note for note in result.notes if "too large to measure" in note]
    assert f"what {without} of 3 layers, which have no output metric, matter to the output" in note
    assert ("at the rate of a typical layer that has one" in note) == (without == 1)


def test_an_error_is_met_on_the_samples_it_was_chosen_on(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(400), max_error=0.2)
    assert result.samples is not None
    assert result.samples.select_is_report
    assert result.quality is not None
    assert result.quality.error.value <= 0.2
    (chosen,) = [point for point in result.curve if point.chosen]
    assert chosen.params == result.params_after
    assert all(point.error > 0.2 or point.params >= chosen.params for point in result.curve)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_energy_is_the_smallest_rank_of_a_layer_that_keeps_so_much_of_its_variance(share: float) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    one (float[N,40] x) => (float[N,40] y) {
      [fc] y = MatMul(x, W)
    }
    """
    x = tiny.rows(300, 40)
    weights = {"W": np.random.default_rng(0).standard_normal((40, 40), np.float32)}
    (layer,) = optimize(
        tiny.with_weights(text, weights), calib=x, energy=share, holdout=0, metric=False, shrinkage=0
    ).layers
    y = (x - x.mean(axis=0)).astype(np.float64) @ weights["W"]
    variances = np.linalg.svd(y, compute_uv=False) ** 2
    assert layer.rank == int(np.argmax(np.cumsum(variances) >= share * variances.sum())) + 1


def test_a_drop_is_a_fraction_in_python_and_points_as_text(model: ModelProto) -> None:
    one, two = (optimize(model, calib=tiny.rows(), max_drop=drop).params_after for drop in (0.9, "90%"))
    assert one == two


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rank": 8, "params": "50%"}, "InputError"),
        ({"method": "pca"}, "InputError"),
        ({"params": float("inf")}, "InputError"),
        ({"params": "1%"}, "TargetError"),
        ({"size": "1%"}, "TargetError"),
        ({"size": "60%", "energy": 0.9}, "InputError"),
        ({"max_error": 1.5}, "InputError"),
        ({"shrinkage": 2}, "InputError"),
        ({"rank": 999}, "NothingToGainError"),
    ],
)
def test_errors_are_of_the_public_kinds(model: ModelProto, options: dict[str, Any], error: str) -> None:
    with pytest.raises(getattr(onnx_dalr, error)):
        optimize(model, calib=tiny.rows(), **options)


def test_the_factors_keep_the_dtype_of_the_weight() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    half (float16[N,64] x) => (float16[N,64] y) {
      [fc] y = MatMul(x, W)
    }
    """
    weights = {"W": (np.random.default_rng(0).standard_normal((64, 64)) / 8).astype(np.float16)}
    made = optimize(tiny.with_weights(text, weights), calib=tiny.rows(64, 64).astype(np.float16), rank=8).model
    assert {tensor.data_type for tensor in made.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_progress_is_told_every_sample_and_layer_once(model: ModelProto) -> None:
    counted: dict[str, list[int]] = {}

    class Counting(Silent):
        @contextmanager
        def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
            assert name not in counted
            counted[name] = [total or 0, 0]

            def advance(steps: int) -> None:
                counted[name][1] += steps

            yield advance

    optimize(model, calib=tiny.rows(400), rank=8, progress=Counting())
    assert counted == {
        "looking at the original": [128, 128],
        "capturing": [280, 280],
        "probing": [280, 280],
        "factorizing": [3, 3],
        "rewriting": [2, 2],
        "saving": [0, 0],
        "verifying": [120, 120],
        "measuring latency": [0, 0],
    }
