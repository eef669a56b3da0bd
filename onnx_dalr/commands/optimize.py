"""`optimize`: from the model and its samples to the file on disk and what it is worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_dalr.commands.analysis import analysis_of
from onnx_dalr.commands.asked import Asked
from onnx_dalr.errors import InputError
from onnx_dalr.files import files_read
from onnx_dalr.graph.storage.model import load
from onnx_dalr.plan.file import load as read_plan
from onnx_dalr.plan.fit import check_plan, fitted_to, options_of
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.request.command import said_as
from onnx_dalr.request.context import UNNAMED, Context
from onnx_dalr.request.option import PLAN, SHARED
from onnx_dalr.request.options import PathLike, paths, read_options, take
from onnx_dalr.request.table import of_function
from onnx_dalr.request.target import is_asked_for, make_target
from onnx_dalr.results.result import Result
from onnx_dalr.samples import GivenLabels
from onnx_dalr.session.threads import on_one_blas_thread
from onnx_dalr.tune import below
from onnx_dalr.write.destination import Destination
from onnx_dalr.write.produce import produce


@on_one_blas_thread
def optimize(
    model: PathLike | ModelProto,
    output: PathLike | None = None,
    *,
    calib: Any = None,
    rank: int | str | Sequence[int | str] | None = None,
    size: str | float | None = None,
    params: str | float | None = None,
    macs: str | float | None = None,
    latency: str | float | None = None,
    max_drop: str | float | None = None,
    max_error: str | float | None = None,
    energy: str | float | None = None,
    rank_multiple: int = 1,
    min_rank: int = 1,
    confidence: str | float | None = None,
    best_effort: bool = False,
    plan: Plan | PathLike | None = None,
    save_plan: PathLike | None = None,
    stats: PathLike | Sequence[PathLike] = (),
    save_stats: PathLike | None = None,
    method: str = "dalr",
    ridge: str | float | None = None,
    shrinkage: str | float | None = None,
    metric: bool = True,
    structures: str | Iterable[str] = "auto",
    weights: str | Iterable[str] = "keep",
    memory: str = "keep",
    refit: str = "auto",
    tune: str | int = "auto",
    tune_time: str | float | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    samples: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    holdout: float = 0.3,
    eval: Any = None,
    labels: GivenLabels | None = None,
    eval_labels: GivenLabels | None = None,
    mask_input: str | None = None,
    task: str = "auto",
    outputs: str | Iterable[str] = (),
    score: str | Callable[..., Any] | None = None,
    resize: tuple[int, int] | int | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    scale: float | None = None,
    color: str | None = None,
    layout: str | None = None,
    preset: str | None = None,
    crop: tuple[int, int] | float | str | None = None,
    preprocess: str | Callable[[Any], Any] | None = None,
    thumbnails: PathLike | None = None,
    device: str = "auto",
    threads: int | None = None,
    ops_library: PathLike | Sequence[PathLike] = (),
    workers: int | None = None,
    cluster: str | None = None,
    work_dir: PathLike | None = None,
    force: bool = False,
    dry_run: bool = False,
    json: PathLike | None = None,
    report: PathLike | None = None,
    progress: Progress | None = None,
) -> Result:
    """Makes a model smaller for the data it will see.

    Runs the model on the fit samples, factorizes the weights of its Gemm, MatMul, Conv and ConvTranspose nodes, kernels
    of any size with one group, rewrites each into two or three thin ones, and measures the file on disk against the
    original on samples no decision saw.

    Args:
        model: Path of the original, or a ModelProto.
        output: Path to write; None to get the new model as `result.model`.
        calib: Samples of the target domain: a folder of images, `.npy`, `.npz`, a folder of `.npz`, an array, a dict of
            arrays, any iterable of dicts, arrays or pairs of these and labels, or an onnxruntime CalibrationDataReader.
        rank: Target: a rank for every layer, or "GLOB=64" for some (one or a list); beside another target, "GLOB=64"
            and "GLOB=keep" pin single layers.
        size: Target: bytes on disk of the whole artifact, "12MB", "40%" or a number.
        params: Target: parameters of the whole model, "6M", "40%" or a number.
        macs: Target: multiply-adds of the whole model for one sample, "300M", "50%" or a number.
        latency: Target: time of a run on one sample, "50%" or 0.5 of what the original takes here; it is measured.
        max_drop: Target: score that may be lost, "1%" or 0.01. The default target, with 1 %.
        max_error: Target: relative error of the worst output, 0.02.
        energy: Target: share of each layer's own output variance to keep, 0.99 (LRDKT's rule).
        rank_multiple: Choose ranks that are multiples of it.
        min_rank: Choose no rank below it.
        confidence: Hold `max_drop` or `max_error` with this confidence, "95%" or 0.95, not just on the samples.
        best_effort: Where the target cannot be met, take the closest model there is, with a note.
        plan: A Plan or its file, in place of a target.
        save_plan: Write the plan here.
        stats: Files written by `save_stats`, in place of running the fit samples; several are added up. Without `calib`
            nothing is chosen on samples, and `eval` is what quality is measured on.
        save_stats: Write the statistics of the fit samples here.
        method: "dalr", "dalr-2017", "svd-bc" or "svd".
        ridge: λ of dalr-2017: relative, 1e-3, or "abs:1000".
        shrinkage: How far `dalr` shrinks the covariance, 0 to 1; None for OAS, and a choice where samples are few.
        metric: Whether `dalr` weighs a layer's outputs by what they do to the network's, from gradients.
        structures: How weights may be taken apart: "auto" for any way there is, "spatial" for kernels one axis after
            the other and matrices in pairs, or names such as "out,in"; "GLOB=spatial" for some layers (one or a list).
        weights: How numbers are stored: "keep" for the element type they have, "float16", "int8", "int4", or "auto" for
            any of them, layer by layer; "GLOB=int8" for some layers (one or a list).
        memory: "keep" for weights that are floats while the model runs, "small" for int8 and int4 that stay packed then
            where ONNX Runtime takes them so.
        refit: "auto" to fit layers again, front to back, to what enters them once the layers before are compressed,
            where that does better on the select samples; "off" to leave them.
        tune: "auto" to let factors, scales and biases learn from the original what was lost, without labels, where
            samples that chose nothing prove that it helps; "off" to leave them; or a number of steps.
        tune_time: Time that tuning may take: "10m", "90s", "1h" or seconds; as long as the search before it where left
            out.
        include: Globs on layer, node or weight names; only these layers.
        exclude: Globs; not these layers.
        samples: Use so many samples at most, drawn by `seed`.
        seed: Of the split, and of what `samples` draws.
        batch_size: Samples run at a time.
        holdout: Fraction of the samples kept out of the statistics; 0 for none, and no quality figure.
        eval: Report samples of their own, in any form `calib` takes.
        labels: Class per sample of `calib`, where they come in no class folders: a `.npy`, a file with one integer a
            line, or integers [N]; [N, …] are classes of tokens or pixels, -100 says that there is none.
        eval_labels: Class per sample of `eval`, in any form `labels` takes.
        mask_input: Model input that marks padding, by zeros or, added to attention scores, by large negative values;
            found by its name (attention_mask, input_mask) or, where it is additive, by its values.
        task: "auto", "classify", "regress" or "embed": what the score is.
        outputs: Names of the outputs whose loss counts; all that are the model's answer where left out.
        score: A score of your own, higher is better: a function (outputs, labels) → number or one per sample, or
            "file.py:function". One that takes a third argument is given the original's outputs too.
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
        threads: Threads to work with; where left out as many as there are cores that may be used, by the affinity of
            the process and the CPU quota of its container.
        ops_library: Shared libraries of custom operators that the model uses, for ONNX Runtime to load; one or more.
        workers: Run the fit samples in so many processes of Dask on this machine.
        cluster: Run them on the workers of a Dask cluster: the address of its scheduler, "tcp://host:8786".
        work_dir: A folder in which statistics and scored candidates are kept: a run that was killed goes on from there.
        force: Replace existing files: the output, a plan, statistics, a sheet of thumbnails.
        dry_run: Do everything but write.
        json: Write the report as JSON here, in place of an older one; it comes into place with the model.
        report: Write the report as one HTML page here, with plots, in place of an older one; it comes with the model.
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.

    Returns:
        What was done: `print(result)` is the table.

    Raises:
        InputError: Something given cannot be used (exit code 2).
        TargetError: The target cannot be met (3).
        VerificationError: The written model does not behave (4). Nothing is left behind.
        NothingToGainError: No layer can be made smaller (5).
    """
    return make("optimize", dict(locals()))


def make(command: str, given: Mapping[str, Any]) -> Result:
    """What `optimize` and `apply` do.

    Args:
        command: Which of them.
        given: What it was given, by name; what is left out has the default of `optimize`.

    Raises:
        InputError: As `optimize`, and so are the others.
        TargetError: The target cannot be met.
        VerificationError: The written model does not behave.
        NothingToGainError: No layer can be made smaller.
    """
    given = {name: one.default for name, one in signature(optimize).parameters.items()} | dict(given)
    left, get, plan = dict(given), given.get, given["plan"]
    target_options = take(left, of_function(PLAN))
    if plan is not None and is_asked_for(target_options):
        raise InputError("a plan and a target are given", "a plan has its ranks already: leave the target out")
    target = None if plan is not None else make_target(**target_options)
    options, sample_options = read_options(get("calib"), take(left, of_function(SHARED)))
    made = Plan(**read_plan(plan)) if isinstance(plan, str | os.PathLike) else plan
    if made is not None:
        options = options_of(made.method, made.settings, made.choices, options)
    output, thumbnails, files = get("output"), get("thumbnails"), paths(given["stats"])
    context = Context(load(given["model"]), options, get("progress") or Silent(), Path(output or UNNAMED).name)
    destination = Destination(
        output=_path(output),
        json=_path(get("json")),
        page=_path(get("report")),
        force=given["force"],
        dry_run=given["dry_run"],
        thumbnails=_path(thumbnails),
        plan=_path(get("save_plan")),
        stats=_path(get("save_stats")),
        command=said_as(command, given, get("progress")),
    )
    samples = (get(name) for name in ("calib", "eval", "labels", "eval_labels"))
    read = files_read(*samples, *files, *options.ops_libraries, plan, code=(get("preprocess"), get("score")))
    destination.check(context.original, read)
    asked = Asked(
        sample_options,
        stats=files,
        target=target,
        only=None if made is None else check_plan(made.choices, made.model, context.original),
        keep=destination.stats is not None,
        thumbnails=None if thumbnails is None else (Path(thumbnails), given["force"]),
        written=True,
    )
    with analysis_of(context, asked) as analysis:
        if made is not None:
            choices, curve = fitted_to(made.choices, made.curve, context, analysis.layers)
            return produce(analysis, replace(made, choices=choices, curve=curve), destination)
        assert target is not None
        chosen = analysis.plan_for(target)
        ready = below(chosen, analysis)
        return produce(analysis, chosen if ready is None else ready.plan, destination, ready, target=target)


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given)
