"""How much the network's own output moves when one layer is compressed: measured at a few ranks near the chosen ones.

Tails of different layers are errors of different things. Measured distortions of the output are in one unit, and a tail
scaled by distortion/tail, interpolated between the ranks that were measured, is a curve in that unit (METHODS §4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_dalr.choose.allocate import Curve, Ranks, Size
from onnx_dalr.factorize import Spectrum
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.overridable import Override
from onnx_dalr.progress import MEASURING, Progress, Silent, numbered
from onnx_dalr.quality.evaluate import Labelled, SideBySide, Task
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.session.session import Session

_SMALLEST = 1e-12
MOST_SAMPLES = 32
FEWEST_SAMPLES = 4
TRIALS = 4  # a layer, at most, as allocate's candidates and the search ask for them
MOST_BYTES = 5e11  # of weights read by all passes together
WORK = 2e12  # multiply-adds in the eligible layers that all passes together may take


class Sensitivity:
    """One curve per layer, in one unit: the distortion of the output with only that layer compressed.

    Attributes:
        passes: Forward passes over the samples so far.
    """

    def __init__(
        self,
        session: Session,
        overrides: Mapping[str, Override],
        layers: Sequence[Layer],
        sizes: Sequence[Size],
        spectra: Mapping[str, Spectrum],
        batches: Sequence[Labelled],
        task: Task,
        wanted: Sequence[bool] | None = None,
        mask_input: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Takes a session on the model with its weights as inputs, and the few batches to measure on.

        `wanted` marks the layers to measure; None is all.
        """
        self._progress, self._times = progress or Silent(), 0
        self._wanted = [True] * len(layers) if wanted is None else list(wanted)
        self._session, self._overrides, self._task = session, overrides, task
        self._layers, self._sizes, self._spectra, self._batches = layers, sizes, spectra, batches
        self._before = [session.run(batch) for _, batch in batches]
        self._points: list[dict[int, float]] = [{} for _ in layers]
        self._padding = [kept_in(batch, mask_input) for _, batch in batches]
        self.passes = 1

    def measure(self, ranks: Ranks) -> None:
        """Measures every layer alone at its rank, at its largest where that is None; known points are not repeated."""
        each = zip(self._layers, self._sizes, ranks, self._points, self._wanted, strict=True)
        self._times += 1
        name = numbered(MEASURING, self._times, max(self._times, TRIALS))
        with self._progress.stage(name, sum(self._wanted)) as advance:
            for layer, size, rank, points, wanted in each:
                tried = (rank or size.largest_rank) if wanted else 0
                tail = float(self._spectra[layer.name].tails[tried]) if tried else 0.0
                if tried and tried not in points and tail > 0:
                    points[tried] = max(self._distortion(layer, tried), _SMALLEST) / tail
                advance(int(wanted))

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion at rank 0, 1, … up to the largest that saves parameters."""
        return [
            self._curve(layer, size, points)
            for layer, size, points in zip(self._layers, self._sizes, self._points, strict=True)
        ]

    def _distortion(self, layer: Layer, rank: int) -> float:
        factors = self._spectra[layer.name].factors(rank)
        replaced: dict[str, Any] = self._overrides[layer.name].feed(factors.A @ factors.B, factors.shift)
        comparison = SideBySide(self._task, None)
        for (indices, batch), before, padding in zip(self._batches, self._before, self._padding, strict=True):
            comparison.add(indices, before, self._session.run(batch | replaced), padding)
        self.passes += 1
        return comparison.distortion() if comparison.finite else float("inf")

    def _curve(self, layer: Layer, size: Size, points: dict[int, float]) -> Curve:
        tails = self._spectra[layer.name].tails[: size.largest_rank + 1]
        if not points:
            return np.asarray(tails)
        ranks = sorted(points)
        scale = np.interp(
            np.log(np.maximum(np.arange(len(tails)), 1)), np.log(ranks), np.log([points[rank] for rank in ranks])
        )
        scaled = np.multiply(tails, np.exp(scale), out=np.zeros(len(tails)), where=tails > 0)  # 0·∞ is 0: exact
        return np.asarray(scaled)


def is_affordable(layers: Sequence[Layer], model_bytes: int) -> bool:
    """Whether every layer can be tried alone a few times: each pass reads the whole model, so it grows with both."""
    return TRIALS * len(layers) * model_bytes <= MOST_BYTES


def samples_for(layers: Sequence[Layer], rows_per_sample: Mapping[str, float]) -> int:
    """How many samples to measure on so that the work stays bounded, the same on every machine."""
    per_sample = sum(rows_per_sample[layer.name] * layer.m * layer.n for layer in layers)
    return int(np.clip(WORK / max(per_sample * TRIALS * len(layers), 1), FEWEST_SAMPLES, MOST_SAMPLES))
