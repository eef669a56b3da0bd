"""`optimize`, from the model and its samples to the file on disk and what it is worth; reads top to bottom."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError, NothingToGainError
from onnx_dalr.evaluate import Task, evaluate, find_task
from onnx_dalr.factorize import Spectrum
from onnx_dalr.graph.layers import Layer, Skipped, find
from onnx_dalr.graph.model import Model, artifact_size, count_params, input_specs, load, metadata, save, staged
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.learn import Learned, learn
from onnx_dalr.options import Options, SampleOptions, make_options
from onnx_dalr.plan import Plan, Target, make_target
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.report.result import LayerResult, Result
from onnx_dalr.run import Run
from onnx_dalr.runtime import open_session, provider_line
from onnx_dalr.samples.image_settings import ImageSettings
from onnx_dalr.search import DropOf, make_plan, sizes_of
from onnx_dalr.selection import check_pattern, select
from onnx_dalr.sets import Sets, opened
from onnx_dalr.verify import slower_note, verify


def optimize(
    model: str | os.PathLike[str] | ModelProto,
    output: str | os.PathLike[str] | None = None,
    *,
    calib: Any,
    rank: int | str | list[int | str] | tuple[int | str, ...] | None = None,
    params: str | float | None = None,
    max_drop: str | float | None = None,
    method: str = "dalr",
    ridge: str | float | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    samples: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    holdout: float = 0.3,
    eval: Any = None,
    labels: str | os.PathLike[str] | None = None,
    eval_labels: str | os.PathLike[str] | None = None,
    mask_input: str | None = None,
    task: str = "auto",
    resize: tuple[int, int] | int | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    scale: float | None = None,
    color: str | None = None,
    layout: str | None = None,
    preset: str | None = None,
    crop: tuple[int, int] | float | str | None = None,
    preprocess: str | Callable[[Any], Any] | None = None,
    thumbnails: str | os.PathLike[str] | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Makes a model smaller for the data it will see.

    Runs the model on the fit samples, factorizes the weights of its Gemm and MatMul nodes, rewrites each into two
    thin ones, and measures the file on disk against the original on samples no decision saw.

    Args:
        model: Path of the original, or a ModelProto.
        output: Path to write; None to get the new model as `result.model`.
        calib: Samples of the target domain: a folder of images, `.npy`, `.npz`, a folder of `.npz`, an array, a dict
            of arrays, any iterable of dicts or arrays, or an onnxruntime CalibrationDataReader.
        rank: Target: a rank for every layer, or "GLOB=64" for some (one or a list).
        params: Target: parameters of the whole model, "6M", "40%" or a number.
        max_drop: Target: score that may be lost, "1%" or 0.01. The default target, with 1 %.
        method: "dalr", "dalr-2017", "svd-bc" or "svd".
        ridge: λ of dalr-2017: relative, 1e-3, or "abs:1000".
        include: Globs on layer, node or weight names; only these layers.
        exclude: Globs; not these layers.
        samples: Use so many samples at most.
        seed: Of the split.
        batch_size: Samples run at a time.
        holdout: Fraction of the samples kept out of the statistics; 0 for none, and no quality figure.
        eval: Report samples of their own, in any form `calib` takes.
        labels: Class per sample of `calib` (`.npy`, or one integer a line), where they come in no class folders.
        eval_labels: The same for `eval`.
        mask_input: Model input whose zeros mark padding; found by itself where it is called attention_mask.
        task: "auto", "classify", "regress" or "embed": what the score is.
        resize: Image height and width; before a crop, one number is the shorter side.
        mean: Subtracted from the pixels after `scale`, one value or one per channel.
        std: Pixels are divided by it after that.
        scale: Factor on the pixels 0..255; 1/255 where left out.
        color: "rgb", "bgr" or "gray".
        layout: "nchw" or "nhwc".
        preset: Image settings by name, "imagenet", "tf", "caffe", …; what is given beside it goes first.
        crop: The middle of the image: (height, width), "center" for the model's size, or a fraction such as 0.875.
        preprocess: A function from a Pillow image to an array without the batch axis, or "file.py:function".
        thumbnails: Draw up to 16 images of the fit set as the model sees them into this PNG.
        device: "auto", "cpu" or "cuda".
        force: Replace an existing output.
        dry_run: Do everything but write.
        progress: Where to report to while it runs.

    Returns:
        What was done: `print(result)` is the table.

    Raises:
        InputError: Something given cannot be used (exit code 2).
        TargetError: The target cannot be met (3).
        VerificationError: The written model does not behave (4). Nothing is left behind.
        NothingToGainError: No layer can be made smaller (5).
    """
    target = make_target(rank, params, max_drop)
    options = make_options(method, ridge, include, exclude, task, device, force, dry_run)
    words: Any = (color, layout, preset, crop, preprocess)  # checked there
    image = ImageSettings(resize, _channels(mean), _channels(std), scale, *words)
    sample_options = SampleOptions(
        calib, eval, eval_labels, labels, samples, seed, batch_size, holdout, mask_input, image
    )
    run = Run(load(model), target, options, progress or Silent())
    destination = None if output is None else Path(output)
    _check_destination(run.original, destination, options)
    layers, skipped = _choose_layers(run.original, target, options)
    with opened(sample_options, input_specs(run.original.proto)) as sets:
        _announce(run, sets)
        if thumbnails is not None:
            _draw_thumbnails(sets, Path(thumbnails), options)
        task_found, provider = _look(run, sets)
        learned = learn(run, layers, sets)
        plan = _decide(run, layers, learned, sets, task_found)
        with run.phase("rewrite"):
            note = _note(run, plan, learned.calibration)
            proto = rewrite(run.original, _substitutions(layers, learned.spectra, plan), note)
        layer_results = tuple(_layer_results(run, layers, learned, plan))
        run.notes.extend(learned.notes)
        facts = sets.facts(learned.calibration)
        del learned  # the largest thing in memory, and verification needs none of it
        with _place(run, destination) as written, run.phase("save and verify"):
            save(proto, run.original, written)
            size = _refuse_larger(written, run.original)
            with run.progress.stage("verifying", len(sets.report)) as advance:
                quality, latency = verify(written, run.original, sets, task_found, options.device, advance)
        slower = slower_note(latency)
        return Result(
            version=__version__,
            input=run.original.path,
            output=None if options.dry_run else destination,
            dry_run=options.dry_run,
            method=options.method.name,
            target=str(target),
            bytes_before=run.original.size,
            bytes_after=size,
            params_before=run.original.params,
            params_after=count_params(proto),
            layers=layer_results,
            skipped=tuple(skipped),
            samples=facts,
            quality=quality,
            latency=latency,
            device=options.device,
            provider=provider,
            evaluations=plan.evaluations,
            seconds=dict(run.seconds),
            notes=(*run.notes, *(quality.notes if quality else ()), *filter(None, [slower])),
            model=proto if destination is None else None,
        )


