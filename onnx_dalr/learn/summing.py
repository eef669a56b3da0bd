"""Statistics whose sums are made where the model runs: rows stay there, sums come back (methods.md §7.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.factorize.gram import sketch_matrix
from onnx_dalr.factorize.moment import blocks_shape
from onnx_dalr.graph.kinds import Use
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.moments import OLDEST, Held, Rows, Sums, computed_in, opset_of
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.behind import Behind, known, mask_of, where_it_runs, without
from onnx_dalr.learn.piles import Pile
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.learn.thinning import Picking, Thinner
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.session import Device

_BATCHES = 64
"""Whose means wait until they are multiplied with each other."""

_ELSEWHERE = Need.ROWS | Need.CHANNELS


@dataclass(frozen=True, eq=False)
class Taken:
    """A batch whose sums were made.

    Attributes:
        values: The tensors that rows are still read from.
        masked: By layer whose rows are in the sums: the mask could be applied, or there is none.
    """

    values: dict[str, NDArray[Any]]
    masked: dict[str, bool]


@dataclass(frozen=True, eq=False)
class _Sum:
    """A sum that is held, of which inputs of which rows, and the array that it is for."""

    held: Held
    rows: Rows
    inputs: slice
    into: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Use:
    """One node of a layer; the axis of its data along which rows lie is None where a kernel makes them."""

    layer: Layer
    statistics: Statistics
    use: Use
    axis: int | None
    rows: Rows
    moments: tuple[_Sum, ...]
    sketch: _Sum | None
    output: Rows | None

    @property
    def every(self) -> Iterator[Rows]:
        yield from filter(None, (self.rows, self.output))


@dataclass(frozen=True, eq=False)
class _Ahead:
    """What is said before a batch is run: inputs that say which rows count, and what they go by.

    Attributes:
        feeds: The inputs.
        sizes: Of tensors, as they are expected.
        shapes: By output of a node, how many rows it has along each axis.
        counts: By output of a node, how many rows count.
    """

    feeds: dict[str, NDArray[Any]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Summing:
    """Layers that are summed up where the model runs, and their Statistics.

    A batch enters as a whole or not at all: where its sums cannot be made, or single precision does not hold them, its
    rows have to be looked at.
    """

    def __init__(
        self,
        model: Model,
        layers: Iterable[tuple[Layer, Statistics]],
        others: Iterable[str],
        device: Device,
        *,
        masked: bool,
    ) -> None:
        """Makes the session. See `summing`.

        Raises:
            InputError: As `open_session`.
        """
        self._others, self._sums = list(others), Sums(model.proto, masked=masked)
        self._shared: dict[tuple[Any, ...], Held] = {}
        self._uses = [self._use(layer, statistics, at) for layer, statistics in layers for at in range(len(layer.uses))]
        self._piles = {id(rows): Pile(rows) for use in self._uses for rows in use.every}
        self._behind = Behind(model, self._sums, self._others, device)

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._behind.provider

    @property
    def failed(self) -> bool:
        """Whether it could not run a batch: what is summed up is sound, there had better come no more."""
        return self._behind.failed

    def take(self, batch: Batch, reader: RowReader, thinner: Thinner | None = None) -> Taken | None:
        """Adds a batch to the sums; None, and adds nothing, where its rows have to be looked at.

        Args:
            batch: The samples.
            reader: Of the batch, which has read nothing yet.
            thinner: Says which rows kernels are shown; all where left out.
        """
        ahead = self._ahead(batch, RowReader(reader.samples, reader.kept), thinner)
        if ahead is None:
            return None
        run = self._behind.run(
            {**batch, **ahead.feeds}, (rows for use in self._uses for rows in use.every), ahead.sizes
        )
        if run is None:
            return None
        values, actual = run
        masked = dict.fromkeys((use.layer.name for use in self._uses), True)
        counts: dict[int, int] = {}
        for use in self._uses:
            shape = ahead.shapes.get(use.use.output) or without(use.axis or 0, actual[use.use.data])
            masked[use.layer.name] &= reader.real(shape)[1]
            count = ahead.counts.get(use.use.output, math.prod(shape))
            counts.update((id(rows), count) for rows in use.every)
        for key, count in counts.items():
            self._piles[key].add(count, values)
        if any(len(pile) >= _BATCHES for pile in self._piles.values()):
            self._fold()
        return Taken({name: values[name] for name in self._others}, masked)

    def flush(self) -> None:
        """Adds all sums to the statistics: there comes no more."""
        self._fold()
        for use in self._uses:
            for each in (*use.moments, *filter(None, [use.sketch])):
                np.add(each.into, self._behind.value(each.held), out=each.into)

    def _use(self, layer: Layer, statistics: Statistics, at: int) -> _Use:
        use = layer.uses[at]
        lying = use.lying
        assert lying is not None
        kind, shape = computed_in(layer, use), layer.shape
        if lying.inputs is None:
            rows = self._sums.placed(use, shape.channels, shape.taps, kind)
        else:
            rows = self._sums.rows(use.data, lying.inputs, layer.n, kind)
        moments = []
        if statistics.input is not None:
            moments.append(self._moment(rows, slice(0, layer.n), statistics.input))
        if statistics.blocks is not None:
            for block, inputs in zip(statistics.blocks, _blocks(layer.n), strict=True):
                size = inputs.stop - inputs.start
                moments.append(self._moment(rows, inputs, block[:size, :size]))
        sketch, output = None, None
        if statistics.sketch is not None:
            key = (id(rows), "sketch")
            if key not in self._shared:
                self._shared[key] = self._sums.sketch(rows, sketch_matrix(layer.n))
            sketch = _Sum(self._shared[key], rows, slice(0, layer.n), statistics.sketch)
        if statistics.output is not None:
            output = self._sums.through(rows, layer)
            moments.append(self._moment(output, slice(0, layer.m), statistics.output))
        return _Use(layer, statistics, use, lying.inputs, rows, tuple(moments), sketch, output)

    def _moment(self, rows: Rows, inputs: slice, into: NDArray[np.float64]) -> _Sum:
        key = (id(rows), inputs.start, inputs.stop)
        if key not in self._shared:
            self._shared[key] = self._sums.moment(rows, inputs)
        return _Sum(self._shared[key], rows, inputs, into)

    def _ahead(self, batch: Batch, reader: RowReader, thinner: Thinner | None) -> _Ahead | None:
        """What has to be said before the batch is run; None where that is not known."""
        ahead = _Ahead()
        if reader.kept is None and not self._sums.places:
            return ahead
        found = self._behind.sizes(batch)
        for each in self._uses:
            use, lying, size = each.use, each.use.lying, known(found.get(each.use.data))
            if size is None:
                return None
            ahead.sizes[use.data] = size
            if each.axis is not None:
                shape = without(each.axis, size)
                if reader.kept is not None:
                    mask = ahead.feeds[self._sums.masks[use.data, each.axis]] = mask_of(shape, reader)
                    ahead.counts[use.output] = int(mask.sum())
            else:
                assert lying is not None
                assert lying.patches is not None
                pick = Picking(each.layer, reader, thinner if each.layer.shape.taps > 1 else None)
                places = ahead.feeds[self._sums.places[use.output]] = lying.patches.places(size, pick).astype(np.int32)
                shape, ahead.counts[use.output] = pick.shape, len(places)
            ahead.shapes[use.output] = shape
        return ahead

    def _fold(self) -> None:
        """What the means of batches say of the rows as they are."""
        if not all(map(len, self._piles.values())):
            return
        totals = {key: pile.taken() for key, pile in self._piles.items()}
        for use in self._uses:
            total, statistics = totals[id(use.rows)], use.statistics
            statistics.count += total.count
            statistics.total += total.sums.sum(axis=0)
            statistics.squares += total.squares.sum(axis=0)
            for each in use.moments:
                totals[id(each.rows)].add_between(each.into, each.inputs)
            if use.sketch is not None:
                total.add_sketch(use.sketch.into, sketch_matrix(use.layer.n))
            if use.output is not None:
                assert statistics.output_total is not None
                statistics.output_total += totals[id(use.output)].sums.sum(axis=0)


def summing(
    model: Model,
    layers: Sequence[tuple[Layer, Statistics]],
    others: Iterable[str],
    device: Device,
    *,
    masked: bool,
) -> Summing | None:
    """What sums up the layers where the model runs; None where that is of no use or cannot be.

    Args:
        model: The original.
        layers: Of those that `is_simple`, with their statistics.
        others: Tensors that are asked for beside the sums.
        device: Where to run.
        masked: There is to be a mask.
    """
    if not layers:
        return None
    return where_it_runs(device, lambda: Summing(model, layers, others, device, masked=masked))


def is_simple(model: Model, layer: Layer, needs: Need) -> bool:
    """Whether it is known where its rows lie, and all that is needed of them are sums."""
    if layer.kind.picks or layer.in_one_piece or needs & _ELSEWHERE or opset_of(model.proto) < OLDEST:
        return False
    lying = [use.lying for use in layer.uses]
    return all(each is not None and (each.inputs is not None or each.patches is not None) for each in lying)


def _blocks(n: int) -> list[slice]:
    count, size, _ = blocks_shape(n)
    return [slice(at * size, min((at + 1) * size, n)) for at in range(count)]
