"""Parts of the samples, one after the other, say what all of them say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnx_dalr.cluster.shards import Carried, can_be_cut, cut, unit
from onnx_dalr.cluster.work import ModelSource, Worker
from onnx_dalr.factorize import Statistics
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.learn.passes import Captured, Here, Looking
from onnx_dalr.samples import open_samples
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.session.session import Runtime
from tests.cli import tiny
from tests.graph.helpers import model
from tests.quality.task_cases import CLASSIFY

KERNEL = load(
    model("g (float[N,8,L] x) => (float[?,?,?] y) { r = Relu(x)  y = Conv <pads=[1,1]> (r, K) }", K=(64, 8, 3))
)
"""Of which few rows of every sample are looked at: which, goes by the number of the sample."""


def rows(count: int, *shape: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def samples_of(made: Model | ModelProto, given: Any, size: int = 4) -> SampleSet:
    source = open_samples(given, input_specs(load(made).proto))
    return SampleSet(source, np.arange(len(source), dtype=np.int64), size)


def looking_at(made: Model) -> Looking:
    layers, _ = find(made)
    return Looking(tuple(layers), "dalr", metric=True, rounded=frozenset(), mask_input=None)


def whole(made: Model, samples: SampleSet) -> Captured:
    return Here(made, Runtime("cpu")).capture(looking_at(made), samples, lambda count: None)


def assert_same(one: dict[str, Statistics], other: dict[str, Statistics]) -> None:
    assert one.keys() == other.keys()
    for name, each in one.items():
        mine, theirs = each.to_arrays(), other[name].to_arrays()
        assert mine.keys() == theirs.keys()
        for field, array in mine.items():
            np.testing.assert_allclose(theirs[field], array, rtol=1e-5, atol=1e-4, err_msg=f"{name}: {field}")


def test_every_sample_is_in_one_shard_and_batches_end_where_shards_do() -> None:
    samples = samples_of(tiny.mlp(), tiny.rows(23))
    shards = cut(samples, 3)
    assert np.concatenate([shard.indices for shard in shards]).tolist() == list(range(23))
    assert [shard.first for shard in shards] == [0, 4, 12]
    together = [indices for indices, _ in samples]
    apart = [indices for shard in shards for indices, _ in shard.of(samples.source)]
    assert apart == together


def test_there_are_no_more_shards_than_batches() -> None:
    samples = samples_of(tiny.mlp(), tiny.rows(9))
    assert [len(shard) for shard in cut(samples, 10)] == [4, 5]
    assert not can_be_cut(samples_of(tiny.mlp(), tiny.rows(7)))


def test_what_a_model_with_a_fixed_batch_leaves_out_is_the_same() -> None:
    fixed = load(model("g (float[3,8,5] x) => (float[?,?,?] y) { y = Conv <pads=[1,1]> (x, K) }", K=(64, 8, 3)))
    samples = samples_of(fixed, rows(11, 8, 5), size=32)
    assert unit(samples) == 3
    assert can_be_cut(samples)
    shards = cut(samples, 2)
    assert [len(shard) for shard in shards] == [3, 8]
    assert [indices for shard in shards for indices, _ in shard.of(samples.source)] == [i for i, _ in samples]


def test_samples_of_several_shapes_for_a_fixed_batch_are_not_cut() -> None:
    """Which of them fill a batch is known when they are read, in their order."""
    ragged = load(model("g (float[2,8,L] x) => (float[?,?,?] y) { y = Conv <pads=[1,1]> (x, K) }", K=(64, 8, 3)))
    assert not can_be_cut(samples_of(ragged, rows(12, 8, 5)))


@pytest.mark.parametrize("size", [1, 4])
def test_the_parts_of_a_pass_add_up_to_the_whole_and_few_rows_are_the_same_rows(size: int) -> None:
    samples = samples_of(KERNEL, rows(24, 8, 3000), size)
    worker = Worker(ModelSource(None, KERNEL.proto.SerializeToString(), KERNEL.content_hash), None, Runtime("cpu"))
    shards = [pickle.loads(pickle.dumps((shard, Carried(samples.source, shard.indices)))) for shard in cut(samples, 5)]
    looking = pickle.loads(pickle.dumps(looking_at(KERNEL)))
    parts = [worker.capture(looking, replace(shard, carried=held)) for shard, held in shards]
    worker.close()
    expected, found = whole(KERNEL, samples), reduce(add, parts)
    (held,) = expected.capture.statistics.values()
    assert held.count < 24 * 3000
    assert_same(expected.capture.statistics, found.statistics)
    assert found.digests == expected.digests


def test_probes_of_parts_add_up_to_those_of_the_whole() -> None:
    mlp = load(tiny.mlp((16, 64, 64, 4)))
    samples, looking = samples_of(mlp, tiny.rows(40)), looking_at(mlp)
    expected = whole(mlp, samples).capture.statistics
    Here(mlp, Runtime("cpu")).probe(looking, expected, samples, CLASSIFY, lambda count: None)
    worker = Worker(ModelSource(None, mlp.proto.SerializeToString(), mlp.content_hash), None, Runtime("cpu"))
    shards = [replace(shard, carried=Carried(samples.source, shard.indices)) for shard in cut(samples, 3)]
    found = reduce(add, (worker.probe(looking, CLASSIFY, shard) for shard in shards))
    worker.close()
    assert found.part.samples == 40
    for name, held in found.statistics.items():
        assert held.metric_probes == expected[name].metric_probes == 80
        np.testing.assert_allclose(held.output_metric, expected[name].output_metric, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(held.metric_spread, expected[name].metric_spread, rtol=1e-4)


def test_a_part_that_no_row_reaches_is_no_error_where_others_are_reached() -> None:
    masked = load(
        model(
            "g (float[N,4,8] x, int64[N,4] attention_mask) => (float[N,4,6] y) { y = MatMul(x, W) }",
            W=(8, 6),
        )
    )
    mask = np.ones((8, 4), np.int64)
    mask[4:] = 0
    samples = samples_of(masked, {"x": rows(8, 4, 8), "attention_mask": mask})
    looking = Looking(tuple(find(masked)[0]), "dalr", metric=False, rounded=frozenset(), mask_input="attention_mask")
    here = Here(masked, Runtime("cpu"))
    last = cut(samples, 2)[1]
    found = here.capture_part(looking, last.of(samples.source), lambda count: None, (last.first, last.samples))
    assert found.capture.statistics == {}
    assert len(found.digests) == 4
