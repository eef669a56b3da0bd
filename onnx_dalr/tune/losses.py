"""Losses between what student and teacher say, and their gradients, as nodes (methods.md §10.1).

Each is Σ w·ℓ over the rows of an output, with weights w that are fed: what a row counts, padding and the size of the
batch among it. The gradient is written down, not derived: loss and seed share their nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from onnx_dalr.gradient.emit import Tensor

_SMALLEST = 1e-30  # of a probability: its logarithm is finite, and so is the gradient through a Softmax behind it
_EDGE = 1e-4  # a yes or no is taken as no surer than this


@dataclass(frozen=True, eq=False)
class Written:
    """Nodes of a loss.

    Attributes:
        parts: What adds up to Σ w·ℓ, in the layout of the output.
        seed: ∂Σwℓ/∂y, of the shape of y.
    """

    parts: Tensor
    seed: Tensor


class Loss(Protocol):
    """How far the student's y is from the teacher's t."""

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        """Writes the nodes.

        Args:
            y: Of the student, float32.
            t: Of the teacher, of the same shape.
            w: What rows, or values, count: broadcast to y, of length 1 along axes that a row goes over.
        """
        ...


@dataclass(frozen=True)
class Divergence:
    """T²·KL(p‖q) of classes on an axis, p = softmax(t/T), q = softmax(y/T); ∂/∂y = T·(q − p).

    Weights may be 0 for some classes of a row, which have no probability in either.

    Attributes:
        axis: Of the classes.
        encoding: Whether y holds logits, or the probabilities themselves; of these T is 1, and ∂/∂q = −p/q.
        temperature: T. The factor T² keeps gradients of one size whatever it is (Hinton et al., 2015).
    """

    axis: int
    encoding: Literal["logits", "probabilities"] = "logits"
    temperature: float = 1.0

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        """Writes the nodes."""
        if self.encoding == "probabilities":
            q, p = y.at_least(_SMALLEST), t.at_least(_SMALLEST)
            return Written(w * p * (p.log() - q.log()), -(w * p / q))
        warmth = self.temperature
        log_p, log_q = self._logs(t), self._logs(y)
        p, q = log_p.exp(), log_q.exp()
        return Written(w * p * (log_p - log_q) * warmth**2, w * (q - p) * warmth)

    def _logs(self, y: Tensor) -> Tensor:
        """Log softmax(y/T), whatever the opset's own goes over."""
        warm = y if self.temperature == 1 else y / self.temperature
        less = warm - warm.max([self.axis])
        return less - less.exp().sum([self.axis]).log()


@dataclass(frozen=True)
class Binary:
    """KL between yes and no with probabilities t and y, value by value; ∂/∂y = (y − t)/(y(1 − y))."""

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        """Writes the nodes; probabilities are held 1e-4 away from 0 and 1, where the seed has no bound."""
        q, p = (one.at_least(_EDGE).at_most(1 - _EDGE) for one in (y, t))
        rows = p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())
        return Written(w * rows, w * (q - p) / (q * (1 - q)))


@dataclass(frozen=True)
class Turning:
    """1 − cos(y, t) of directions on an axis; ∂/∂y = −(t̂ − cos·ŷ)/‖y‖.

    Attributes:
        axis: Of the directions.
    """

    axis: int

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        """Writes the nodes."""
        length = self._length(y)
        unit, aim = y / length, t / self._length(t)
        cosine = (unit * aim).sum([self.axis])
        return Written(w * (1.0 - cosine), w * (unit * cosine - aim) / length)

    def _length(self, y: Tensor) -> Tensor:
        return (y.squared().sum([self.axis]) + _SMALLEST).sqrt()


@dataclass(frozen=True)
class Squares:
    """(y − t)², value by value: the weights say what it is relative to; ∂/∂y = 2(y − t)."""

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        """Writes the nodes."""
        apart = y - t
        return Written(w * apart.squared(), w * apart * 2.0)
