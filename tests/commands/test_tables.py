"""Lookup tables stored by use, from the samples to the file and back from statistics and plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr import InputError, Plan
from onnx_dalr.candidate.candidate import build, outline
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.factorize import Form, parse_form
from onnx_dalr.graph.storage.model import count_params
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.session.session import open_session
from tests.graph.helpers import model as model_of

ROWS, COLUMNS = 4200, 16
NET = """net (int64[N,T] ids, int64[N,T] attention_mask) => (float[N,8] y)
<int64[1] last = {2}, int64[1] middle = {1}> {
    [table] rows = Gather(E, ids)
    real = Cast <to = 1> (attention_mask)
    wide = Unsqueeze(real, last)
    kept = Mul(rows, wide)
    total = ReduceSum <keepdims = 0> (kept, middle)
    [head] y = MatMul(total, W)
}"""
BY_USE = parse_form("by-use 128x8 int4/64")


def table() -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.standard_normal((ROWS, COLUMNS)) * 0.7 ** np.arange(COLUMNS)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return model_of(NET, E=table(), W=(COLUMNS, 8))


def samples(count: int = 300, seed: int = 1) -> dict[str, np.ndarray]:
    """Few rows often; padding picks row 7, which nothing else does."""
    random = np.random.default_rng(seed)
    ids = np.minimum(20 + random.zipf(1.6, (count, 6)), ROWS - 1)
    mask = (np.arange(6) < random.integers(3, 7, count)[:, None]).astype(np.int64)
    return {"ids": np.where(mask, ids, 7), "attention_mask": mask}


@pytest.fixture(scope="module")
def analysis(model: ModelProto) -> Analysis:
    return onnx_dalr.analyze(model, calib=samples(), weights="auto", task="regress")


def optimize(model: ModelProto, **how: Any) -> onnx_dalr.Result:
    return onnx_dalr.optimize(model, **{"weights": "auto", "task": "regress"} | how)


def with_form(plan: Plan, form: Form) -> Plan:
    return replace(
        plan,
        choices=tuple(replace(one, form=form) if one.layer == "table" else one for one in plan.choices),
    )


def answers(model: ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    (y,) = open_session(model.SerializeToString(), "cpu").run(feed)
    return np.asarray(y)


def picked(analysis: Analysis) -> np.ndarray:
    return analysis.stats.layers["table"].total


def test_what_is_picked_is_counted_without_padding(analysis: Analysis) -> None:
    counts = picked(analysis)
    assert counts[7] == 0
    assert counts.sum() == analysis.stats.layers["table"].count > 500
    assert counts[21] == counts.max()


def test_numbers_that_are_computed_are_counted_too() -> None:
    net = NET.replace("[table] rows = Gather(E, ids)", "twice = Add(ids, ids) [table] rows = Gather(E, twice)")
    proto = model_of(net, E=table(), W=(COLUMNS, 8))
    ids = samples()
    ids["ids"] = ids["ids"] % 2000
    with onnx_dalr.analyze(proto, calib=ids, weights="auto", task="regress") as analysis:
        assert not picked(analysis)[1::2].any()
        assert analysis.learned.of("table").knows(BY_USE)


@pytest.mark.parametrize("weights", ["keep", "float16"])
def test_tables_that_are_not_to_be_coarse_are_not_counted(model: ModelProto, weights: str) -> None:
    with onnx_dalr.analyze(model, calib=samples(), weights=weights, task="regress") as analysis:
        assert set(analysis.stats.layers) == {"head"}


def test_gradients_at_what_is_picked_weigh_its_columns(analysis: Analysis) -> None:
    held = analysis.stats.layers["table"]
    assert (held.m, held.n) == (COLUMNS, ROWS)
    assert held.metric_probes > 0
    assert not [note for note in analysis.learned.notes if "metric" in note]


def test_a_small_size_is_met_by_use_and_the_report_says_how(model: ModelProto, tmp_path: Path) -> None:
    result = optimize(model, calib=samples(), size="17%", output=tmp_path / "small.onnx")
    (row,) = [layer for layer in result.layers if layer.name == "table"]
    assert row.form.structure == "by-use"
    assert row.rank is None
    assert (tmp_path / "small.onnx").stat().st_size <= 0.17 * model.ByteSize()
    (note,) = [note for note in result.notes if "stay int8" in note]
    assert "of its 4,200 rows" in note
    assert "% of what the select samples pick" in note
    assert str(row.form) in str(result)
    made = onnx.load(tmp_path / "small.onnx")
    saved = sum(layer.params_before - layer.params_after for layer in result.layers)
    assert count_params(made) == result.params_after == result.params_before - saved
    facts = onnx_dalr.inspect(tmp_path / "small.onnx")
    assert {tensor.kind for tensor in facts.tensors if tensor.name.startswith("E.dalr_W")} >= {"embedding, int8"}
    feed = samples(50, seed=9)
    before, after = answers(model, feed), answers(made, feed)
    assert np.sqrt(np.square(before - after).sum() / np.square(before).sum()) < 0.15


@pytest.mark.parametrize("form", ["by-use 128x8 int4/64", "by-use 64 int4/32", "by-use 1024x4 int8"])
def test_an_outline_weighs_what_the_model_does_and_counts_as_many_numbers(analysis: Analysis, form: str) -> None:
    layers = analysis.layers
    forms = [parse_form(form) if layer.name == "table" else Form() for layer in layers]
    made = build(analysis.context, layers, analysis.learned, forms)
    empty = outline(analysis.context, layers, analysis.learned, forms)
    assert made.proto.ByteSize() == empty.proto.ByteSize()
    assert made.params == empty.params
    assert [node.op_type for node in made.proto.graph.node].count("Concat") == 1


def test_rows_no_sample_has_are_answered_nearly_as_before(model: ModelProto, analysis: Analysis) -> None:
    made = with_form(analysis.plan(size="50%"), BY_USE).apply(model, stats=analysis.stats)
    unseen = np.flatnonzero(picked(analysis) == 0)[-600:].reshape(-1, 1)
    feed = {"ids": unseen, "attention_mask": np.ones_like(unseen)}
    before, after = answers(model, feed), answers(made, feed)
    near = np.sum(before * after, axis=1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert np.quantile(near, 0.05) > 0.8
    assert np.median(near) > 0.93


def test_a_plan_is_applied_from_a_file_and_from_statistics_alike(
    model: ModelProto, analysis: Analysis, tmp_path: Path
) -> None:
    plan = with_form(analysis.plan(size="50%"), BY_USE)
    plan.save(tmp_path / "plan.json")
    analysis.stats.save(tmp_path / "stats.npz")
    again = Plan.load(tmp_path / "plan.json")
    assert [choice.form for choice in again.choices] == [choice.form for choice in plan.choices]
    one = again.apply(model, stats=tmp_path / "stats.npz")
    other = optimize(model, plan=tmp_path / "plan.json", stats=tmp_path / "stats.npz", eval=samples(60, seed=4)).model
    for a, b in zip(one.graph.initializer, other.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_without_statistics_of_the_table_its_plan_is_refused_and_others_are_made(
    model: ModelProto, analysis: Analysis
) -> None:
    held = analysis.stats
    without = StatisticsSet(**vars(held) | {"layers": {"head": held.layers["head"]}})
    with pytest.raises(InputError, match="'by-use 128x8 int4/64' of layer 'table' needs to know how it is used"):
        with_form(analysis.plan(size="50%"), BY_USE).apply(model, stats=without)
    made = with_form(analysis.plan(size="50%"), Form("dense", (), "int8")).apply(model, stats=without)
    assert made.ByteSize() < 0.5 * model.ByteSize()


def test_statistics_of_shards_add_up(model: ModelProto, tmp_path: Path) -> None:
    parts = []
    for seed in (1, 2):
        with onnx_dalr.analyze(model, calib=samples(120, seed), weights="auto", task="regress") as one:
            one.stats.save(tmp_path / f"{seed}.npz")
            parts.append(picked(one))
    paths = [tmp_path / "1.npz", tmp_path / "2.npz"]
    with onnx_dalr.analyze(model, stats=paths, weights="auto") as both:
        table = both.learned.of("table").joined["by-use"]
        assert table.use.seen == ((parts[0] + parts[1]) > 0).sum()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("form", "message"),
    [("by-use int8", "is no form of 'by-use'"), ("by-use 64x8x2 int8", "is no form"), ("by-use 64x8", "is no form")],
)
def test_a_form_that_cannot_be_is_refused_by_name(analysis: Analysis, form: str, message: str) -> None:
    text = with_form(analysis.plan(size="50%"), BY_USE).to_json().replace(str(BY_USE), form)
    with pytest.raises(InputError, match=message):
        Plan(**onnx_dalr.plan.file.from_json(text))


def test_a_table_of_which_every_row_is_seen_or_only_one(model: ModelProto) -> None:
    ids = np.resize(np.arange(ROWS), (800, 6))
    for numbers in (ids, np.full((300, 6), 5)):
        feed = {"ids": numbers, "attention_mask": np.ones_like(numbers)}
        result = optimize(model, calib=feed, size="20%")
        assert result.bytes_after <= 0.2 * result.bytes_before
