"""`optimize`, from the model and its samples to the file on disk and what it is worth; reads top to bottom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_dalr._version import __version__
from onnx_dalr.decide import plan_by_samples, plan_by_sizes, substitutions
from onnx_dalr.destination import STANDARD_OUTPUT, Destination, refuse_larger, write_text
from onnx_dalr.errors import NothingToGainError
from onnx_dalr.evaluate import Task, find_task
from onnx_dalr.graph.layers import Layer, Skipped, find
from onnx_dalr.graph.model import Model, count_params, input_specs, load, metadata, save
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.learn import Learned, learn
from onnx_dalr.options import Options, SampleOptions, make_options
from onnx_dalr.plan import Plan, Target, make_target
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.report.result import LayerResult, Result
from onnx_dalr.run import Run
from onnx_dalr.runtime import open_session, provider_line
from onnx_dalr.samples.image_settings import ImageSettings
from onnx_dalr.search import sizes_of
from onnx_dalr.selection import check_pattern, left_out, select
from onnx_dalr.sets import Sets, opened
from onnx_dalr.verify import verify


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
    json: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Makes a model smaller for the data it will see.

    Runs the model on the fit samples, factorizes the weights of its Gemm, MatMul and 1×1 Conv nodes, rewrites each
    into two thin ones, and measures the file on disk against the original on samples no decision saw.

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
        json: Write the report as JSON here, just before the model is moved into place.
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
    destination = Destination(
        None if output is None else Path(output),
        None if json is None else Path(json),
        force,
        dry_run,
        None if thumbnails is None else Path(thumbnails),
    )
    destination.check(run.original, _files_read(calib, eval, labels, eval_labels, preprocess))
    layers, skipped = _choose_layers(run.original, target, options)
    with opened(sample_options, input_specs(run.original.proto)) as sets:
        _announce(run, sets)
        plan = plan_by_sizes(run, layers, sets)
        if thumbnails is not None:
            _draw_thumbnails(sets, Path(thumbnails), options)
        task_found, provider = _look(run, sets)
        learned = learn(run, layers, sets)
        unreached = [layer for layer in layers if layer.name not in learned.spectra]
        if unreached:
            layers = [layer for layer in layers if layer.name in learned.spectra]
            skipped = [*skipped, *(left_out(layer, "no row of the samples reached it") for layer in unreached)]
            plan = plan_by_sizes(run, layers, sets)
        if plan is None:
            plan = plan_by_samples(run, layers, learned, sets, task_found)
        with run.phase("rewrite"):
            note = _note(run, plan, learned.calibration)
            proto = rewrite(run.original, substitutions(layers, learned.spectra, plan), note)
        layer_results = tuple(_layer_results(run, layers, learned, plan))
        facts, fitted = sets.facts(learned.calibration), learned.digests
        run.notes.extend(learned.notes)
        del learned  # the largest thing in memory, and verification needs none of it
        with destination.place() as written:
            with run.phase("save and verify"), run.progress.stage("verifying", len(sets.report)) as advance:
                save(proto, run.original, written)
                size = refuse_larger(written, run.original)
                verified = verify(written, run.original, sets, task_found, options.device, advance)
            result = Result(
                version=__version__,
                input=run.original.path,
                output=None if dry_run else destination.output,
                dry_run=dry_run,
                method=options.method.name,
                target=str(target),
                bytes_before=run.original.size,
                bytes_after=size,
                params_before=run.original.params,
                params_after=count_params(proto),
                layers=layer_results,
                skipped=tuple(skipped),
                samples=facts,
                quality=verified.quality,
                latency=verified.latency,
                device=options.device,
                provider=provider,
                evaluations=plan.evaluations,
                passes=plan.passes,
                seconds=dict(run.seconds),
                notes=(*run.notes, *verified.notes(fitted)),
                model=proto if output is None else None,
            )
            if destination.report not in (None, STANDARD_OUTPUT):
                write_text(destination.report, result.to_json())
    return result


def _files_read(calib: Any, eval: Any, labels: Any, eval_labels: Any, preprocess: Any) -> list[Path]:
    """Files and folders among what a user gave; "file.py:function" is one too."""
    code = preprocess.rpartition(":")[0] if isinstance(preprocess, str) else ""
    given = (calib, eval, labels, eval_labels, code or None)
    return [Path(path) for path in given if isinstance(path, str | os.PathLike)]


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
        return "the model has no Gemm, MatMul or Conv"
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
    outputs = reference.run(batch)
    if not all(np.array_equal(one, two) for one, two in zip(outputs, reference.run(batch), strict=True)):
        run.notes.append(
            "the original gives other outputs each time it runs (it draws random numbers, perhaps): that much of the "
            "error is its own"
        )
    found = find_task(run.options.task, outputs, held_out.classes)
    run.progress.say(f"task: {found.kind} ({found.why})")
    return found, reference.provider


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
    return dumps(facts, ensure_ascii=False, separators=(",", ":"))


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
