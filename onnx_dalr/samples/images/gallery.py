"""Some samples as small pictures, for a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.base import Samples
from onnx_dalr.samples.images.thumbnail import thumbnail

MOST = 12
_SIZE = 128  # pixels of the longer side


def thumbnails(
    source: Samples, indices: Sequence[int] | NDArray[np.int64], most: int = MOST
) -> tuple[tuple[str, bytes], ...]:
    """A few samples as the model sees them, spread evenly.

    Args:
        source: Where samples are read from.
        indices: The samples to choose from.
        most: So many at most.

    Returns:
        (name, PNG) of each; none where the samples are no pictures.

    Raises:
        InputError: One cannot be read.
    """
    if len(indices) == 0:
        return ()
    chosen = np.asarray(indices)[np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)]
    drawn = ((source.ids[at], thumbnail(source, at, _SIZE)) for at in map(int, chosen))
    return tuple((name, png) for name, png in drawn if png is not None)
