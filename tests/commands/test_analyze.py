"""`onnx_dalr.analyze`: one look at the samples, plans for any target from it, and statistics that add up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader

import onnx_dalr
from onnx_dalr import Analysis, InputError, NothingToGainError, Plan, TargetError
from onnx_dalr.learn.statistics_set import load_statistics, save_statistics
from onnx_dalr.progress import Silent
from onnx_dalr.request.target import make_target
from tests.cli import tiny
from tests.forms import UNTOUCHED, pair
from tests.learn.stats_cases import assert_close

WIDTHS = (16, 64, 64, 4)
TARGETS: tuple[dict[str, Any], ...] = (
    {"size": "60%"},
    {"params": "50%"},
    {"params": "50%", "rank": "first=keep"},
    {"max_drop": 0.2},
    {"max_error": 0.3},
    {"energy": 0.9},
    {"rank": 8},
    {"params": 0.6, "rank_multiple": 4, "min_rank": 8},
)
PROBABILITIES = """
<ir_version: 8, opset_import: ["" : 17]>
classes (float[N,16] x) => (float[N,6] y) {
  [first] h1 = Gemm<transB: int = 1>(x, W1, b1)
  r1 = Relu(h1)
  [second] h2 = Gemm<transB: int = 1>(r1, W2, b2)
  r2 = Relu(h2)
  [third] logits = Gemm<transB: int = 1>(r2, W3, b3)
  y = Softmax<axis: int = -1>(logits)
}
"""


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return tiny.mlp(WIDTHS)


@pytest.fixture(scope="module")
def analysis(model: ModelProto) -> Iterator[Analysis]:
    with onnx_dalr.analyze(model, calib=tiny.rows(100), task="regress") as made:
        yield made


def classifier() -> ModelProto:
    """Three Gemm and a Softmax: the seeds of its metric depend on a sample alone."""
    return tiny.with_weights(PROBABILITIES, tiny.mlp_weights((16, 64, 64, 6)))


class Reader(CalibrationDataReader):
    """One sample at a time, as onnxruntime's own calibration wants them."""

    def __init__(self, x: np.ndarray) -> None:
        self.feeds = iter([{"x": row[None]} for row in x])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


# Plans.


def test_the_example_of_the_design_works() -> None:
    """model and reader in, a ModelProto out that is as small as was asked."""
    model, reader = tiny.mlp(WIDTHS), Reader(tiny.rows(100))
    analysis = onnx_dalr.analyze(model, calib=reader)
    plan = analysis.plan(size="60%")
    small = plan.apply(model, stats=analysis.stats)
    assert small.ByteSize() <= 0.6 * model.ByteSize()
    onnx.checker.check_model(small, full_check=True)
    session = ort.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": tiny.rows(3)})[0].shape == (3, 4)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_plan_is_the_one_that_optimize_makes(
    model: ModelProto, analysis: Analysis, tmp_path: Path, target: dict[str, Any]
) -> None:
    path = tmp_path / "plan.json"
    result = onnx_dalr.optimize(model, calib=tiny.rows(100), save_plan=path, task="regress", **target)
    plan = analysis.plan(**target)
    assert Plan.load(path) == plan
    assert plan.curve == result.curve
    assert [layer.form for layer in result.layers] == [choice.form for choice in plan.choices]


