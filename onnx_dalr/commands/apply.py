"""`apply`: a plan that was made before, to the file on disk and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from onnx import ModelProto

from onnx_dalr.commands.optimize import make
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import Progress
from onnx_dalr.request.option import SHARED
from onnx_dalr.request.options import PathLike, Shared
from onnx_dalr.request.table import of_function
from onnx_dalr.results.result import Result
from onnx_dalr.session.threads import on_one_blas_thread


@on_one_blas_thread
def apply(
    model: PathLike | ModelProto,
    plan: Plan | PathLike,
    output: PathLike | None = None,
    *,
    calib: Any = None,
    stats: PathLike | Sequence[PathLike] = (),
    force: bool = False,
    dry_run: bool = False,
    json: PathLike | None = None,
    report: PathLike | None = None,
    progress: Progress | None = None,
    **options: Unpack[Shared],
) -> Result:
    """Rewrites a model by a plan that was made, reviewed and perhaps edited before.

    Args:
        model: The model the plan is for.
        plan: A Plan, or its file.
        output: Path to write; None to get the new model as `result.model`.
        calib: Samples of the target domain, in any form `optimize` takes; to apply a plan, the same again.
        stats: Files written by `save_stats`, in place of running the fit samples; several are added up. Without `calib`
            nothing is chosen on samples, and `eval` is what quality is measured on.
        force: Replace existing files: the output, a plan, statistics, a sheet of thumbnails.
        dry_run: Do everything but write.
        json: Write the report as JSON here, in place of an older one; it comes into place with the model.
        report: Write the report as one HTML page here, with plots, in place of an older one; it comes with the model.
        progress: Where to report to while it runs: an object that overrides what it wants to hear of
            `onnx_dalr.progress.Silent`.
        options: The options of `optimize` that choose samples and task.

    Returns:
        What was done: `print(result)` is the table.

    Raises:
        InputError: Something given cannot be used, a plan of another model say (exit code 2).
        VerificationError: The written model does not behave (4). Nothing is left behind.
        NothingToGainError: The plan keeps every layer (5).
    """
    given = dict(locals())
    more = given.pop("options")
    if unknown := more.keys() - of_function(SHARED).keys():
        raise TypeError(f"apply() got an unexpected keyword argument {min(unknown)!r}")
    return make("apply", {**given, **more})
