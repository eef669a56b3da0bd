"""How many rows a sample brings each layer: what the work on a layer grows with, before anything is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_dalr.gradient import entries_on
from onnx_dalr.graph.layers import Layer
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import Sets


def rows_per_sample(context: Context, layers: Sequence[Layer], sets: Sets) -> dict[str, float]:
    """By layer name; of a layer in one piece, whose rows nobody looks at, those of what its nodes make."""
    shown = next((each for each in (sets.fit, sets.select, sets.report) if len(each)), sets.fit)
    count, feed = shown.one()
    entries = entries_on(context.original.proto, {name: array.shape for name, array in feed.items()})
    return {layer.name: _rows(layer, entries) / count for layer in layers}


def _rows(layer: Layer, entries: Mapping[str, int]) -> float:
    """Of one feed; at least one of every use."""
    if layer.in_one_piece:
        return sum(max(entries.get(use.output, 0) / layer.m, 1.0) for use in layer.uses)
    return sum(max(use.row_count(entries.get(use.data, 0), layer.shape), 1.0) for use in layer.uses)
