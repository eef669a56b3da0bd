"""The shape of a weight, in the terms that structures and formats count in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A weight W, [m, n], of y = W x + b; a kernel's n counts its taps: n = C·Πkernel.

    Attributes:
        m: Outputs.
        n: Inputs of one row.
        kernel: Spatial extent of a convolution's kernel; empty for a matrix.
    """

    m: int
    n: int
    kernel: tuple[int, ...] = ()

    @property
    def params(self) -> int:
        """m·n."""
        return self.m * self.n

    @property
    def dims(self) -> tuple[int, ...]:
        """Of its values: [m, channels, *kernel]."""
        return (self.m, self.channels, *self.kernel)

    @property
    def taps(self) -> int:
        """Positions that a kernel sees at once: Πkernel, 1 of a matrix."""
        return math.prod(self.kernel)

    @property
    def channels(self) -> int:
        """Inputs without taps: n / Πkernel."""
        return self.n // self.taps
