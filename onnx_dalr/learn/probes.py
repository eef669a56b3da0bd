"""Random probes through the gradient graph: what directions of outputs are worth to the network (methods.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Statistics
from onnx_dalr.gradient import Ended, activation_bytes, differentiate
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.apart import are_large
from onnx_dalr.learn.capture import CHUNK_ROWS
from onnx_dalr.learn.gradient_sums import gradient_sums, lies_simply
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.learn.seeds import Seeder
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.masks import Kept, kept_in
from onnx_dalr.samples.sets import SampleSet, watched
from onnx_dalr.session.session import PACKED_BELOW, Device, Session, open_session, reference_session, runtime_of
from onnx_dalr.session.threads import side_by_side
from onnx_dalr.units import format_names

PROBES = 2
MOST_SAMPLES = 2048
MOST_BYTES = 1 << 27
"""Of activations that the gradient graph may hold for one batch, roughly; of a large model a quarter of its bytes."""

MOST_SAID = 1 << 28
"""Bytes of answers of the original that are held until their gradients are asked for."""

_HELD = 2  # times the values of a forward pass: 1.2 to 1.4 was measured, 3.8 for large convolutions
_HELD_BY_ROWS = 6  # times what enters or leaves a layer, where the sizes of other values cannot be told
_SHOWN = 3


@dataclass(frozen=True)
class Probed:
    """What came of it.

    Attributes:
        samples: Samples that were probed.
        passes: Forward passes it was worth: one for the outputs, three for every probe.
        notes: What a user should know: which layers have no metric, and why.
    """

    samples: int
    passes: int
    notes: tuple[str, ...] = ()


def add_metric(
    model: Model,
    layers: Sequence[Layer],
    statistics: dict[str, Statistics],
    samples: SampleSet,
    task: Task,
    *,
    device: Device = "auto",
    mask_input: str | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Probed:
    """Draws seeds at the outputs, takes them back to every layer, and adds g gᵀ to its statistics.

    A layer that no path of known operators leads to keeps no metric, nor one whose gradients are not finite, nor any
    where the gradient graph does not run. Masked rows are left out.

    Args:
        model: The original.
        layers: The layers to look at.
        statistics: By layer name, with METRIC among their needs; those of layers that no row reached may be missing.
        samples: Fit samples.
        task: Says what the outputs are.
        device: Where to run.
        mask_input: Model input that marks padding.
        advance: Told of samples done.
    """
    reached = [layer for layer in layers if layer.name in statistics]
    few = probed_among(model, reached, statistics, samples)
    try:
        part = probe_part(model, reached, statistics, few, task, device=device, mask_input=mask_input, advance=advance)
    except InputError as error:
        return without_metric(error, statistics, reached)
    return part.told(reached)


def probed_among(
    model: Model, layers: Sequence[Layer], statistics: Mapping[str, Statistics], samples: SampleSet
) -> SampleSet:
    """The samples that are probed, so many at a time that what the graph holds stays within bounds."""
    few = samples.spread(MOST_SAMPLES)
    return replace(few, batch_size=_batch_size(model, layers, statistics, samples))


def without_metric(error: InputError, statistics: Mapping[str, Statistics], layers: Sequence[Layer]) -> Probed:
    """What came of probes that could not be run: no layer has a metric."""
    for layer in layers:
        statistics[layer.name].forget_metric()
    return Probed(0, 0, (f"no output metric: {error.message}",))


@dataclass(frozen=True)
class ProbedPart:
    """What came of the probes of some samples; parts add up.

    Attributes:
        samples: How many they are; 0 where no layer has gradients.
        lost: Names of the layers whose gradients are not finite.
        notes: What a user should know of the gradient graph.
    """

    samples: int
    lost: frozenset[str]
    notes: tuple[str, ...]

    def __add__(self, other: ProbedPart) -> ProbedPart:
        """Of both."""
        notes = dict.fromkeys((*self.notes, *other.notes))
        return ProbedPart(self.samples + other.samples, self.lost | other.lost, tuple(notes))

    def told(self, layers: Sequence[Layer]) -> Probed:
        """What came of it in the end, for a user."""
        lost = [layer.name for layer in layers if layer.name in self.lost and not layer.kind.picks]
        why = "their gradients are not finite, their ranks go by measured sensitivity"
        notes = [*self.notes, *([f"no output metric for {format_names(lost)}: {why}"] if lost else [])]
        return Probed(self.samples, 1 + 3 * PROBES if self.samples else 0, tuple(notes))


def probe_part(
    model: Model,
    layers: Sequence[Layer],
    statistics: Mapping[str, Statistics],
    samples: SampleSet,
    task: Task,
    *,
    device: Device = "auto",
    mask_input: str | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> ProbedPart:
    """Probes all of these samples, in batches of their size, and adds what they say to the statistics.

    Args:
        model: The original.
        layers: The layers to look at.
        statistics: Of each of them, with METRIC among their needs.
        samples: Of `probed_among`, or a part of them.
        task: Says what the outputs are.
        device: Where to run.
        mask_input: Model input that marks padding.
        advance: Told of samples done.

    Raises:
        InputError: The gradient graph cannot be made or run.
    """
    graph = _Graph(model, layers, statistics, task, device, masked=mask_input is not None)
    count = _probe(graph, samples, mask_input, advance) if graph.sinks else 0
    return ProbedPart(count, frozenset(graph.lost), tuple(graph.notes))


class _Sink:
    """Gradient rows of one layer on their way into its Statistics, many samples at a time."""

    def __init__(self, model: Model, layer: Layer, gradients: Mapping[str, str], held: Statistics) -> None:
        """Takes the tensors that hold the gradients, by the outputs of the layer's nodes, and the statistics."""
        self.layer = layer
        self.uses = [(use, gradients[use.output]) for use in layer.uses]
        self.lost = False
        self._model, self._held = model, held
        self._waiting: list[tuple[NDArray[Any], NDArray[np.int32]]] = []
        self._samples = 0  # times probes, that wait

    def add(self, values: Mapping[str, NDArray[Any]], reader: RowReader) -> None:
        """Takes the gradients of one probe of a batch; lets go of all where one is not finite."""
        parts = [reader.read(use.answers(values[name]), self._held.m) for use, name in self.uses]
        self.lost = self.lost or not all(np.isfinite(part.values).all() for part in parts)
        if self.lost:
            self._held.forget_metric()
            self._waiting.clear()
            return
        # Copies: what waits must not keep the gradients of all layers alive.
        self._waiting += [(part.values.copy(), part.owners + self._samples) for part in parts]
        self._samples += reader.samples

    @property
    def is_full(self) -> bool:
        """Whether enough waits for a product of matrices to be worth it."""
        return sum(len(rows) for rows, _ in self._waiting) >= CHUNK_ROWS

    def flush(self) -> None:
        """Adds what waits to the statistics."""
        if self._waiting:
            rows, owners = (np.concatenate(each) for each in zip(*self._waiting, strict=True))
            self._held.update_metric(rows, matrix(self._model, self.layer), self._samples, owners)
        self._waiting, self._samples = [], 0


