"""How many rows a sample brings each layer: what the work on a layer grows with, before anything is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_dalr.gradient import entries_on
from onnx_dalr.graph.layers import Layer
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import SampleSet, Sets

_MOST_BYTES = 1 << 28
"""Of what enters these, held at a time: most of the activations of a network of convolutions."""


def in_small_batches(context: Context, layers: Sequence[Layer], samples: SampleSet) -> SampleSet:
    """The samples so few at a time that what enters kernels and layers in one piece fits into memory."""
    tensors = {use.data for layer in layers if layer.in_one_piece or layer.shape.taps > 1 for use in layer.uses}
    if not tensors or samples.batch_size == 1:
        return samples
    count, feed = samples.one()
    entries = entries_on(context.original.proto, {name: array.shape for name, array in feed.items()})
    held = 4 * sum(entries.get(name, 0) for name in tensors) / count
    return replace(samples, batch_size=int(np.clip(_MOST_BYTES / max(held, 1), 1, samples.batch_size)))


def rows_per_sample(context: Context, layers: Sequence[Layer], sets: Sets) -> dict[str, float]:
    """By layer name; of a layer in one piece, few of whose rows are looked at, those of what its nodes make."""
    shown = next((each for each in (sets.fit, sets.select, sets.report) if len(each)), sets.fit)
    count, feed = shown.one()
    entries = entries_on(context.original.proto, {name: array.shape for name, array in feed.items()})
    return {layer.name: _rows(layer, entries) / count for layer in layers}


def _rows(layer: Layer, entries: Mapping[str, int]) -> float:
    """Of one feed; at least one of every use."""
    if layer.in_one_piece:
        return sum(max(entries.get(use.output, 0) / layer.m, 1.0) for use in layer.uses)
    return sum(max(use.row_count(entries.get(use.data, 0), layer.shape), 1.0) for use in layer.uses)
