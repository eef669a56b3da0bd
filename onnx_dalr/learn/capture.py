"""Probe + batches → Statistics: one pass over the fit samples in ONNX Runtime, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Method, Need, Statistics
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.apart import are_large
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.learn.summing import is_simple, summing
from onnx_dalr.learn.thinning import Picking, Thinner
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.session.memory import memory_limit
from onnx_dalr.session.session import Device, Session, open_session, runtime_of
from onnx_dalr.session.threads import side_by_side
from onnx_dalr.units import format_bytes, format_names

CHUNK_ROWS = 2048
CHUNK_BYTES = 1 << 26
READY_BYTES = 1 << 26
"""Of rows of several layers that wait to be summed up side by side."""


@dataclass(frozen=True, eq=False)
class Capture:
    """What one pass learned.

    Attributes:
        statistics: By layer name; a layer that no row reached, a seldom used branch say, has none.
        provider: The execution provider that ran the probe, or "none" where every layer reads a model input.
        notes: What a user should know: a mask that does not fit a tensor, say.
    """

    statistics: dict[str, Statistics]
    provider: str
    notes: tuple[str, ...]


def capture(
    model: Model,
    layers: Sequence[Layer],
    method: Method,
    batches: Iterable[Batch],
    *,
    device: Device = "auto",
    mask_input: str | None = None,
    each: Callable[[Batch], None] = lambda batch: None,
    metric: bool = False,
    rounded: Callable[[Layer], bool] = lambda layer: False,
    thinner: Thinner | None = None,
    whole: bool = True,
) -> Capture:
    """Runs the probe over the batches and sums up what each layer's weight sees.

    The rows of a layer's users are all added up. Rows are handed on in chunks of a fixed number, so that neither
    memory nor the sums depend on the batch size.

    Args:
        model: The original.
        layers: The layers to look at.
        method: Names the statistics to keep.
        batches: Feeds of the fit samples.
        device: Where to run.
        mask_input: Model input that marks padding; its rows do not enter, wherever a tensor has axes of as many
            samples and positions.
        each: Called after every batch.
        metric: Leave room for the gradients too.
        rounded: Whether numbers of a layer may be rounded.
        thinner: Says which rows are looked at of layers in one piece; all where left out.
        whole: These are all samples there are; of a part of them, no row may reach any layer.

    Raises:
        InputError: Statistics too large for this machine, a layer that sees NaN or infinity, or no rows at all.
    """
    made = {output for node in model.proto.graph.node for output in node.output}
    tensors = list(dict.fromkeys(use.data for layer in layers for use in layer.uses))
    computed = [name for name in tensors if name in made]
    sinks = [
        (_Tally if layer.kind.picks else _Sink)(
            model, layer, needs_of(layer, method, metric=metric, rounded=rounded(layer))
        )
        for layer in layers
    ]

    def check_memory() -> None:
        _refuse_above_limit(f"{method.name} on {len(layers)} layers", sum(sink.bytes_after_flush for sink in sinks))

    check_memory()
    simple = {sink.layer.name: sink for sink in sinks if is_simple(model, sink.layer, sink.statistics.needs)}
    others = {use.data for sink in sinks if sink.layer.name not in simple for use in sink.layer.uses}
    sums = summing(
        model,
        [(sink.layer, sink.statistics) for sink in simple.values()],
        [name for name in computed if name in others],
        device,
        masked=mask_input is not None,
    )
    session = None if sums else _probe_session(model, computed, device)
    threads = 1 if are_large(layers) else runtime_of(device).workers
    unmasked: set[str] = set()
    for batch in batches:
        reader = RowReader(1, kept_in(batch, mask_input))
        if thinner is not None:
            thinner.start(batch)
        taken = sums.take(batch, reader, thinner) if sums else None
        if sums is not None and sums.failed:
            sums.flush()
            sums = None  # the memory it held may be what was wanting
        if taken is None:
            session = session or _probe_session(model, computed, device)
            values = dict(zip(computed, session.run(batch, computed) if session else [], strict=True)) | batch
        else:
            values = taken.values | batch
            unmasked.update(name for name, fits in taken.masked.items() if not fits)
        left = [sink for sink in sinks if taken is None or sink.layer.name not in simple]
        unmasked |= _read(left, values, reader, thinner, check_memory, threads)
        del values  # before as many more are made
        each(batch)
    if sums is not None:
        sums.flush()
    check_memory()
    for _ in side_by_side(lambda sink: sink.flush(), sinks, threads):
        pass
    reached = {sink.layer.name: sink.statistics for sink in sinks if sink.statistics.count}
    if whole:
        check_reached(layers, reached)
    return Capture(
        statistics=reached,
        provider=next((each.provider for each in (sums, session) if each is not None), "none"),
        notes=tuple(_mask_notes(unmasked, mask_input)),
    )


def _read(
    sinks: Sequence[_Sink | _Tally],
    values: Mapping[str, NDArray[Any]],
    reader: RowReader,
    thinner: Thinner | None,
    check_memory: Callable[[], None],
    threads: int,
) -> set[str]:
    """Takes the rows of one batch; names of the layers whose rows the mask does not fit."""
    unmasked: set[str] = set()
    ready = 0
    for sink in sinks:
        for use in sink.layer.uses:
            rows, masked = _rows(sink, use, values[use.data], reader, thinner)
            before = sink.bytes_ready
            sink.add(rows, check_memory)
            ready += sink.bytes_ready - before
            if ready > READY_BYTES:
                _drain(sinks, threads)
                ready = 0
            if not (masked or sink.layer.kind.picks):
                unmasked.add(sink.layer.name)
    _drain(sinks, threads)
    return unmasked


def check_reached(layers: Sequence[Layer], statistics: Mapping[str, Statistics]) -> None:
    """Refuses samples of which no row reached any layer.

    Raises:
        InputError: There are layers that can be taken apart, and no statistics at all.
    """
    apart = [layer for layer in layers if not layer.in_one_piece]
    if apart and not statistics:
        raise InputError(f"no row of the samples reached layer {apart[0].name!r}, nor any other", "is all masked?")


def _rows(
    sink: _Sink | _Tally, use: Use, tensor: NDArray[Any], reader: RowReader, thinner: Thinner | None
) -> tuple[NDArray[Any], bool]:
    """(the rows to look at, [p, n]; whether padding is left out of them).

    Nobody has to look at a weight in one piece: what is not finite there is no reason to stop.
    """
    layer = sink.layer
    if layer.kind.picks or not (layer.in_one_piece or layer.shape.taps > 1):
        rows = reader.read(use.rows(tensor), sink.width)
        return rows.values, rows.masked
    pick = Picking(layer, reader, thinner)
    few = use.some_rows(tensor, pick)
    return few[np.isfinite(few).all(axis=1)] if layer.in_one_piece else few, pick.masked


class _Sink:
    """Rows of one layer on their way into its Statistics, a fixed number at a time."""

    def __init__(self, model: Model, layer: Layer, needs: Need) -> None:
        self.layer, self.width = layer, layer.n
        self.statistics = Statistics(layer.m, layer.n, needs, layer.shape.taps)
        self._model = model
        rows = CHUNK_ROWS // 4 if layer.in_one_piece else CHUNK_ROWS  # there are fewer of them, and each is long
        self._chunk = max(1, min(rows, CHUNK_BYTES // (8 * layer.n)))
        self._waiting: list[NDArray[Any]] = []
        self._count = 0
        self._ready: list[NDArray[Any]] = []
        self._ready_rows = 0

    @property
    def bytes_after_flush(self) -> int:
        """Bytes of the statistics once the waiting rows are in them."""
        held = self.statistics
        rows = held.count + self._ready_rows + self._count
        return Statistics.bytes_needed(held.m, held.n, held.needs, rows, taps=self.layer.sees.taps)

    def add(self, rows: NDArray[Any], check_memory: Callable[[], None]) -> None:
        if not np.isfinite(rows).all():
            raise InputError(
                f"layer {self.layer.name!r} sees NaN or infinity on these samples",
                "check the preprocessing and the value range the model was trained on, or leave it out: "
                f"--exclude {self.layer.name!r}",
            )
        while self._count + len(rows) >= self._chunk:
            taken = self._chunk - self._count
            self._wait(rows[:taken])
            rows = rows[taken:]
            check_memory()
            self._ready.append(self._gathered())
            self._ready_rows += len(self._ready[-1])
        # A copy: what is left must not keep the whole tensor of the batch alive.
        self._wait(rows.copy())

    @property
    def bytes_ready(self) -> int:
        """Of rows that can be summed up."""
        return sum(rows.nbytes for rows in self._ready)

    def drain(self) -> None:
        """Sums up what is ready."""
        while self._ready:
            rows = self._ready.pop(0)
            self._ready_rows -= len(rows)
            # Looked up each time: held, the weights of all layers would be a second copy of the model.
            reads_weight = Need.OUTPUT in self.statistics.needs
            self.statistics.update(rows, matrix(self._model, self.layer) if reads_weight else None)

    def flush(self) -> None:
        """Sums up all there is."""
        if self._count:
            self._ready.append(self._gathered())
        self.drain()

    def _gathered(self) -> NDArray[Any]:
        rows = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        return rows

    def _wait(self, rows: NDArray[Any]) -> None:
        self._waiting.append(rows)
        self._count += len(rows)


class _Tally:
    """Numbers of rows that are picked from one layer, on their way into its Statistics."""

    def __init__(self, model: Model, layer: Layer, needs: Need) -> None:
        del model
        self.layer, self.width = layer, 1
        self.statistics = Statistics(layer.sees.m, layer.sees.n, needs)

    @property
    def bytes_after_flush(self) -> int:
        held = self.statistics
        return Statistics.bytes_needed(held.m, held.n, held.needs, held.count)

    def add(self, numbers: NDArray[Any], check_memory: Callable[[], None]) -> None:
        del check_memory  # counting takes no more
        self.statistics.update_picked(numbers.reshape(-1))

    bytes_ready = 0

    def drain(self) -> None:
        """Nothing waits."""

    flush = drain


def _drain(sinks: Sequence[_Sink | _Tally], threads: int) -> None:
    """Sums up what is ready, of several layers at a time; of one layer in the order in which it came."""
    ready = [sink for sink in sinks if sink.bytes_ready]
    for _ in side_by_side(lambda sink: sink.drain(), ready, threads if len(ready) > 1 else 1):
        pass


def _probe_session(model: Model, computed: list[str], device: Device) -> Session | None:
    if not computed:
        return None
    made, folder = model.in_memory(probe(model.proto, computed))
    return open_session(made, device, folder)


def _refuse_above_limit(what: str, needed: int) -> None:
    limit = memory_limit()
    if needed > limit:
        raise InputError(
            f"{what} needs {format_bytes(needed)} of statistics, more than the {format_bytes(limit)} allowed here",
            "use --method dalr, fewer samples, or --exclude the largest layers",
        )


def needs_of(layer: Layer, method: Method, *, metric: bool = False, rounded: bool = False) -> Need:
    """The statistics a run reads of a layer.

    Args:
        layer: The layer.
        method: Says what factors are made from.
        metric: There are to be gradients.
        rounded: Numbers may be rounded, by what they will multiply.
    """
    if layer.in_one_piece and not layer.kind.picks:
        return Need.BLOCKS if rounded else Need.NONE
    weighed = Need.METRIC if metric else Need.NONE
    served = [structure for structure in layer.structures if structure.serves(method)]
    needs = reduce(or_, (structure.needs(layer.shape, method) for structure in served), weighed)
    if layer.shape.taps > 1 and _bytes_needed(layer, needs) > memory_limit():
        lighter = (structure.lighter_needs(layer.shape, method) for structure in served)
        needs = reduce(or_, filter(None, lighter), weighed)
    if layer.kind.picks:
        return needs
    return needs | Need.BLOCKS if rounded and Need.INPUT not in needs else needs


def groups_within(
    layers: Sequence[Layer],
    method: Method,
    limit: int,
    *,
    metric: bool = False,
    rounded: Callable[[Layer], bool] = lambda layer: False,
) -> list[list[Layer]]:
    """The layers in groups whose statistics fit into `limit` bytes each: one pass over the samples per group.

    A layer that does not fit by itself is a group of its own.
    """
    groups: list[list[Layer]] = [[]]
    held = 0
    for layer in layers:
        needs = needs_of(layer, method, metric=metric, rounded=rounded(layer))
        needed = _bytes_needed(layer, needs)
        if groups[-1] and held + needed > limit:
            groups.append([])
            held = 0
        groups[-1].append(layer)
        held += needed
    return groups


def _bytes_needed(layer: Layer, needs: Need) -> int:
    rows = layer.n if Need.ROWS in needs else 0
    return Statistics.bytes_needed(layer.sees.m, layer.sees.n, needs, rows, taps=layer.sees.taps)


def has_room_for_metric(layers: Sequence[Layer], method: Method) -> bool:
    """Whether memory takes the gradients too; of a layer too large for both, the metric is what goes."""
    needs = [(layer, needs_of(layer, method, metric=True)) for layer in layers]
    needed = sum(_bytes_needed(layer, need & ~Need.ROWS) for layer, need in needs)
    return len(layers) > 1 or needed <= memory_limit()


def _mask_notes(unmasked: set[str], mask_input: str | None) -> Iterator[str]:
    if unmasked:
        what = "padding, if they hold any, enters their statistics"
        yield f"mask {mask_input!r} does not fit the rows of {format_names(sorted(unmasked))}: {what}"


__all__ = ["Capture", "capture", "check_reached", "groups_within", "has_room_for_metric", "needs_of"]
