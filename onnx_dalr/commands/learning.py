"""What is learned of the layers, from the fit samples or from statistics on disk, after a first look at the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from onnx_dalr.ahead.announce import announce_time
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.choose.feasible import check_confidence, check_target
from onnx_dalr.cluster.cluster import passes_of
from onnx_dalr.commands.asked import Asked
from onnx_dalr.factorize import KEPT
from onnx_dalr.graph.layers import Layer, Skipped
from onnx_dalr.learn.apart import without_rows
from onnx_dalr.learn.gathering import gathered
from onnx_dalr.learn.kept import Kept
from onnx_dalr.learn.learn import learn, learn_from, looked_at_in, needs_in
from onnx_dalr.learn.statistics_set import METRIC_TASK, StatisticsSet, load_statistics
from onnx_dalr.learn.trust import DEFAULT
from onnx_dalr.look.first import FirstLook, look
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import Options
from onnx_dalr.request.selection import formats_of, left_out
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import provider_line

_MASK_INPUT = "mask input"
_UNREACHED = "no row of the samples reached it"


def analyzed(
    context: Context, asked: Asked, layers: list[Layer], skipped: list[Skipped], sets: Sets | None
) -> Analysis:
    """A first look at the original, then what is learned: the analysis of the layers that rows of the samples reach.

    Raises:
        InputError: The model cannot be run on the samples, or statistics do not belong to it or to them.
        TargetError: The target cannot be met.
        NothingToGainError: All layers stay as they are.
    """
    task, provider = None, "none"
    if sets is not None:
        found = _look(context, sets)
        task, sets, provider = found.task, found.sets, found.provider
        if asked.target is not None:
            check_confidence(asked.target, task, sets)
        given = bool(asked.stats)
        announce_time(context, asked.target, layers, sets, task, found.pace, given=given, written=asked.written)
    settings = _settings(sets, task, context.options)
    if asked.stats:
        held = _gathered(context, layers, asked.stats, sets, settings)
        settings, learned = held.settings, learn_from(context, layers, held)
    else:
        assert sets is not None
        refit = asked.written and context.options.refits and task is not None and len(sets.select) > 0
        with passes_of(context, sets) as runs:
            passes = runs if context.work is None else Kept(context, context.work, runs)
            learned = learn(context, layers, sets, task, keep=asked.keep, refit=refit, passes=passes)
    context.notes.extend(learned.notes)
    unreached = {layer.name for layer in layers if not layer.in_one_piece and layer.name not in learned.rows}
    if unreached:
        layers, left = _in_one_piece(context, layers, unreached)
        learned.by_factors[DEFAULT].update(without_rows(context, [one for one in layers if one.name in unreached]))
        skipped = [*skipped, *left]
        refuse_by_sizes(context, asked, layers, sets)
    return Analysis(context, layers, skipped, sets, learned, task, provider, settings, checked=asked.target)


def _in_one_piece(context: Context, layers: list[Layer], unreached: set[str]) -> tuple[list[Layer], list[Skipped]]:
    """The layers, those that no row reached in one piece; and of these the ones whose numbers are kept, left out."""
    taken: list[Layer] = []
    left: list[Skipped] = []
    for layer in layers:
        if layer.name not in unreached:
            taken.append(layer)
        elif formats_of(layer, context.options.weights) == (KEPT,):
            left.append(left_out(layer, _UNREACHED))
        else:
            taken.append(replace(layer, why_whole=_UNREACHED))
    return taken, left


def refuse_by_sizes(context: Context, asked: Asked, layers: Sequence[Layer], sets: Sets | None) -> None:
    """Refuses a target that the sizes of these layers rule out: before the work, and again where layers drop out of it.

    Raises:
        TargetError: It cannot be met.
        NothingToGainError: All layers stay as they are.
    """
    if asked.target is not None:
        check_target(context, asked.target, layers, select=sets is not None and len(sets.select) > 0)


def _gathered(
    context: Context, layers: Sequence[Layer], stats: Sequence[Path], sets: Sets | None, settings: dict[str, str]
) -> StatisticsSet:
    """The statistics of the files, added up; without samples of our own they must only agree with each other.

    Images that are only reported on must be prepared as those were that the statistics are of.
    """
    method = context.options.method
    first = load_statistics(stats[0]).settings
    wanted = settings
    if sets is None or sets.only_report:
        of_run = {name: value for name, value in first.items() if name in (_MASK_INPUT, METRIC_TASK)}
        shown = {} if sets is None else sets.report.source.settings
        wanted = of_run | shown if shown and len(first) > len(of_run) else first
    named = context.options.task != "auto" or context.options.outputs
    # What outputs are taken for may differ from samples to samples; the metric is of those that made it.
    if METRIC_TASK in first and not (context.options.wants_metric and named):
        wanted = wanted | {METRIC_TASK: first[METRIC_TASK]}
    held, notes = gathered(
        stats,
        model=context.original.content_hash,
        method=method,
        settings=wanted,
        layers=looked_at_in(context, layers),
        needs=partial(needs_in, context),
    )
    context.notes.extend(notes)
    if context.options.wants_metric and METRIC_TASK not in first:
        context.notes.append("the statistics were captured without gradients: no layer has an output metric")
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


def _look(context: Context, sets: Sets) -> FirstLook:
    """What the model is for, the samples as it numbers their classes, and the provider that ran it."""
    measured = len(sets.select) > 0 or len(sets.report) > 0
    with context.phase("load"):
        found = look(context.original, context.options, sets, measured=measured, progress=context.progress)
    context.progress.say(provider_line(found.provider, context.options.runtime))
    if found.task is not None:
        for one in found.task.measured:
            if not one.hidden:
                context.progress.say(str(one) + ("" if one.counts else ", not scored"))
    for line in found.lines:
        context.progress.say(line)
    context.notes.extend(found.notes)
    return found
