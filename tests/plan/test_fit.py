"""A plan meets a model: what it asks for is done to the letter, and what cannot be done is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnx_dalr
from onnx_dalr import Analysis, InputError, NothingToGainError, Plan, StatisticsSet
from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.learn.statistics_set import load_statistics, save_statistics
from onnx_dalr.plan.choice import Choice
from tests.cli import tiny
from tests.forms import form, pair

WIDTHS = (16, 64, 64, 4)
"""The largest ranks that save are 12, 31 and 3."""


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return tiny.mlp(WIDTHS)


@pytest.fixture(scope="module")
def analysis(model: ModelProto) -> Iterator[Analysis]:
    with onnx_dalr.analyze(model, calib=tiny.rows(100)) as made:
        yield made


@pytest.fixture(scope="module")
def stats(analysis: Analysis) -> StatisticsSet:
    return analysis.stats


@pytest.fixture(scope="module")
def plan(analysis: Analysis) -> Plan:
    return analysis.plan(rank=["first=4", "second=9"])


@pytest.fixture
def files(tmp_path: Path, model: ModelProto, plan: Plan, stats: StatisticsSet) -> Path:
    """A folder with model.onnx, plan.json, stats.npz and the samples they are of, calib.npz."""
    onnx.save(model, tmp_path / "model.onnx")
    plan.save(tmp_path / "plan.json")
    save_statistics(stats, tmp_path / "stats.npz")
    np.savez(tmp_path / "calib.npz", x=tiny.rows(100))
    return tmp_path


def ranks(plan: Plan, **changes: int | None) -> Plan:
    """The plan with other ranks."""
    return replace(
        plan, choices=tuple(replace(c, form=form(changes[c.layer])) if c.layer in changes else c for c in plan.choices)
    )


def rank_of(model: ModelProto, weight: str) -> int | None:
    """The inner dimension of the factors of a weight, None where it is whole."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = [shape for name, shape in shapes.items() if name.startswith(f"{weight}.dalr_B")]
    assert (weight in shapes) != bool(found)
    return min(found[0]) if found else None


def ranks_of(model: ModelProto) -> list[int | None]:
    return [rank_of(model, weight) for weight in ("W1", "W2", "W3")]


def never(*_arguments: Any, **_named: Any) -> Any:
    raise AssertionError("samples are run")


# What a plan asks for is what comes out.


def test_a_plan_is_applied_to_the_letter(model: ModelProto, plan: Plan, stats: StatisticsSet) -> None:
    small = plan.apply(model, stats=stats)
    onnx.checker.check_model(small, full_check=True)
    assert ranks_of(small) == [4, 9, None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"second": 10}, [4, 10, None]),
        ({"first": None}, [None, 9, None]),
        ({"third": 2}, [4, 9, 2]),
        ({"first": 12, "second": 31, "third": 3}, [12, 31, 3]),
    ],
)
def test_edited_ranks_are_applied(
    model: ModelProto,
    plan: Plan,
    stats: StatisticsSet,
    tmp_path: Path,
    changes: dict[str, int | None],
    expected: list[int | None],
) -> None:
    facts = json.loads(plan.to_json())
    for entry in facts["layers"]:
        if entry["layer"] in changes:
            rank = changes[entry["layer"]]
            entry["form"] = str(form(rank))
    (tmp_path / "plan.json").write_text(json.dumps(facts))
    assert ranks_of(Plan.load(tmp_path / "plan.json").apply(model, stats=stats)) == expected


def test_a_layer_the_plan_leaves_out_stays_as_it_is(model: ModelProto, plan: Plan, stats: StatisticsSet) -> None:
    shorter = replace(plan, choices=plan.choices[1:2])
    assert ranks_of(shorter.apply(model, stats=stats)) == [None, 9, None]
    result = onnx_dalr.apply(model, shorter, calib=tiny.rows(100))
    assert ranks_of(result.model) == [None, 9, None]
    assert {entry.name: entry.reason for entry in result.skipped} == {
        "first": "the plan keeps it",
        "third": "the plan keeps it",
    }


