"""`onnx-dalr apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_dalr.cli import options as o
from onnx_dalr.cli.common import TerminalProgress, exit_codes, out, print_json, reporting_on, show


def apply(
    model: o.Model,
    plan: Annotated[Path, typer.Argument(metavar="PLAN.json", help="What `analyze` wrote.", show_default=False)],
    output: Annotated[
        Path | None, typer.Argument(metavar="OUT.onnx", help="Where to write the smaller one.", show_default=False)
    ] = None,
    *,
    calib: o.Calib = None,
    stats: o.Stats = None,
    task: o.Task = "auto",
    outputs: o.Outputs = None,
    score: o.Score = None,
    samples: o.SampleCount = None,
    seed: o.Seed = 0,
    batch_size: o.BatchSize = None,
    holdout: o.Holdout = 0.3,
    eval_path: o.Eval = None,
    labels: o.Labels = None,
    eval_labels: o.EvalLabels = None,
    mask_input: o.MaskInput = None,
    device: o.Device = "auto",
    ops_library: o.OpsLibrary = None,
    preset: o.Preset = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = None,
    color: o.Color = None,
    layout: o.Layout = None,
    preprocess: o.Preprocess = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    json: o.Json = None,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Rewrite a model by a plan that was made, reviewed and perhaps edited before.

    The factors are learned anew from the samples of --calib, or taken from --stats, where no sample is run.

        onnx-dalr apply in.onnx plan.json out.onnx --stats stats.npz
    """
    given = dict(locals())
    with exit_codes():
        from onnx_dalr.commands.optimize import apply as run  # noqa: PLC0415
        from onnx_dalr.errors import InputError  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.summary import result_view  # noqa: PLC0415

        if output is None and not dry_run:
            raise InputError("OUT.onnx is missing: where is the smaller model to go?", "name it, or use --dry-run")
        for name in ("verbose", "quiet"):
            del given[name]
        result = run(**o.shared_options(given), progress=TerminalProgress(quiet=quiet))
        with reporting_on(result.output):
            if str(json) == "-":
                print_json(result.to_json())
            else:
                show(result_view(result, out.width, verbose=verbose))
