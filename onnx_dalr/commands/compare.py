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
from onnx_dalr.graph.ends import common_ends
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.look.first import look
from onnx_dalr.look.independence import without_influence
from onnx_dalr.progress import COMPARING, TIMING, Progress, Silent
from onnx_dalr.quality.evaluate import Quality, evaluate, measure_latency
from onnx_dalr.request.option import SHARED
from onnx_dalr.request.options import PathLike, read_options, take
from onnx_dalr.request.table import of_function
from onnx_dalr.results.compare import ModelComparison, ModelFacts
from onnx_dalr.samples import GivenLabels
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import SampleSet, Sets, opened
from onnx_dalr.session.session import Session, open_session, provider_line


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
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.

    Returns:
        The differences: `print(result)` is the table. A model B that gives NaN or infinity is no error: see
        `result.quality.finite`.

    Raises:
        InputError: Something given cannot be used, or the models differ in their inputs or outputs.
    """
    given = dict(locals())
    progress = progress or Silent()
    how, options = read_options(data, {**take(given, of_function(SHARED)), "holdout": 0.0})
    models = load(a), load(b)
    names = _names(*models)
    specs = common_ends(*models, names)
    with opened(options, specs) as read:
        _say(progress, _of_samples(read))
        one, other = (open_session(model.source(), how.runtime) for model in models)
        with _named(names[0]):
            found = look(models[0], how, read, measured=True, progress=progress)
        _say(progress, (provider_line(found.provider, how.runtime), *found.lines))
        sets, apart = _separated(found.sets, other, names[1])
        _say(progress, (f"note: {said}" for said in apart))
        every = sets.fit
        with _named(names[1]):
            other.run(next(iter(every))[1], one.outputs)
        progress.expect(forecast_comparison(len(every), found.pace))
        assert found.task is not None
        padding = partial(kept_in, name=sets.mask_input)
        with progress.stage(COMPARING, len(every)) as advance:
            quality = evaluate(one, other, every, found.task, every.labels, advance, padding=padding)
        with progress.stage(TIMING, None):
            count, smallest = every.one()
            latency = measure_latency(one, other, smallest, count)
        return ModelComparison(
            version=__version__,
            a=_facts(models[0]),
            b=_facts(models[1]),
            description=every.source.description,
            settings=dict(every.source.settings),
            available=len(every.source),
            seed=seed,
            samples=every.ids,
            quality=quality,
            latency=latency,
            device=device,
            provider=one.provider,
            notes=(*read.notes, *found.notes, *apart, *_notes(every, quality), *quality.notes),
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


def _facts(model: Model) -> ModelFacts:
    return ModelFacts(model.path, model.size, model.params, formats(contents(model)))


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


def _notes(every: SampleSet, quality: Quality) -> Iterator[str]:
    if every.source.complete:
        yield (
            "the samples are complete feeds: every step starts from its recorded state, so drift that builds up over "
            "many steps is not in these figures"
        )
    if quality.n < len(every):
        yield f"{len(every) - quality.n} samples are left out: they fill no batch of {every.source.fixed_batch}"
