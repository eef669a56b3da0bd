"""The rows that enter layers in the original, beside those that enter them in a candidate, on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.gradient.crossing import crossing
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.capture import CHUNK_BYTES, CHUNK_ROWS
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.request.context import Context
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.session.session import Session, open_session
from onnx_dalr.tune.halfway import Halfway, Kept, Opener

Paired = tuple[Layer, NDArray[Any], NDArray[Any]]
"""(layer, rows x, rows x̂), both [p, n]: what enters it in the original, and in the candidate."""


class Pairs:
    """Both models, cut down to what enters the layers: nothing behind the last of them is computed."""

    def __init__(
        self,
        context: Context,
        candidate: ModelProto,
        layers: Sequence[Layer],
        later: Sequence[Layer] = (),
        kept: tuple[Kept, Kept] | None = None,
    ) -> None:
        """Looks at both.

        Args:
            context: Of the run.
            candidate: The original with some layers replaced; tensors between layers have the same names.
            layers: The layers to look at, which are to be changed in the candidate.
            later: Those that are to be looked at then.
            kept: What was kept of both models when the layers before these were looked at.
        """
        original, runtime = context.original, context.options.runtime
        made = {output for node in original.proto.graph.node for output in node.output}
        self._layers = layers
        self._computed, goals = (
            [name for name in dict.fromkeys(use.data for layer in some for use in layer.uses) if name in made]
            for some in (layers, later)
        )

        def before(proto: ModelProto) -> Session:
            cut, folder = original.in_memory(proto)
            return open_session(cut, runtime, folder)

        def after(proto: ModelProto) -> Session:
            with loadable(original, proto, context.file) as (source, _):
                return open_session(source, runtime)

        changing = [use.output for layer in layers for use in layer.uses]
        models: list[tuple[ModelProto, list[str], Opener]] = [
            (original.proto, [], before),
            (candidate, changing, after),
        ]
        self._models = [
            Halfway(proto, self._computed, crossing(proto, self._computed, goals, changed, made), known, opener)
            for (proto, changed, opener), known in zip(models, kept or (Kept(), Kept()), strict=True)
        ]

    @property
    def kept(self) -> tuple[Kept, Kept]:
        """What is kept of both models for the layers that come later."""
        before, after = self._models
        return before.done(), after.done()

    def rows(self, samples: SampleSet, mask_input: str | None, advance: Callable[[int], None]) -> Iterator[Paired]:
        """The rows of all samples, by layer and some thousand at a time; padding is left out where the mask fits.

        Args:
            samples: To run.
            mask_input: Model input that marks padding.
            advance: Told of the samples that are done.
        """
        waiting = {layer: _Waiting(layer) for layer in self._layers}
        for indices, batch in samples:
            before, after = (batch | model.run(batch, indices) for model in self._models)
            reader = RowReader(1, kept_in(batch, mask_input))
            for layer, held in waiting.items():
                for use in layer.uses:
                    x, met = (reader.read(use.rows(values[use.data]), layer.n).values for values in (before, after))
                    held.add(x, met)
                if held.is_full:
                    yield held.taken()
            advance(len(indices))
        yield from (held.taken() for held in waiting.values() if held.count)


class _Waiting:
    """Rows of one layer, until there are enough of them for a matrix product to be worth it."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self.count = layer, 0
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] = []

    @property
    def is_full(self) -> bool:
        return self.count >= max(1, min(CHUNK_ROWS, CHUNK_BYTES // (16 * self._layer.n)))

    def add(self, x: NDArray[Any], met: NDArray[Any]) -> None:
        self._parts.append((x, met))
        self.count += len(x)

    def taken(self) -> Paired:
        x, met = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts, self.count = [], 0
        return self._layer, x, met
