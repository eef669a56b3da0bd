"""The ranks of one run: what the sizes of the layers decide alone, and what models scored on the select samples do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from json import dumps

import numpy as np

from onnx_dalr._version import __version__
from onnx_dalr.choose.allocate import Ranks
from onnx_dalr.choose.effects import MetricEffects
from onnx_dalr.choose.search import TOLERANCES, make_plan, most_trials
from onnx_dalr.choose.sensitivity import Sensitivity, is_affordable, samples_for
from onnx_dalr.choose.space import Problem
from onnx_dalr.choose.trials import BEST_EFFORT, Judge, Scorer, Trial, plan_of
from onnx_dalr.errors import NothingToGainError, TargetError
from onnx_dalr.factorize import Factors, Spectrum
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import count_params, metadata, saved_size
from onnx_dalr.learn.learn import DEFAULT, Learned
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import LOADING, SCORING, numbered
from onnx_dalr.quality.evaluate import Recalled, Task, evaluate
from onnx_dalr.quality.intervals import samples_for_bound
from onnx_dalr.quality.measures import Classes, Values
from onnx_dalr.request.context import Run
from onnx_dalr.request.target import Target
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import Sets
from onnx_dalr.samples.split import SHARED_BELOW
from onnx_dalr.session.session import open_session, reference_session
from onnx_dalr.units import format_bytes
from onnx_dalr.write.destination import loadable

_NO_FINGERPRINT = "0" * 16


def check_target(run: Run, target: Target, layers: Sequence[Layer], *, select: bool) -> None:
    """Refuses what the sizes of the layers say cannot be done, before anything is run.

    Args:
        run: The run.
        target: What was asked for.
        layers: The layers that take part.
        select: There will be samples to score on.

    Raises:
        TargetError: The target cannot be met.
        NothingToGainError: All layers stay dense.
        InputError: A tolerance is asked for and there is nothing to measure it on.
    """
    problem = problem_of(run, target, layers, None)
    if target.kind != "energy" and not (target.kind in TOLERANCES and select):
        refuse_all_dense(make_plan(problem, None))
    elif not problem.saves:
        refuse_all_dense(plan_of(problem, [None] * len(layers), ""))


def check_confidence(target: Target, task: Task | None, sets: Sets) -> None:
    """Refuses a confidence that so few samples cannot give, before the work.

    Raises:
        TargetError: Even if no answer changed, the bound would be above what may be lost; says how many it takes.
    """
    if target.confidence is None or target.kind != "max-drop" or task is None or task.score is not None:
        return
    if not isinstance(task.main.measure, Classes | Values):
        return
    if target.value <= 0:
        raise TargetError(
            f"no number of samples shows a drop of {100 * target.value:g} % with a confidence of "
            f"{100 * target.confidence:g} %",
            "allow a little (--max-drop 1%), or leave --confidence out",
        )
    n, wanted = len(sets.select), samples_for_bound(target.value, target.confidence)
    if not n or n >= wanted:
        return
    separate = sets.report.source is not sets.select.source
    outside = wanted if separate or wanted < SHARED_BELOW else 2 * wanted
    least = 1 - (1 - target.confidence) ** (1 / n)
    raise TargetError(
        f"{n} select samples cannot show a drop of at most {100 * target.value:g} % with a confidence of "
        f"{100 * target.confidence:g} %: with no answer changed, the bound is {100 * least:.2g} points",
        f"it takes {wanted} of them, {math.ceil(outside / max(sets.options.holdout, 1e-9))} samples at --holdout "
        f"{sets.options.holdout:g}; or allow more (--max-drop {math.ceil(1000 * least) / 10:g}%)",
    )


def problem_of(run: Run, target: Target, layers: Sequence[Layer], learned: Learned | None) -> Problem:
    """What there is to decide on."""
    spectra = {} if learned is None else learned.spectra
    calibration = _NO_FINGERPRINT if learned is None else learned.calibration

    def weigh(ranks: Ranks) -> int:
        problem = problem_of(run, target, layers, learned)
        made = rewrite(run.original, _blanks(problem, ranks), note(run, plan_of(problem, ranks, ""), calibration))
        return saved_size(made.proto, run.original, run.file)

    return Problem(target, layers, spectra, run.options.method, run.original.params, run.original.size, weigh)


def _blanks(problem: Problem, ranks: Ranks) -> Iterator[Substitution]:
    """Factors of the right shapes with nothing in them: what an artifact weighs does not depend on their values."""
    for layer, rank in zip(problem.layers, ranks, strict=True):
        if rank is not None:
            spectrum = problem.spectrum(layer)
            moved = problem.method.compensates and (spectrum is None or _moves(spectrum))
            shift = np.full(layer.m, 1e-3 if moved else 0.0)
            A, B = np.zeros((layer.m, rank), np.float32), np.zeros((rank, layer.n), np.float32)
            yield paired(layer, Factors(A, B, shift))  # type: ignore[arg-type]


def _moves(spectrum: Spectrum) -> bool:
    """Whether the factors come with a shift of the bias."""
    return spectrum.mean is not None and bool(spectrum.mean.any())


def decide(
    run: Run, target: Target, layers: Sequence[Layer], learned: Learned, sets: Sets | None, task: Task | None
) -> Plan:
    """The plan for a target, from what was learned and from models scored on the select samples, where there are any.

    Raises:
        TargetError: No model meets it.
        NothingToGainError: All layers stay dense.
    """
    problem = problem_of(run, target, layers, learned)
    if sets is None or task is None or not len(sets.select):
        return refuse_all_dense(make_plan(problem, None))
    made: list[Sensitivity] = []

    def measuring(wanted: Sequence[bool]) -> Sensitivity:
        made.append(_sensitivity(run, problem, learned, sets, task, wanted))
        return made[-1]

    unmeasured = [layer for layer in layers if learned.spectra[DEFAULT][layer.name].metric_tails is None]
    affordable = is_affordable(unmeasured, run.original.size)
    if not affordable:
        known = len(unmeasured) < len(layers)
        run.notes.append(
            f"the model is too large to measure what {len(unmeasured)} of {len(layers)} layers, which have no output "
            "metric, matter to the output: their own errors stand for it"
            + (", at the rate of a typical layer that has one" if known else "")
        )
    several = sum(one.gives for one in problem.ladders)
    judge = Judge(
        _scorer(run, target, layers, learned, sets, task, most_trials(target.kind, len(learned.spectra), several)),
        lambda posed: MetricEffects(posed, measuring if affordable else None),
    )
    with run.phase("decide"), _labels_hinted(task, sets):
        plan = make_plan(problem, judge)
    missed = next((choice.reason for choice in plan.choices if choice.reason.startswith(BEST_EFFORT)), None)
    if missed is not None:
        run.notes.append(missed)
    return refuse_all_dense(replace(plan, passes=sum(each.passes for each in made)))


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


def _sensitivity(
    run: Run, problem: Problem, learned: Learned, sets: Sets, task: Task, wanted: Sequence[bool]
) -> Sensitivity:
    """What measures the effect of the wanted layers on the output, on a few of the select samples."""
    layers = [layer for layer, is_wanted in zip(problem.layers, wanted, strict=True) if is_wanted]
    count = samples_for(layers, {name: rows / max(len(sets.fit), 1) for name, rows in learned.rows.items()})
    few = sets.select.spread(count)
    run.progress.say(f"measuring how much each of {len(layers)} layers matters, on {len(few)} select samples")
    with run.progress.stage(LOADING, None):
        proto, overrides = overridable(run.original, layers)
        made_in_memory, folder = run.original.in_memory(exposing(proto, task.hidden))
        session = open_session(made_in_memory, run.options.runtime, folder)
        spectra = learned.spectra[DEFAULT]
        batches = list(few)
        return Sensitivity(
            session,
            overrides,
            problem.layers,
            problem.sizes,
            spectra,
            batches,
            task,
            wanted,
            sets.mask_input,
            run.progress,
        )


def refuse_all_dense(plan: Plan) -> Plan:
    """The same plan.

    Raises:
        NothingToGainError: All layers stay dense.
    """
    if not plan.compressed:
        reasons = list(dict.fromkeys(choice.reason for choice in plan.choices))
        shown = "; ".join(reasons[:2]) + ("; …" if len(reasons) > 2 else "")
        raise NothingToGainError(f"nothing to gain: every layer stays dense ({shown})", "ask for a smaller model")
    return plan


def _scorer(
    run: Run, target: Target, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task, most: int
) -> Scorer:
    """Scores a plan's model on the select samples; `most` of them at most."""
    with run.progress.stage(LOADING, None):
        session = reference_session(run.original, run.options.runtime, task.hidden)
    reference, numbers = Recalled(session, sets.select), itertools.count(1)

    def score(plan: Plan) -> Trial:
        number = next(numbers)
        with run.progress.stage(numbered(SCORING, number, max(number, most)), len(sets.select)) as advance:
            return scored(plan, advance)

    def scored(plan: Plan, advance: Callable[[int], None]) -> Trial:
        text = note(run, plan, learned.calibration)
        proto = rewrite(run.original, substitutions(layers, learned.spectra, plan), text).proto
        params = count_params(proto)
        with loadable(run.original, exposing(proto, task.hidden), run.file) as (source, size):
            del proto  # of a large model, not beside the session
            candidate = open_session(source, run.options.runtime)
        del source
        quality = evaluate(
            reference,
            candidate,
            reference,
            task,
            sets.select.labels,
            advance,
            intervals=target.confidence is not None,
            padding=partial(kept_in, name=sets.mask_input),
        )
        drop = quality.drop.value if quality.finite else math.inf
        run.progress.detail(
            f"tried {params:,} parameters ({100 * params / run.original.params:.1f} %, {format_bytes(size)}): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        if not quality.finite:
            return Trial(math.inf, math.inf, math.inf, size, (), "", math.inf, math.inf)
        bounds: tuple[float | None, float | None] = (None, None)
        if target.confidence is not None:
            bounds = quality.drop_bound(target.confidence), quality.error_bound(target.confidence)
        several = sum(output.counts for output in quality.outputs) > 1
        worst = (quality.worst or "") if several else ""
        return Trial(drop, quality.distortion, quality.error.value, size, quality.distortions, worst, *bounds)

    return score


def substitutions(
    layers: Sequence[Layer], spectra: Mapping[str, Mapping[str, Spectrum]], plan: Plan
) -> Iterator[Substitution]:
    """One layer's factors at a time: in float64 those of all layers would be more than the model."""
    chosen = spectra[DEFAULT] | dict(spectra.get(plan.factors, {}))  # type: ignore[operator]
    for layer, choice in zip(layers, plan.choices, strict=True):
        if choice.rank is not None:
            yield paired(layer, chosen[layer.name].factors(choice.rank))


def paired(layer: Layer, factors: Factors) -> Substitution:
    """The factors in place of the layer's weight, in the element type it has."""
    return Substitution.of(layer, STRUCTURES["pair"].pieces(factors), FORMATS["keep"], factors.shift)


def note(run: Run, plan: Plan, calibration: str) -> str:
    """The metadata entry: enough to know what was done to the model, and on which samples."""
    facts = {
        "version": __version__,
        "method": plan.method,
        "calibration": calibration,
        "ranks": {choice.layer: choice.rank for choice in plan.compressed},
    }
    earlier = metadata(run.original.proto)
    if earlier is not None:
        facts["before"] = earlier
    return dumps(facts, ensure_ascii=False, separators=(",", ":"))
