"""A student learns: the same start, samples, steps and held-out samples for every loss, of `onnx_dalr.tune` parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lrdkt_transfer_ways import ANSWERED
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import load
from onnx_dalr.plan.course import BATCH, Course
from onnx_dalr.session.session import Runtime, open_session
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Cached, Minibatch
from onnx_dalr.tune.lesson import Lesson
from onnx_dalr.tune.sizes import sizes_of
from onnx_dalr.tune.suffix import frontier, shared
from onnx_dalr.tune.tensors import fed_types, masters, numbers_beside
from onnx_dalr.tune.terms import Term
from onnx_dalr.tune.training import Trained, Watch, train

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
TRIED = 0.2  # of the steps, in a trial of a rate
LOOKS = 10
HELD_OUT, FEWEST = 0.15, 50  # share of the samples that no step is made on, and how many at least
_LABELS = "labels"
_RUNTIME = Runtime("cpu")


@dataclass(frozen=True, eq=False)
class Samples:
    """Images and what is on them.

    Attributes:
        images: By sample.
        labels: Of the classes that the teacher knows; -1 for none of these.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def drawn(self, count: int, seed: int) -> Samples:
        """So many of them; draws of one seed are the same."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return Samples(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of a way.

    Attributes:
        tensors: The best there were.
        rate: That the trials chose.
        at: After how many steps the tensors were reached; 0: the start.
        before: What the start lost on the held-out samples.
        after: What these tensors lose there.
    """

    tensors: Tensors
    rate: float
    at: int
    before: float
    after: float


class Transfer:
    """A start that can learn in several ways."""

    def __init__(self, teacher: Path, start: ModelProto, samples: Samples, tensors: Sequence[str], seed: int) -> None:
        """Runs the samples up to where student and teacher begin to differ.

        Args:
            teacher: The file of the original. One input, one output: logits, [samples, classes].
            start: The decomposed network, of the same input and output.
            samples: To learn from.
            tensors: Inner responses that any of the ways looks at, of the same names in both.
            seed: Of the split and of the order of the samples.
        """
        self._original, self._seed = load(teacher), seed
        original = self._original.proto
        self.logits = original.graph.output[0].name
        self._student = _answering(start, helper.make_node("Softmax", [self.logits], [ANSWERED], axis=-1))
        self._teacher = _answering(original, helper.make_node("Identity", [_LABELS], [ANSWERED]))
        pair = (self._student, self._teacher)
        alike = shared(*pair)
        self._tuned = _to_be_tuned(start, alike.constants)
        self._types = fed_types(start, list(self._tuned))
        self._fed = frontier(pair, [*tensors, self.logits, ANSWERED], alike, ())
        cached = self._entering(samples)
        order = np.random.default_rng(seed).permutation(len(samples))
        kept_back = set(order[: max(FEWEST, round(HELD_OUT * len(samples)))].tolist())
        self._samples = cached.part(lambda index: index not in kept_back)
        self._held = cached.part(lambda index: index in kept_back)

    def _entering(self, samples: Samples) -> Cached:
        """The samples as they enter student and teacher."""
        (image,) = (value.name for value in self._original.proto.graph.input)
        classes = np.arange(_last_axis(self._original.proto))
        feed: dict[str, NDArray[Any]] = {
            image: samples.images,
            _LABELS: (samples.labels[:, None] == classes).astype(np.float32),
        }
        inner = [name for name in self._fed if name not in feed]
        if inner:
            session = open_session(probe(self._original.proto, inner).SerializeToString(), "cpu")
            starts = range(0, len(samples), BATCH)
            runs = [session.run({image: samples.images[at : at + BATCH]}, inner) for at in starts]
            feed |= {name: np.concatenate(parts) for name, parts in zip(inner, zip(*runs, strict=True), strict=True)}
        rows = {name: feed[name] for name in self._fed}
        return Cached((Minibatch(rows, None, tuple(range(len(samples)))),), by_row=True)

    def learned(self, terms: Sequence[Term], steps: int, *, mixed: bool) -> Learned:
        """Trials of the rate, then the steps with the best of them.

        Args:
            terms: Of the loss, which is watched on the held-out samples too: each way is judged by what it learns.
            steps: How many.
            mixed: Mixtures of samples.
        """
        lesson = Lesson(
            self._original,
            self._original,
            self._student,
            self._teacher,
            self._fed,
            terms,
            [self.logits],
            self._tuned,
            self._types,
            _RUNTIME,
        )
        start = {name: self._tuned[name] for name in lesson.tuned}
        watch, sizes = self._watch(lesson), sizes_of(start)

        def trained(count: int, rate: float, looks: int) -> Trained:
            course = Course(count, rate, self._seed, mixed)
            return train(lesson, start, sizes, self._samples, course, watch, looks=looks)

        ends = {rate: trained(round(TRIED * steps), rate, 1).curve[-1][1] for rate in RATES}
        rate = min(RATES, key=lambda rate: ends[rate] if np.isfinite(ends[rate]) else np.inf)
        done = trained(steps, rate, LOOKS)
        return Learned(done.tensors, rate, done.at, done.curve[0][1], done.best)

    def _watch(self, lesson: Lesson) -> Watch:
        held = list(self._held.batches(BATCH))

        def lost(tensors: Tensors) -> float:
            return sum(len(batch) * lesson.gradients(batch, tensors)[0] for batch in held) / len(self._held)

        return lost


def _answering(proto: ModelProto, node: Any) -> ModelProto:
    """The model with the labels as one more input, and one more node: whatever is learned of labels is learned of it.

    Labels enter like samples do, and a student's answer is compared with a teacher's: one that knows the labels.
    """
    made = ModelProto()
    made.CopyFrom(proto)
    classes = _last_axis(proto)
    made.graph.input.append(helper.make_tensor_value_info(_LABELS, TensorProto.FLOAT, [f"{_LABELS}_0", classes]))
    made.graph.node.append(node)
    return made


def _last_axis(proto: ModelProto) -> int:
    return int(proto.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)


def _to_be_tuned(start: ModelProto, kept: Collection[str]) -> Tensors:
    """Weights that are not the original's, and the numbers beside all products."""
    new = [
        tensor.name
        for tensor in start.graph.initializer
        if tensor.name not in kept and tensor.data_type == TensorProto.FLOAT and len(tensor.dims)
    ]
    return masters(start, [*new, *numbers_beside(start)])
