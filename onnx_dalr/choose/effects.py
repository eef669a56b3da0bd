"""What each layer does to the network's output, in the task's unit: by its metric, or measured where it has none.

Both are the distortion of the output with only that layer compressed (methods.md §4.1). The metric's is to second
order, for every form and without a run. The measured one is known in the forms that were looked at; between them, a
tail scaled by distortion/tail is a curve in the same unit, which tails of different layers, errors of different things,
are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.choose.allocate import Curve, Forms, Menu
from onnx_dalr.choose.space import SearchSpace, family, has_one_rank
from onnx_dalr.factorize import Form
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.overridable import Override
from onnx_dalr.progress import MEASURING, Progress, Silent, numbered
from onnx_dalr.quality.evaluate import Labelled, SideBySide, Task
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.session.session import Session

_SMALLEST = 1e-12
MOST_SAMPLES = 32
FEWEST_SAMPLES = 4
TIMES_MEASURED = 4  # each layer alone, at most; a budget and a tolerance ask for three
MOST_BYTES = 5e11  # of weights read by all passes together
WORK = 2e12  # multiply-adds in the eligible layers that all passes together may take


class MetricEffects:
    """Effects by the output metric where there is one; for the other layers, measured on the same scale."""

    def __init__(self, space: SearchSpace, measuring: Callable[[Sequence[bool]], MeasuredEffects] | None) -> None:
        """Takes the space, and what measures the layers marked; None where that is unaffordable."""
        self._space = space
        self._known = known_effects(space)
        missing = [known is None for known in self._known]
        self.measured = measuring(missing) if measuring is not None and any(missing) else None

    def near(self, forms: Forms) -> None:
        """Measures the layers without a metric in these forms."""
        if self.measured is not None:
            self.measured.measure(forms)

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion in each form; by the layer's own error where nothing else is known."""
        others = self._by_own_error() if self.measured is None else self.measured.curves()
        return [other if known is None else known for known, other in zip(self._known, others, strict=True)]

    def _by_own_error(self) -> list[Curve]:
        """By layer: the share of its own output that is lost, at the rate at which such shares become distortion.

        All curves of a budget have to be in one unit: shares beside a KL divergence of 1e-4 would make a layer without
        a metric ten thousand times as precious as the others. The rate differs between layers, and its median over
        those with a metric is the least wrong for one without. Where these are few, and so the median a poor guess, it
        makes shares of theirs: then nearly all layers are compared by their own errors. Without any, all are.
        """
        tails = self._space.tails
        pairs = [(known, tail) for known, tail in zip(self._known, tails, strict=True) if known is not None]
        rates = [known.sum() / tail.sum() for known, tail in pairs if known.sum() > 0 and tail.sum() > 0]
        rate = float(np.median(rates)) if rates else 1.0
        return [rate * tail for tail in tails]


def known_effects(space: SearchSpace) -> list[Curve | None]:
    """By layer: effects by its output metric; None where it has none."""
    curves = space.curves(Spectra.effect) if space.learned is not None else []
    return [
        curve if (spectra := space.spectra(layer)) is not None and spectra.has_effect else None
        for layer, curve in zip(space.layers, curves, strict=True)
    ]


def all_known_effects(space: SearchSpace) -> list[Curve] | None:
    """Effects of every layer by its output metric; None where any layer has none."""
    if space.learned is None:
        return None
    found = [curve for curve in known_effects(space) if curve is not None]
    return found if len(found) == len(space.layers) else None