def test_the_order_of_the_layers_in_a_plan_does_not_matter(model: ModelProto, plan: Plan, stats: StatisticsSet) -> None:
    turned = replace(plan, choices=plan.choices[::-1])
    assert turned.apply(model, stats=stats) == plan.apply(model, stats=stats)


def test_a_rank_above_break_even_keeps_the_layer_dense_and_says_so(model: ModelProto, plan: Plan) -> None:
    result = onnx_dalr.apply(model, ranks(plan, second=32), calib=tiny.rows(100))
    assert ranks_of(result.model) == [4, None, None]
    (second,) = [layer for layer in result.layers if layer.name == "second"]
    assert second.form.untouched
    assert second.reason == "rank 32 would not make it smaller: 31 is the largest"
    assert second.reason in " ".join(str(result).split())


def test_an_edited_plan_has_no_chosen_point_any_more_and_the_report_says_so(
    model: ModelProto, analysis: Analysis
) -> None:
    plan = analysis.plan(params="60%")
    as_made = onnx_dalr.apply(model, plan, calib=tiny.rows(100))
    assert as_made.curve == plan.curve
    assert not any("when the plan was made" in note for note in as_made.notes)
    edited = onnx_dalr.apply(model, ranks(plan, second=5), calib=tiny.rows(100))
    assert [replace(point, chosen=False) for point in plan.curve] == list(edited.curve)
    (note,) = [note for note in edited.notes if "when the plan was made" in note]
    assert note in " ".join(str(edited).split())


# Whatever way it is applied, the factors are the same.


def test_every_way_to_apply_a_plan_makes_the_same_model(files: Path, model: ModelProto, plan: Plan) -> None:
    read = Plan.load(files / "plan.json")
    expected = plan.apply(model, stats=load_statistics(files / "stats.npz"))
    assert read.apply(files / "model.onnx", stats=str(files / "stats.npz")) == expected
    paths = (files / "model.onnx", files / "plan.json")
    assert onnx_dalr.apply(*paths, stats=files / "stats.npz").model == expected
    assert onnx_dalr.apply(*paths, calib=files / "calib.npz").model == expected
    assert onnx_dalr.optimize(paths[0], calib=tiny.rows(100), plan=read).model == expected
    assert onnx_dalr.optimize(paths[0], calib=tiny.rows(100), plan=files / "plan.json").model == expected


@pytest.mark.parametrize("target", [{"params": "50%"}, {"size": "60%"}, {"energy": 0.9}, {"max_error": 0.3}], ids=str)
@pytest.mark.parametrize("method", ["dalr", "dalr-2017", "svd-bc", "svd"])
def test_analyze_then_apply_is_optimize(model: ModelProto, method: str, target: dict[str, Any]) -> None:
    x = tiny.rows(100)
    expected = onnx_dalr.optimize(model, calib=x, method=method, **target).model
    with onnx_dalr.analyze(model, calib=x, method=method) as made:
        assert made.plan(**target).apply(model, stats=made.stats) == expected


