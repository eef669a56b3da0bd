"""Adam (Kingma & Ba, 2015), steps in proportion to the tensor, and the schedule of its rate (methods.md §10.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]

WARM_UP = 10
_FIRST, _SECOND = 0.9, 0.999
_SMALLEST = 1e-12


class Adam:
    """Moments of the gradients, and the steps they make.

    A step is η·rms(tensor at the start)·m̂/√v̂: factors, scales and biases differ in size by orders of magnitude, and so
    would the share of themselves that one η moves them by.
    """

    def __init__(self, sizes: Mapping[str, float]) -> None:
        """Takes the rms of each tensor at the start."""
        self._sizes, self._count = dict(sizes), 0
        self._first: Tensors = {}
        self._second: Tensors = {}

    def step(self, tensors: Tensors, gradients: Mapping[str, NDArray[np.float32]], rate: float) -> None:
        """Moves the tensors, in place."""
        self._count += 1
        first, second = (1 - decay**self._count for decay in (_FIRST, _SECOND))
        for name, size in self._sizes.items():
            g = gradients[name]
            if self._count == 1:
                self._first[name], self._second[name] = np.zeros_like(g), np.zeros_like(g)
            m, v = self._first[name], self._second[name]
            m *= _FIRST
            m += (1 - _FIRST) * g
            v *= _SECOND
            v += (1 - _SECOND) * g * g
            tensors[name] -= (rate * size / first) * m / (np.sqrt(v / second) + _SMALLEST)


def scheduled(rate: float, step: int, steps: int) -> float:
    """The rate of a step, from 0: ten steps of warm-up, then half a cosine down to 0."""
    warm = min((step + 1) / WARM_UP, 1.0)
    return rate * warm * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
