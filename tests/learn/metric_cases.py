"""Tiny models, and what their output metric is by brute force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnx.utils import Extractor

from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.learn import probes as room
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.probes import Probed, add_metric
from onnx_dalr.learn.seeds import Seeder
from onnx_dalr.quality.task import Task, TaskName
from onnx_dalr.samples import Batch
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import SampleSet, opened, watched
from tests.quality.task_cases import of_model

Array = NDArray[Any]
DALR = METHODS["dalr"]
STEP = 1e-5
KINDS = {"double": np.float64, "float": np.float32, "float16": np.float16}
KIND: tuple[TaskName, ...] = ("classify", "embed", "regress")


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def model(ends: str, body: str, constants: Mapping[str, Array], kind: str = "double") -> Model:
    """A model of ONNX text in one floating type, which the text calls T."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "custom" : 1]> g {ends} {{ {body} }}'.replace("T[", f"{kind}[")
    )
    for name, value in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(value.astype(KINDS[kind]), name))
    return load(proto)


@contextmanager
def samples_of(made: Model, *feeds: Mapping[str, Array], size: int = 4) -> Iterator[SampleSet]:
    options = SampleOptions(list(feeds), holdout=0.0, batch_size=size)
    with opened(options, input_specs(made.proto)) as sets:
        yield sets.fit


def probed(
    made: Model, asked: Task | TaskName, *feeds: Mapping[str, Array], size: int = 4, mask_input: str | None = None
) -> tuple[dict[str, Statistics], Probed]:
    """The statistics of all layers after capture and probing; by its name a task is found in the feeds."""
    task = _task(made, asked, feeds)
    layers, _ = find(made)
    with samples_of(made, *feeds, size=size) as fit:
        batches = [batch for _, batch in fit]
        captured = capture(made, layers, DALR, batches, device="cpu", mask_input=mask_input, metric=True)
        found = add_metric(made, layers, captured.statistics, fit, task, device="cpu", mask_input=mask_input)
    return captured.statistics, found


def _task(made: Model, asked: Task | TaskName, feeds: Sequence[Mapping[str, Array]]) -> Task:
    return asked if isinstance(asked, Task) else of_model(made, asked, *feeds)


def metric_of(stats: Statistics) -> Array:
    """Σ g gᵀ, or Σ (Wᵀg)(Wᵀg)ᵀ where m > n, over all probes."""
    return stats.output_metric * stats.metric_probes


# By brute force


def run(proto: ModelProto, feed: Mapping[str, Array], wanted: Sequence[str]) -> list[Array]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {each.name for each in session.get_inputs()}
    return list(session.run(list(wanted), {name: value for name, value in feed.items() if name in given}))


def valued(made: Model, tensors: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
    """What inner tensors hold."""
    proto = onnx.ModelProto()
    proto.CopyFrom(made.proto)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return run(proto, feed, tensors)


def jacobians(made: Model, tensor: str, feed: Batch, step: float) -> tuple[Array, list[Array]]:
    """A tensor's value on one sample, and by output [entries of the output, entries of the tensor]."""
    names = [value.name for value in made.proto.graph.output]
    (value,) = valued(made, [tensor], feed)
    behind = [name for name in names if name != tensor]
    if behind:
        inputs = [each.name for each in made.proto.graph.input] + [tensor]
        rest = Extractor(onnx.shape_inference.infer_shapes(made.proto)).extract_model(inputs, behind)
        session = ort.InferenceSession(rest.SerializeToString(), providers=["CPUExecutionProvider"])

    def shifted(moved: Array) -> list[Array]:
        others = iter(session.run(behind, {**feed, tensor: moved}) if behind else [])
        return [moved if name == tensor else next(others) for name in names]

    columns: list[list[Array]] = [[] for _ in names]
    for at in range(value.size):
        moved = np.zeros(value.size, value.dtype)
        moved[at] = step
        ends = [shifted(value + sign * moved.reshape(value.shape)) for sign in (1, -1)]
        for column, above, below in zip(columns, *ends, strict=True):
            column.append((above.astype(np.float64) - below).reshape(-1) / (2 * step))
    return value, [np.stack(column, axis=1) for column in columns]


def gradients(
    made: Model,
    layer: Layer,
    asked: Task | TaskName,
    *feeds: Mapping[str, Array],
    mask: str | None = None,
    axis: int = -1,
    step: float = STEP,
) -> Iterator[Array]:
    """For every sample, run alone, and probe: the gradient rows of all uses of a layer, with the same seeds."""
    seeder = Seeder(_task(made, asked, feeds))
    names = [value.name for value in made.proto.graph.output]
    seen: list[str] = []
    with samples_of(made, *feeds, size=1) as fit:
        for (_, feed), digest in zip(watched(fit, seen), _following(seen), strict=False):
            outputs = run(made.proto, feed, names)
            found = [jacobians(made, use.output, feed, step) for use in layer.uses]
            real = slice(None) if mask is None else feed[mask].reshape(-1) != 0
            for probe in range(room.PROBES):
                seeds = {at: seeder.draw(outputs[at], at, [digest], probe) for at in seeder.outputs}
                parts = []
                for value, slopes in found:
                    g = sum(seeds[at].reshape(-1).astype(np.float64) @ slopes[at] for at in seeder.outputs)
                    parts.append(np.moveaxis(np.reshape(g, value.shape), axis, -1).reshape(-1, layer.m)[real])
                yield np.concatenate(parts)


def expected(made: Model, layer: Layer, asked: Task | TaskName, *feeds: Mapping[str, Array], **how: Any) -> Array:
    """Σ g gᵀ over samples, probes and rows; see `gradients`."""
    total = sum(rows.T @ rows for rows in gradients(made, layer, asked, *feeds, **how))
    if layer.m <= layer.n:
        return np.asarray(total)
    W = matrix(made, layer).astype(np.float64)
    return np.asarray(W.T @ total @ W)


def _following(seen: list[str]) -> Iterator[str]:
    """The last digest, each time another sample has been read."""
    while True:
        yield seen[-1]


def assert_exact(
    made: Model, asked: Task | TaskName, *feeds: Mapping[str, Array], rel: float = 1e-5, **how: Any
) -> Probed:
    """Every layer's metric is what the brute force says with the same seeds."""
    layers, _ = find(made)
    assert layers
    task = _task(made, asked, feeds)
    stats, found = probed(made, task, *feeds, mask_input=how.get("mask"))
    for layer in layers:
        truth = expected(made, layer, task, *feeds, **how)
        assert np.abs(truth).max() > 0
        np.testing.assert_allclose(metric_of(stats[layer.name]), truth, rtol=rel, atol=rel * np.abs(truth).max())
    return found


X = {"x": numbers(6, 5)}
TWO = "[one] h = Gemm (x, W, b) r = Relu(h) [two] y = Gemm (r, V, c)"
TWO_WEIGHTS = {"W": numbers(5, 4), "b": numbers(4), "V": numbers(4, 3), "c": numbers(3)}
ENDS = "(T[N, 5] x) => (T[N, 3] y)"
MLP = model(ENDS, TWO, TWO_WEIGHTS)
