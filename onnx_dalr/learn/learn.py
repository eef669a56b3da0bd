"""The fit samples become Statistics, and these Spectra: as many layers at a time as memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from onnx_dalr.factorize import KEPT, Method, Settings, Statistics
from onnx_dalr.factorize.formats import FORMATS, rounding
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.learn.capture import capture, groups_within, has_room_for_metric
from onnx_dalr.learn.probes import MOST_SAMPLES, add_metric
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.learn.trust import DEFAULT, names_of_factors, trusts
from onnx_dalr.progress import CAPTURING, FACTORIZING, PROBING, numbered
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import Sets, fed, fingerprint
from onnx_dalr.session.memory import memory_limit

STATISTICS_FLOOR = 1 << 30
"""Bytes of statistics that are always allowed at a time; above, as much as the model itself."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What the fit samples taught.

    Attributes:
        by_factors: Spectra, by the name of the factors, then by layer name. "default" is always there; others, to
            choose from on the select samples, where there were too few samples to trust everything they say.
        rows: Rows behind each, by layer name.
        digests: Of the fit samples.
        statistics: By layer name; empty where they were not to be kept.
        passes: Forward passes over the fit samples it took beyond the first.
        notes: What a user should know.
    """

    by_factors: dict[str, dict[str, Spectra]]
    rows: dict[str, int]
    digests: frozenset[str]
    statistics: Mapping[str, Statistics]
    passes: int
    notes: tuple[str, ...]

    def of(self, layer: str, factors: str = DEFAULT) -> Spectra:
        """Of a layer with factors by name; where it has enough samples there is one name, the default."""
        return self.by_factors.get(factors, {}).get(layer) or self.by_factors[DEFAULT][layer]

    @property
    def calibration(self) -> str:
        """Fingerprint of the fit samples."""
        return fingerprint(self.digests)


def learn(context: Context, layers: Sequence[Layer], sets: Sets, task: Task | None, *, keep: bool = False) -> Learned:
    """Statistics and from them the Spectra of every layer, in as few passes over the samples as memory allows.

    Args:
        context: Of the run.
        layers: The layers to look at.
        sets: Of which the fit samples are run.
        task: What the outputs are; None for a model without any to seed gradients at.
        keep: Hold on to the statistics.
    """
    method, metric = context.options.method, context.options.wants_metric and task is not None
    groups = groups_of(context, layers, metric=metric)
    kept: dict[str, Statistics] = {}
    learned = Learned({}, {}, frozenset(), kept, 0, ())
    for number, group in enumerate(groups, start=1):
        weighed = metric and has_room_for_metric(group, method)
        part = (number, len(groups))
        digests: list[str] = []
        with context.phase("capture"), context.progress.stage(numbered(CAPTURING, *part), len(sets.fit)) as advance:
            captured = capture(
                context.original,
                group,
                method,
                fed(sets.fit, advance, digests),
                device=context.options.runtime,
                mask_input=sets.mask_input,
                metric=weighed,
            )
        statistics, notes, extra = captured.statistics, captured.notes, 0
        if metric and not weighed:
            notes = (*notes, f"{group[0].name!r} has no output metric: its gradients do not fit into memory")
        if weighed and statistics:
            assert task is not None
            few = min(len(sets.fit), MOST_SAMPLES)
            with context.phase("metric"), context.progress.stage(numbered(PROBING, *part), few) as advance:
                probed = add_metric(
                    context.original,
                    group,
                    statistics,
                    sets.fit,
                    task,
                    device=context.options.runtime,
                    mask_input=sets.mask_input,
                    advance=advance,
                )
            notes, extra = (*notes, *probed.notes), probed.passes
            # What is kept says what there is: halves add up to the whole only if a lost metric is lost for the sum.
            for lost in (each for each in statistics.values() if not each.metric_probes):
                lost.drop_metric()
        learned.rows.update((name, each.count) for name, each in statistics.items())
        kept.update(statistics if keep else {})
        add_spectra(context, group, statistics, learned.by_factors, part=part, keep=keep)
        learned = replace(
            learned, digests=frozenset(digests), passes=learned.passes + extra, notes=(*learned.notes, *notes)
        )
    return learned


def groups_of(context: Context, layers: Sequence[Layer], *, metric: bool) -> list[list[Layer]]:
    """The layers in groups, each looked at in one pass over the samples: as many at a time as memory allows."""
    limit = max(STATISTICS_FLOOR, context.original.size)
    return groups_within(layers, context.options.method, min(memory_limit(), limit), metric=metric)


def learn_from(context: Context, layers: Sequence[Layer], stats: StatisticsSet) -> Learned:
    """Spectra from statistics that are there already; no sample is run."""
    learned = Learned({}, {}, stats.samples, {}, 0, stats.notes)
    learned.rows.update((layer.name, stats.facts(layer.name).rows) for layer in layers if layer.name in stats.layers)
    add_spectra(context, layers, stats.layers, learned.by_factors)
    return replace(learned, statistics=stats.layers)


def add_spectra(
    context: Context,
    layers: Sequence[Layer],
    statistics: Mapping[str, Statistics],
    into: dict[str, dict[str, Spectra]],
    *,
    part: tuple[int, int] = (1, 1),
    keep: bool = True,
) -> None:
    """Takes layers apart, with all factors there are to choose from, and adds their Spectra to those of others.

    Args:
        context: Of the run.
        layers: The layers.
        statistics: By layer name; layers without any are left out.
        into: Factors' name → layer name → Spectra.
        part: Which group of layers this is, and of how many.
        keep: Leave the statistics as they are; else one layer's at a time is let go.
    """
    method, formats = context.options.method, context.options.formats
    present = [layer for layer in layers if layer.name in statistics]
    total = sum(len(names_of_factors(context, statistics[layer.name])) for layer in present)
    # One BLAS thread: two on a busy machine take many times as long for an eigendecomposition (methods.md §7.2).
    with (
        context.phase("factorize"),
        context.progress.stage(numbered(FACTORIZING, *part), total) as advance,
        threadpool_limits(1, user_api="blas"),
    ):
        for layer in present:
            W = matrix(context.original, layer)
            held = statistics[layer.name]
            if not keep and isinstance(statistics, dict):
                del statistics[layer.name]
            for name, settings in trusts(context, W, held).items():
                found = spectra_of(layer, W, held, method, settings, formats)
                into.setdefault(name, {})[layer.name] = found
                advance(1)


def spectra_of(
    layer: Layer,
    W: NDArray[Any],
    held: Statistics,
    method: Method,
    settings: Settings,
    formats: Sequence[str] = (KEPT,),
) -> Spectra:
    """What a layer loses in every structure and format, as exactly as its weight is known.

    Args:
        layer: The layer.
        W: Its weight, [m, n].
        held: Its statistics.
        method: Of the factorization.
        settings: Of the method.
        formats: That numbers may be stored in.
    """
    made = {one.name: one.decompose(W, layer.shape, held, method, settings) for one in layer.structures}
    values = W.reshape(layer.shape.dims)
    rounded = {name: rounding(FORMATS[name].encode(values, layer.dtype), values) for name in formats if name != KEPT}
    found = Spectra(made, rounded)
    return found.compact() if W.dtype == np.float32 else found
