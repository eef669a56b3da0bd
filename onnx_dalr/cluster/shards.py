"""The samples in parts, one after the other, cut where batches end: what each is batched with stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.base import Batch, InputSpec, Samples
from onnx_dalr.samples.sets import SampleSet


class Carried(Samples):
    """Samples that are sent as they are read: all that a worker needs to feed them again."""

    def __init__(self, source: Samples, indices: Sequence[int] | NDArray[np.int64]) -> None:
        """Reads these samples of a source; they keep their numbers.

        Raises:
            InputError: A sample cannot be read.
        """
        self.specs: Sequence[InputSpec] = source.specs
        self.complete, self.repeated = source.complete, source.repeated
        self._feeds = {int(index): source.read(int(index)) for index in indices}
        self.ids = [source.ids[index] for index in self._feeds]

    def read(self, index: int) -> Batch:
        """Returns sample `index`, as its source numbers it."""
        return self._feeds[index]


@dataclass(frozen=True, eq=False)
class Shard:
    """Some of the samples, to be sent.

    Attributes:
        first: How many samples come before them.
        samples: How many there are in all.
        indices: Their numbers in the source.
        batch_size: Joined at most.
        positions: As in SampleSet.
        carried: The samples, or a file that holds them; None where a worker opens the source itself.
    """

    first: int
    samples: int
    indices: NDArray[np.int64]
    batch_size: int
    positions: int | None
    carried: Carried | Path | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def of(self, source: Samples) -> SampleSet:
        """These samples of an open source."""
        return SampleSet(source, self.indices, self.batch_size, self.positions)


def unit(samples: SampleSet) -> int:
    """How many samples a batch takes: shards are cut between these."""
    return 1 if samples.source.complete else samples.source.fixed_batch or samples.joined


def can_be_cut(samples: SampleSet) -> bool:
    """Whether parts of the samples, one after the other, give all that they give as a whole.

    Where the model takes b at a time, b that go together: which these are is known before they are read only where all
    are of one shape.
    """
    if len(samples) < 2 * unit(samples):
        return False
    source = samples.source
    if source.fixed_batch is None:
        return True
    return not source.repeated and all(
        spec.shape is not None and None not in spec.shape[1:] for spec in samples.source.specs
    )


def cut(samples: SampleSet, most: int) -> list[Shard]:
    """The samples in so many parts at most, as even as whole batches are; what is left over goes with the last."""
    size = unit(samples)
    whole = max(len(samples) // size, 1)
    count = min(max(most, 1), whole)
    bounds = [size * (number * whole // count) for number in range(count)] + [len(samples)]
    return [
        Shard(first, len(samples), samples.indices[first:end], size, samples.positions)
        for first, end in pairwise(bounds)
    ]