def test_a_plan_is_refused_where_optimize_refuses_and_in_the_same_words(
    model: ModelProto, analysis: Analysis, tmp_path: Path
) -> None:
    """At most one point of this small model cannot be met; that is the default."""
    with pytest.raises(TargetError) as mine:
        analysis.plan()
    with pytest.raises(TargetError) as theirs:
        onnx_dalr.optimize(model, calib=tiny.rows(100), save_plan=tmp_path / "plan.json", task="regress")
    assert str(mine.value) == str(theirs.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_plan_says_what_it_is_for_and_what_was_tried(analysis: Analysis, target: dict[str, Any]) -> None:
    plan = analysis.plan(**target)
    assert plan.model == analysis.context.original.content_hash
    assert (plan.method, plan.version) == ("dalr", onnx_dalr.__version__)
    assert [choice.layer for choice in plan.choices] == ["first", "second", "third"]
    assert [choice.largest_rank for choice in plan.choices] == [12, 31, 3]
    assert len(plan.curve) == plan.evaluations
    assert [point.params for point in plan.curve] == sorted(point.params for point in plan.curve)
    assert [point.chosen for point in plan.curve].count(True) == 1
    for choice in plan.choices:
        assert (choice.expected_error is None) == choice.form.untouched


@pytest.mark.parametrize("metric", [True, False])
@pytest.mark.parametrize("samples", [100, 400], ids=["few", "many"])
def test_the_plan_of_ranks_that_were_asked_for_says_what_error_to_expect(
    model: ModelProto, samples: int, metric: bool
) -> None:
    """Also where samples are many enough that no factors are compared and no model is scored."""
    with onnx_dalr.analyze(model, calib=tiny.rows(samples), metric=metric) as analysis:
        plan = analysis.plan(rank=["first=4", "second=9"])
    assert bool(plan.evaluations) == (samples == 100)
    first, second, third = plan.choices
    assert (third.expected_error, third.expected_distortion) == (None, None)
    for choice in (first, second):
        assert choice.expected_error is not None
        assert choice.expected_error > 0
        assert (choice.expected_distortion is not None) == metric
    if samples == 400:
        assert second.expected_error == analysis.learned.of("second").expected_error(pair(9))


def test_the_chosen_point_of_the_curve_is_the_model_that_comes_out(model: ModelProto, analysis: Analysis) -> None:
    plan = analysis.plan(params="50%")
    (chosen,) = [point for point in plan.curve if point.chosen]
    result = onnx_dalr.optimize(model, calib=tiny.rows(100), params="50%", task="regress")
    assert (chosen.params, chosen.bytes) == (result.params_after, result.bytes_after)
    assert result.samples is not None
    assert result.samples.select_is_report
    assert result.quality is not None
    assert chosen.error == pytest.approx(result.quality.error.value, rel=1e-5)
    assert chosen.drop == pytest.approx(result.quality.drop.value, rel=1e-5)


def test_pins_hold_beside_another_target(analysis: Analysis) -> None:
    plan = analysis.plan(params="50%", rank=["first=5", "third=keep"])
    by_name = {choice.layer: choice for choice in plan.choices}
    assert (by_name["first"].form, by_name["third"].form) == (pair(5), UNTOUCHED)
    assert by_name["first"].reason == by_name["third"].reason == "as asked"
    assert plan.target == "params 50%, rank first=5, third=keep"


def test_a_pattern_that_matches_no_layer_is_refused(analysis: Analysis) -> None:
    for target in ({"rank": "fourth=8"}, {"params": "50%", "rank": "fourth=keep"}):
        with pytest.raises(InputError, match="rank='fourth' matches no layer"):
            analysis.plan(**target)  # type: ignore[arg-type]


def test_a_target_that_cannot_be_met_leaves_the_analysis_as_it_was(analysis: Analysis) -> None:
    before = analysis.plan(params="60%")
    with pytest.raises(TargetError):
        analysis.plan(params="1%")
    with pytest.raises(NothingToGainError):
        analysis.plan(rank=999)
    with pytest.raises(InputError):
        analysis.plan(params="60%", size="60%")
    assert analysis.plan(params="60%") == before


# What is left behind.


def test_a_target_is_held_against_the_sizes_of_the_layers_once(
    model: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []
    for where in ("commands.learning", "choose.analysis"):
        monkeypatch.setattr(f"onnx_dalr.{where}.check_target", lambda run, target, *_, **__: checked.append(target))
    asked = make_target(params="50%")
    with onnx_dalr.analyze(model, calib=tiny.rows(), target=asked) as analysis:
        assert checked == [asked]
        analysis.plan(params="50%")
        assert checked == [asked]
        analysis.plan(params="60%")
        assert checked == [asked, make_target(params="60%")]


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.mlp(WIDTHS), "model.onnx")
    np.savez("calib.npz", x=tiny.rows(100))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with onnx_dalr.analyze("model.onnx", calib="calib.npz") as analysis:
        analysis.plan(size="60%")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_analysis_that_is_let_go_lets_go_of_the_samples() -> None:
    analysis = onnx_dalr.analyze(tiny.mlp(WIDTHS), calib=tiny.rows(100), metric=False)
    assert analysis.sets is not None
    samples = weakref.ref(analysis.sets)
    del analysis
    gc.collect()
    assert samples() is None


def test_an_analysis_can_be_closed_twice_and_plans_from_statistics_remain(model: ModelProto) -> None:
    analysis = onnx_dalr.analyze(model, calib=tiny.rows(100), holdout=0)
    analysis.close()
    analysis.close()
    assert analysis.plan(params="50%").apply(model, stats=analysis.stats).ByteSize() < model.ByteSize()


# Statistics in place of samples.


def saved(path: Path, model: ModelProto, x: np.ndarray, task: str = "regress", **options: Any) -> Path:
    """Statistics of all of these samples."""
    with onnx_dalr.analyze(model, calib=x, holdout=0, task=task, **options) as analysis:
        save_statistics(analysis.stats, path)
    return path


def test_statistics_come_back_from_a_file_as_they_were(model: ModelProto, analysis: Analysis, tmp_path: Path) -> None:
    save_statistics(analysis.stats, tmp_path / "stats.npz")
    with onnx_dalr.analyze(model, stats=tmp_path / "stats.npz", calib=tiny.rows(100), task="regress") as again:
        for target in ({"size": "60%"}, {"energy": 0.9}, {"max_error": 0.3}):
            assert again.plan(**target) == analysis.plan(**target)  # type: ignore[arg-type]
        assert again.stats.samples == analysis.stats.samples
    optimized = tmp_path / "optimized.npz"
    onnx_dalr.optimize(model, calib=tiny.rows(100), rank=8, save_stats=optimized, task="regress")
    assert optimized.read_bytes() == (tmp_path / "stats.npz").read_bytes()


def test_with_statistics_the_fit_samples_are_not_run(model: ModelProto, tmp_path: Path) -> None:
    stages: list[str] = []

    class Listening(Silent):
        def stage(self, name: str, total: int | None) -> Any:
            stages.append(name)
            return super().stage(name, total)

    stats = saved(tmp_path / "stats.npz", model, tiny.rows(100))
    few, listening = tiny.rows(50, seed=3), Listening()
    with onnx_dalr.analyze(model, stats=stats, calib=few, task="regress", progress=listening) as analysis:
        analysis.plan(params="50%")
    assert "factorizing" in stages
    assert not {"capturing", "probing"} & set(stages)


def test_samples_beside_statistics_choose_and_report_and_teach_nothing(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "stats.npz", model, tiny.rows(200))
    results = [
        onnx_dalr.optimize(model, calib=tiny.rows(60, seed=seed), stats=stats, rank="second=9", task="regress")
        for seed in (5, 6)
    ]
    assert results[0].model == results[1].model
    assert all(result.quality is not None and result.quality.n == 18 for result in results)
    assert results[0].quality != results[1].quality


def test_statistics_alone_serve_every_target_but_a_tolerance(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "stats.npz", model, tiny.rows(100))
    with onnx_dalr.analyze(model, stats=stats) as analysis:
        for target in ({"params": "50%"}, {"size": "60%"}, {"energy": 0.9}, {"rank": 8}):
            plan = analysis.plan(**target)  # type: ignore[arg-type]
            assert plan.compressed
            assert plan.evaluations == 0
        for target in ({}, {"max_drop": 0.1}, {"max_error": 0.3}):
            with pytest.raises(InputError, match="without held-out samples no"):
                analysis.plan(**target)


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_two_halves_added_up_give_the_ranks_of_the_whole(tmp_path: Path, kind: str) -> None:
    model = classifier() if kind == "classify" else tiny.mlp(WIDTHS)
    x, select = tiny.rows(400), tiny.rows(80, seed=9)
    whole = saved(tmp_path / "whole.npz", model, x, kind)
    halves = [saved(tmp_path / f"{name}.npz", model, part, kind) for name, part in (("a", x[:200]), ("b", x[200:]))]
    results = []
    for files in ([whole], halves, halves[::-1]):
        results.append(onnx_dalr.optimize(model, calib=select, stats=files, params="45%", task=kind))
        assert not any("count twice" in note for note in results[-1].notes)
    assert all(layer.metric_shrinkage is not None for layer in results[0].layers)
    assert len({tuple(layer.rank for layer in result.layers) for result in results}) == 1
    assert [layer.rows for layer in results[1].layers] == [400] * 3
    made = [
        ort.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"]) for result in results
    ]
    expected, *others = (session.run(None, {"x": select})[0] for session in made)
    for other in others:
        np.testing.assert_allclose(other, expected, atol=1e-4 if kind == "classify" else 2e-2)


def test_samples_that_are_in_two_files_are_counted_in_a_note(model: ModelProto, tmp_path: Path) -> None:
    x = tiny.rows(120)
    parts = [saved(tmp_path / "a.npz", model, x[:70]), saved(tmp_path / "b.npz", model, x[50:])]
    result = onnx_dalr.optimize(model, stats=parts, rank=8)
    (note,) = [note for note in result.notes if "twice" in note]
    assert note == f"20 samples are in both {parts[0]} and {parts[1]}: they count twice"
    assert note in " ".join(str(result).split())


def test_the_same_file_twice_is_refused(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "a.npz", model, tiny.rows(50))
    with pytest.raises(InputError, match="hold the same samples"):
        onnx_dalr.analyze(model, stats=[stats, stats])


def test_statistics_of_another_model_are_refused(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "other.npz", tiny.mlp(WIDTHS, seed=1), tiny.rows(50))
    with pytest.raises(InputError, match=r"other\.npz belongs to another model"):
        onnx_dalr.analyze(model, stats=stats)


def test_statistics_of_images_prepared_otherwise_are_refused(demo: Path, tmp_path: Path) -> None:
    model, images = demo / "digits-target.onnx", demo / "digits/calib"
    options: dict[str, Any] = {"calib": images, "samples": 20, "method": "svd-bc"}
    with onnx_dalr.analyze(model, mean=0.5, **options) as analysis:
        save_statistics(analysis.stats, tmp_path / "stats.npz")
    with pytest.raises(InputError, match=r"stats\.npz has mean .*, this run has mean "):
        onnx_dalr.analyze(model, stats=tmp_path / "stats.npz", **options)
    onnx_dalr.analyze(model, stats=tmp_path / "stats.npz", mean=0.5, **options).close()


def test_statistics_for_another_task_of_the_metric_are_refused(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "stats.npz", model, tiny.rows(50), task="classify")
    said = "task of the metric classes of y, this run has task of the metric numbers of y"
    with pytest.raises(InputError, match=said) as error:
        onnx_dalr.analyze(model, stats=stats, calib=tiny.rows(50), task="regress")
    assert error.value.hint == "say what the outputs are in both runs, with task or outputs"


def test_statistics_of_other_sums_than_the_method_reads_are_refused(model: ModelProto, tmp_path: Path) -> None:
    stats = saved(tmp_path / "stats.npz", model, tiny.rows(50), method="svd")
    with pytest.raises(InputError, match='was made for method="svd"'):
        onnx_dalr.analyze(model, stats=stats)


def test_statistics_are_of_the_model_and_the_samples(analysis: Analysis) -> None:
    stats = analysis.stats
    assert (stats.model, stats.method, stats.version) == (
        analysis.context.original.content_hash,
        "dalr",
        onnx_dalr.__version__,
    )
    assert len(stats.samples) == 70
    assert list(stats.layers) == ["first", "second", "third"]
    assert {stats.facts(name).rows for name in stats.layers} == {70}


def test_saved_statistics_do_not_depend_on_the_batch_size(model: ModelProto, tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{size}.npz", model, tiny.rows(50), batch_size=size) for size in (7, 32)]
    one, two = map(load_statistics, files)
    assert one.samples == two.samples
    for name in one.layers:
        assert one.facts(name) == two.facts(name)
        assert_close(one.layers[name], two.layers[name])


def test_neither_samples_nor_statistics_is_an_error(model: ModelProto) -> None:
    with pytest.raises(InputError, match="there are no samples") as caught:
        onnx_dalr.analyze(model)
    assert caught.value.hint == "give calib=…, or stats=…"
