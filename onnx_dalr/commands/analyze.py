"""`analyze`: everything up to the Plan. The model's layers, what the samples say of them, and plans made from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_dalr.ahead.announce import announce_size, announce_time
from onnx_dalr.choose.analysis import Analysis, check_ranks
from onnx_dalr.choose.feasible import check_confidence, check_target
from onnx_dalr.errors import InputError, NothingToGainError
from onnx_dalr.graph.layers import Layer, Skipped, find
from onnx_dalr.graph.storage.model import Model, input_specs, metadata
from onnx_dalr.learn.capture import needs_of
from onnx_dalr.learn.gathering import gathered
from onnx_dalr.learn.learn import learn, learn_from
from onnx_dalr.learn.statistics_set import METRIC_TASK, StatisticsSet, load_statistics
from onnx_dalr.look.first import FirstLook, look
from onnx_dalr.quality.evaluate import Task
from onnx_dalr.request.context import Run
from onnx_dalr.request.options import Options
from onnx_dalr.request.selection import check_pattern, left_out, select
from onnx_dalr.request.target import Target, make_target
from onnx_dalr.request.without_samples import check_given
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened
from onnx_dalr.session.session import provider_line

if TYPE_CHECKING:
    pass

_MASK_INPUT = "mask input"


@contextmanager
def analysis_of(
    run: Run,
    options: SampleOptions,
    *,
    stats: Sequence[Path] = (),
    target: Target | None = None,
    only: frozenset[str] | None = None,
    keep: bool = False,
    thumbnails: tuple[Path, bool] | None = None,
    written: bool = False,
) -> Iterator[Analysis]:
    """Finds the layers, opens the samples and learns from the fit samples, or from statistics on disk in their place.

    Args:
        run: The run.
        options: The samples; where there are statistics, those of `eval` alone, or none.
        stats: Files of statistics that take the place of the fit samples.
        target: Refused before anything is run where the sizes of the layers say so; None for none yet.
        only: Names of the layers to look at, None for all.
        keep: Hold on to the statistics.
        thumbnails: Where to draw the fit images, and whether a file there may be replaced.
        written: A model is going to be made: the time that takes is part of what is said of it before the work.

    Raises:
        InputError: Samples, statistics or options that cannot be used.
        TargetError: The target cannot be met.
        NothingToGainError: No layer is eligible, or all stay dense.
    """
    layers, skipped = _choose_layers(run.original, target, run.options, only)
    with ExitStack() as stack:
        if options.calib is None and not stats:
            raise InputError("there are no samples", "give --calib PATH, or --stats FILE")
        if options.calib is None:
            check_given(run.options, options, thumbnails=thumbnails is not None)
        sets = None
        if options.calib is not None or options.eval is not None:
            sets = stack.enter_context(opened(options, input_specs(run.original.proto)))
        _announce(run, sets, from_files=bool(stats))
        if only is None:
            announce_size(run, target or make_target(), layers)
        if target is not None:
            check_target(run, target, layers, select=sets is not None and len(sets.select) > 0)
        if thumbnails is not None and sets is not None:
            _draw_thumbnails(sets, *thumbnails)
        # No name here for what was learned: while it waits, this frame would hold what the analysis is told to forget.
        yield _learned(run, layers, skipped, sets, stats=stats, target=target, keep=keep, written=written)


def _learned(
    run: Run,
    layers: list[Layer],
    skipped: list[Skipped],
    sets: Sets | None,
    *,
    stats: Sequence[Path],
    target: Target | None,
    keep: bool,
    written: bool,
) -> Analysis:
    """The analysis, from the fit samples or from statistics on disk."""
    task, provider = None, "none"
    if sets is not None:
        found = _look(run, sets)
        task, sets, provider = found.task, found.sets, found.provider
        if target is not None:
            check_confidence(target, task, sets)
        announce_time(run, target, layers, sets, task, found.pace, given=bool(stats), written=written)
    settings = _settings(sets, task, run.options)
    if stats:
        held = _gathered(run, layers, stats, sets, settings)
        settings, learned = held.settings, learn_from(run, layers, held)
    else:
        assert sets is not None
        learned = learn(run, layers, sets, task, keep=keep)
    run.notes.extend(learned.notes)
    unreached = [layer for layer in layers if layer.name not in learned.rows]
    if unreached:
        layers = [layer for layer in layers if layer.name in learned.rows]
        skipped = [*skipped, *(left_out(layer, "no row of the samples reached it") for layer in unreached)]
        if target is not None:
            check_target(run, target, layers, select=sets is not None and len(sets.select) > 0)
    return Analysis(run, layers, skipped, sets, learned, task, provider, settings)


def _gathered(
    run: Run, layers: Sequence[Layer], stats: Sequence[Path], sets: Sets | None, settings: dict[str, str]
) -> StatisticsSet:
    """The statistics of the files, added up; without samples of our own they must only agree with each other.

    Images that are only reported on must be prepared as those were that the statistics are of.
    """
    method = run.options.method
    first = load_statistics(stats[0]).settings
    wanted = settings
    if sets is None or sets.only_report:
        of_run = {name: value for name, value in first.items() if name in (_MASK_INPUT, METRIC_TASK)}
        shown = {} if sets is None else sets.report.source.settings
        wanted = of_run | shown if shown and len(first) > len(of_run) else first
    named = run.options.task != "auto" or run.options.outputs
    # What outputs are taken for may differ from samples to samples; the metric is of those that made it.
    if METRIC_TASK in first and not (run.options.wants_metric and named):
        wanted = wanted | {METRIC_TASK: first[METRIC_TASK]}
    held, notes = gathered(
        stats,
        model=run.original.content_hash,
        method=method,
        settings=wanted,
        layers=layers,
        needs=lambda layer: needs_of(layer, method, metric=run.options.wants_metric),
    )
    run.notes.extend(notes)
    if run.options.wants_metric and METRIC_TASK not in first:
        run.notes.append("the statistics were captured without gradients: no layer has an output metric")
    return held


def _settings(sets: Sets | None, task: Task | None, options: Options) -> dict[str, str]:
    """What statistics depend on, beside model and samples."""
    if sets is None:
        return {}
    found = dict(sets.fit.source.settings)
    if sets.mask_input is not None:
        found[_MASK_INPUT] = sets.mask_input
    if options.wants_metric and task is not None:
        found[METRIC_TASK] = task.summary
    return found


def _choose_layers(
    original: Model, target: Target | None, options: Options, only: frozenset[str] | None
) -> tuple[list[Layer], list[Skipped]]:
    found, skipped = find(original)
    if target is not None:
        check_ranks(target, found, skipped)
    layers, skipped = select(found, skipped, options.include, options.exclude)
    if only is not None:
        unknown = sorted(only - {layer.name for layer in layers})
        if unknown:
            check_pattern("the plan's layer", unknown[0], layers, skipped)
        skipped = [*skipped, *(left_out(layer, "the plan keeps it") for layer in layers if layer.name not in only)]
        layers = [layer for layer in layers if layer.name in only]
    if not layers:
        raise NothingToGainError("nothing to gain: no layer is eligible", _why_none(skipped))
    return layers, skipped


def _why_none(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return "the model has no Gemm, MatMul or Conv"
    reasons = [entry.reason for entry in skipped]
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f"{len(skipped)} nodes skipped, {reasons.count(common)} of them: {common}"


def _draw_thumbnails(sets: Sets, path: Path, force: bool) -> None:
    from onnx_dalr.samples.images.contact_sheet import write_thumbnails  # noqa: PLC0415 - Pillow is loaded when it is needed

    write_thumbnails(sets.fit.source, sets.fit.indices, path, force=force)


def _announce(run: Run, sets: Sets | None, *, from_files: bool) -> None:
    earlier = metadata(run.original.proto)
    if earlier is not None:
        run.notes.append(f"the model has been optimized before: {earlier}")
        run.progress.say(run.notes[-1])
    if sets is None:
        return
    run.progress.say(f"samples: {sets.fit.source.description}")
    settings = ", ".join(f"{name} {value}" for name, value in sets.fit.source.settings.items())
    if settings:
        run.progress.say(f"images: {settings}")
    for said in sets.notes:
        run.notes.append(said)
        run.progress.say(f"note: {said}")
    if sets.mask is not None:
        run.progress.say(f"padding: {sets.mask}")
    if sets.report.source.complete:
        run.notes.append(
            "the samples are complete feeds: every step starts from its recorded state, so drift that builds up over "
            "many steps is not in these figures"
        )
    if sets.only_report:
        run.progress.say(f"split: report {len(sets.report)}; statistics are given, and nothing is chosen on samples")
        return
    fit = f"fit {len(sets.fit)} (not run: statistics are given)" if from_files else f"fit {len(sets.fit)}"
    counts = f"{fit}, select {len(sets.select)}, report {len(sets.report)}"
    shared = " (the same set)" if sets.split.select_is_report else ""
    run.progress.say(f"split: {counts}{shared}, seed {sets.options.seed}")


def _look(run: Run, sets: Sets) -> FirstLook:
    """What the model is for, the samples as it numbers their classes, and the provider that ran it."""
    measured = len(sets.select) > 0 or len(sets.report) > 0
    with run.phase("load"):
        found = look(run.original, run.options, sets, measured=measured, progress=run.progress)
    run.progress.say(provider_line(found.provider, run.options.runtime))
    if found.task is not None:
        for one in found.task.measured:
            if not one.hidden:
                run.progress.say(str(one) + ("" if one.counts else ", not scored"))
    for line in found.lines:
        run.progress.say(line)
    run.notes.extend(found.notes)
    return found
