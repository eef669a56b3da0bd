"""`onnx_dalr.tune`: any student learns from any teacher, with any loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.files import files_read, together
from onnx_dalr.graph.ends import common_ends
from onnx_dalr.graph.storage.model import Model, load, save
from onnx_dalr.look.first import look
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.quality.evaluate import Quality, evaluate
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import PathLike, read_options
from onnx_dalr.results.tune import TuneResult
from onnx_dalr.samples import GivenLabels, InputSpec
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.proof import with_proof
from onnx_dalr.samples.sets import SampleSet, Sets, fingerprint, opened
from onnx_dalr.session.session import open_session
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.tune.losses import Loss
from onnx_dalr.tune.student import Pupil, pupil_from
from onnx_dalr.tune.tensors import replaced
from onnx_dalr.tune.terms import Term, terms_of
from onnx_dalr.tune.transfer import Explored, Transfer, why_not
from onnx_dalr.tune.tuning import Tuning
from onnx_dalr.write.destination import Destination

_SECONDS = 600.0  # where neither steps nor time are given


@on_one_blas_thread
def tune(
    student: PathLike | ModelProto,
    teacher: PathLike | ModelProto,
    samples: Any,
    output: PathLike | None = None,
    *,
    steps: int | None = None,
    tune_time: str | float | None = None,
    loss: Mapping[str, Loss] | None = None,
    hints: Sequence[str] = (),
    tensors: str | Iterable[str] = (),
    eval: Any = None,
    labels: GivenLabels | None = None,
    eval_labels: GivenLabels | None = None,
    mask_input: str | None = None,
    task: str = "auto",
    outputs: str | Iterable[str] = (),
    seed: int = 0,
    batch_size: int | None = None,
    holdout: float = 0.3,
    device: str = "auto",
    ops_library: PathLike | Sequence[PathLike] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> TuneResult:
    """Lets a model learn from another what it lost against it, without labels and without a training framework.

    Both have the same inputs and outputs; whoever made the student, and however: decomposed, pruned (zeros stay zeros),
    or with weights quantized by DequantizeLinear, whose scales are tuned. Only the values of its floating initializers
    change. It is kept where samples that chose nothing and taught nothing gain more than two standard errors; else the
    student stays what it was, and `result.tuning.reason` says why.

    Args:
        student: Path of the model that learns, or a ModelProto.
        teacher: Path of the model it learns from, or a ModelProto.
        samples: Samples of the domain, in any form `optimize` takes as `calib`.
        output: Path to write; None to get the model as `result.model`.
        steps: How many steps of 32 samples; as many as there is time for where left out.
        tune_time: Time that they may take: "10m", "90s", "1h" or seconds; ten minutes where left out.
        loss: By the name of an output what is to become little there, an object with `write(y, t, w)`, see
            `onnx_dalr.tune.losses`; of the outputs that are not named the distortion that is reported.
        hints: Names of inner tensors that both have, and which are learned too.
        tensors: Globs on the names of initializers that are tuned; weights, scales and biases where left out.
        eval: Report samples of their own, in any form `calib` takes.
        labels: Class per sample, for the figures alone.
        eval_labels: Class per sample of `eval`.
        mask_input: Model input that marks padding; found where left out.
        task: "auto", "classify", "regress" or "embed": what the score is.
        outputs: Names of the outputs whose loss counts; all that are the model's answer where left out.
        seed: Of the split, and of the order of the samples.
        batch_size: Samples run at a time where they are compared.
        holdout: Fraction of the samples kept out of the steps, half of it for the report.
        device: "auto", "cpu" or "cuda".
        ops_library: Shared libraries of custom operators that the models use; one or more.
        force: Replace an existing file.
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.

    Returns:
        What was learned: `print(result)` is the table.

    Raises:
        InputError: Something given cannot be used, or the models differ in their inputs or outputs (exit code 2).
    """
    models = load(student), load(teacher)
    shared = {
        "task": task,
        "outputs": outputs,
        "device": device,
        "ops_library": ops_library,
        "eval": eval,
        "labels": labels,
        "eval_labels": eval_labels,
        "seed": seed,
        "batch_size": batch_size,
        "holdout": holdout,
        "mask_input": mask_input,
        "tune": "auto" if steps is None else steps,
        "tune_time": tune_time,
    }
    options, sample_options = read_options(samples, shared)
    destination = Destination(None if output is None else Path(output), force=force)
    destination.check(models[0], files_read(samples, eval, labels, eval_labels, teacher))
    specs = _same_ends(*models)
    context = Context(models[1], options, progress or Silent(), Path(output or "model.onnx").name)
    with opened(sample_options, specs) as read:
        first = look(models[1], options, with_proof(read), measured=True, progress=context.progress)
        sets, found_task = first.sets, first.task
        assert found_task is not None
        pupil = pupil_from(models[0], (tensors,) if isinstance(tensors, str) else tensors)
        pupil = replace(pupil, hints=_known_hints(hints, *models), terms=_terms(found_task, loss or {}))
        seconds = options.tune_time if options.tune_time is not None or steps is not None else _SECONDS
        explored, values = _learned(pupil, context, sets, found_task, seconds, steps)
        made = replaced(models[0].proto, values) if values else models[0].proto
        with together() as files, destination.place(files) as written:
            save(made, models[0], written)
            before, after = (_quality(models[1], each, context, sets, found_task) for each in (models[0], written))
        return TuneResult(
            version=__version__,
            student=models[0].path,
            teacher=models[1].path,
            output=destination.output,
            tuning=explored,
            samples=sets.facts(fingerprint(sets.fit.ids)),
            before=before,
            after=after,
            provider=first.provider,
            notes=(*read.notes, *first.notes, *after.notes),
            model=made if output is None else None,
        )


def _learned(
    pupil: Pupil, context: Context, sets: Sets, task: Task, seconds: float | None, steps: int | None
) -> tuple[Tuning, dict[str, Any]]:
    """What it learned, and the tensors; none where it did not help."""
    refused = why_not(sets, task)
    if refused is not None:
        return Tuning(False, refused), {}
    try:
        transfer = Transfer(pupil, context, sets, task)
    except InputError as error:
        return Tuning(False, error.message), {}
    found: Explored = transfer.explore(seconds, steps)
    course = found.tuning.course
    if not found.tensors or course is None or found.tuning.stopped:
        return found.tuning, dict(found.tensors)
    values, count = transfer.taught(course, sets.teaching)
    if values is None:
        return found.tuning, dict(found.tensors)
    return replace(found.tuning, taught=count), dict(values)


def _terms(task: Task, losses: Mapping[str, Loss]) -> tuple[Term, ...]:
    """What is learned of the outputs, with losses of the caller's own where there are any."""
    known = terms_of(task)
    unknown = losses.keys() - {term.tensor for term in known}
    if unknown:
        raise InputError(
            f"loss: {sorted(unknown)[0]!r} is no output that counts and has gradients",
            f"there are: {', '.join(term.tensor for term in known) or 'none'}",
        )
    return tuple(replace(term, loss=losses.get(term.tensor, term.loss)) for term in known)


