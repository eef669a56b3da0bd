"""The ranks of one run: by the sizes of the layers alone, or by models scored on the select samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from onnx_dalr.destination import loadable
from onnx_dalr.errors import NothingToGainError, TargetError
from onnx_dalr.evaluate import Task, evaluate
from onnx_dalr.factorize import Spectrum
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.model import count_params
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.learn import Learned
from onnx_dalr.plan import Plan
from onnx_dalr.run import Run
from onnx_dalr.runtime import open_session
from onnx_dalr.search import Scorer, Trial, make_plan, sizes_of
from onnx_dalr.sensitivity import Sensitivity, is_affordable, samples_for
from onnx_dalr.sets import Sets


def plan_by_sizes(run: Run, layers: Sequence[Layer], sets: Sets) -> Plan | None:
    """The ranks where the sizes of the layers decide them, before anything is run; None where samples have a say.

    Raises:
        TargetError: The target cannot be met.
        NothingToGainError: All layers stay dense.
        InputError: A drop is asked for and there are no samples to measure it on.
    """
    if run.target.max_drop is not None and len(sets.select):
        return None
    plan = _refuse_all_dense(make_plan(run.target, layers, {}, run.options.method, run.original.params, None))
    return None if run.target.params is not None and len(sets.select) else plan


def plan_by_samples(run: Run, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task | None) -> Plan:
    """The ranks that models scored on the select samples decide.

    Raises:
        TargetError: No model stays within the drop.
        NothingToGainError: All layers stay dense.
    """
    assert task is not None
    made: list[Sensitivity] = []

    def sensitivity() -> Sensitivity:
        made.append(_sensitivity(run, layers, learned, sets, task))
        return made[-1]

    measured = sensitivity if is_affordable(layers, run.original.size) else None
    if measured is None:
        run.notes.append(
            "the model is too large to measure what each layer matters to the output: one number serves all layers"
        )
    with run.phase("decide"), _labels_hinted(task, sets):
        plan = make_plan(
            run.target,
            layers,
            learned.spectra,
            run.options.method,
            run.original.params,
            _scorer(run, layers, learned, sets, task),
            measured,
        )
    return _refuse_all_dense(replace(plan, passes=sum(each.passes for each in made)))


@contextmanager
def _labels_hinted(task: Task, sets: Sets) -> Iterator[None]:
    """Agreement counts every answer that flips, the wrong ones too: where that is what fails, labels may help."""
    try:
        yield
    except TargetError as error:
        if task.kind == "classify" and sets.select.labels is None:
            more = f"one sample is {100 / len(sets.select):.2g} points here; with --labels, accuracy counts instead"
            raise TargetError(error.message, f"{error.hint}; {more}") from error
        raise


def _sensitivity(run: Run, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task) -> Sensitivity:
    """What measures each layer's effect on the output, on a few of the select samples."""
    count = samples_for(layers, {name: rows / len(sets.fit) for name, rows in learned.rows.items()})
    few = sets.select.spread(count)
    proto, overrides = overridable(run.original, layers)
    made_in_memory, folder = run.original.in_memory(proto)
    session = open_session(made_in_memory, run.options.device, folder)
    run.progress.say(f"measuring how much each of {len(layers)} layers matters, on {len(few)} select samples")
    sizes = sizes_of(layers, run.options.method)
    return Sensitivity(session, overrides, layers, sizes, learned.spectra, list(few), task)


def _refuse_all_dense(plan: Plan) -> Plan:
    if not plan.compressed:
        reasons = list(dict.fromkeys(choice.reason for choice in plan.choices))
        shown = "; ".join(reasons[:2]) + ("; …" if len(reasons) > 2 else "")
        raise NothingToGainError(f"nothing to gain: every layer stays dense ({shown})", "ask for a smaller model")
    return plan


def _scorer(run: Run, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task) -> Scorer:
    """Scores a plan's model on the select samples."""
    reference = open_session(run.original.source(), run.options.device)

    def score(plan: Plan) -> Trial:
        proto = rewrite(run.original, substitutions(layers, learned.spectra, plan))
        with loadable(run.original, proto) as source:
            candidate = open_session(source, run.options.device)
        quality = evaluate(reference, candidate, sets.select, task, sets.select.labels)
        drop = quality.drop.value if quality.finite else float("inf")
        params = count_params(proto)
        run.progress.say(
            f"tried {params:,} parameters ({100 * params / run.original.params:.1f} %): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        return Trial(drop, quality.distortion if quality.finite else float("inf"))

    return score


def substitutions(layers: Sequence[Layer], spectra: Mapping[str, Spectrum], plan: Plan) -> Iterator[Substitution]:
    """One layer's factors at a time: in float64 those of all layers would be more than the model."""
    for layer, choice in zip(layers, plan.choices, strict=True):
        if choice.rank is not None:
            factors = spectra[layer.name].factors(choice.rank)
            yield Substitution(layer, factors.A, factors.B, factors.shift)
