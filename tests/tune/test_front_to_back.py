"""Layers are refitted front to back: the same forms in the same bytes do better, or nothing changes at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr.progress import REFITTING, Silent
from onnx_dalr.tune import front_to_back, transfer
from tests.cli import tiny
from tests.graph.helpers import model, run

NET = model(
    """g (float[N,16] x) => (float[N,6] y) {
        [a] h1 = Gemm<transB: int = 1>(x, W1, b1)
        r1 = Relu(h1)
        [b] h2 = Gemm<transB: int = 1>(r1, W2, b2)
        r2 = Relu(h2)
        [c] h3 = MatMul(r2, W3)
        r3 = Relu(h3)
        [d] h4 = Gemm<transB: int = 1>(r3, W4, b4)
        r4 = Relu(h4)
        [e] y = Gemm<transB: int = 1>(r4, W5, b5)
    }""",
    W1=(32, 16),
    b1=(32,),
    W2=(40, 32),
    b2=(40,),
    W3=(40, 24),
    W4=(32, 24),
    b4=(32,),
    W5=(6, 32),
    b5=(6,),
)
DRAWN = tiny.rows(1700)
MANY, FEW, UNSEEN = DRAWN[:1200], DRAWN[:150], DRAWN[1200:]
RANKS = ["a=5", "b=6", "c=6", "d=6"]


class Heard(Silent):
    """Keeps what is said in detail."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.stages: list[str] = []

    def detail(self, line: str) -> None:
        self.details.append(line)

    def stage(self, name: str, total: int | None) -> Any:
        self.stages.append(name)
        return super().stage(name, total)

    @property
    def said(self) -> list[str]:
        return [line for line in self.details if line.startswith("refitting")]


@pytest.fixture(autouse=True)
def _refit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tuned beside."""
    monkeypatch.setattr(transfer, "FEWEST", 1_000_000)


def made(refit: str, calib: Any = MANY, **options: Any) -> onnx_dalr.Result:
    given = {"rank": RANKS, "task": "regress", "device": "cpu"} | options
    return onnx_dalr.optimize(NET, calib=calib, refit=refit, **given)


def constants(proto: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def changed(one: onnx_dalr.Result, other: onnx_dalr.Result) -> set[str]:
    """Names of the constants in which two models differ."""
    mine, theirs = constants(one.model), constants(other.model)
    assert list(mine) == list(theirs)
    return {name for name, values in mine.items() if not np.array_equal(values, theirs[name])}


def error_of(proto: ModelProto) -> float:
    """On samples that nothing was fitted to or chosen on."""
    x = {"x": UNSEEN}
    return float(np.sum((run(NET, x)["y"] - run(proto, x)["y"]) ** 2))


@pytest.mark.parametrize("weights", ["keep", "int8", "int4", "float16"])
def test_the_same_forms_in_the_same_bytes_err_less(weights: str) -> None:
    heard = Heard()
    before, after = made("off", weights=weights), made("auto", weights=weights, progress=heard)
    assert error_of(after.model) < 0.95 * error_of(before.model)
    assert after.bytes_after == before.bytes_after
    assert [layer.form for layer in after.layers] == [layer.form for layer in before.layers]
    assert [node.name for node in after.model.graph.node] == [node.name for node in before.model.graph.node]
    assert after.model.metadata_props == before.model.metadata_props
    (said,) = heard.said
    assert "distortion of the select samples" in said
    assert set(after.refitted) <= {layer.name for layer in after.layers} - {"a"}
    assert f"{len(after.refitted)} taken" in said
    assert "to what the layers before have become" in said
    assert "layers before them have become" in after.to_text(verbose=True)
    assert not before.refitted
    assert "layers before them have become" not in before.to_text(verbose=True)
    assert any(name.startswith(REFITTING) for name in heard.stages)


def test_what_sees_the_same_as_before_is_left_alone() -> None:
    """Nothing is compressed before the first layer, and the last is as it was."""
    names = changed(made("auto"), made("off"))
    assert {name.split(".")[0] for name in names if ".dalr_" in name} <= {"W2", "W3", "W4", "b2", "b4", "h3"}
    assert not {name for name in names if name.startswith(("W1", "b1", "W5", "b5"))}
    assert {"W2.dalr_A", "W2.dalr_B"} <= names


def test_a_layer_behind_layers_as_they_were_is_left_alone() -> None:
    assert not changed(made("auto", rank=["c=6"]), made("off", rank=["c=6"]))


def test_with_few_rows_the_file_is_the_same_and_who_asks_for_details_is_told_why(tmp_path: Path) -> None:
    files = [tmp_path / f"{refit}.onnx" for refit in ("off", "auto")]
    heard = [Heard(), Heard()]
    results = [
        onnx_dalr.optimize(
            NET, file, calib=FEW, rank=RANKS, task="regress", device="cpu", refit=file.stem, progress=listener
        )
        for file, listener in zip(files, heard, strict=True)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not [note for result in results for note in result.notes if "refitted" in note]
    said = [[line for line in listener.details if "refitted" in line] for listener in heard]
    assert not said[0]
    assert said[1][0] == (
        "not refitted to the layers before them: 'b', 'c', 'd'; the samples have fewer than 5 rows for every input of "
        "theirs"
    )


def test_layers_of_too_many_inputs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.learn.learn.LARGEST", 32)
    monkeypatch.setattr(front_to_back, "LARGEST", 32)
    after = made("auto")
    assert "not refitted to the layers before them: 'c'; they have more than 32 inputs" in after.notes
    assert not {name for name in changed(after, made("off")) if name.startswith(("W3", "h3"))}


def test_metrics_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers whose metric there is no room for are left alone."""
    monkeypatch.setattr("onnx_dalr.learn.learn.STATISTICS_FLOOR", 1)
    after = made("auto")
    assert [note for note in after.notes if "memory" in note]
    assert not {name for name in changed(after, made("off")) if name.startswith("W4")}


