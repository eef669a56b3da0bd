"""What is said before the work: how small the file can get at best, and about how long it will take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_dalr.ahead.forecast import Extent, Speed, Work, forecast, moments
from onnx_dalr.choose import allocate
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.effects import TIMES_MEASURED, is_affordable, samples_for
from onnx_dalr.choose.families import most_families
from onnx_dalr.choose.search import make_plan, most_trials
from onnx_dalr.choose.space import space_of
from onnx_dalr.factorize import Settings, Statistics
from onnx_dalr.factorize.refit import LARGEST, least_rows
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.extent import rows_per_sample
from onnx_dalr.learn.learn import groups_of
from onnx_dalr.learn.probes import MOST_SAMPLES, PROBES
from onnx_dalr.learn.trust import LARGE, LARGE_MODEL
from onnx_dalr.look.pace import Pace
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.target import Target
from onnx_dalr.samples.sets import Sets
from onnx_dalr.tune.fronts import MOST_PASSES, enough_samples
from onnx_dalr.units import format_bytes, format_duration, format_share

LITTLE = 0.05
"""Of the file: where no more than that can go, a user should know before the work."""

_WORTH_MEASURING = 1.0  # seconds of linear algebra
_FIRST, _TRIED = 64, 320  # rows and columns of the matrices that the speed is measured on
_PARTICIPATION = 0.25  # of the gradients: how many independent ones a classifier's are worth, roughly


def announce_size(context: Context, target: Target, layers: Sequence[Layer]) -> None:
    """Says how much of the file is in eligible layers, and the smallest file that ranks can make of it."""
    eligible = sum(layer.params * layer.dtype.itemsize for layer in layers)
    size, best = context.original.size, _best_size(context, target, layers)
    asked = target.name == "rank"
    how = "with these ranks" if asked else "at best"
    context.progress.say(
        f"eligible: {format_bytes(eligible)} of {format_bytes(size)} ({format_share(eligible, size)}) in "
        f"{len(layers)} layer{'s' * (len(layers) != 1)}; {how} the file becomes {format_bytes(best)}"
    )
    if not asked and size - best < LITTLE * size:
        context.notes.append(
            f"the file can get {format_share(size - best, size)} smaller at best, whatever the ranks: the rest is not "
            "in eligible layers (`onnx-dalr inspect` says where it is)"
        )
        context.progress.say(f"note: {context.notes[-1]}")


def _best_size(context: Context, target: Target, layers: Sequence[Layer]) -> int:
    """Bytes of the smallest file: with the ranks that are asked for, or with the smallest that are allowed."""
    space = space_of(context, target, layers, None)
    if target.name == "rank":
        best = space.weigh(list(make_plan(space, None).forms))
    else:
        best = space.weigh(allocate.smallest(space.ladders))
        if best >= space.bytes:  # of a tiny model, where nodes and names weigh more than a rank saves
            best = space.weigh(allocate.smallest(COSTS["size"].budget(space, 0).ladders))
    return min(best, space.bytes)


def announce_time(
    context: Context,
    target: Target | None,
    layers: Sequence[Layer],
    sets: Sets,
    task: Task | None,
    pace: Pace,
    *,
    given: bool,
    written: bool,
) -> None:
    """Says about how long the rest will take.

    Args:
        context: Of the run.
        target: What was asked for; None where no forms are to be chosen (yet).
        layers: The layers that take part.
        sets: The samples.
        task: What the model is for.
        pace: How long the original took on the first samples.
        given: Statistics are given, and the fit samples are not run.
        written: A model will be written and verified.
    """
    metric = context.options.wants_metric and task is not None
    rows = rows_per_sample(context, layers, sets)
    looked_at = [layer for layer in layers if not layer.in_one_piece]
    extents = [_extent(context, layer, rows[layer.name], sets, metric=metric) for layer in looked_at]
    work = Work(
        layers=extents,
        bytes=context.original.size,
        passes=0 if given else len(groups_of(context, layers, metric=metric)),
        fit=len(sets.fit),
        probed=min(len(sets.fit), MOST_SAMPLES) if metric else 0,
        probes=PROBES,
        select=len(sets.select),
        report=len(sets.report) if written else None,
    )
    if written and not given and context.options.refits and task is not None and len(sets.select):
        work = replace(work, **_refits(extents, rows, looked_at, sets))
    if target is not None and task is not None and len(sets.select):
        factors = max((each.factors for each in extents), default=1)
        work = replace(work, trials=most_trials(target.name, factors, len(layers), most_families(layers)))
        unknown = [layer for layer in layers if layer.in_one_piece or not metric]
        if target.name not in ("rank", "energy") and unknown and is_affordable(unknown, context.original.size):
            few = min(samples_for(unknown, rows), len(sets.select))
            work = replace(work, measured=TIMES_MEASURED * len(unknown), few=few) if len(layers) > 1 else work
    seconds = forecast(work, pace, _speed(context, work))
    context.progress.expect(seconds)
    context.progress.say(f"this takes {format_duration(sum(seconds.values()))}")


def _refits(
    extents: Sequence[Extent], rows: Mapping[str, float], layers: Sequence[Layer], sets: Sets
) -> dict[str, Any]:
    """What of the work is refitting: all layers but the first that have rows enough, if every one is compressed."""
    pairs = zip(extents[1:], layers[1:], strict=True)
    taken = [(one, layer) for one, layer in pairs if one.n <= LARGEST and one.rows * len(sets.fit) >= least_rows(one.n)]
    samples = enough_samples([layer for _, layer in taken], rows, len(sets.fit))
    return {"refitted": [one for one, _ in taken], "refits": min(len(taken), MOST_PASSES), "refit": samples}


def _extent(context: Context, layer: Layer, rows: float, sets: Sets, *, metric: bool) -> Extent:
    """How large a layer is, how many rows a sample brings it, and how many factors by name there will be."""
    return Extent(layer.m, layer.n, rows, _factors(context, layer, rows * len(sets.fit), sets, metric=metric))


def _factors(context: Context, layer: Layer, rows: float, sets: Sets, *, metric: bool) -> int:
    """How many `learn.trust.names_of_factors` is going to find: gradients count for less than there are of them."""
    smaller = min(layer.m, layer.n)
    gradients = _PARTICIPATION * PROBES * min(len(sets.fit), MOST_SAMPLES)
    few = rows < 2 * layer.n or (metric and gradients < 2 * smaller)
    if not context.options.method.takes_metric or not few or context.original.size > LARGE_MODEL:
        return 1
    return 2 if smaller > LARGE else 4 if metric else 3


def _speed(context: Context, work: Work) -> Speed:
    """How fast linear algebra is here: measured on a small layer where there is enough of it."""
    nominal = forecast(replace(work, report=None), Pace(0, 0, 0), Speed())
    if sum(nominal.values()) < _WORTH_MEASURING:
        return Speed()
    method, random = context.options.method, np.random.default_rng(0)
    best = Speed(math.inf, math.inf)
    for r in (_FIRST, _TRIED, _TRIED, _TRIED):  # the first wakes up libraries and their threads
        W, x = (random.standard_normal((rows, r)).astype(np.float32) for rows in (r, 2 * r))
        held = Statistics(r, r, method.needs(r, r))
        started = time.perf_counter()
        held.update(x, W)
        updated = time.perf_counter()
        method.spectrum(W, held, Settings(metric=None))
        done = time.perf_counter()
        found = Speed((updated - started) / (len(x) * moments(Extent(r, r))), (done - updated) / r**3)
        best = Speed(min(best.product, found.product), min(best.spectrum, found.spectrum))
    return best
