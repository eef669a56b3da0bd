"""What `check` holds models to, where it says so, and what it writes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from onnx_dalr.request.option import OUTPUT, Option
from onnx_dalr.units import parse_amount, parse_error, parse_points, parse_ratio

FORMATS = ("text", "json", "markdown", "github", "junit")
"""What the result of `check` can be written as."""

LIMITS = (
    Option(
        name="max_size",
        limit=partial(parse_amount, unit="B"),
        type="str | float | None",
        text='Bytes on disk of the artifact, external data included, "25MB"; "80%" is of the baseline.',
        functions=("check",),
        help="Bytes on disk, external data included; % of the baseline.",
        commands=("check",),
        metavar="25MB|80%",
    ),
    Option(
        name="max_params",
        limit=parse_amount,
        type="str | float | None",
        text='Numbers the model computes with, in whatever format, "6M"; "80%" is of the baseline.',
        functions=("check",),
        help="Numbers the model computes with, in whatever format; % of the baseline.",
        commands=("check",),
        metavar="6M|80%",
    ),
    Option(
        name="max_macs",
        limit=parse_amount,
        type="str | float | None",
        text='Multiply-adds of one sample, "300M"; "80%" is of the baseline. Open axes of tokens count as one.',
        functions=("check",),
        help="Multiply-adds of one sample; % of the baseline.",
        commands=("check",),
        metavar="300M|80%",
    ),
    Option(
        name="max_growth",
        limit=partial(parse_amount, unit="B", zero=True),
        type="str | float | None",
        text='How much larger than the baseline the artifact may be, "2%" or "100kB"; 0 where nothing else that is '
        "given is measured against the baseline.",
        functions=("check",),
        help="How much larger than the baseline it may be [default: 0].",
        commands=("check",),
        metavar="2%|100kB",
    ),
    Option(
        name="max_drop",
        limit=parse_points,
        type="str | float | None",
        text='Score that may be lost against the reference, "1%" or 0.01.',
        functions=("check",),
        help="Score that may be lost against the reference, in percentage points.",
        commands=("check",),
        metavar="1%",
    ),
    Option(
        name="max_error",
        limit=partial(parse_error, zero=True),
        type="str | float | None",
        text="Relative error of the worst output against the reference, 0.02; 0 for the same numbers.",
        functions=("check",),
        help="Relative error of the worst output against the reference.",
        commands=("check",),
        metavar="0.02",
    ),
    Option(
        name="max_latency_ratio",
        limit=parse_ratio,
        type="str | float | None",
        text="Time of a run as a multiple of the baseline's, both measured in turn, 1.1; over it where all of the 95 % "
        "interval is, twice.",
        functions=("check",),
        help="Time of a run as a multiple of the baseline's, measured in turn.",
        commands=("check",),
        metavar="1.1",
    ),
)
"""Every limit: what is measured is its name without "max"."""

BUDGETS = (
    *LIMITS,
    Option(
        name="baseline",
        type="PathLike | None",
        text="A model to compare with, or a folder that holds one of the same path or name for each.",
        functions=("check",),
        help="A model to compare with, or a folder of them.",
        commands=("check",),
        parsed=Path,
        metavar="BASE.onnx",
    ),
    Option(
        name="reference",
        type="PathLike | None",
        text="What `max_drop` and `max_error` compare with, a model or a folder as `baseline`; the baseline where left "
        "out.",
        functions=("check",),
        help="What outputs are compared with [default: the baseline].",
        commands=("check",),
        parsed=Path,
        metavar="REF.onnx",
    ),
    Option(
        name="config",
        type="PathLike | None",
        text="The file that says the budgets; else the nearest onnx-dalr.toml, or pyproject.toml with "
        "[tool.onnx-dalr], in this folder or one above it. It is not read where limits are given.",
        functions=("check",),
        help="Where the budgets are [default: onnx-dalr.toml or pyproject.toml, here or above].",
        commands=("check",),
        parsed=Path,
        metavar="FILE.toml",
    ),
    Option(
        name="format",
        help="text, json, markdown, github or junit; with =FILE into a file; repeatable [default: text].",
        commands=("check",),
        group=OUTPUT,
        many=True,
        metavar="NAME[=FILE]",
        words=FORMATS,
    ),
    Option(
        name="update",
        default=False,
        help="Write today's sizes and a margin into the config, in place of what it says.",
        commands=("check",),
        group=OUTPUT,
        parsed=bool,
    ),
    Option(
        name="margin",
        help="What --update adds to today's sizes [default: 2%].",
        commands=("check",),
        group=OUTPUT,
        metavar="2%",
    ),
)
