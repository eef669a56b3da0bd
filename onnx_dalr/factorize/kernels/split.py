"""How two kernels share the inputs of one: the first sees some axes of it, the second the others (methods.md §6.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.shape import Shape


@dataclass(frozen=True)
class Split:
    """The inputs (channel, *kernel) of one row as pairs (u, b): u is what the first kernel sums over, b the second.

    Attributes:
        channels: C.
        kernel: Spatial extent.
        first: Spatial axes that the first kernel spans, beside the channels.
    """

    channels: int
    kernel: tuple[int, ...]
    first: tuple[int, ...] = ()

    @classmethod
    def of(cls, shape: Shape, first: tuple[int, ...] = ()) -> Split:
        """Of a kernel of this shape."""
        return cls(shape.channels, shape.kernel, first)

    @property
    def second(self) -> tuple[int, ...]:
        """Spatial axes that the second kernel spans."""
        return tuple(axis for axis in range(len(self.kernel)) if axis not in self.first)

    @property
    def first_kernel(self) -> tuple[int, ...]:
        """Spatial extent of the first kernel."""
        return tuple(size if axis in self.first else 1 for axis, size in enumerate(self.kernel))

    @property
    def second_kernel(self) -> tuple[int, ...]:
        """Spatial extent of the second kernel."""
        return tuple(1 if axis in self.first else size for axis, size in enumerate(self.kernel))

    @property
    def inputs(self) -> int:
        """Inputs that the first kernel sums over."""
        return self.channels * math.prod(self.first_kernel)

    @property
    def offsets(self) -> int:
        """Offsets at which the second kernel meets what the first makes of them."""
        return math.prod(self.second_kernel)

    @property
    def _dims(self) -> tuple[int, ...]:
        return (self.channels, *self.kernel)

    @property
    def _order(self) -> tuple[int, ...]:
        return (0, *(1 + axis for axis in (*self.first, *self.second)))

    def columns(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows over the inputs, [r, n], as [r, U, B]."""
        axes = (0, *(1 + axis for axis in self._order))
        return rows.reshape(len(rows), *self._dims).transpose(axes).reshape(len(rows), self.inputs, self.offsets)

    def moment(self, C: NDArray[Any]) -> NDArray[Any]:
        """A moment of the inputs, [n, n], with both its sides ordered as (u, b); itself where it is already."""
        if self._order == tuple(range(len(self._order))):
            return C
        order = np.arange(len(C)).reshape(self._dims).transpose(self._order).ravel()
        return C[np.ix_(order, order)]

    def whole(self, V: NDArray[Any], H: NDArray[Any]) -> NDArray[Any]:
        """The one kernel that the two come to, [m, n], from V, [K, U], and H, [m, K, B]."""
        product = np.tensordot(H, V, axes=(1, 0)).swapaxes(1, 2)
        dims = (len(H), *(self._dims[axis] for axis in self._order))
        back = (0, *(1 + int(axis) for axis in np.argsort(self._order)))
        return product.reshape(dims).transpose(back).reshape(len(H), -1)
