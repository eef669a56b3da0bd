"""`onnx-dalr analyze`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from onnx_dalr.cli import options as o
from onnx_dalr.cli.common import TerminalProgress, exit_codes, out, reporting_on, show
from onnx_dalr.errors import one_line
from onnx_dalr.files import files_read, together

_PLANS = (
    "rank",
    "size",
    "params",
    "max_drop",
    "max_error",
    "energy",
    "rank_multiple",
    "min_rank",
    "confidence",
    "best_effort",
)


def analyze(
    model: o.Model,
    *,
    calib: o.Calib = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--save-plan",
            "-o",
            metavar="PLAN.json",
            help="Write the plan; - for standard output.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    size: o.Size = None,
    params: o.Params = None,
    max_drop: o.MaxDrop = None,
    max_error: o.MaxError = None,
    energy: o.Energy = None,
    rank: o.Rank = None,
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
    labels: o.Labels = None,
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
    save_stats: o.SaveStats = None,
    force: o.Force = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the plan and show the curves; nothing is written but the plan, and the statistics where asked for.

    onnx-dalr analyze in.onnx --calib images/ --size 40% -o plan.json
    """
    given = dict(locals())
    with exit_codes():
        from onnx_dalr.commands.optimize import analyze as run  # noqa: PLC0415
        from onnx_dalr.graph.storage.model import load  # noqa: PLC0415
        from onnx_dalr.report.planned import analysis_view, plan_view  # noqa: PLC0415
        from onnx_dalr.request.target import make_target  # noqa: PLC0415
        from onnx_dalr.write.destination import Destination  # noqa: PLC0415 - heavy: not for --help

        plan_file = None if str(output) == "-" else output
        written = Destination(force=force, thumbnails=thumbnails, plan=plan_file, stats=save_stats, plan_option="-o")
        read = files_read(calib, labels, *(stats or ()), *(ops_library or ()), code=(preprocess, score))
        original = load(model)
        written.check(original, read)
        target = make_target(**o.shared_options({name: given.pop(name) for name in _PLANS}))
        for name in ("output", "save_stats", "verbose", "quiet"):
            del given[name]
        shared = o.shared_options(given | {"model": original})
        with run(**shared, target=target, progress=TerminalProgress(quiet=quiet)) as analysis:
            plan = analysis.plan_for(target)
            with together() as files:
                written.write_beside(files, analysis, plan)
            with reporting_on(output, save_stats):
                if str(output) == "-":
                    sys.stdout.write(plan.to_json())
                else:
                    show(plan_view(plan, out.width, verbose=verbose))
                    show(Text())
                    show(analysis_view(analysis, out.width))
                    for note in analysis.run.notes:
                        show(Text(f"note: {one_line(note)}"))
