"""`onnx-dalr compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_dalr.cli import options as o
from onnx_dalr.cli.common import TerminalProgress, check_json, exit_codes, out, reporting_on, show, write_json
from onnx_dalr.files import files_read


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.onnx", readable=False, help="The model to compare with.")],
    b: Annotated[Path, typer.Argument(metavar="B.onnx", readable=False, help="The other one.")],
    *,
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Samples neither was fitted on: a folder of images, .npy, .npz or a folder of .npz.",
            rich_help_panel=o.SAMPLES,
            show_default=False,
        ),
    ],
    labels: o.Labels = None,
    task: o.Task = "auto",
    outputs: o.Outputs = None,
    score: o.Score = None,
    samples: o.SampleCount = None,
    seed: o.Seed = 0,
    batch_size: o.BatchSize = None,
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
    json: o.Json = None,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Show what two models differ in: outputs, score, size, latency.

    Runs both on all samples of PATH. A model B that gives NaN is no failure: the table says so, and exit code 0.

        onnx-dalr compare in.onnx out.onnx --data images/
    """
    given = dict(locals())
    with exit_codes():
        from onnx_dalr.commands.compare import compare as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.comparison import comparison_view  # noqa: PLC0415

        for name in ("json", "verbose", "quiet"):
            del given[name]
        check_json(json, files_read(a, b, data, labels, *(ops_library or ()), code=(preprocess, score)))
        found = run(**o.shared_options(given), progress=TerminalProgress(quiet=quiet))
        write_json(json, found.to_json())
        if str(json) != "-":
            with reporting_on(json):
                show(comparison_view(found, out.width, verbose=verbose))
