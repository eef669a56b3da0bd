"""The fit samples become Statistics, and these Spectra: as many layers at a time as memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from onnx_dalr.factorize import DENSE, Form, Method, Need, Settings, Statistics, metric_shrinkage
from onnx_dalr.factorize.formats import FORMATS, Format
from onnx_dalr.factorize.joined.by_use import BY_USE
from onnx_dalr.factorize.joined.table import Table, Use
from onnx_dalr.factorize.refit import LARGEST, least_rows
from onnx_dalr.factorize.rounding import Seen, losses
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures import Structure, taken_apart
from onnx_dalr.factorize.structures.whole import Whole
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.learn.capture import capture, groups_within, has_room_for_metric, needs_of
from onnx_dalr.learn.extent import in_small_batches
from onnx_dalr.learn.memo import Memo
from onnx_dalr.learn.probes import MOST_SAMPLES, add_metric
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.learn.thinning import Thinner
from onnx_dalr.learn.trust import DEFAULT, names_of_factors, trusts
from onnx_dalr.progress import CAPTURING, FACTORIZING, PROBING, numbered
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import formats_of
from onnx_dalr.samples.sets import Sets, fed, fingerprint
from onnx_dalr.session.memory import memory_limit
from onnx_dalr.units import format_names

STATISTICS_FLOOR = 1 << 30
"""Bytes of statistics that are always allowed at a time; above, as much as the model itself."""

MEMO = 1 << 29
"""Bytes of weights in forms that take long to make, which are remembered."""


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
        made: Layers in forms that took long to make.
        gradients: By layer name, of those that may be refitted: statistics that keep a metric, where there is one. None
            where nothing is going to be.
    """

    by_factors: dict[str, dict[str, Spectra]]
    rows: dict[str, int]
    digests: frozenset[str]
    statistics: Mapping[str, Statistics]
    passes: int
    notes: tuple[str, ...]
    made: Memo = field(default_factory=lambda: Memo(MEMO))
    gradients: dict[str, Statistics] | None = None

    def of(self, layer: str, factors: str = DEFAULT) -> Spectra:
        """Of a layer with factors by name; where it has enough samples there is one name, the default."""
        return self.by_factors.get(factors, {}).get(layer) or self.by_factors[DEFAULT][layer]

    @property
    def calibration(self) -> str:
        """Fingerprint of the fit samples."""
        return fingerprint(self.digests)


def learn(
    context: Context,
    layers: Sequence[Layer],
    sets: Sets,
    task: Task | None,
    *,
    keep: bool = False,
    refit: bool = False,
) -> Learned:
    """Statistics and from them the Spectra of every layer, in as few passes over the samples as memory allows.

    Args:
        context: Of the run.
        layers: The layers to look at.
        sets: Of which the fit samples are run.
        task: What the outputs are; None for a model without any to seed gradients at.
        keep: Hold on to the statistics.
        refit: Hold on to the metric of layers that may be refitted.
    """
    method, metric = context.options.method, context.options.wants_metric and task is not None
    looked_at = looked_at_in(context, layers)
    groups = groups_of(context, looked_at, metric=metric)
    kept: dict[str, Statistics] = {}
    learned = Learned({}, {}, frozenset(), kept, 0, (), gradients={} if refit else None)
    if not looked_at:
        learned = replace(learned, digests=frozenset(_digests(sets)))
    for number, group in enumerate(groups, start=1):
        probed_in = [layer for layer in group if not _is_thinned(layer)]
        weighed = metric and bool(probed_in) and has_room_for_metric(group, method)
        part = (number, len(groups))
        digests: list[str] = []
        fit = in_small_batches(context, group, sets.fit)
        with context.phase("capture"), context.progress.stage(numbered(CAPTURING, *part), len(sets.fit)) as advance:
            captured = capture(
                context.original,
                group,
                method,
                fed(fit, advance, digests),
                device=context.options.runtime,
                mask_input=sets.mask_input,
                metric=weighed,
                rounded=partial(_rounds, context),
                thinner=Thinner(len(fit), fit.size_of),
            )
        statistics, notes, extra = captured.statistics, captured.notes, 0
        light = [name for name, each in statistics.items() if Need.CHANNELS in each.needs]
        if light:
            notes = (*notes, _lighter_note(light))
        if metric and probed_in and not weighed:
            notes = (*notes, f"{probed_in[0].name!r} has no output metric: its gradients do not fit into memory")
        if weighed and any(layer.name in statistics for layer in probed_in):
            assert task is not None
            few = min(len(sets.fit), MOST_SAMPLES)
            with context.phase("metric"), context.progress.stage(numbered(PROBING, *part), few) as advance:
                probed = add_metric(
                    context.original,
                    probed_in,
                    statistics,
                    sets.fit,
                    task,
                    device=context.options.runtime,
                    mask_input=sets.mask_input,
                    advance=advance,
                )
            notes, extra = (*notes, *probed.notes), probed.passes
            # What is kept says what there is: halves add up to the whole only if a lost metric is lost for the sum.
            for lost in (statistics[layer.name] for layer in probed_in if layer.name in statistics):
                if not lost.metric_probes:
                    lost.drop_metric()
        picked = {layer.name for layer in group if layer.kind.picks}
        learned.rows.update((name, each.count) for name, each in statistics.items() if name not in picked)
        kept.update(statistics if keep else {})
        if learned.gradients is not None:
            _keep_gradients(context, group, statistics, learned.gradients)
        add_spectra(context, group, statistics, learned.by_factors, part=part, keep=keep)
        learned = replace(
            learned, digests=frozenset(digests), passes=learned.passes + extra, notes=(*learned.notes, *notes)
        )
    return _with_others(context, layers, learned)


