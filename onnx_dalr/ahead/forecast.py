"""About how long a run will take, phase by phase: numbers in, seconds out.

Nobody needs to know it to the second, but whether to wait for it or to have lunch. So every phase is what it does most
of: forward passes of the original, whose time was measured on the first few samples, multiply-adds in layers, and
matrices taken apart. It is off by a factor of two where it is good, and corrected while the run goes on
(`progress.TimeLeft`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx_dalr.look.pace import Pace
from onnx_dalr.progress import (
    CAPTURING,
    COMPARING,
    FACTORIZING,
    LOOKING_INSIDE,
    MEASURING,
    PROBING,
    REFITTING,
    REWRITING,
    SAVING,
    SCORING,
    TIMING,
    VERIFYING,
)

_COMPARED = 1e-4  # seconds to compare the outputs on one sample: an answer among some classes
_COPIED = 1e-9  # seconds a byte: to copy, to write and to check a model
_LATENCY = 1.3  # seconds: the medians of a second, and the runs before
_LOADS_OF_GRADIENTS = 3  # the original, and about twice as many nodes for the way back
_OTHER_FACTORS = 0.7  # of the first: they share some of the work, and have no metric or no covariance
_KEPT = 0.2  # of the rank of a layer, in a typical candidate
_SKETCH = 128
_INSIDE = 4  # runs that it takes to compare all tensors of two models on a sample
_WAYS = 3  # to refit a layer, all of which are tried
_PARTS = 3  # of a model between two groups: one of the original, two of the candidate
_LARGE, _LIGHT = 1024, 0.2  # from so many directions on, single precision and several threads take so much of the time


@dataclass(frozen=True)
class Speed:
    """Seconds that linear algebra takes on this machine.

    Attributes:
        product: Of a multiply-add in a large matrix product in double precision.
        spectrum: Of a spectrum of r = min(m, n) directions, by r³: an eigendecomposition and what goes with it.
    """

    product: float = 1e-10
    spectrum: float = 8e-10


@dataclass(frozen=True)
class Extent:
    """How large one layer is.

    Attributes:
        m: Outputs.
        n: Inputs.
        rows: That a sample brings.
        factors: How many factors by name are made of it.
    """

    m: int
    n: int
    rows: float = 1.0
    factors: int = 1

    @property
    def smaller(self) -> int:
        """The side that eigenproblems have."""
        return min(self.m, self.n)


@dataclass(frozen=True)
class Work:
    """How much there is to do.

    Attributes:
        layers: The layers that may be compressed.
        bytes: Of the model.
        passes: Over the fit samples; 0 where statistics are given.
        fit: Samples to capture.
        probed: Samples to take gradients of.
        probes: Gradients of each.
        select: Samples to score a candidate on.
        trials: Candidates, at most.
        measured: Passes over a few samples with a single layer compressed.
        few: These samples.
        report: Samples to verify on; None where no model is made.
        refitted: Layers that may be refitted.
        refits: Passes over fit and select samples that this takes.
        refit: Fit samples of each of them.
    """

    layers: Sequence[Extent]
    bytes: int
    passes: int = 1
    fit: int = 0
    probed: int = 0
    probes: int = 0
    select: int = 0
    trials: int = 0
    measured: int = 0
    few: int = 0
    report: int | None = None
    refitted: Sequence[Extent] = ()
    refits: int = 0
    refit: int = 0


def forecast(work: Work, pace: Pace, speed: Speed) -> dict[str, float]:
    """Seconds by phase, in the order they come in; of those that there will be."""
    found: dict[str, float] = {}
    if work.passes:
        found[CAPTURING] = _capturing(work, pace, speed)
    if work.passes and work.probed:
        found[PROBING] = _probing(work, pace, speed)
    found[FACTORIZING] = sum(_spectra(each, speed) for each in work.layers)
    factors = speed.product * sum(
        (_LIGHT if each.smaller >= _LARGE else 1) * _KEPT * each.smaller**2 * each.n for each in work.layers
    )
    copied = _COPIED * work.bytes
    if work.measured:
        products = speed.product * _KEPT * max((each.smaller * each.m * each.n for each in work.layers), default=0)
        found[MEASURING] = 2 * pace.load + (work.measured + 1) * work.few * pace.run + work.measured * products
    if work.trials:
        once = pace.load + work.select * (pace.read + pace.run)  # what the original says is recalled
        each = factors + copied + pace.load + work.select * (pace.run + _COMPARED)
        found[SCORING] = once + work.trials * each
    if work.report is not None:
        found[REWRITING] = factors + copied
        if work.refits:
            found[REFITTING] = _refitting(work, pace, speed, factors + copied)
        found[SAVING] = copied
        found[VERIFYING] = 3 * copied + 2 * pace.load + work.report * _compared(pace)
        found[TIMING] = _timing(pace)
    return found


def forecast_comparison(samples: int, pace: Pace, inside: int = 0) -> dict[str, float]:
    """Seconds by phase of comparing two models on so many samples, and what is inside them on some of these."""
    found = {COMPARING: samples * _compared(pace), TIMING: _timing(pace)}
    if inside:
        found[LOOKING_INSIDE] = 2 * pace.load + inside * (pace.read + _INSIDE * pace.run)
    return found


def _compared(pace: Pace) -> float:
    """Both models on one sample."""
    return pace.read + 2 * pace.run + _COMPARED


def _timing(pace: Pace) -> float:
    """One run of each before, and three at least of those that count."""
    return max(_LATENCY, 8 * pace.run)


def _capturing(work: Work, pace: Pace, speed: Speed) -> float:
    """A forward pass for each group of layers, and what every row adds to the moments."""
    added = speed.product * sum(each.rows * moments(each) for each in work.layers)
    return work.passes * (pace.load + work.fit * (pace.read + pace.run)) + work.fit * added


def _probing(work: Work, pace: Pace, speed: Speed) -> float:
    """One forward pass for the outputs; forward and back is worth three, for every probe (methods.md §3.4)."""
    added = speed.product * work.probes * sum(each.rows * _gradients(each) for each in work.layers)
    run = work.probed * (pace.read + (1 + 3 * work.probes) * pace.run)
    return work.passes * (_LOADS_OF_GRADIENTS * pace.load + run) + work.probed * added


def _refitting(work: Work, pace: Pace, speed: Speed, made: float) -> float:
    """Both models up to the layers of a group, from where they were before; then a candidate, which is scored.

    The original goes on from one group to the next, the candidate from the one before, which has changed.
    """
    paired = work.refit + work.select
    once = pace.load + work.select * (pace.read + pace.run)
    share = min(1.0, _PARTS / work.refits)
    each = 3 * pace.load + paired * (pace.read + share * pace.run) + made + work.select * (pace.run + _COMPARED)
    added = speed.product * work.refit * sum(one.rows * (one.smaller + one.n) * one.n for one in work.refitted)
    apart = _WAYS * sum(_spectra(replace(one, factors=1), speed) + speed.product * one.n**3 for one in work.refitted)
    return once + work.refits * each + added + apart


def moments(layer: Extent) -> int:
    """Multiply-adds that a row costs: W x, its second moment and the sketch, or the moment of x where n is smaller."""
    if layer.m <= layer.n:
        return layer.m * layer.n + layer.m**2 + _SKETCH * layer.n
    return layer.n**2


def _gradients(layer: Extent) -> int:
    """Multiply-adds that a row of gradients costs, which goes through W where n is smaller."""
    return layer.m**2 if layer.m <= layer.n else layer.m * layer.n + layer.n**2


def _spectra(layer: Extent, speed: Speed) -> float:
    """All factors of a layer: r³ for what happens on the smaller side, m·n·r to get there and back."""
    one = speed.spectrum * layer.smaller**3 + speed.product * layer.m * layer.n * layer.smaller
    one *= _LIGHT if layer.smaller >= _LARGE else 1
    return one * (1 + _OTHER_FACTORS * (layer.factors - 1))
