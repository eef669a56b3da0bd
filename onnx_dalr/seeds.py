"""Random seeds v at the outputs of a network, so that E[vvᵀ] measures what moving them costs (METHODS §3).

With δ the change of the outputs, E[(vᵀδ)²] over seeds and samples is the distortion that `evaluate` reports, to second
order: the mean KL of a classifier, 1 − cosine of an embedding, the squared relative error of every other output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.task import Task, are_probabilities

Float64 = NDArray[np.float64]
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Seeder:
    """Draws seeds for batches of outputs.

    Attributes:
        task: Classification looks at class probabilities, embedding at directions, all other outputs at squares.
        power: Mean over the samples of Σ‖y‖² by output position, above zero; not read for classes and embeddings.
    """

    task: Task
    power: dict[int, float]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Positions of the outputs that get a seed."""
        scored = () if self.task.output is None else (self.task.output,)
        return (*scored, *(output for output in self.power if output not in scored))

    def draw(self, y: NDArray[Any], output: int, digests: Sequence[str], probe: int) -> NDArray[Any]:
        """A seed for one output of one batch, of its shape and dtype.

        Args:
            y: What the original says, the samples on axis 0 where there are several digests.
            output: Its position.
            digests: Of the samples: a sample's seeds are its own, whatever it is batched with.
            probe: Number of the probe.
        """
        wide, share = y.astype(np.float64), 1.0
        if not wide.ndim or len(wide) != len(digests):  # no row per sample: the batch counts as one
            share = float(np.sqrt(len(digests))) if output == self.task.output else 1.0  # a mean over its samples
            wide, digests = wide[None], digests[:1]
        parts = zip(wide, digests, strict=True)
        seeds = [share * self._seed(part, output, _random(digest, probe, output)) for part, digest in parts]
        return np.stack(seeds).reshape(y.shape).astype(y.dtype)

    def _seed(self, y: Float64, output: int, random: np.random.Generator) -> Float64:
        """Of one sample; KL and 1 − cosine are half a square, and means over the rows of a sample."""
        if output != self.task.output:
            return _signs(y.shape, random) / float(np.sqrt(self.power[output]))
        rows = y.reshape(-1, y.shape[-1])
        seed = _class_seed(rows, random) if self.task.kind == "classify" else _direction_seed(rows, random)
        return (seed * float(np.sqrt(0.5 / len(rows)))).reshape(y.shape)


def _class_seed(y: Float64, random: np.random.Generator) -> Float64:
    """With random signs s and class probabilities p: s/√p at the probabilities, (diag p − ppᵀ)·s/√p at the logits.

    The gradient of log p of a class drawn from p has the same E[vvᵀ] = diag p − ppᵀ, but that is zero nearly always
    and large now and then where the network is sure: many more probes would be needed.
    """
    signs = _signs(y.shape, random)
    if are_probabilities(y):
        return np.asarray(np.where(y > _SMALLEST, signs / np.sqrt(np.maximum(y, _SMALLEST)), 0.0))
    p = np.exp(y - y.max(axis=-1, keepdims=True))
    p = p / p.sum(axis=-1, keepdims=True)
    weighed = np.sqrt(p) * signs
    return np.asarray(weighed - p * weighed.sum(axis=-1, keepdims=True))


def _direction_seed(y: Float64, random: np.random.Generator) -> Float64:
    """Signs without their part along y, over ‖y‖: what turns the vector. A row of zeros has no direction to turn."""
    length = np.sqrt(np.sum(y**2, axis=-1, keepdims=True))
    safe = np.maximum(length, _SMALLEST)
    signs, unit = _signs(y.shape, random), y / safe
    turning = (signs - unit * np.sum(signs * unit, axis=-1, keepdims=True)) / safe
    return np.where(length > _SMALLEST, turning, 0.0)


def _signs(shape: tuple[int, ...], random: np.random.Generator) -> Float64:
    return np.asarray(2.0 * random.integers(0, 2, size=shape) - 1, dtype=np.float64)


def _random(digest: str, probe: int, output: int) -> np.random.Generator:
    """Of one output: with the same signs at two of them, their changes would be multiplied."""
    return np.random.Generator(np.random.PCG64([int(digest, 16), probe, output]))
