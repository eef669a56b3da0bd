"""Who runs the passes over the fit samples: this process, or others that each run a part of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.capture import Capture, capture
from onnx_dalr.learn.probes import Probed, add_metric
from onnx_dalr.learn.thinning import Thinner
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.sets import SampleSet, fed
from onnx_dalr.session.session import Runtime

Advance = Callable[[int], None]
"""Told of samples done."""


@dataclass(frozen=True)
class Looking:
    """What a pass looks at. It is small, and can be sent.

    Attributes:
        layers: The layers.
        method: Name of the method, which says what sums are kept.
        metric: Room is left for gradients.
        rounded: Names of the layers whose numbers may be rounded.
        mask_input: Model input that marks padding.
    """

    layers: tuple[Layer, ...]
    method: str
    metric: bool
    rounded: frozenset[str]
    mask_input: str | None


@dataclass(frozen=True, eq=False)
class Captured:
    """What a pass over the fit samples, or over a part of them, learned.

    Attributes:
        capture: The statistics.
        digests: Of the samples.
    """

    capture: Capture
    digests: tuple[str, ...]


class Passes(Protocol):
    """Runs the fit samples through the model."""

    def capture(self, looking: Looking, fit: SampleSet, advance: Advance) -> Captured:
        """Sums up what each layer sees.

        Raises:
            InputError: As `learn.capture.capture`; or a sample cannot be read.
        """
        ...

    def probe(
        self, looking: Looking, statistics: dict[str, Statistics], fit: SampleSet, task: Task, advance: Advance
    ) -> Probed:
        """Adds to the statistics what the layers' outputs do to the network, as `learn.probes.add_metric`."""
        ...


@dataclass(frozen=True, eq=False)
class Here:
    """The passes in this process.

    Attributes:
        model: The original.
        runtime: Where it runs.
    """

    model: Model
    runtime: Runtime

    def capture(self, looking: Looking, fit: SampleSet, advance: Advance) -> Captured:
        """All of the samples."""
        return self.capture_part(looking, fit, advance, (0, len(fit)))

    def capture_part(self, looking: Looking, part: SampleSet, advance: Advance, place: tuple[int, int]) -> Captured:
        """Some of the samples.

        Args:
            looking: At what.
            part: The samples.
            advance: Told of samples done.
            place: How many samples come before them, and how many there are in all.

        Raises:
            InputError: As `capture`.
        """
        digests: list[str] = []
        first, samples = place
        found = capture(
            self.model,
            looking.layers,
            METHODS[looking.method],
            fed(part, advance, digests),
            device=self.runtime,
            mask_input=looking.mask_input,
            metric=looking.metric,
            rounded=lambda layer: layer.name in looking.rounded,
            thinner=Thinner(samples, part.size_of, first),
            whole=len(part) == samples,
        )
        return Captured(found, tuple(digests))

    def probe(
        self, looking: Looking, statistics: dict[str, Statistics], fit: SampleSet, task: Task, advance: Advance
    ) -> Probed:
        """All of the samples that are probed."""
        return add_metric(
            self.model,
            looking.layers,
            statistics,
            fit,
            task,
            device=self.runtime,
            mask_input=looking.mask_input,
            advance=advance,
        )


def adopt_metric(held: Mapping[str, Statistics], probed: Mapping[str, Statistics], layers: Sequence[Layer]) -> None:
    """Puts gradients that were summed up elsewhere into the statistics of these layers, in place of their own."""
    for layer in layers:
        mine, theirs = held[layer.name], probed[layer.name]
        mine.metric = theirs.metric
        mine.metric_rows, mine.metric_probes = theirs.metric_rows, theirs.metric_probes
        mine.metric_power, mine.metric_spread = theirs.metric_power, theirs.metric_spread
