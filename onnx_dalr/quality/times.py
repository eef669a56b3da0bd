"""What layers take in time, measured: each as it is, and in a few forms, between which they are interpolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

FASTER = 0.97
"""Share of a layer's time from which a form counts as no faster: two sessions of one model differ by as much."""

_LEAST = 1e-3  # of a layer's time that a form takes
_UNKNOWN = 1.0  # nanosecond of a layer that was not measured, in any form: nothing that counts


@dataclass(frozen=True)
class Curve:
    """One structure of one layer, from its smallest rank that was measured to its largest.

    Attributes:
        work: Multiply-adds of a sample at each, ascending.
        shares: Of the time that the layer takes as it is; they never fall.
    """

    work: tuple[float, ...]
    shares: tuple[float, ...]

    def at(self, work: float) -> float:
        """Between them in a straight line, beyond them as at the nearest."""
        return float(np.interp(work, self.work, self.shares))


def curve_of(points: Mapping[float, float]) -> Curve:
    """What was measured, by multiply-adds, without its noise: more work of one structure takes no less time.

    The closest curve that never falls, by least squares.
    """
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - heavy: only where times are measured

    work = sorted(points)
    return Curve(tuple(work), tuple(isotonic_regression([points[at] for at in work]).x.tolist()))


@dataclass(frozen=True)
class LayerTimes:
    """What one layer takes.

    Attributes:
        whole: As it is, in nanoseconds.
        curves: By structure.
    """

    whole: float
    curves: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Times:
    """What a model takes on one sample or batch, and its layers.

    Attributes:
        whole: The model as it is, in nanoseconds.
        layers: By name: those that were measured.
        untimed: Names of layers that could not be.
        saving: By what factor the model saves more than its layers do by themselves, as far as that was measured.
    """

    whole: float
    layers: Mapping[str, LayerTimes]
    untimed: Sequence[str] = ()
    saving: float = 1.0

    def as_it_is(self, layer: str) -> float:
        """Nanoseconds of a layer; next to nothing of one that was not measured."""
        known = self.layers.get(layer)
        return _UNKNOWN if known is None else known.whole

    def of(self, layer: str, structure: str, work: float) -> float:
        """Nanoseconds of a layer that is taken apart: no less than as it is, where that is not clearly faster.

        Args:
            layer: Its name.
            structure: Of the form.
            work: Multiply-adds of the form.
        """
        known = self.layers.get(layer)
        if known is None:
            return _UNKNOWN
        curve = known.curves.get(structure)
        share = 1.0 if curve is None else curve.at(work)
        if share > FASTER:
            return known.whole * max(share, 1.0)
        return known.whole * max(1 - self.saving * (1 - share), _LEAST)

    def calibrated(self, predicted: float, measured: float) -> Times:
        """The times, after a model that was to take one share of the original's time took another."""
        seen = (1 - measured) / max(1 - predicted, _LEAST)
        return replace(self, saving=self.saving * min(max(seen, _SLOWEST), 1 / _SLOWEST))


_SLOWEST = 0.25
"""Factor by which one measurement may change what is expected, either way."""
