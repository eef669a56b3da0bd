"""The forms of one run: from what was learned, and from models scored on the select samples, where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from onnx_dalr.candidate.candidate import replacement
from onnx_dalr.choose.costs.latency import LATENCY
from onnx_dalr.choose.costs.macs import MACS
from onnx_dalr.choose.deeper import Deeper
from onnx_dalr.choose.effects import MeasuredEffects, MetricEffects, is_affordable, samples_for
from onnx_dalr.choose.families import most_families
from onnx_dalr.choose.in_time import within_time
from onnx_dalr.choose.remembered import remembered
from onnx_dalr.choose.scoring import Scoring
from onnx_dalr.choose.search import make_plan, most_trials
from onnx_dalr.choose.space import SearchSpace, space_of
from onnx_dalr.choose.trials import BEST_EFFORT, Judge
from onnx_dalr.errors import TargetError
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.learn.extent import rows_per_sample
from onnx_dalr.learn.learn import Learned
from onnx_dalr.plan.choice import compressed_of
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import LOADING
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.target import Target
from onnx_dalr.samples.sets import Sets
from onnx_dalr.session.session import open_session


def decide(
    context: Context, target: Target, layers: Sequence[Layer], learned: Learned, sets: Sets | None, task: Task | None
) -> tuple[Plan, Deeper | None]:
    """The plan for a target, from what was learned and from models scored on the select samples, where there are any.

    And how smaller models would be made, where the target is a tolerance that one has met.

    Raises:
        TargetError: No model meets it.
        NothingToGainError: All layers stay as they are.
    """
    space = space_of(context, target, layers, learned)
    if target.name == MACS and context.macs is not None and context.macs.unknown:
        first, *others = context.macs.unknown
        context.notes.append(
            f"the multiply-adds of {first!r}{f' and {len(others)} more nodes' if others else ''} are not counted: how "
            "large what they multiply is cannot be told"
        )
    if sets is None or task is None or not len(sets.select):
        return _changing(_planned(context, space, sets, None)), None
    made: list[MeasuredEffects] = []

    def measuring(wanted: Sequence[bool]) -> MeasuredEffects:
        made.append(_measured(context, space, learned, sets, task, wanted))
        return made[-1]

    unmeasured = [layer for layer in layers if not learned.of(layer.name).has_effect]
    affordable = is_affordable(unmeasured, context.original.size)
    if not affordable:
        known = len(unmeasured) < len(layers)
        context.notes.append(
            f"the model is too large to measure what {len(unmeasured)} of {len(layers)} layers, which have no output "
            "metric, matter to the output: their own errors stand for it"
            + (", at the rate of a typical layer that has one" if known else "")
        )
    several = sum(one.gives for one in space.ladders)
    most = most_trials(target.name, len(space.names_of_factors), several, most_families(layers))
    scoring = Scoring(context, space, sets, task, most)
    judge = Judge(
        remembered(context, space, sets, task, scoring),
        lambda posed: MetricEffects(posed, measuring if affordable else None),
    )
    with context.phase("decide"), _labels_hinted(task, sets):
        plan = _planned(context, space, sets, judge)
    missed = next((choice.reason for choice in plan.choices if choice.reason.startswith(BEST_EFFORT)), None)
    if missed is not None:
        context.notes.append(missed)
    plan = _changing(replace(plan, passes=sum(each.passes for each in made)))
    return plan, None if judge.beyond is None else Deeper(*judge.beyond, scoring.candidate, target)


def _planned(context: Context, space: SearchSpace, sets: Sets | None, judge: Judge | None) -> Plan:
    """The plan; of a limit of time one whose model was measured."""
    if space.target.name != LATENCY or sets is None:
        return make_plan(space, judge)
    quick, scored = partial(make_plan, judge=None), partial(make_plan, judge=judge)
    return within_time(context, space, sets, quick, scored)


@contextmanager
def _labels_hinted(task: Task, sets: Sets) -> Iterator[None]:
    """Agreement counts every answer that flips, the wrong ones too: where that is what fails, labels may help."""
    try:
        yield
    except TargetError as error:
        if task.labelled is not None and task.score is None and sets.select.labels is None:
            more = f"one sample is {100 / len(sets.select):.2g} points here; with --labels, accuracy counts instead"
            raise TargetError(error.message, f"{error.hint}; {more}") from error
        raise


def _measured(
    context: Context, space: SearchSpace, learned: Learned, sets: Sets, task: Task, wanted: Sequence[bool]
) -> MeasuredEffects:
    """What measures the effect of the wanted layers on the output, on a few of the select samples."""
    layers = [layer for layer, is_wanted in zip(space.layers, wanted, strict=True) if is_wanted]
    seen = (layer for layer in layers if layer.name in learned.rows and not layer.in_one_piece)
    known = {layer.name: learned.rows[layer.name] / max(len(sets.fit), 1) for layer in seen}
    unknown = [layer for layer in layers if layer.name not in known]
    count = samples_for(layers, known | (rows_per_sample(context, unknown, sets) if unknown else {}))
    few = sets.select.spread(count)
    context.progress.say(f"measuring how much each of {len(layers)} layers matters, on {len(few)} select samples")
    with context.progress.stage(LOADING, None):
        proto, overrides = overridable(context.original, layers)
        made_in_memory, folder = context.original.in_memory(exposing(proto, task.hidden))
        session = open_session(made_in_memory, context.options.runtime, folder)
        batches = list(few)
        return MeasuredEffects(
            session,
            overrides,
            space.layers,
            space.menus,
            [learned.of(layer.name) for layer in space.layers],
            partial(replacement, context, learned),
            batches,
            task,
            wanted,
            sets.mask_input,
            context.progress,
        )


def _changing(plan: Plan) -> Plan:
    """The plan itself; refused where it changes no layer."""
    compressed_of(plan.choices)
    return plan
