"""`onnx-dalr optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_dalr.cli import options as o
from onnx_dalr.cli.common import TerminalProgress, exit_codes, out, print_json, reporting_on, show


def optimize(
    model: o.Model,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUT.onnx", help="Where to write the smaller one.", show_default=False)
    ] = None,
    *,
    calib: o.Calib = None,
    size: o.Size = None,
    params: o.Params = None,
    max_drop: o.MaxDrop = None,
    max_error: o.MaxError = None,
    energy: o.Energy = None,
    rank: o.Rank = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plan in place of a target.", rich_help_panel=o.TARGET)
    ] = None,
    confidence: o.Confidence = None,
    best_effort: o.BestEffort = False,
    rank_multiple: o.RankMultiple = 1,
    min_rank: o.MinRank = 1,
    method: o.Method = "dalr",
    ridge: o.RidgeOption = None,
    shrinkage: o.Shrinkage = None,
    no_metric: o.NoMetric = False,
    include: o.Include = None,
    exclude: o.Exclude = None,
    task: o.Task = "auto",
    outputs: o.Outputs = None,
    score: o.Score = None,
    stats: o.Stats = None,
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
    thumbnails: o.Thumbnails = None,
    save_plan: o.SavePlan = None,
    save_stats: o.SaveStats = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    json: o.Json = None,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a model smaller for the data it will see.

    Runs IN.onnx on samples of the target domain, factorizes the weights of its Gemm, MatMul and 1×1 Conv nodes, writes
    OUT.onnx and measures that file on held-out samples.

        onnx-dalr optimize in.onnx out.onnx --calib images/
    """
    given = dict(locals())
    with exit_codes():
        from onnx_dalr.commands.optimize import optimize as run  # noqa: PLC0415
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