class MeasuredEffects:
    """Runs the model with one layer at a time replaced, on a few samples.

    Attributes:
        passes: Forward passes over the samples so far.
    """

    def __init__(
        self,
        session: Session,
        overrides: Mapping[str, Override],
        layers: Sequence[Layer],
        menus: Sequence[Menu],
        spectra: Sequence[Spectra],
        replaced: Callable[[Layer, Form], tuple[NDArray[Any], NDArray[Any]]],
        batches: Sequence[Labelled],
        task: Task,
        wanted: Sequence[bool] | None = None,
        mask_input: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Takes a session on the model with its weights as inputs, and the few batches to measure on.

        `spectra` are those of the layers, `replaced` gives (W', shift) of a layer in a form, and `wanted` marks the
        layers to measure; None is all.
        """
        self._progress, self._times = progress or Silent(), 0
        self._wanted = [True] * len(layers) if wanted is None else list(wanted)
        self._session, self._overrides, self._task = session, overrides, task
        self._layers, self._menus, self._batches = layers, menus, batches
        self._spectra, self._replaced = spectra, replaced
        self._before = [session.run(batch) for _, batch in batches]
        self._points: list[dict[int, float]] = [{} for _ in layers]
        self._padding = [kept_in(batch, mask_input) for _, batch in batches]
        self.passes = 1

    def measure(self, forms: Forms) -> None:
        """Measures every layer alone in its form, in the largest that saves where it is untouched.

        Points that are known are not measured again.
        """
        each = zip(self._layers, self._menus, self._spectra, forms, self._points, self._wanted, strict=True)
        self._times += 1
        name = numbered(MEASURING, self._times, max(self._times, TIMES_MEASURED))
        with self._progress.stage(name, sum(self._wanted)) as advance:
            for layer, menu, spectra, form, points, wanted in each:
                place = menu.index(form) if not form.untouched else _typical(menu)
                for at in (place, *_landmarks(menu, spectra)) if wanted else ():
                    tail = 0.0 if menu[at].untouched else spectra.tail(menu[at])
                    if at not in points and tail > 0:
                        points[at] = max(self._distortion(layer, menu[at]), _SMALLEST) / tail
                advance(int(wanted))

    def curves(self) -> list[Curve]:
        """By layer: predicted distortion in each form of its menu."""
        each = zip(self._menus, self._spectra, self._points, strict=True)
        return [_scaled(menu, spectra, points) for menu, spectra, points in each]

    def _distortion(self, layer: Layer, form: Form) -> float:
        replaced: dict[str, Any] = self._overrides[layer.name].feed(*self._replaced(layer, form))
        comparison = SideBySide(self._task, None)
        for (indices, batch), before, padding in zip(self._batches, self._before, self._padding, strict=True):
            comparison.add(indices, before, self._session.run(batch | replaced), padding)
        self.passes += 1
        return comparison.distortion() if comparison.finite else float("inf")


def _typical(menu: Menu) -> int:
    """Place of the largest rank of the first structure and format; without a rank, of the coarsest format."""
    first = [place for place, form in enumerate(menu) if form.rank and family(form) == family(menu[0])]
    return first[-1] if first else max(len(menu) - 2, 0)


def _landmarks(menu: Menu, spectra: Spectra) -> list[int]:
    """Places of what joined structures have to be known at: a rank says less of them than of others."""
    found: list[int] = []
    for name, losses in spectra.joined.items():
        forms = [form for form in menu if form.structure == name]
        found += [menu.index(form) for form in losses.landmarks(forms)] if forms else []
    return found


def _scaled(menu: Menu, spectra: Spectra, points: Mapping[int, float]) -> Curve:
    """Tails times distortion/tail: of each structure and format, interpolated between the ranks that were measured.

    The ratio drifts slowly with the rank, over orders of magnitude of it, so that both axes are logarithms. Where
    nothing of a structure and format was measured, the ratio is the geometric mean of what was.
    """
    tails = np.array([0.0 if form.untouched else spectra.tail(form) for form in menu])
    if not points:
        return tails
    scale = np.full(len(menu), float(np.mean(np.log(list(points.values())))))
    for name in {family(menu[place]) for place in points}:
        places = [place for place, form in enumerate(menu) if family(form) == name and not form.untouched]
        known = [place for place in places if place in points]
        along = np.log([math.prod(menu[place].rank) for place in places])
        ranks = np.log([math.prod(menu[place].rank) for place in known])
        if not has_one_rank(menu[places[0]]):  # its ranks are of several kinds, and its tails of one
            along, ranks = np.log(tails[places]), np.log(tails[known])
        by_rank = np.argsort(ranks)
        known, ranks = [known[at] for at in by_rank], ranks[by_rank]
        scale[places] = np.interp(along, ranks, np.log([points[place] for place in known]))
    scaled = np.multiply(tails, np.exp(scale), out=np.zeros(len(tails)), where=tails > 0)  # 0·∞ is 0: exact
    return np.asarray(scaled)


def is_affordable(layers: Sequence[Layer], model_bytes: int) -> bool:
    """Whether every layer can be tried alone a few times: each pass reads the whole model, so it grows with both."""
    return TIMES_MEASURED * len(layers) * model_bytes <= MOST_BYTES


def samples_for(layers: Sequence[Layer], rows_per_sample: Mapping[str, float]) -> int:
    """How many samples to measure on so that the work stays bounded, the same on every machine."""
    per_sample = sum(rows_per_sample[layer.name] * layer.m * layer.n for layer in layers)
    return int(np.clip(WORK / max(per_sample * TIMES_MEASURED * len(layers), 1), FEWEST_SAMPLES, MOST_SAMPLES))
