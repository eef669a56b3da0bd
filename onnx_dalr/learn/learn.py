"""The fit samples become Statistics, and these Spectra: as many layers at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from onnx_dalr.factorize import Form, Need, Statistics
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.refit import LARGEST, least_rows
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.apart import add_spectra, joined_forms, make_ready, without_rows, workers_for
from onnx_dalr.learn.capture import groups_within, has_room_for_metric, needs_of
from onnx_dalr.learn.extent import in_small_batches
from onnx_dalr.learn.memo import Memo
from onnx_dalr.learn.passes import Here, Looking, Passes
from onnx_dalr.learn.probes import MOST_SAMPLES
from onnx_dalr.learn.statistics_set import StatisticsSet
from onnx_dalr.learn.trust import DEFAULT, gains_by_more
from onnx_dalr.progress import CAPTURING, PROBING, numbered
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import formats_of
from onnx_dalr.samples.sets import Sets, fed, fingerprint
from onnx_dalr.session.memory import memory_limit
from onnx_dalr.session.threads import blas_threads
from onnx_dalr.units import format_names

STATISTICS_FLOOR = 1 << 30
"""Bytes of statistics that are always allowed at a time; above, as much as the model itself."""

MOST_SUMS = 1 << 27
"""Bytes of statistics that are held on to for more samples to be added."""

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
        threads: To take layers apart with, where that waits until it is asked for.
        sums: By layer name, statistics of layers that gain by more samples, as far as `MOST_SUMS` takes them.
    """

    by_factors: dict[str, dict[str, Spectra]]
    rows: dict[str, int]
    digests: frozenset[str]
    statistics: Mapping[str, Statistics]
    passes: int
    notes: tuple[str, ...]
    made: Memo = field(default_factory=lambda: Memo(MEMO))
    gradients: dict[str, Statistics] | None = None
    threads: int = 1
    sums: dict[str, Statistics] = field(default_factory=dict)

    def make_ready(self, layers: Sequence[Layer], forms: Sequence[Form], factors: str) -> None:
        """Takes layers apart in what their forms, of these factors, are going to ask for."""
        make_ready(layers, [self.of(layer.name, factors) for layer in layers], forms, self.threads)

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
    waits: bool = False,
    sums_alone: bool = False,
    passes: Passes | None = None,
) -> Learned:
    """Statistics and from them the Spectra of every layer, in as few passes over the samples as memory allows.

    Args:
        context: Of the run.
        layers: The layers to look at.
        sets: Of which the fit samples are run.
        task: What the outputs are; None for a model without any to seed gradients at.
        keep: Hold on to the statistics.
        refit: Hold on to the metric of layers that may be refitted.
        waits: Take no layer apart before somebody asks; where memory takes the statistics of all at a time.
        sums_alone: Hold on to the statistics, and make no Spectra at all.
        passes: Who runs the samples; this process where left out.
    """
    passes = passes or Here(context.original, context.options.runtime)
    method, metric = context.options.method, context.options.wants_metric and task is not None
    looked_at = looked_at_in(context, layers)
    groups = groups_of(context, looked_at, metric=metric)
    kept: dict[str, Statistics] = {}
    threads = context.options.runtime.workers
    learned = Learned({}, {}, frozenset(), kept, 0, (), gradients={} if refit else None, threads=threads)
    if not looked_at:
        learned = replace(learned, digests=frozenset(_digests(sets)))
    for number, group in enumerate(groups, start=1):
        probed_in = [layer for layer in group if not _is_thinned(layer)]
        weighed = metric and bool(probed_in) and has_room_for_metric(group, method)
        part = (number, len(groups))
        fit = in_small_batches(context, group, sets.fit)
        looking = Looking(
            tuple(group),
            method.name,
            weighed,
            frozenset(layer.name for layer in group if _rounds(context, layer)),
            sets.mask_input,
        )
        width = workers_for(context, group)
        with (
            context.phase("capture"),
            blas_threads(width),
            context.progress.stage(numbered(CAPTURING, *part), len(sets.fit)) as advance,
        ):
            found = passes.capture(looking, fit, advance)
        captured = found.capture
        statistics, notes, extra = captured.statistics, captured.notes, 0
        light = [name for name, each in statistics.items() if Need.CHANNELS in each.needs]
        if light:
            notes = (*notes, _lighter_note(light))
        if metric and probed_in and not weighed:
            notes = (*notes, f"{probed_in[0].name!r} has no output metric: its gradients do not fit into memory")
        if weighed and any(layer.name in statistics for layer in probed_in):
            assert task is not None
            few = min(len(sets.fit), MOST_SAMPLES)
            with (
                context.phase("metric"),
                blas_threads(width),
                context.progress.stage(numbered(PROBING, *part), few) as advance,
            ):
                probing = replace(looking, layers=tuple(probed_in))
                probed = passes.probe(probing, statistics, sets.fit, task, advance)
            notes, extra = (*notes, *probed.notes), probed.passes
            # What is kept says what there is: halves add up to the whole only if a lost metric is lost for the sum.
            for lost in (statistics[layer.name] for layer in probed_in if layer.name in statistics):
                if not lost.metric_probes:
                    lost.drop_metric()
        picked = {layer.name for layer in group if layer.kind.picks}
        learned.rows.update((name, each.count) for name, each in statistics.items() if name not in picked)
        kept.update(statistics if keep or sums_alone else {})
        if sums_alone:
            learned = _told(learned, found.digests, extra, notes)
            continue
        if learned.gradients is not None:
            _keep_gradients(context, group, statistics, learned.gradients)
        _keep_sums(group, statistics, learned.sums)
        add_spectra(
            context, group, statistics, learned.by_factors, part=part, keep=keep, waits=waits and len(groups) == 1
        )
        learned = _told(learned, found.digests, extra, notes)
    return learned if sums_alone else _with_others(context, layers, learned)


