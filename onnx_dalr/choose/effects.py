"""What each layer does to the output, in the task's unit: by its metric, or measured without one (methods.md §4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnx_dalr.choose.allocate import Curve, Ranks
from onnx_dalr.choose.sensitivity import Sensitivity
from onnx_dalr.choose.space import Problem


class MetricEffects:
    """Tails in the output metric where there is one; for the other layers, measured sensitivity on the same scale.

    Both are the distortion of the network's output with only that layer compressed: the metric's to second order, for
    every rank and without a run; the measured one at the ranks looked at.
    """

    def __init__(self, problem: Problem, measuring: Callable[[Sequence[bool]], Sensitivity] | None) -> None:
        """Takes the problem, and what makes a Sensitivity of the layers marked; None where that is unaffordable."""
        self._problem = problem
        self._known = [_metric_tail(problem, position) for position in range(len(problem.layers))]
        missing = [known is None for known in self._known]
        self.sensitivity = measuring(missing) if measuring is not None and any(missing) else None

    def near(self, ranks: Ranks) -> None:
        """Measures the layers without a metric at these ranks."""
        if self.sensitivity is not None:
            self.sensitivity.measure(ranks)

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion at rank 0, 1, …; by the layer's own error where nothing else is known."""
        measured = self._by_own_error() if self.sensitivity is None else self.sensitivity.curves()
        return [other if known is None else known for known, other in zip(self._known, measured, strict=True)]

    def _by_own_error(self) -> list[Curve]:
        """By layer: the share of its own output that is lost, at the rate at which such shares become distortion.

        All curves of a budget have to be in one unit: shares beside a KL divergence of 1e-4 would make a layer without
        a metric ten thousand times as precious as the others. The rate differs between layers, and its median over
        those with a metric is the least wrong for one without. Where these are few, and so the median a poor guess, it
        makes shares of theirs: then nearly all layers are compared by their own errors. Without any, all are.
        """
        tails = self._problem.tails
        pairs = [(known, tail) for known, tail in zip(self._known, tails, strict=True) if known is not None]
        rates = [known.sum() / tail.sum() for known, tail in pairs if known.sum() > 0 and tail.sum() > 0]
        rate = float(np.median(rates)) if rates else 1.0
        return [rate * tail for tail in tails]


def metric_tails(problem: Problem) -> list[Curve] | None:
    """By layer: tails in the output metric; None where a layer has none."""
    known = [_metric_tail(problem, position) for position in range(len(problem.layers))]
    found = [curve for curve in known if curve is not None]
    return found if len(found) == len(known) else None


def _metric_tail(problem: Problem, position: int) -> Curve | None:
    spectrum = problem.spectrum(problem.layers[position])
    if spectrum is None or spectrum.metric_tails is None:
        return None
    return np.asarray(spectrum.metric_tails[: problem.sizes[position].largest_rank + 1])