def _keep_gradients(
    context: Context, layers: Sequence[Layer], statistics: Mapping[str, Statistics], into: dict[str, Statistics]
) -> None:
    """Keeps the metric of layers that may be refitted, as far as no more is held than statistics take at a time."""
    limit = statistics_limit(context)
    held = sum(Statistics.bytes_needed(one.m, one.n, one.needs, 0) for one in into.values())
    for layer in layers:
        if layer.in_one_piece or layer.name not in statistics:
            continue
        found = statistics[layer.name]
        needs = found.needs & Need.METRIC
        needed = Statistics.bytes_needed(layer.m, layer.n, needs, 0)
        if layer.n <= LARGEST and found.count >= least_rows(layer.n) and held + needed <= limit:
            into[layer.name] = found.restricted(needs)
            held += needed


def statistics_limit(context: Context) -> int:
    """Bytes of statistics at a time."""
    return min(memory_limit(), max(STATISTICS_FLOOR, context.original.size))


def _lighter_note(names: Sequence[str]) -> str:
    """What is made do with where all that a kernel sees at once is too much (methods.md §6.6)."""
    shown = format_names(list(map(repr, names)))
    return f"{shown}: how what the kernel sees goes together does not fit into memory; taken apart as out and in alone"


def _digests(sets: Sets) -> list[str]:
    """Of the fit samples, of which none is run."""
    found: list[str] = []
    for _ in fed(sets.fit, lambda count: None, found):
        pass
    return found


def _rounds(context: Context, layer: Layer) -> bool:
    """Whether numbers of a layer may be rounded by what they will multiply."""
    return any(FORMATS[name].reads_moment for name in formats_of(layer, context.options.weights))