def _known_hints(hints: Sequence[str], student: Model, teacher: Model) -> tuple[str, ...]:
    for name in hints:
        for model, whose in ((student, "student"), (teacher, "teacher")):
            if all(name not in node.output for node in model.proto.graph.node):
                raise InputError(f"hints: the {whose} has no tensor {name!r}", "both need one of that name")
    return tuple(hints)


def _same_ends(student: Model, teacher: Model) -> tuple[InputSpec, ...]:
    try:
        return common_ends(teacher, student, _names(student, teacher))
    except InputError as error:
        raise InputError(error.message, "a student has the inputs and outputs of its teacher") from error


def _names(student: Model, teacher: Model) -> tuple[str, str]:
    return str(teacher.path or "the teacher"), str(student.path or "the student")


def _quality(teacher: Model, student: Model | Path, context: Context, sets: Sets, task: Task) -> Quality:
    """A student beside its teacher on the report samples."""
    runtime, report = context.options.runtime, _report(sets)
    source = student if isinstance(student, Path) else student.source()
    one, other = open_session(teacher.source(), runtime), open_session(source, runtime)
    padding: Callable[..., Any] = partial(kept_in, name=sets.mask_input)
    shown = replace(task, measured=tuple(one for one in task.measured if not one.hidden))
    return evaluate(one, other, report, shown, report.labels, padding=padding)


def _report(sets: Sets) -> SampleSet:
    if not len(sets.report):
        raise InputError("no samples are held out to say what it is worth", "give a --holdout above 0, or --eval")
    return sets.report