class _Graph:
    """A session from seeds to gradients, and which layer each gradient belongs to."""

    def __init__(
        self,
        model: Model,
        layers: Sequence[Layer],
        statistics: Mapping[str, Statistics],
        task: Task,
        device: Device,
        *,
        masked: bool,
    ) -> None:
        self._reference: Session | None = reference_session(model, device, task.hidden)
        self._said: list[list[Any]] = []
        self._threads = 1 if are_large(layers) else runtime_of(device).workers
        self.seeder = Seeder(task)
        names = self.seeder.outputs
        seeded = list(names.values())
        if not seeded:
            raise InputError("no output that counts has gradients")
        uses = [use for layer in layers for use in layer.uses]
        gradients = differentiate(model.proto, seeded, list(dict.fromkeys(use.output for use in uses)))
        self.seeds = {position: gradients.seeds[name] for position, name in names.items()}
        whole = gradients.names.keys() - set(gradients.partial)  # what lies behind an ended path too is half known
        self.sinks = [
            _Sink(model, layer, gradients.names, statistics[layer.name])
            for layer in layers
            if all(use.output in whole for use in layer.uses)
        ]
        ranked = [layer for layer in layers if not layer.kind.picks]
        without = len(ranked) - sum(not sink.layer.kind.picks for sink in self.sinks)
        self.notes = [_unreached_note(without, len(ranked), gradients.ended, seeded)] if without else []
        # Forward and back read a weight in two layouts: packed for both, a large model would be there thrice.
        self._model, self._device, self._prepack = model, device, model.size < PACKED_BELOW
        simple = [sink for sink in self.sinks if lies_simply(sink.layer)]
        self.summed = {sink.layer.name for sink in simple}
        self.sums = gradient_sums(
            model,
            gradients.proto,
            [(sink.layer, statistics[sink.layer.name]) for sink in simple],
            gradients.names,
            self._read_of(sink for sink in self.sinks if sink not in simple),
            device,
            masked=masked,
            prepack=self._prepack,
        )
        self._proto: ModelProto | None = gradients.proto  # as large as the model: held while it may be asked for
        self._session: Session | None = None

    def _open(self) -> Session:
        """From seeds to the gradients themselves."""
        assert self._proto is not None
        made, folder = self._model.in_memory(probe(self._proto, self._read_of(self.sinks)))
        if self.sums is None:
            self._proto = None
        return open_session(made, self._device, folder, prepack=self._prepack)

    def listen(self, samples: SampleSet) -> None:
        """Of a large model, runs the original on all batches before anything else, where its answers fit into memory.

        Its session is let go before that of the gradients is opened: both hold all weights.
        """
        if self._prepack or self._reference is None:
            return
        held = 0
        for _, batch in samples:
            self._said.append(self._reference.run(batch))
            held += sum(y.nbytes for y in self._said[-1] if isinstance(y, np.ndarray))
            if held > MOST_SAID:
                self._said.clear()
                return
        self._reference = None

    def answers(self, number: int, batch: Batch) -> list[Any]:
        """What the original says on a batch."""
        return self._said[number] if self._reference is None else self._reference.run(batch)

    @property
    def lost(self) -> set[str]:
        """Names of the layers whose gradients are not finite."""
        return {sink.layer.name for sink in self.sinks if sink.lost}

    def run(
        self, batch: Batch, outputs: Sequence[Any], digests: Sequence[str], number: int, padding: Kept | None
    ) -> None:
        """Runs one probe of a batch, and adds its gradients."""
        seeds = {
            name: self.seeder.draw(outputs[position], position, digests, number, padding)
            for position, name in self.seeds.items()
        }
        reader = RowReader(len(digests), padding)
        taken = self.sums.take(batch, seeds, reader, self.lost) if self.sums else None
        if self.sums is not None and self.sums.failed:
            self.sums.flush(self.lost)
            self.sums = None  # the memory it held may be what was wanting
        left = self.sinks
        if taken is None:
            self._session = self._session or self._open()
            names = self._read_of(self.sinks)
            taken = dict(zip(names, self._session.run(batch | seeds, names), strict=True))
        else:
            left = [sink for sink in left if sink.layer.name not in self.summed]
        for sink in left:
            sink.add(taken, reader)
        del taken
        self._sum_up([sink for sink in left if sink.is_full])

    def flush(self) -> None:
        """There comes no more."""
        self._sum_up(self.sinks)
        if self.sums is not None:
            self.sums.flush(self.lost)

    def _sum_up(self, sinks: Sequence[_Sink]) -> None:
        for _ in side_by_side(lambda sink: sink.flush(), sinks, self._threads if len(sinks) > 1 else 1):
            pass

    @staticmethod
    def _read_of(sinks: Iterable[_Sink]) -> list[str]:
        return list(dict.fromkeys(name for sink in sinks for _, name in sink.uses))