def looked_at_in(context: Context, layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose rows are captured: of those in one piece only the ones of which something reads them."""
    return [layer for layer in layers if not layer.in_one_piece or _reads_rows(context, layer)]


def _reads_rows(context: Context, layer: Layer) -> bool:
    """Whether rounding or a joined form reads the rows of a layer in one piece."""
    formats = formats_of(layer, context.options.weights)
    return bool(_joined_forms(layer, formats)) or (layer.can_be_read and _rounds(context, layer))


def _is_thinned(layer: Layer) -> bool:
    """Whether some rows of a layer stand for all: only rounding reads them."""
    return layer.in_one_piece and not layer.kind.picks


def _joined_forms(layer: Layer, formats: Sequence[str]) -> list[Form]:
    return [form for joined in layer.joined for form in joined.forms(layer.shape, formats)]


def groups_of(context: Context, layers: Sequence[Layer], *, metric: bool) -> list[list[Layer]]:
    """The layers in groups, each looked at in one pass over the samples: as many at a time as memory allows."""
    limit = statistics_limit(context)
    looked_at = looked_at_in(context, layers)
    rounded = partial(_rounds, context)
    return groups_within(looked_at, context.options.method, limit, metric=metric, rounded=rounded) if looked_at else []


def needs_in(context: Context, layer: Layer) -> Need:
    """The statistics that a run reads of a layer."""
    options = context.options
    return needs_of(layer, options.method, metric=options.wants_metric, rounded=_rounds(context, layer))


def learn_from(context: Context, layers: Sequence[Layer], stats: StatisticsSet) -> Learned:
    """Spectra from statistics that are there already; no sample is run."""
    learned = Learned({}, {}, stats.samples, {}, 0, stats.notes)
    looked_at = [layer for layer in looked_at_in(context, layers) if layer.name in stats.layers]
    known = {layer.name: stats.facts(layer.name) for layer in looked_at}
    looked_at = [one for one in looked_at if not _is_thinned(one) or Need.BLOCKS in known[one.name].needs]
    ranked = [layer.name for layer in looked_at if not layer.kind.picks]
    learned.rows.update((name, known[name].rows) for name in ranked)
    add_spectra(context, looked_at, stats.layers, learned.by_factors)
    return _with_others(context, layers, replace(learned, statistics=stats.layers))


def _with_others(context: Context, layers: Sequence[Layer], learned: Learned) -> Learned:
    """Also the spectra of layers in one piece of whose rows nothing is known."""
    known = learned.by_factors.setdefault(DEFAULT, {})
    known.update(without_rows(context, [layer for layer in layers if layer.in_one_piece and layer.name not in known]))
    return learned


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
    method, weights = context.options.method, context.options.weights
    present = [layer for layer in layers if layer.name in statistics]
    total = sum(_ways(context, layer, statistics[layer.name]) for layer in present)
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
            formats = [FORMATS[name] for name in formats_of(layer, weights)]
            if layer.kind.picks:
                into.setdefault(DEFAULT, {})[layer.name] = _by_use(layer, W, held, formats)
                advance(1)
                continue
            seen = _seen(held, formats)
            rounded, apart = losses(formats, W.reshape(layer.shape.dims), layer.dtype, seen)
            seen = seen.compact() if seen is not None and W.dtype == np.float32 else seen
            if layer.in_one_piece:
                into.setdefault(DEFAULT, {})[layer.name] = Spectra({DENSE: Whole()}, rounded=rounded, seen=seen)
                advance(1)
                continue
            for name, settings in trusts(context, W, held).items():
                found = spectra_of(layer, W, held, method, settings)
                into.setdefault(name, {})[layer.name] = replace(found, rounded=rounded, rounded_apart=apart, seen=seen)
                advance(1)


def _ways(context: Context, layer: Layer, held: Statistics) -> int:
    """How many factors by name there are to choose from."""
    return 1 if layer.kind.picks else len(names_of_factors(context, held))


def _by_use(layer: Layer, W: NDArray[Any], held: Statistics, formats: Sequence[Format]) -> Spectra:
    """Of a table of which it is known how often each of its rows is picked."""
    use = Use.of(held, metric_shrinkage(W.T, held) if held.metric_probes else 1.0)
    names = [format.name for format in formats]
    table = Table.of(W, use, _joined_forms(layer, names), layer.dtype, formats)
    return Spectra({DENSE: Whole()}, table.by_format, joined={BY_USE: table})


def without_rows(context: Context, layers: Sequence[Layer]) -> dict[str, Spectra]:
    """Spectra of layers in one piece of whose rows nothing is known: they count by their weights."""
    found = {}
    for layer in layers:
        values = matrix(context.original, layer).reshape(layer.shape.dims)
        formats = (FORMATS[name] for name in formats_of(layer, context.options.weights))
        found[layer.name] = Spectra({DENSE: Whole()}, *losses(formats, values, layer.dtype, None))
    return found


def _seen(held: Statistics, formats: Sequence[Format]) -> Seen | None:
    """What enters a layer, where rounding reads that and it is known."""
    moment = held.moment if any(format.reads_moment for format in formats) else None
    return None if moment is None else Seen(moment, held.mean)


def _says_enough(structure: Structure, layer: Layer, held: Statistics, method: Method) -> bool:
    """Whether statistics are what a structure reads: all of it, or what it makes do with."""
    lighter = structure.lighter_needs(layer.shape, method)
    wanted = [structure.needs(layer.shape, method), *([] if lighter is None else [lighter])]
    return any(not need & ~held.needs for need in wanted)


def spectra_of(layer: Layer, W: NDArray[Any], held: Statistics, method: Method, settings: Settings) -> Spectra:
    """What a layer loses in every structure, as exactly as its weight is known.

    Args:
        layer: The layer.
        W: Its weight, [m, n].
        held: Its statistics.
        method: Of the factorization.
        settings: Of the method.
    """
    structures = (one for one in layer.structures if _says_enough(one, layer, held, method))
    made = taken_apart(structures, W, layer.shape, held, method, settings)
    return Spectra(made).compact() if W.dtype == np.float32 else Spectra(made)
