"""Random seeds v at the outputs of a network, so that E[vvᵀ] measures what moving them costs (methods.md §3.2).

With δ the change of the outputs, E[(vᵀδ)²] over seeds and samples is the distortion that `evaluate` reports, to second
order: each output by its own measure, added up over those that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.measures import Classes, Dense, as_output
from onnx_dalr.quality.padding import rows_kept, values_kept
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.masks import Kept

_NEVER = -1e300  # the score of a class that cannot be


@dataclass(frozen=True)
class Seeder:
    """Draws seeds for batches of outputs.

    Attributes:
        task: Says what is measured how.
    """

    task: Task

    @property
    def outputs(self) -> dict[int, str]:
        """What gets a seed: names by position."""
        return {one.position: one.name for one in self.task.seeded}

    def draw(
        self, y: NDArray[Any], output: int, digests: Sequence[str], probe: int, padding: Kept | None = None
    ) -> NDArray[Any]:
        """A seed for one output of one batch, of its shape and dtype.

        Args:
            y: What the original says, the samples on axis 0 where there are several digests.
            output: Its position.
            digests: Of the samples: a sample's seeds are its own, whatever it is batched with.
            probe: Number of the probe.
            padding: Which positions of the samples are real, [samples, length].
        """
        one = next(one for one in self.task.seeded if one.position == output)
        measure = one.measure
        mask = values_kept(y.shape, padding, measure.channels) if one.padded else None
        wide = y.astype(np.float64)
        wide = np.where(np.isfinite(wide), wide, _NEVER if isinstance(measure, Classes | Dense) else 0.0)
        if mask is not None and isinstance(measure, Classes):  # scores of positions: padding is never the answer
            wide, mask = np.where(mask, wide, _NEVER), None
        share, samples = 1.0, one.samples(len(digests))
        if not y.ndim or len(y) != samples:  # no row per sample: the batch counts as one
            share, digests, samples = float(np.sqrt(len(digests))), digests[:1], None
        rows, laid = measure.rows(wide, samples), rows_kept(mask, measure.axis, samples)
        kept: Sequence[Kept | None] = [None] * len(rows) if laid is None else list(laid)
        seeds = [
            share * measure.seed(part, keep, _random(digest, probe, output))
            for part, keep, digest in zip(rows, kept, digests, strict=True)
        ]
        return as_output(np.stack(seeds), measure.axis, y.shape).astype(y.dtype)


def _random(digest: str, probe: int, output: int) -> np.random.Generator:
    """Of one output: with the same signs at two of them, their changes would be multiplied."""
    return np.random.Generator(np.random.PCG64([int(digest, 16), probe, output]))
