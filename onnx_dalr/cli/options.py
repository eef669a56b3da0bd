"""Options that mean the same in every command: declared once, as types of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_dalr.cli.values import image_crop, image_size, number, numbers

TARGET = "Target (one of; default: --max-drop 1%)"
LAYERS = "Layers and method"
SAMPLES = "Samples"
IMAGES = "Images"
OUTPUT = "Output"


def _option(panel: str, help_text: str, metavar: str | None = None, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help_text, rich_help_panel=panel, show_default=False)


Model = Annotated[
    Path, typer.Argument(metavar="IN.onnx", readable=False, help="The model; never changed.", show_default=False)
]

Calib = Annotated[
    Path | None,
    _option(SAMPLES, "Samples of the target domain: a folder of images, .npy, .npz or a folder of .npz.", "PATH"),
]
Stats = Annotated[
    list[Path] | None,
    _option(SAMPLES, "Statistics of --save-stats, in place of running fit samples; repeatable: they add up.", "FILE"),
]
SampleCount = Annotated[int | None, _option(SAMPLES, "Use at most so many.", "N")]
Seed = Annotated[int, typer.Option(help="Of the split.", rich_help_panel=SAMPLES)]
BatchSize = Annotated[int | None, _option(SAMPLES, "Run so many at a time [default: 32].", "B")]
Holdout = Annotated[
    float, typer.Option(help="Fraction kept out of the statistics; 0: no quality figure.", rich_help_panel=SAMPLES)
]
Eval = Annotated[Path | None, _option(SAMPLES, "Report quality on these samples.", "PATH", "--eval")]
Labels = Annotated[Path | None, _option(SAMPLES, "Classes of the samples: .npy, or one integer a line.", "FILE")]
EvalLabels = Annotated[Path | None, _option(SAMPLES, "Classes of --eval.", "FILE")]
MaskInput = Annotated[
    str | None, _option(SAMPLES, "Input that marks padding [default: told by its name or values].", "NAME")
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu or cuda.", rich_help_panel=SAMPLES, show_default=True)
]
OpsLibrary = Annotated[
    list[Path] | None,
    _option(SAMPLES, "Library of custom operators the model uses; repeatable.", "FILE.so", "--ops-library"),
]

Confidence = Annotated[
    str | None, _option(TARGET, "Hold --max-drop or --max-error with this confidence, not just on average.", "95%")
]
BestEffort = Annotated[
    bool,
    typer.Option("--best-effort", help="Where the target cannot be met, write the closest.", rich_help_panel=TARGET),
]
Rank = Annotated[
    list[str] | None,
    _option(
        TARGET,
        "A rank for every layer, or those a pattern matches; repeatable. Beside another target, GLOB=K and GLOB=keep "
        "pin single layers.",
        "K|GLOB=K",
    ),
]
Size = Annotated[str | None, _option(TARGET, "Bytes on disk, external data included.", "12MB|40%")]
Params = Annotated[str | None, _option(TARGET, "Parameters of the whole model.", "6M|40%")]
MaxDrop = Annotated[str | None, _option(TARGET, "Score that may be lost, in percentage points.", "1%")]
MaxError = Annotated[str | None, _option(TARGET, "Relative error of the worst output.", "0.02")]
Energy = Annotated[str | None, _option(TARGET, "Share of each layer's own output variance to keep.", "0.99")]
RankMultiple = Annotated[int, _option(TARGET, "Choose ranks that are multiples of it.", "N")]
MinRank = Annotated[int, _option(TARGET, "Choose no rank below it.", "N")]

Method = Annotated[str, typer.Option(metavar="NAME", help="dalr, dalr-2017, svd-bc or svd.", rich_help_panel=LAYERS)]
RidgeOption = Annotated[str | None, _option(LAYERS, "λ of dalr-2017 [default: 1e-3].", "1e-3|abs:1000", "--ridge")]
Shrinkage = Annotated[str | None, _option(LAYERS, "How far dalr shrinks the covariance, 0 to 1 [default: OAS].", "A")]
NoMetric = Annotated[
    bool,
    typer.Option("--no-metric", help="Do not weigh outputs by what they do to the network's.", rich_help_panel=LAYERS),
]
Include = Annotated[list[str] | None, _option(LAYERS, "Only layers with such a node or weight name.", "GLOB")]
Exclude = Annotated[list[str] | None, _option(LAYERS, "Leave these layers alone.", "GLOB")]
Task = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, classify, regress or embed: what is scored.", rich_help_panel=LAYERS),
]
Outputs = Annotated[
    list[str] | None,
    _option(LAYERS, "Outputs that count; repeatable [default: all that answer].", "NAME", "--output"),
]
Score = Annotated[
    str | None,
    _option(LAYERS, "Your own score: (outputs, labels) → a number, or one per sample.", "FILE.py:FUNCTION"),
]

Preset = Annotated[str | None, _option(IMAGES, "imagenet, tf, caffe, clip, unit, raw, …: fills in the rest.", "NAME")]
Resize = Annotated[
    str | None,
    _option(IMAGES, "Size in pixels [default: the model's]; before --crop, N is the shorter side.", "HxW|N"),
]
Crop = Annotated[
    str | None, _option(IMAGES, "Cut out the middle: so many pixels, the model's size, or a fraction.", "HxW|center|F")
]
Mean = Annotated[str | None, _option(IMAGES, "Subtracted after scaling, e.g. .485,.456,.406.", "R,G,B")]
Std = Annotated[str | None, _option(IMAGES, "Divided by, then.", "R,G,B")]
Scale = Annotated[str | None, _option(IMAGES, "Pixels 0..255 times this [default: 1/255].", "X")]
Color = Annotated[str | None, _option(IMAGES, "rgb, bgr or gray.", "NAME")]
Layout = Annotated[str | None, _option(IMAGES, "nchw or nhwc.", "NAME")]
Preprocess = Annotated[
    str | None,
    _option(IMAGES, "In place of all this: Pillow image in, array without batch axis out.", "FILE.py:FUNCTION"),
]
Thumbnails = Annotated[Path | None, _option(IMAGES, "Draw 16 images as the model sees them.", "FILE.png")]

Force = Annotated[bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=OUTPUT)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Do and measure everything, write nothing.", rich_help_panel=OUTPUT)
]
SavePlan = Annotated[Path | None, _option(OUTPUT, "Write the plan too: ranks and why, to edit and apply.", "FILE")]
SaveStats = Annotated[Path | None, _option(OUTPUT, "Write the statistics of the fit samples too.", "FILE.npz")]
Json = Annotated[Path | None, _option(OUTPUT, "Write the report as JSON too; - for standard output.", "FILE", "--json")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Also why, all that was tried, and the time.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the report.", rich_help_panel=OUTPUT)]


def image_options(given: dict[str, Any]) -> dict[str, Any]:
    """The same options with those of images that are more than a word read; others are left as they are.

    Raises:
        InputError: One cannot be read.
    """
    read: dict[str, Any] = {}
    for name, reader in (("resize", image_size), ("crop", image_crop)):
        if name in given:
            read[name] = reader(given[name])
    for name in ("mean", "std"):
        if name in given:
            read[name] = numbers(f"--{name}", given[name])
    if "scale" in given:
        read["scale"] = number("--scale", given["scale"])
    return {**given, **read}


def shared_options(given: dict[str, Any]) -> dict[str, Any]:
    """A command's parameters as the functions of the API take them: lists, images, and what is named differently.

    Raises:
        InputError: An image option cannot be read.
    """
    made = image_options(given)
    for name in ("include", "exclude", "stats", "outputs", "ops_library"):
        if name in made:
            made[name] = made[name] or ()
    if "eval_path" in made:
        made["eval"] = made.pop("eval_path")
    if "no_metric" in made:
        made["metric"] = not made.pop("no_metric")
    if "rank" in made:
        made["rank"] = made["rank"] or None
    return made
