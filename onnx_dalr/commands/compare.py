"""`compare`: two model files on the same samples, every one of which counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.ahead.forecast import forecast_comparison
from onnx_dalr.errors import InputError
from onnx_dalr.graph.contents import contents, formats
from onnx_dalr.graph.ends import check_outputs, common_ends
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.look.first import look
from onnx_dalr.look.independence import without_influence
from onnx_dalr.look.macs import on_a_sample
from onnx_dalr.progress import COMPARING, LOOKING_INSIDE, TIMING, Progress, Silent
from onnx_dalr.quality.drift import MOST_SAMPLES, Drift, find_drift
from onnx_dalr.quality.evaluate import Quality, evaluate, measure_latency
from onnx_dalr.quality.task import Task
from onnx_dalr.request.command import said_as
from onnx_dalr.request.option import SHARED
from onnx_dalr.request.options import Options, PathLike, read_options, take
from onnx_dalr.request.table import of_function
from onnx_dalr.results.compare import ModelComparison, ModelFacts, WorstSample
from onnx_dalr.samples import CLASS_FOLDERS, GivenLabels, InputSpec
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import SampleSet, Sets, opened
from onnx_dalr.session.session import Session, open_session, provider_line
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.session.versions import versions


@on_one_blas_thread
def compare(
    a: PathLike | ModelProto,
    b: PathLike | ModelProto,
    *,
    data: Any,
    labels: GivenLabels | None = None,
    task: str = "auto",
    outputs: str | Iterable[str] = (),
    score: str | Callable[..., Any] | None = None,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    ops_library: PathLike | Sequence[PathLike] = (),
    resize: tuple[int, int] | int | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    scale: float | None = None,
    color: str | None = None,
    layout: str | None = None,
    preset: str | None = None,
    crop: tuple[int, int] | float | str | None = None,
    preprocess: str | Callable[[Any], Any] | None = None,
    worst: int = 5,
    drift: bool = True,
    progress: Progress | None = None,
) -> ModelComparison:
    """Runs two models on the same samples and says what they differ in: outputs, score, size, latency.

    There is no split: every sample counts, so these are samples that neither model was fitted on.

    Args:
        a: Path of the model to compare with, or a ModelProto.
        b: The other one; its inputs and outputs have the same names.
        data: Samples, in any form `optimize` takes as `calib`.
        labels: Class per sample, where they come in no class folders: a `.npy`, a file with one integer a line, or
            integers [N]; [N, …] are classes of tokens or pixels, -100 says that there is none.
        task: "auto", "classify", "regress" or "embed": what the score is.
        outputs: Names of the outputs whose loss counts; all that are the model's answer where left out.
        score: A score of your own, higher is better: a function (outputs, labels) → number or one per sample, or
            "file.py:function". One that takes a third argument is given the original's outputs too.
        samples: Use so many samples at most, drawn by `seed`.
        seed: Of the split, and of what `samples` draws.
        batch_size: Samples run at a time.
        device: "auto", "cpu" or "cuda".
        threads: Threads to work with; where left out as many as there are cores that may be used, by the affinity of
            the process and the CPU quota of its container.
        ops_library: Shared libraries of custom operators that the model uses, for ONNX Runtime to load; one or more.
        resize: Image height and width; before a crop, one number is the shorter side.
        mean: Subtracted from the pixels after `scale`, one value or one per channel.
        std: Pixels are divided by it after that.
        scale: Factor on the pixels 0..255; 1/255 where left out.
        color: "rgb", "bgr" or "gray".
        layout: "nchw" or "nhwc".
        preset: Image settings by name, "imagenet", "tf", "caffe", …; what is given beside it goes first.
        crop: The middle of the image: (height, width), "center" for the model's size, or a fraction such as 0.875.
        preprocess: A function from a Pillow image to an array without the batch axis, or "file.py:function".
        worst: Name so many samples at most that B loses most on; 0 for none.
        drift: Look for the first tensor inside that differs: both models compute them all, on up to 16 samples.
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.

    Returns:
        The differences: `print(result)` is the table, `result.worst` names samples and `result.drift` tensors. A model
        B that gives NaN or infinity is no error: see `result.quality.finite`.

    Raises:
        InputError: Something given cannot be used, or the models differ in their inputs or outputs.
    """
    given = dict(locals())
    command = said_as("compare", given, progress)
    progress = progress or Silent()
    _check_worst(worst)
    how, options = read_options(data, {**take(given, of_function(SHARED)), "holdout": 0.0})
    models = load(a), load(b)
    names = _names(*models)
    specs = common_ends(*models, names, cast=True)
    with opened(options, specs) as read:
        _say(progress, _of_samples(read))
        one, other = (open_session(model.source(), how.runtime) for model in models)
        with _named(names[0]):
            found = look(models[0], how, read, measured=True, progress=progress)
        _say(progress, (provider_line(found.provider, how.runtime), *found.lines))
        sets, apart = _separated(found.sets, other, names[1])
        _say(progress, (f"note: {said}" for said in apart))
        every = sets.fit
        count, smallest = every.one()
        with _named(names[1]):
            other.run(next(iter(every))[1], one.outputs)
            tried = other.run(smallest, one.outputs)
        check_outputs(models, one.outputs, (one.run(smallest), tried), names)
        progress.expect(forecast_comparison(len(every), found.pace, min(len(every), MOST_SAMPLES) if drift else 0))
        assert found.task is not None
        padding = partial(kept_in, name=sets.mask_input)
        with progress.stage(COMPARING, len(every)) as advance:
            quality = evaluate(one, other, every, found.task, every.labels, advance, padding=padding, worst=worst)
        with progress.stage(TIMING, None):
            latency = measure_latency(one, other, smallest, count)
        provider = one.provider
        del one, other  # two more of each are going to be loaded
        inside = _inside(models, every, how, progress) if drift else None
        facts = [_facts(model, names[at], how, sets) for at, model in enumerate(models)]
        return ModelComparison(
            version=__version__,
            a=facts[0],
            b=facts[1],
            description=every.source.description,
            settings=dict(every.source.settings),
            available=len(every.source),
            seed=seed,
            samples=every.ids,
            quality=quality,
            latency=latency,
            device=device,
            provider=provider,
            command=command,
            versions=versions(provider),
            notes=(
                *read.notes,
                *found.notes,
                *apart,
                *_casts(models, specs, names),
                *_notes(every, quality),
                *quality.notes,
            ),
            worst=tuple(_worst(every, quality, found.task)),
            drift=inside,
        )


def _say(progress: Progress, lines: Iterable[str]) -> None:
    for line in lines:
        progress.say(line)


def _of_samples(given: Sets) -> Iterator[str]:
    """What is said of the samples before any is run."""
    yield f"samples: {given.fit.source.description}"
    if given.mask is not None:
        yield f"padding: {given.mask}"
    yield from (f"note: {said}" for said in given.notes)


def _separated(sets: Sets, other: Session, name: str) -> tuple[Sets, tuple[str, ...]]:
    """The samples one by one where the other model, too, must not run them together, and why."""
    if sets.fit.batch_size == 1:
        return sets, ()
    separated, found = without_influence(other, sets)
    return separated, () if found.independent else (f"{name}: {found.note}",)


def _facts(model: Model, name: str, how: Options, sets: Sets) -> ModelFacts:
    with _named(name):
        counted = on_a_sample(model, how.runtime, sets)
    macs = None if counted is None or counted.unknown else counted.whole
    return ModelFacts(model.path, model.size, model.params, formats(contents(model)), macs)


def _inside(models: tuple[Model, Model], every: SampleSet, how: Options, progress: Progress) -> Drift:
    with progress.stage(LOOKING_INSIDE, MOST_SAMPLES) as advance:
        return find_drift(*models, every, how.runtime, advance)


def _check_worst(count: int) -> None:
    if not isinstance(count, int) or count < 0:
        raise InputError(f"--worst {count} is no number of samples", "0 or more")


def _worst(every: SampleSet, quality: Quality, task: Task) -> Iterator[WorstSample]:
    """The samples that lost most, by name, and what both models say of them in the words of the class folders."""
    if not quality.worst_samples:
        return
    from onnx_dalr.samples.images.thumbnail import thumbnail  # noqa: PLC0415 - Pillow is loaded when it is needed

    labels, labelled = every.labels, next((one.name for one in task.measured if one.position == task.labelled), None)
    if labels is not None and labels.ndim > 1:
        labels = None
    names = every.source.classes if labels is not None and every.labels_from == CLASS_FOLDERS else ()
    for one in quality.worst_samples:
        of_labels = one.classes and one.output == labelled
        said = [_said(answer, names if of_labels else ()) for answer in one.answers or ()]
        truth = labels[one.index] if labels is not None and of_labels else -1
        yield WorstSample(
            id=every.source.ids[one.index],
            output=one.output,
            loss=one.loss,
            distortion=one.distortion,
            a=said[0] if said else None,
            b="NaN" if not one.finite else said[1] if said else None,
            label=_said(truth, names) if truth >= 0 else None,
            finite=one.finite,
            thumbnail=thumbnail(every.source, one.index),
        )


def _said(answer: Any, names: Sequence[str]) -> str:
    """An answer in words: the name of a class where there is one, else its number; any other number in four digits."""
    if isinstance(answer, float):
        return f"{answer:.4g}"
    named = not isinstance(answer, str) and 0 <= answer < len(names)
    return (names[answer] if named else "") or str(answer)


def _names(a: Model, b: Model) -> tuple[str, str]:
    """What messages call the two."""
    return str(a.path or "the first model"), str(b.path or "the second model")


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Says in an error which of the two models it is about."""
    try:
        yield
    except InputError as error:
        _, original, rest = error.message.partition("the original model ")
        raise InputError(f"{model} {rest}" if original else f"{model}: {error.message}", error.hint) from error


def _casts(models: Sequence[Model], specs: Sequence[InputSpec], names: Sequence[str]) -> Iterator[str]:
    """Which inputs take another precision than the samples are read in."""
    kinds = {spec.name: spec.dtype for spec in specs}
    for model, name in zip(models, names, strict=True):
        for spec in input_specs(model.proto):
            if spec.dtype != kinds[spec.name]:
                yield f"{name} is fed {spec.name!r} in {spec.dtype.name}, the other model in {kinds[spec.name].name}"


def _notes(every: SampleSet, quality: Quality) -> Iterator[str]:
    if every.source.complete:
        yield (
            "the samples are complete feeds: every step starts from its recorded state, so drift that builds up over "
            "many steps is not in these figures"
        )
    if quality.n < len(every):
        yield f"{len(every) - quality.n} samples are left out: they fill no batch of {every.source.fixed_batch}"