def test_what_does_not_do_better_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways that all err more on select samples leave every layer, and the file, as they were."""
    spoilt = front_to_back.refitted

    def worse(*given: Any, **more: Any) -> Any:
        found = spoilt(*given, **more)
        return replace(found, shift=found.shift + 100)

    monkeypatch.setattr(front_to_back, "refitted", worse)
    heard = Heard()
    assert made("auto", progress=heard).model == made("off").model
    assert heard.said[0].endswith("nothing is changed")


def test_a_group_that_distorts_the_output_more_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer's own error is a stand-in: the model's output has the last word."""

    def liar(sweep: Any, layer: Any, *sums: Any) -> Any:
        del sums
        first = front_to_back.substitution(sweep._context, layer, sweep._learned, sweep._forms[layer], "default")
        return replace(first, shift=first.shift + 3)

    monkeypatch.setattr(front_to_back._Sweep, "_best", liar)
    assert made("auto").model == made("off").model


@pytest.mark.parametrize("method", ["svd", "svd-bc", "dalr-2017"])
def test_baselines_stay_what_they_are(method: str) -> None:
    heard = Heard()
    assert made("auto", method=method, progress=heard).model == made("off", method=method).model
    assert not heard.said


def test_without_select_samples_nothing_is_refitted() -> None:
    heard = Heard()
    assert made("auto", holdout=0.0, progress=heard).model == made("off", holdout=0.0).model
    assert not heard.said


def test_without_a_metric_layers_are_refitted_all_the_same() -> None:
    before, after = made("off", metric=False), made("auto", metric=False)
    assert error_of(after.model) < error_of(before.model)


def test_a_plan_is_refitted_where_there_are_samples_and_applied_as_it_is_from_statistics(tmp_path: Path) -> None:
    whole = made("auto", save_plan=tmp_path / "plan.json", save_stats=tmp_path / "stats.npz")
    given: dict[str, Any] = {"task": "regress", "device": "cpu"}
    again = onnx_dalr.apply(NET, tmp_path / "plan.json", calib=MANY, **given)
    assert not changed(again, whole)
    off = made("off")
    heard = Heard()
    alone = onnx_dalr.apply(NET, tmp_path / "plan.json", stats=tmp_path / "stats.npz", device="cpu", progress=heard)
    assert not changed(alone, off)
    beside = onnx_dalr.apply(
        NET, tmp_path / "plan.json", stats=tmp_path / "stats.npz", calib=MANY, progress=heard, **given
    )
    assert not changed(beside, off)
    assert not heard.said
    assert not [note for one in (alone, beside) for note in one.notes if "refitted" in note]


def test_a_tolerance_is_kept_to() -> None:
    before, after = made("off", rank=None, max_error=0.4), made("auto", rank=None, max_error=0.4)
    assert after.bytes_after == before.bytes_after
    assert error_of(after.model) < error_of(before.model)


def test_weights_that_stay_packed_are_refitted_before_they_are_packed() -> None:
    given: dict[str, Any] = {"weights": "int8", "memory": "small"}
    before, after = made("off", **given), made("auto", **given)
    assert after.bytes_after == before.bytes_after
    assert error_of(after.model) < error_of(before.model)


def test_a_bias_that_is_not_there_is_not_added() -> None:
    """In one piece a MatMul has nothing to put a shift into, and gets none."""
    given: dict[str, Any] = {"weights": ["keep", "W3=int4"], "rank": ["a=5", "b=4", "c=keep"]}
    before, after = made("off", **given), made("auto", **given)
    assert str(after.layers[2].form).startswith("dense int4")
    assert {name for name in changed(after, before) if name.startswith("W3")}
    assert after.bytes_after == before.bytes_after
    assert [node.op_type for node in after.model.graph.node] == [node.op_type for node in before.model.graph.node]


def test_values_may_lie_in_another_file(tmp_path: Path) -> None:
    whole = ModelProto()
    whole.CopyFrom(NET)  # saving moves the values out of it
    onnx.save(whole, tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0, location="net.data")
    errors = {}
    for refit in ("off", "auto"):
        folder = tmp_path / refit
        folder.mkdir()
        onnx_dalr.optimize(
            tmp_path / "net.onnx",
            folder / "out.onnx",
            calib=MANY,
            rank=RANKS,
            task="regress",
            device="cpu",
            refit=refit,
        )
        errors[refit] = error_of(onnx.load(folder / "out.onnx"))
    assert errors["auto"] < errors["off"]


def test_few_samples_are_run_at_a_time_where_rows_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums do not depend on how many."""
    whole = made("auto")
    monkeypatch.setattr(front_to_back, "MOST_BYTES", 8 * 40 * 10)
    for name, values in constants(made("auto").model).items():
        np.testing.assert_allclose(values, constants(whole.model)[name], rtol=1e-2, atol=1e-3)
