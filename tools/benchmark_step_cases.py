"""What tools/benchmark_step.py times: models at half of their numbers, a batch, and the graph of a step on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.rewrite import Rewritten, Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.quality.measures import Classes, Embedding, Measure
from onnx_dalr.quality.task import Measured, Task
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import opened
from onnx_dalr.session.session import Runtime
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Minibatch
from onnx_dalr.tune.prepared import prepared
from onnx_dalr.tune.step import StepGraph
from onnx_dalr.tune.tensors import numbers_beside
from onnx_dalr.tune.terms import target_name, terms_of

BATCH = 32
_SHARE = 0.5  # of the numbers of a layer
_IN_STEPS = 8  # ranks


@dataclass(frozen=True, eq=False)
class StepCase:
    """One model, made smaller, and a batch of it.

    Attributes:
        name: On the command line.
        title: In words.
        output: The one that is learned.
        classes: It holds logits; else directions.
        graph: Loss and gradients.
        start: The tensors that are tuned.
        feed: The batch as it enters, targets and weights with it.
    """

    name: str
    title: str
    output: str
    classes: bool
    graph: StepGraph
    start: Tensors
    feed: Batch

    @property
    def student(self) -> ModelProto:
        """From what enters to the output."""
        return self.graph.student([self.output])

    @property
    def target(self) -> NDArray[np.float32]:
        """What the teacher says."""
        return np.asarray(self.feed[target_name(self.output)])


def halved(original: Model) -> Rewritten:
    """Each layer as a pair of half its numbers, by truncated SVD; kernels as a column before a row."""
    layers, _ = find(original)
    made = ((layer, pieces(layer, matrix(original, layer))) for layer in layers)
    return rewrite(
        original, [Substitution.of(one, both, FORMATS["keep"], np.zeros(one.m)) for one, both in made if both]
    )


def pieces(layer: Layer, W: NDArray[Any]) -> tuple[Piece, ...]:
    """The factors of a layer's matrix, [m, n]; none where there is no rank that is small enough."""
    kernel = W.astype(np.float64).reshape(*layer.shape.dims[:2], *(layer.shape.dims[2:] or (1, 1)))
    m, n, high, wide = kernel.shape
    flat = kernel.transpose(0, 3, 1, 2).reshape(m * wide, n * high)
    rank = int(_SHARE * W.size / sum(flat.shape))
    rank = rank if rank < _IN_STEPS else rank // _IN_STEPS * _IN_STEPS
    if not rank:
        return ()
    U, s, Vt = np.linalg.svd(flat, full_matrices=False)
    B, A = Vt[:rank], U[:, :rank] * s[:rank]
    if layer.shape.taps == 1:
        return Piece("B", B), Piece("A", A)
    column, row = B.reshape(rank, n, high, 1), A.reshape(m, wide, rank, 1).transpose(0, 2, 3, 1)
    return Piece("B", column, (0,)), Piece("A", np.ascontiguousarray(row), (1,))


def case_of(name: str, title: str, original: Model, batch: Batch, output: str, measure: Measure) -> StepCase:
    """The step of a model of one output on a batch."""
    made = halved(original)
    stored = {tensor.name for tensor in made.proto.graph.initializer}
    factors = [name for names in made.tensors.values() for name in names if name in stored]
    task = Task((Measured(output, 0, measure),))
    with opened(SampleOptions(batch, holdout=0.0, batch_size=BATCH), input_specs(original.proto)) as sets:
        ready = prepared(
            original,
            made.proto,
            original,
            list(dict.fromkeys([*factors, *numbers_beside(made.proto)])),
            task,
            terms_of(task),
            sets.fit,
            sets.mask_input,
            Runtime("cpu"),
        )
    one = Minibatch(ready.enter(batch), None, tuple(range(BATCH)))
    feed = ready.lesson.feed(one, ready.lesson.taught(one))
    return StepCase(name, title, output, isinstance(measure, Classes), ready.lesson.graph, ready.start, feed)


def minilm(assets: Path) -> StepCase:
    """A sentence encoder."""
    shape = (BATCH, 32)
    ids = np.random.default_rng(0).integers(1000, 30_000, shape)
    batch = {"input_ids": ids, "attention_mask": np.ones(shape, np.int64)}
    original = load(assets / "models" / "minilm-l6-v2.onnx")
    return case_of("minilm", "MiniLM-L6, 32 texts of 32 tokens", original, batch, "embedding", Embedding())


def vgg(assets: Path) -> StepCase:
    """Convolutions and fully connected layers."""
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 32, 32), np.float32)
    original = load(assets / "models" / "vgg-cifar-source.onnx")
    return case_of("vgg", "CIFAR VGG, 32 images", original, {"image": images}, "logits", Classes())


def mnist(assets: Path) -> StepCase:
    """Four fully connected layers."""
    images = np.random.default_rng(0).random((BATCH, 784), np.float32)
    original = load(assets / "models" / "mnist-mlp.onnx")
    return case_of("mnist", "MNIST MLP, 32 images", original, {"image": images}, "logits", Classes())


CASES: dict[str, Callable[[Path], StepCase]] = {"minilm": minilm, "vgg": vgg, "mnist": mnist}
