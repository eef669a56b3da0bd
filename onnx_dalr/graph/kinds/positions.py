"""At how many positions the kernels in place of one are applied: what strides leave out and padding adds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_dalr.graph.kinds.base import Spanned


def along_axes(
    pieces: Sequence[Spanned], before: Sequence[int], after: Sequence[int], *, transposed: bool = False
) -> tuple[int, ...]:
    """Positions of each of several kernels in a row, samples included.

    The one that spans an axis has its stride and padding: before it, data have the length they come with, and after it
    the one they leave with. A kernel is applied once for every position that it makes, a transposed one once for every
    position that it reads.

    Args:
        pieces: Of each, in the order in which data meet them, the spatial axes it spans.
        before: Of the data, [samples, channels, *spatial].
        after: Of what is made of them.
        transposed: They go from few positions to many.
    """
    every = range(len(before) - 2)
    left, found = set(every), []
    for axes in pieces:
        reached = set() if axes is None else left - set(axes)
        waiting = left if transposed else reached
        lengths = ((before if axis in waiting else after)[2 + axis] for axis in every)
        found.append(before[0] * math.prod(lengths))
        left = reached
    return tuple(found)