def _told(learned: Learned, digests: Iterable[str], passes: int, notes: Iterable[str]) -> Learned:
    """With what a pass over the samples brought beside statistics."""
    return replace(learned, digests=frozenset(digests), passes=learned.passes + passes, notes=(*learned.notes, *notes))


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


def _keep_sums(layers: Sequence[Layer], statistics: Mapping[str, Statistics], into: dict[str, Statistics]) -> None:
    """Keeps what more samples may be added to, the smallest first."""
    present = [layer for layer in layers if layer.name in statistics and not (layer.in_one_piece or layer.kind.picks)]
    held = {layer.name: statistics[layer.name] for layer in present}
    few = [layer.name for layer in present if gains_by_more(layer, held[layer.name].count)]
    room = MOST_SUMS - sum(map(_bytes_of, into.values()))
    for name in sorted(few, key=lambda name: _bytes_of(held[name])):
        room -= _bytes_of(held[name])
        if room < 0:
            return
        into[name] = held[name]


def _bytes_of(held: Statistics) -> int:
    return Statistics.bytes_needed(held.m, held.n, held.needs, held.count, held.taps)


def learn_more(context: Context, layers: Sequence[Layer], learned: Learned, more: Sets, task: Task | None) -> Learned:
    """Spectra of layers from what was learned of them and from more samples, which alone are run.

    Args:
        context: Of the run.
        layers: Layers of which the sums are held.
        learned: With these sums.
        more: Of which the fit samples are run.
        task: What the outputs are.
    """
    added = learn(context, layers, more, task, sums_alone=True)
    total = {layer.name: _together(learned.sums[layer.name], added.statistics.get(layer.name)) for layer in layers}
    rows = {name: each.count for name, each in total.items()}
    found = replace(added, by_factors={}, rows=rows, statistics={})
    add_spectra(context, layers, total, found.by_factors, keep=False, waits=True)
    return found


def _together(held: Statistics, more: Statistics | None) -> Statistics:
    """The sums of both, as far as both keep them: gradients may have been lost in one."""
    if more is None:
        return held
    common = held.needs & more.needs
    return held.restricted(common) + more.restricted(common)


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
    return bool(joined_forms(layer, formats)) or (layer.can_be_read and _rounds(context, layer))


def _is_thinned(layer: Layer) -> bool:
    """Whether some rows of a layer stand for all: only rounding reads them."""
    return layer.in_one_piece and not layer.kind.picks


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
    threads = context.options.runtime.workers
    learned = Learned({}, {}, stats.samples, {}, 0, stats.notes, threads=threads)
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
