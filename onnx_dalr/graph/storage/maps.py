"""Maps of files that are alive: what was read through one is let go when the next is made.

Whoever holds on to a weight, as what it was taken apart into does, would hold all of it in memory once it is read. The
pages come back from the file when they are touched again. Arrays of ours can wait in files the same way.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 1 << 20  # bytes: of less there is nothing to gain


class Maps:
    """The large maps of one model, none of which it keeps alive."""

    def __init__(self) -> None:
        self._alive: list[weakref.ref[mmap.mmap]] = []

    def add(self, made: NDArray[Any]) -> NDArray[Any]:
        """An array as it is; where it is a map, what was read through those before it leaves memory."""
        found = _map_of(made)
        if found is not None and made.nbytes >= _LARGE and hasattr(mmap, "MADV_DONTNEED"):
            self.let_go()
            self._alive.append(weakref.ref(found))
        return made

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array as a map of a file that is gone with it; a small one as it is.

        The file has no name, so that nothing is left behind of a run that is killed. It lies where temporary files lie.
        """
        if array.nbytes < _LARGE:
            return array
        with tempfile.TemporaryFile(prefix="onnx-dalr-") as file:
            np.ascontiguousarray(array).tofile(file)
            file.flush()
            return self.add(np.memmap(file, array.dtype, "r", 0, array.shape))

    def let_go(self) -> None:
        """What was read leaves memory; of files that are only read, nothing is lost."""
        before, self._alive = self._alive, []
        for each in before:
            found = each()
            if found is not None:
                found.madvise(mmap.MADV_DONTNEED)
                self._alive.append(each)


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """What an array shows a part of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
