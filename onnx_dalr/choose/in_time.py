"""A limit of time is held by measuring: what layers take by themselves says only about what a model takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from onnx_dalr.candidate.candidate import build
from onnx_dalr.candidate.loadable import loadable
from onnx_dalr.candidate.small import stays_small
from onnx_dalr.candidate.timing import time_layers
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.costs.latency import LATENCY
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import BEST_EFFORT
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import UNTOUCHED
from onnx_dalr.graph.layers import Layer
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import TIMING
from onnx_dalr.quality.evaluate import Latency, measure_latency
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.quality.promise import Promise, promise_of
from onnx_dalr.request.context import Context
from onnx_dalr.request.target import Target
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import open_session

SECONDS = 2.0
"""That a model is run beside the original, about."""

_OFF = 0.1
"""Share of the original's time that what is expected of a model is off by: its standard deviation, roughly."""

Planner = Callable[[SearchSpace], Plan]
Timing = Callable[[Plan, float], Promise]
"""A plan's model beside the original."""


def timed(context: Context, target: Target, layers: Sequence[Layer], sets: Sets | None) -> Context:
    """The context with what layers take, where the target is a time and that is not measured yet."""
    if target.name != LATENCY or context.times is not None or context.macs is None or sets is None:
        return context
    _, feed = _sample(sets)
    times = time_layers(context, layers, context.macs, feed)
    if times.untimed:
        first, *others = times.untimed
        context.notes.append(
            f"the time of layer {first!r}{f' and {len(others)} more' if others else ''} cannot be measured by itself: "
            "it stays as it is"
        )
    return replace(context, times=times)


def within_time(context: Context, space: SearchSpace, sets: Sets, quick: Planner, plan: Planner) -> Plan:
    """The plan of a model that was measured to take no more than the limit, nor much less.

    Args:
        context: Of the run.
        space: What there is to decide on.
        sets: The samples.
        quick: Decides without scoring a model.
        plan: Decides.

    Raises:
        TargetError: It was missed by more than noise, twice.
    """
    return settled(context, space, lambda made, asked: _measured(context, space, sets, made, asked), quick, plan)


def settled(context: Context, space: SearchSpace, measure: Timing, quick: Planner, plan: Planner) -> Plan:
    """As `within_time`, whoever measures.

    A quick plan is measured first: by how far it is off, the layers' times are corrected. So is the plan itself, once.
    """
    amount = space.target.amount
    assert amount is not None
    asked = amount.value
    posed = _corrected(context, space, quick(space), asked, measure)[0]
    made = plan(posed)
    posed, first = _corrected(context, posed, made, asked, measure)
    if not first.measured.value > asked:
        return made
    try:
        again = plan(posed)
    except TargetError:
        again = made
    if again.forms == made.forms:
        return _judged(made, first, best_effort=space.target.best_effort)
    _, second = _corrected(context, posed, again, asked, measure)
    tried = [(made, first), (again, second)]
    best = min(tried, key=lambda each: each[1].measured.value)
    return _judged(*best, best_effort=space.target.best_effort)


def missed(promise: Promise) -> TargetError:
    """Says by how much."""
    low, high = (100 * end for end in (promise.measured.low, promise.measured.high))
    value = 100 * promise.measured.value
    allow = f"allow --latency {math.ceil(value)}%, " if math.ceil(value) < 100 else ""
    return TargetError(
        f"--latency {100 * promise.asked:g}% is not met: the model takes {value:.1f} % of the original's time "
        f"[{low:.1f}, {high:.1f}]",
        f"{allow}run it again on an idle machine, or write the closest with --best-effort",
    )


def held_to(target: Target, latency: Latency | None, notes: list[str]) -> Promise | None:
    """What the written file makes of a limit of time; None where there is none. Notes one that is missed after all.

    Raises:
        TargetError: It is missed by more than noise, and the closest is not good enough.
    """
    if target.name != LATENCY or target.amount is None or latency is None:
        return None
    promise = promise_of(target.amount.value, latency)
    if not promise.met:
        if not target.best_effort:
            raise missed(promise)
        notes.append(missed(promise).message)
    return promise


def _judged(plan: Plan, promise: Promise, *, best_effort: bool) -> Plan:
    if promise.met:
        return plan
    if not best_effort:
        raise missed(promise)
    reason = f"{BEST_EFFORT}: {100 * promise.measured.value:.1f} % of the original's time"
    choices = (one if one.form.untouched else replace(one, reason=reason) for one in plan.choices)
    return replace(plan, choices=tuple(choices))


def _corrected(
    context: Context, space: SearchSpace, plan: Plan, asked: float, measure: Timing
) -> tuple[SearchSpace, Promise]:
    """The space with times that agree with what a plan's model was measured to take, and that."""
    times, cost = space.times, COSTS[LATENCY]
    assert times is not None
    saved = sum(
        cost.price(space, layer, UNTOUCHED) - cost.price(space, layer, form)
        for layer, form in zip(space.layers, plan.forms, strict=True)
    )
    predicted = 1 - saved / times.whole
    promise = measure(plan, asked)
    value = promise.measured.value
    context.progress.say(
        f"{len(plan.compressed)} layers changed: {100 * predicted:.1f} % of the original's time expected, "
        f"{100 * value:.1f} % measured [{100 * promise.measured.low:.1f}, {100 * promise.measured.high:.1f}]"
    )
    return replace(space, times=times.calibrated(predicted, _believed(predicted, promise.measured))), promise


def _believed(predicted: float, measured: Estimate) -> float:
    """Between what was expected and what was measured, each as far as it is certain: of a wide interval hardly that."""
    if not math.isfinite(measured.high):
        return predicted
    spread = (measured.high - measured.low) / 4  # 95 % are four standard deviations
    return predicted + (measured.value - predicted) * _OFF**2 / (_OFF**2 + spread**2)


def _measured(context: Context, space: SearchSpace, sets: Sets, plan: Plan, asked: float) -> Promise:
    """A plan's model beside the original, on one sample."""
    assert space.learned is not None
    made = build(context, space.layers, space.learned, plan.forms, plan.factors, swept=False)
    if context.options.small_memory:
        made = stays_small(context, space.layers, made).candidate
    runtime = context.options.runtime
    count, batch = _sample(sets)
    with context.progress.stage(TIMING, None), loadable(context.original, made.proto, context.file) as (source, _):
        original, session = open_session(context.original.source(), runtime), open_session(source, runtime)
        return promise_of(asked, measure_latency(original, session, batch, count, SECONDS))


def _sample(sets: Sets) -> tuple[int, Batch]:
    """(samples, feed) of what is run to take the time."""
    return next((each for each in (sets.fit, sets.select, sets.report) if len(each)), sets.fit).one()
