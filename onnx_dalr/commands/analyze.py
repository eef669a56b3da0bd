"""`analyze`: everything up to the plan."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from onnx import ModelProto

from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.commands.analysis import analysis_of
from onnx_dalr.commands.asked import Asked
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import PathLike, Shared, paths, read_options
from onnx_dalr.request.target import Target
from onnx_dalr.session.threads import on_one_blas_thread


@on_one_blas_thread
def analyze(
    model: PathLike | ModelProto | Model,
    *,
    calib: Any = None,
    stats: PathLike | Sequence[PathLike] = (),
    target: Target | None = None,
    thumbnails: PathLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Shared],
) -> Analysis:
    """Everything up to the plan: the layers, and what the samples of the target domain say of them.

    Args:
        model: Path of the model, a ModelProto, or what is loaded already.
        calib: Samples of the target domain, in any form `optimize` takes; to apply a plan, the same again.
        stats: Files written by `save_stats`, in place of running the fit samples; several are added up. Without `calib`
            nothing is chosen on samples, and `eval` is what quality is measured on.
        target: What a plan is going to be asked for: what cannot be met is then refused before samples are run.
        thumbnails: Draw up to 16 images of the fit set as the model sees them into this PNG.
        force: Replace existing files: the output, a plan, statistics, a sheet of thumbnails.
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.
        options: The options of `optimize` that choose layers, method, samples and task.

    Returns:
        `analysis.plan(size="40%")` makes plans, `analysis.stats` is what to apply them with.

    Raises:
        InputError: Something given cannot be used (exit code 2).
        TargetError: The target cannot be met (3).
        NothingToGainError: No layer is eligible (5).
    """
    chosen, sample_options = read_options(calib, options)
    context = Context(load(model), chosen, progress or Silent())
    sheet = None if thumbnails is None else (Path(thumbnails), force)
    asked = Asked(sample_options, stats=paths(stats), target=target, keep=True, thumbnails=sheet)
    stack = ExitStack()
    return stack.enter_context(analysis_of(context, asked)).closed_by(stack)