def _check_destination(original: Model, output: Path | None, options: Options) -> None:
    """Finds out before the work whether the output could be written after it."""
    if output is None:
        return
    if original.path is not None and output.exists() and output.samefile(original.path):
        raise InputError("the output is the input", "give the output another name; the original is never replaced")
    data = output.with_name(output.name + ".data")
    if original.has_external_data and data.exists():
        if any(data.samefile(file) for file in original.data_files if file.exists()):
            raise InputError(f"{data} belongs to the input", "give the output another name")
        if not options.force:
            raise InputError(f"{data} exists already", "give another name, or --force to replace it")
    if not options.dry_run:
        with staged(output, force=options.force) as written:
            written.touch()
            written.unlink()


def _choose_layers(original: Model, target: Target, options: Options) -> tuple[list[Layer], list[Skipped]]:
    found, skipped = find(original)
    for rule in target.ranks:
        if rule.pattern != "*":
            check_pattern("--rank", rule.pattern, found, skipped)
    layers, skipped = select(found, skipped, options.include, options.exclude)
    if not layers:
        raise NothingToGainError("nothing to gain: no layer is eligible", _why_none(skipped))
    return layers, skipped


def _why_none(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return "the model has no Gemm and no MatMul"
    reasons = [entry.reason for entry in skipped]
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f"{len(skipped)} nodes skipped, {reasons.count(common)} of them: {common}"


def _draw_thumbnails(sets: Sets, path: Path, options: Options) -> None:
    from onnx_dalr.samples.contact_sheet import write_thumbnails  # noqa: PLC0415 - Pillow is loaded when it is needed

    write_thumbnails(sets.fit.source, sets.fit.indices, path, force=options.force)


def _announce(run: Run, sets: Sets) -> None:
    earlier = metadata(run.original.proto)
    if earlier is not None:
        run.notes.append(f"the model has been optimized before: {earlier}")
        run.progress.say(run.notes[-1])
    run.progress.say(f"samples: {sets.fit.source.description}")
    settings = ", ".join(f"{name} {value}" for name, value in sets.fit.source.settings.items())
    if settings:
        run.progress.say(f"images: {settings}")
    if sets.report.source.complete:
        run.notes.append(
            "the samples are complete feeds: every step starts from its recorded state, so drift that builds up over "
            "many steps is not in these figures"
        )
    counts = f"fit {len(sets.fit)}, select {len(sets.select)}, report {len(sets.report)}"
    shared = " (the same set)" if sets.split.select_is_report else ""
    run.progress.say(f"split: {counts}{shared}, seed {sets.options.seed}")


def _look(run: Run, sets: Sets) -> tuple[Task | None, str]:
    """What the model is for, from a held-out batch, None where nothing is held out; and the provider that ran it."""
    with run.phase("load"):
        reference = open_session(run.original.source(), run.options.device)
    run.progress.say(provider_line(reference, run.options.device))
    held_out = sets.select if len(sets.select) else sets.report
    if not len(held_out):
        return None, reference.provider
    _, batch = next(iter(held_out))
    found = find_task(run.options.task, reference.run(batch), held_out.classes)
    run.progress.say(f"task: {found.kind} ({found.why})")
    return found, reference.provider


def _decide(run: Run, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task | None) -> Plan:
    """The ranks.

    Raises:
        NothingToGainError: All layers stay dense.
    """
    with run.phase("decide"):
        scored = None
        if run.target.max_drop is not None and len(sets.select) and task is not None:
            scored = _scorer(run, layers, learned, sets, task)
        plan = make_plan(run.target, layers, learned.spectra, run.options.method, run.original.params, scored)
    if not plan.compressed:
        reasons = "; ".join(sorted({choice.reason for choice in plan.choices}))
        raise NothingToGainError(f"nothing to gain: every layer stays dense ({reasons})")
    return plan


def _scorer(run: Run, layers: Sequence[Layer], learned: Learned, sets: Sets, task: Task) -> DropOf:
    """Measures the drop of a plan's model on the select samples."""
    reference = open_session(run.original.source(), run.options.device)

    def drop_of(plan: Plan) -> float:
        proto = rewrite(run.original, _substitutions(layers, learned.spectra, plan))
        with _loadable(run.original, proto) as source:
            candidate = open_session(source, run.options.device)
        quality = evaluate(reference, candidate, sets.select, task, sets.select.source.labels)
        drop = quality.drop.value if quality.finite else float("inf")
        params = count_params(proto)
        run.progress.say(
            f"tried {params:,} parameters ({100 * params / run.original.params:.1f} %): "
            f"{quality.score} drops {100 * drop:.2f} points on {quality.n} select samples"
        )
        return drop

    return drop_of


@contextmanager
def _loadable(original: Model, proto: ModelProto) -> Iterator[Path | bytes]:
    """A candidate as ONNX Runtime can load it: from memory, or from disk where it may be too large for that."""
    if not original.has_external_data:
        yield proto.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
        save(proto, original, Path(folder) / "candidate.onnx")
        yield Path(folder) / "candidate.onnx"


def _substitutions(layers: Sequence[Layer], spectra: Mapping[str, Spectrum], plan: Plan) -> Iterator[Substitution]:
    """One layer's factors at a time: in float64 those of all layers would be more than the model."""
    for layer, choice in zip(layers, plan.choices, strict=True):
        if choice.rank is not None:
            factors = spectra[layer.name].factors(choice.rank)
            yield Substitution(layer, factors.A, factors.B, factors.shift)


def _note(run: Run, plan: Plan, calibration: str) -> str:
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
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def _place(run: Run, destination: Path | None) -> Iterator[Path]:
    """Where the model is written to be verified: beside its destination, or nowhere that lasts."""
    if destination is not None and not run.options.dry_run:
        with staged(destination, force=run.options.force) as written:
            yield written
        return
    try:
        with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
            yield Path(folder) / (destination.name if destination else "model.onnx")
    except OSError as error:
        raise InputError(f"cannot write to the temporary folder: {error.strerror or error}") from error


def _refuse_larger(written: Path, original: Model) -> int:
    size = artifact_size(written)
    if size >= original.size:
        raise NothingToGainError(
            f"nothing to gain: at these ranks the file would have {size:,} bytes instead of {original.size:,}",
            "ask for less",
        )
    return size


def _layer_results(run: Run, layers: Sequence[Layer], learned: Learned, plan: Plan) -> Iterator[LayerResult]:
    sizes = sizes_of(layers, run.options.method)
    for layer, size, choice in zip(layers, sizes, plan.choices, strict=True):
        spectrum, rank = learned.spectra[layer.name], choice.rank
        after = size.params(rank)
        yield LayerResult(
            name=layer.name,
            weight=layer.weight,
            op=layer.op,
            nodes=layer.nodes,
            m=layer.m,
            n=layer.n,
            rank=rank,
            break_even=size.largest_rank,
            params_before=layer.params,
            params_after=after,
            bytes_before=layer.params * layer.dtype.itemsize,
            bytes_after=after * layer.dtype.itemsize,
            method=None if rank is None else spectrum.method,
            calibration_error=None if rank is None else spectrum.calibration_error(rank),
            expected_error=None if rank is None else spectrum.expected_error(rank),
            rows=learned.rows[layer.name],
            ridge=spectrum.ridge,
            shrinkage=spectrum.shrinkage,
            reason=choice.reason,
        )


def _channels(values: Sequence[float] | float | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
