"""`onnx-dalr optimize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_dalr.cli.common import TerminalProgress, exit_codes, out, show
from onnx_dalr.cli.values import image_crop, image_size, number, numbers

_TARGET = "Target (one of; default: --max-drop 1%)"
_LAYERS = "Layers and method"
_SAMPLES = "Samples"
_IMAGES = "Images"
_OUTPUT = "Output"


def optimize(
    model: Annotated[
        Path, typer.Argument(metavar="IN.onnx", readable=False, help="The model to compress; never changed.")
    ],
    output: Annotated[
        Path | None, typer.Argument(metavar="OUT.onnx", help="Where to write the smaller one.", show_default=False)
    ] = None,
    *,
    calib: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Samples of the target domain: a folder of images, .npy, .npz or a folder of .npz.",
            rich_help_panel=_SAMPLES,
            show_default=False,
        ),
    ],
    rank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="K|GLOB=K",
            help="A rank for every layer, or for those a pattern matches; repeatable.",
            rich_help_panel=_TARGET,
        ),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(metavar="6M|40%", help="Parameters of the whole model.", rich_help_panel=_TARGET),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(metavar="1%", help="Score that may be lost, in percentage points.", rich_help_panel=_TARGET),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="dalr, dalr-2017, svd-bc or svd.", rich_help_panel=_LAYERS)
    ] = "dalr",
    ridge: Annotated[
        str | None,
        typer.Option(metavar="1e-3|abs:1000", help="λ of dalr-2017 [default: 1e-3].", rich_help_panel=_LAYERS),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only layers with such a node or weight name.", rich_help_panel=_LAYERS),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave these layers alone.", rich_help_panel=_LAYERS),
    ] = None,
    task: Annotated[
        str,
        typer.Option(metavar="NAME", help="auto, classify, regress or embed: what is scored.", rich_help_panel=_LAYERS),
    ] = "auto",
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Use at most so many.", rich_help_panel=_SAMPLES)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.", rich_help_panel=_SAMPLES)] = 0,
    batch_size: Annotated[
        int | None, typer.Option(metavar="B", help="Run so many at a time [default: 32].", rich_help_panel=_SAMPLES)
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Fraction kept out of the statistics; 0: no quality figure.", rich_help_panel=_SAMPLES)
    ] = 0.3,
    eval_path: Annotated[
        Path | None,
        typer.Option("--eval", metavar="PATH", help="Report quality on these samples.", rich_help_panel=_SAMPLES),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of --calib: .npy, or one integer a line.", rich_help_panel=_SAMPLES),
    ] = None,
    eval_labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of --eval.", rich_help_panel=_SAMPLES)
    ] = None,
    mask_input: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Input whose zeros are padding [default: attention_mask].", rich_help_panel=_SAMPLES
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.", rich_help_panel=_SAMPLES)] = "auto",
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="imagenet, tf, caffe, clip, unit, raw, …: fills in the rest.", rich_help_panel=_IMAGES
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|N",
            help="Size in pixels [default: the model's]; before --crop, N is the shorter side.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|center|F",
            help="Cut out the middle: so many pixels, the model's size, or a fraction.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Subtracted after scaling, e.g. .485,.456,.406.", rich_help_panel=_IMAGES),
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="Divided by, then.", rich_help_panel=_IMAGES)] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="X", help="Pixels 0..255 times this [default: 1/255].", rich_help_panel=_IMAGES),
    ] = None,
    color: Annotated[
        str | None, typer.Option(metavar="NAME", help="rgb, bgr or gray.", rich_help_panel=_IMAGES)
    ] = None,
    layout: Annotated[str | None, typer.Option(metavar="NAME", help="nchw or nhwc.", rich_help_panel=_IMAGES)] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="In place of all this: Pillow image in, array without batch axis out.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    thumbnails: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw 16 images as the model sees them.", rich_help_panel=_IMAGES),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.onnx.", rich_help_panel=_OUTPUT)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do and measure everything, write nothing.", rich_help_panel=_OUTPUT)
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the report as JSON too; - for standard output.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the report.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Make a model smaller for the data it will see.

    Runs IN.onnx on samples of the target domain, factorizes the weights of its Gemm, MatMul and 1×1 Conv nodes, writes
    OUT.onnx and measures that file on held-out samples.

        onnx-dalr optimize in.onnx out.onnx --calib images/
    """
    with exit_codes():
        from onnx_dalr.errors import InputError  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.pipeline import optimize as run  # noqa: PLC0415
        from onnx_dalr.report.text import NARROW, result_view  # noqa: PLC0415

        if output is None and not dry_run:
            raise InputError("OUT.onnx is missing: where is the smaller model to go?", "name it, or use --dry-run")
        given: dict[str, Any] = {
            "rank": rank or None,
            "resize": image_size(resize),
            "crop": image_crop(crop),
            "mean": numbers("--mean", mean),
            "std": numbers("--std", std),
            "scale": number("--scale", scale),
        }
        result = run(
            model,
            output,
            calib=calib,
            params=params,
            max_drop=max_drop,
            method=method,
            ridge=ridge,
            include=include or (),
            exclude=exclude or (),
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            holdout=holdout,
            eval=eval_path,
            labels=labels,
            eval_labels=eval_labels,
            mask_input=mask_input,
            task=task,
            color=color,
            layout=layout,
            preset=preset,
            preprocess=preprocess,
            thumbnails=thumbnails,
            device=device,
            force=force,
            dry_run=dry_run,
            json=json,
            progress=TerminalProgress(quiet=quiet),
            **given,
        )
        if str(json) == "-":
            sys.stdout.write(result.to_json())
        else:
            show(result_view(result, narrow=out.width < NARROW))