def _unreached_note(without: int, layers: int, ended: Sequence[Ended], seeded: Sequence[str]) -> str:
    why = f"no path leads from them to {format_names([repr(name) for name in seeded])}"
    if ended:
        why = "gradients end at " + "; ".join(f"{end.op} {end.node!r}: {end.reason}" for end in ended[:_SHOWN])
    return f"{without} of {layers} layers have no output metric, their ranks go by measured sensitivity: {why}"


def _probe(graph: _Graph, samples: SampleSet, mask_input: str | None, advance: Callable[[int], None]) -> int:
    """Runs all probes; says on how many samples."""
    digests: list[str] = []
    graph.listen(samples)
    for at, (indices, batch) in enumerate(watched(samples, digests)):
        outputs, kept = graph.answers(at, batch), kept_in(batch, mask_input)
        for number in range(PROBES):
            graph.run(batch, outputs, digests[-len(indices) :], number, kept)
        advance(len(indices))
    graph.flush()
    return len(digests)


def _batch_size(model: Model, layers: Sequence[Layer], statistics: Mapping[str, Statistics], samples: SampleSet) -> int:
    """So many samples at a time that what the graph holds stays within bounds."""
    count, feed = samples.one()
    values = activation_bytes(model.proto, {name: array.shape for name, array in feed.items()}) / count
    known = [(statistics[layer.name].count, layer) for layer in layers]
    entries = sum(count * (layer.n if layer.kind.picks else layer.m + layer.n) for count, layer in known)
    rows = entries / max(len(samples), 1)
    held = max(_HELD * values, 4 * _HELD_BY_ROWS * rows, 1)
    return int(np.clip(max(MOST_BYTES, model.size // 4) / held, 1, samples.batch_size))
