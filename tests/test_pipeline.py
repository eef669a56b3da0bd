"""`onnx_dalr.optimize` from Python: what it takes, what it gives back, and what it promises about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader

import onnx_dalr
from onnx_dalr.progress import Silent
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
    assert "also used for selection" in str(result)


def test_with_many_samples_the_report_set_is_used_for_nothing_else(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(1400), rank=8)
    assert not result.samples.select_is_report
    assert "also used for selection" not in str(result)


def test_nothing_held_out_is_nothing_measured(model: ModelProto) -> None:
    result = optimize(model, calib=tiny.rows(), rank=8, holdout=0)
    assert result.quality is None
    assert result.samples.report == ()
    assert "not measured" in str(result)


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


def test_the_search_takes_eight_evaluations_at_most_and_ends_on_one_it_scored(demo: Path) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    result = optimize(demo / "digits-target.onnx", calib=demo / "digits/calib", progress=Listening())
    tried = [line for line in said if line.startswith("tried")]
    assert 1 <= len(tried) == result.evaluations <= 8
    assert any(f"{result.params_after:,} parameters" in line for line in tried)
    assert result.quality is not None
    assert result.quality.drop.value <= 0.01


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
            counted[name] = [total or 0, 0]

            def advance(steps: int) -> None:
                counted[name][1] += steps

            yield advance

    optimize(model, calib=tiny.rows(400), rank=8, progress=Counting())
    assert counted == {"capturing": [280, 280], "factorizing": [3, 3], "verifying": [120, 120]}