@pytest.mark.parametrize(
    "options",
    [{"metric": False}, {"shrinkage": 0.3}, {"method": "dalr-2017", "ridge": "abs:5"}, {"method": "svd"}],
    ids=str,
)
def test_a_plan_brings_the_settings_of_its_factors_along(
    model: ModelProto, tmp_path: Path, options: dict[str, Any]
) -> None:
    expected = onnx_dalr.optimize(
        model, calib=tiny.rows(100), rank=5, save_plan=tmp_path / "plan.json", **options
    ).model
    assert onnx_dalr.apply(model, tmp_path / "plan.json", calib=tiny.rows(100)).model == expected
    assert onnx_dalr.apply(model, tmp_path / "plan.json", calib=tiny.rows(100), **options).model == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "svd"}, 'the plan is for method="dalr", not svd'),
        ({"metric": False}, "the plan was made without metric=False"),
        ({"shrinkage": 0.3}, "the plan was made without shrinkage=0.3"),
    ],
    ids=str,
)
def test_another_method_than_the_plans_is_refused(
    model: ModelProto, plan: Plan, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        onnx_dalr.apply(model, plan, calib=tiny.rows(100), **options)


def test_a_plan_that_was_applied_and_saved_again_is_the_same_plan(files: Path) -> None:
    paths = (files / "model.onnx", files / "plan.json")
    onnx_dalr.optimize(paths[0], stats=files / "stats.npz", plan=paths[1], save_plan=files / "again.json")
    first, second = (Plan.load(files / name) for name in ("plan.json", "again.json"))
    assert (second.model, second.method, second.settings, second.factors) == (
        first.model,
        first.method,
        first.settings,
        first.factors,
    )
    assert second.compressed == first.compressed


# With statistics no sample is run.


def test_with_statistics_and_no_samples_nothing_is_run_and_quality_is_not_measured(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_dalr.commands.learning.learn", never)
    monkeypatch.setattr("onnx_dalr.commands.opening.opened", never)
    result = onnx_dalr.apply(files / "model.onnx", files / "plan.json", files / "small.onnx", stats=files / "stats.npz")
    assert (result.samples, result.quality, result.latency, result.provider) == (None, None, None, "none")
    assert "not measured" in str(result)
    assert json.loads(result.to_json())["samples"] is None
    assert result.bytes_after == (files / "small.onnx").stat().st_size
    note = {entry.key: entry.value for entry in onnx.load(files / "small.onnx").metadata_props}["onnx_dalr"]
    assert len(json.loads(note)["calibration"]) == 16


def test_samples_beside_statistics_are_for_select_and_report_alone(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_dalr.commands.learning.learn", never)
    paths = (files / "model.onnx", files / "plan.json")
    expected = onnx_dalr.apply(*paths, stats=files / "stats.npz").model
    result = onnx_dalr.apply(*paths, stats=files / "stats.npz", calib=tiny.rows(80, seed=7))
    assert result.model == expected
    assert result.quality is not None
    assert result.quality.n == len(result.samples.report) == 24  # type: ignore[union-attr]


def test_statistics_where_samples_chose_between_factors_stay_what_they_were(
    files: Path, analysis: Analysis, model: ModelProto
) -> None:
    """Few rows: what the covariance and the metric are worth was a choice, and the plan remembers it."""
    for factors in ("default", "cautious", "no metric", "svd-bc"):
        chosen = replace(analysis.plan(rank=["second=9"]), factors=factors)
        made = chosen.apply(model, stats=files / "stats.npz")
        assert made == onnx_dalr.apply(model, chosen, calib=tiny.rows(100)).model
        others = replace(chosen, factors="svd-bc" if factors == "default" else "default")
        assert made != others.apply(model, stats=files / "stats.npz")


@pytest.mark.parametrize(
    ("samples", "rank", "used"), [(100, 9, "cautious"), (100, None, "default"), (400, 9, "default")]
)
def test_the_report_names_factors_that_a_compressed_layer_used(
    model: ModelProto, plan: Plan, samples: int, rank: int | None, used: str
) -> None:
    """With 70 rows there is something to choose for `second` and its 64 inputs, and nothing for the 16 of `first`."""
    cautious = replace(ranks(plan, second=rank), factors="cautious", settings={"metric": "none"})
    result = onnx_dalr.apply(model, cautious, calib=tiny.rows(samples))
    assert result.factors == used
    told = result.to_text(verbose=True)
    assert ("cautious: did better" in told) == (used == "cautious")


@pytest.fixture
def no_room_for_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer at a time, and of `second` the statistics alone fill the memory."""
    m, n = 64, 64
    limit = Statistics.bytes_needed(m, n, METHODS["dalr"].needs(m, n), 0)
    monkeypatch.setattr("onnx_dalr.learn.learn.memory_limit", lambda: 1)
    monkeypatch.setattr("onnx_dalr.learn.capture.memory_limit", lambda: limit)


@pytest.mark.usefixtures("no_room_for_gradients")
def test_statistics_of_a_layer_that_had_no_room_for_gradients_can_be_read_back(
    model: ModelProto, tmp_path: Path
) -> None:
    ranks = ["first=4", "second=9"]
    files = {"save_plan": tmp_path / "plan.json", "save_stats": tmp_path / "stats.npz"}
    result = onnx_dalr.optimize(model, calib=tiny.rows(100), rank=ranks, **files)
    assert [layer.metric_shrinkage is None for layer in result.layers] == [False, True, False]
    read = Plan.load(files["save_plan"])
    with onnx_dalr.analyze(model, calib=tiny.rows(100)) as analysis:
        assert analysis.plan(rank=ranks).apply(model, stats=analysis.stats) == result.model
    assert read.apply(model, stats=files["save_stats"]) == result.model
    for samples in ({}, {"calib": tiny.rows(100)}):
        again = onnx_dalr.apply(model, read, stats=files["save_stats"], **samples)
        assert again.model == result.model
        assert "'second' has no output metric: its gradients do not fit into memory" in again.notes


def test_statistics_without_gradients_serve_a_plan_that_was_made_with_them_and_the_report_says_so(
    model: ModelProto, plan: Plan, tmp_path: Path
) -> None:
    with onnx_dalr.analyze(model, calib=tiny.rows(100), metric=False) as poorer:
        save_statistics(poorer.stats, tmp_path / "stats.npz")
    result = onnx_dalr.apply(model, plan, stats=tmp_path / "stats.npz")
    assert ranks_of(result.model) == [4, 9, None]
    assert "the statistics were captured without gradients: no layer has an output metric" in result.notes


# What does not belong together.


def test_the_plan_of_another_model_is_refused_by_its_hash(plan: Plan, stats: StatisticsSet) -> None:
    other = tiny.mlp(WIDTHS, seed=1)
    with pytest.raises(InputError, match="the plan belongs to another model: it is of ") as caught:
        plan.apply(other, stats=stats)
    assert plan.model is not None
    assert plan.model[:8] in caught.value.message
    with pytest.raises(InputError, match="the plan belongs to another model"):
        onnx_dalr.apply(other, plan, calib=tiny.rows(100))


def test_the_same_model_under_another_name_or_with_its_data_beside_is_no_other_model(
    files: Path,
) -> None:
    onnx.save(
        tiny.mlp(WIDTHS), files / "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    result = onnx_dalr.apply(files / "big.onnx", files / "plan.json", files / "s.onnx", stats=files / "stats.npz")
    assert [layer.rank for layer in result.layers] == [4, 9]
    onnx.checker.check_model(files / "s.onnx", full_check=True)


def test_a_layer_the_model_lacks_is_named(model: ModelProto, plan: Plan, stats: StatisticsSet) -> None:
    for rank in (8, None):
        more = replace(plan, choices=(*plan.choices, Choice("fourth", form(rank), "by hand")))
        with pytest.raises(InputError, match="the plan has layer 'fourth', which the model has not") as caught:
            more.apply(model, stats=stats)
        assert "inspect" in caught.value.hint
        with pytest.raises(InputError, match="'fourth'"):
            onnx_dalr.apply(model, more, calib=tiny.rows(100))


def test_a_node_that_is_no_layer_is_named_with_the_reason(demo: Path) -> None:
    proto = onnx.load(demo / "digits-target.onnx")
    node = next(node for node in proto.graph.node if node.name == "conv2_2")
    kernel = next(tensor for tensor in proto.graph.initializer if tensor.name == node.input[1])
    halved = numpy_helper.from_array(numpy_helper.to_array(kernel)[:, ::2].copy(), kernel.name)
    kernel.CopyFrom(halved)
    node.attribute.append(helper.make_attribute("group", 2))
    with onnx_dalr.analyze(proto, calib=demo / "digits/calib", method="svd", samples=20) as made:
        plan = made.plan(rank="fc7=4")
    more = replace(plan, choices=(*plan.choices, Choice("conv2_2", pair(8), "by hand")))
    with pytest.raises(InputError, match="'conv2_2', which the model has not: grouped convolution"):
        onnx_dalr.apply(proto, more, calib=demo / "digits/calib")


@pytest.mark.parametrize("changes", [{"first": None, "second": None}, {"first": 13, "second": 32}], ids=str)
def test_a_plan_that_keeps_every_layer_has_nothing_to_gain(
    model: ModelProto, plan: Plan, stats: StatisticsSet, changes: dict[str, int | None]
) -> None:
    kept = ranks(plan, **changes)
    with pytest.raises(NothingToGainError):
        kept.apply(model, stats=stats)
    with pytest.raises(NothingToGainError) as caught:
        onnx_dalr.apply(model, kept, calib=tiny.rows(100))
    assert caught.value.exit_code == 5


def test_statistics_of_another_model_are_refused(plan: Plan, files: Path, model: ModelProto) -> None:
    with onnx_dalr.analyze(tiny.mlp(WIDTHS, seed=1), calib=tiny.rows(100)) as other:
        foreign = other.stats
    with pytest.raises(InputError, match="the set of statistics belongs to another model"):
        plan.apply(model, stats=foreign)
    save_statistics(foreign, files / "foreign.npz")
    with pytest.raises(InputError, match=r"foreign\.npz belongs to another model"):
        onnx_dalr.apply(model, plan, stats=files / "foreign.npz")


def test_statistics_without_the_sums_a_plan_needs_are_refused(model: ModelProto, plan: Plan) -> None:
    with onnx_dalr.analyze(model, calib=tiny.rows(100), method="svd") as other:
        poorer = other.stats
    with pytest.raises(InputError, match='was made for method="svd" and keeps no '):
        plan.apply(model, stats=poorer)


def test_statistics_without_a_layer_of_the_plan_are_refused(model: ModelProto, plan: Plan) -> None:
    with onnx_dalr.analyze(model, calib=tiny.rows(100), include="first") as other:
        fewer = other.stats
    with pytest.raises(InputError, match="knows nothing of layer 'second'"):
        plan.apply(model, stats=fewer)


@pytest.mark.parametrize("more", [{"rank": 8}, {"params": "40%"}, {"rank_multiple": 8}, {"min_rank": 2}], ids=str)
def test_a_plan_beside_a_target_is_refused(model: ModelProto, plan: Plan, more: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a plan and a target are given"):
        onnx_dalr.optimize(model, calib=tiny.rows(100), plan=plan, **more)


def test_a_plan_without_samples_or_statistics_says_what_is_missing(model: ModelProto, plan: Plan) -> None:
    with pytest.raises(InputError, match="there are no samples"):
        onnx_dalr.apply(model, plan)


def test_a_layer_of_the_plan_that_is_excluded_is_named(model: ModelProto, plan: Plan) -> None:
    with pytest.raises(InputError, match="the plan's layer 'second'"):
        onnx_dalr.apply(model, plan, calib=tiny.rows(100), exclude="second")


# Damage and other disturbances leave what was there.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "plan.json").write_text("{"),
        lambda folder: (folder / "stats.npz").write_bytes(b"PK"),
        lambda folder: (folder / "stats.npz").unlink(),
    ],
    ids=["no JSON", "cut off", "gone"],
)
def test_nothing_is_written_where_an_input_is_damaged(files: Path, spoil: Callable[[Path], object]) -> None:
    spoil(files)
    (files / "out").mkdir()
    with pytest.raises(InputError):
        onnx_dalr.apply(files / "model.onnx", files / "plan.json", files / "out/s.onnx", stats=files / "stats.npz")
    assert list((files / "out").iterdir()) == []
