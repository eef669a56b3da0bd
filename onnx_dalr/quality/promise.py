"""A promise of time, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_dalr.quality.evaluate import Latency
from onnx_dalr.quality.intervals import Estimate


@dataclass(frozen=True)
class Promise:
    """At most a share of the original's time.

    Attributes:
        asked: The share.
        measured: What it is on the written file, with its 95 % interval.
        met: The share that was asked for is in the interval, or above it.
    """

    asked: float
    measured: Estimate
    met: bool


def promise_of(asked: float, latency: Latency) -> Promise:
    """What a measurement says of a promise: it is broken where it is missed by more than noise."""
    measured = latency.share
    return Promise(asked, measured, measured.low <= asked)
