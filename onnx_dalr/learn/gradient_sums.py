"""Gradients whose moments are made where the gradient graph runs: they stay there (methods.md §7.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.factorize import Statistics
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.moments import OLDEST, Held, Rows, Sums, computed_in, opset_of
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.behind import Behind, known, mask_of, where_it_runs, without
from onnx_dalr.learn.piles import Values
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.session import Device


@dataclass(frozen=True, eq=False)
class _Gradient:
    """Of the output of one node: the tensor that holds it, and its rows as sums see them."""

    output: str
    tensor: str
    axis: int
    rows: Rows


@dataclass(frozen=True, eq=False)
class _Layer:
    """Its gradients, what its moment is made of, those or Wᵀg, and that moment: of every use."""

    layer: Layer
    statistics: Statistics
    gradients: tuple[_Gradient, ...]
    multiplied: tuple[Rows, ...]
    moments: tuple[Held, ...]


class GradientSums:
    """Layers whose gradients are summed up where the graph runs, and their Statistics.

    A probe enters as a whole or not at all: where its sums cannot be made its gradients have to be looked at. Of a
    layer that has lost its metric it is of no matter what they are.
    """

    def __init__(
        self,
        model: Model,
        proto: ModelProto,
        layers: Sequence[tuple[Layer, Statistics]],
        gradients: Mapping[str, str],
        others: Sequence[str],
        device: Device,
        *,
        masked: bool,
        prepack: bool,
    ) -> None:
        """Makes the session. See `gradient_sums`.

        Raises:
            InputError: As `open_session`.
        """
        self._sums, self._others = Sums(proto, masked=masked), others
        self._layers = [self._layer(layer, statistics, gradients) for layer, statistics in layers]
        self._behind = Behind(model, self._sums, others, device, prepack=prepack)

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._behind.provider

    @property
    def failed(self) -> bool:
        """Whether it could not run a batch: what is summed up is sound, there had better come no more."""
        return self._behind.failed

    def take(self, batch: Batch, seeds: Batch, reader: RowReader, lost: set[str]) -> Values | None:
        """Adds one probe of a batch; None, and adds nothing, where its gradients have to be looked at.

        Args:
            batch: The samples.
            seeds: Of the probe.
            reader: Of the batch, which has read nothing yet.
            lost: Names of layers that have lost their metric.

        Returns:
            The other tensors that were asked for.
        """
        every = [gradient for each in self._layers for gradient in each.gradients]
        masks: dict[str, NDArray[np.bool_]] = {}
        sizes: dict[str, tuple[int, ...]] = {}
        if reader.kept is not None:
            ahead, found = RowReader(reader.samples, reader.kept), self._behind.sizes(batch)
            for one in every:
                size = known(found.get(one.output))
                if size is None:
                    return None
                sizes[one.tensor] = size
                masks[self._sums.masks[one.tensor, one.axis]] = mask_of(without(one.axis, size), ahead)
        counted = [each for each in self._layers if each.layer.name not in lost]
        rows = [gradient.rows for each in counted for gradient in each.gradients]
        rows += [one for each in counted for one in each.multiplied]
        run = self._behind.run({**batch, **seeds, **masks}, rows, sizes)
        if run is None:
            return None
        values, actual = run
        for each in self._layers:
            shapes = [without(gradient.axis, actual[gradient.tensor]) for gradient in each.gradients]
            reals = [reader.real(shape)[0] for shape in shapes]  # the reader learns from every tensor
            if each.layer.name in lost:
                continue
            owners = [_some(reader.owners(shape), real) for shape, real in zip(shapes, reals, strict=True)]
            powers = [
                _some(values[gradient.rows.squares], real) for gradient, real in zip(each.gradients, reals, strict=True)
            ]
            _count(each.statistics, np.concatenate(powers).astype(np.float64), reader.samples, np.concatenate(owners))
        return {name: values[name] for name in self._others}

    def flush(self, lost: set[str]) -> None:
        """Adds all moments to the statistics, but for those of layers that have lost their metric."""
        for each in self._layers:
            if each.layer.name not in lost:
                assert each.statistics.metric is not None
                for held in each.moments:
                    each.statistics.metric += self._behind.value(held)

    def _layer(self, layer: Layer, statistics: Statistics, gradients: Mapping[str, str]) -> _Layer:
        found = []
        for use in layer.uses:
            lying, name = use.lying, gradients[use.output]
            assert lying is not None
            rows = self._sums.rows(name, lying.outputs, layer.m, computed_in(layer, use), centred=False)
            found.append(_Gradient(use.output, name, lying.outputs, rows))
        plain = tuple(each.rows for each in found)
        multiplied = plain
        if layer.m > layer.n:
            multiplied = tuple(self._sums.through(rows, layer, back=True) for rows in plain)
        return _Layer(layer, statistics, tuple(found), multiplied, tuple(map(self._sums.moment, multiplied)))


def gradient_sums(
    model: Model,
    proto: ModelProto,
    layers: Sequence[tuple[Layer, Statistics]],
    gradients: Mapping[str, str],
    others: Sequence[str],
    device: Device,
    *,
    masked: bool,
    prepack: bool,
) -> GradientSums | None:
    """What sums up the gradients where the graph runs; None where that is of no use or cannot be.

    Args:
        model: The original.
        proto: It with its gradients.
        layers: Of those that `lies_simply`, with their statistics, which keep a metric.
        gradients: By output of a node, the tensor that holds its gradient.
        others: Tensors that are asked for beside the sums.
        device: Where to run.
        masked: There is to be a mask.
        prepack: As for `open_session`.
    """
    if not layers or opset_of(proto) < OLDEST:
        return None

    def made() -> GradientSums:
        return GradientSums(model, proto, layers, gradients, others, device, masked=masked, prepack=prepack)

    return where_it_runs(device, made)


def lies_simply(layer: Layer) -> bool:
    """Whether the outputs of its nodes are entries of tensors as they are."""
    return all(use.lying is not None for use in layer.uses)


def _count(into: Statistics, power: Float64, probes: int, owners: NDArray[np.int32]) -> None:
    """Adds all of some gradients but their moment, as `Statistics.update_metric` does, of ‖g‖² of every row."""
    by_probe = np.bincount(owners, power)
    into.metric_rows += len(power)
    into.metric_probes += probes
    into.metric_power += float(power.sum())
    into.metric_spread += np.array([power @ power, by_probe @ by_probe])


def _some(values: NDArray[Any], real: NDArray[np.bool_] | None) -> NDArray[Any]:
    return values if real is None else values[real]
