"""What the plan is to reach, and how: the options that `request.target` makes a Target of, and a plan in its place."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from onnx_dalr.request.option import PLAN, Option
from onnx_dalr.request.option import TARGET as GROUP
from onnx_dalr.units import parse_amount, parse_error, parse_points, parse_share

_COMMANDS = ("optimize", "analyze")
_FUNCTIONS = ("optimize", PLAN)

TARGET = (
    Option(
        name="size",
        limit=partial(parse_amount, unit="B"),
        type="str | float | None",
        text='Target: bytes on disk of the whole artifact, "12MB", "40%" or a number.',
        functions=_FUNCTIONS,
        help="Bytes on disk, external data included.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="12MB|40%",
    ),
    Option(
        name="params",
        limit=parse_amount,
        type="str | float | None",
        text='Target: parameters of the whole model, "6M", "40%" or a number.',
        functions=_FUNCTIONS,
        help="Parameters of the whole model.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="6M|40%",
    ),
    Option(
        name="macs",
        limit=parse_amount,
        type="str | float | None",
        text='Target: multiply-adds of the whole model for one sample, "300M", "50%" or a number.',
        functions=_FUNCTIONS,
        help="Multiply-adds of the whole model for one sample.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="300M|50%",
    ),
    Option(
        name="max_drop",
        limit=parse_points,
        type="str | float | None",
        text='Target: score that may be lost, "1%" or 0.01. The default target, with 1 %.',
        functions=_FUNCTIONS,
        help="Score that may be lost, in percentage points.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="1%",
    ),
    Option(
        name="max_error",
        limit=parse_error,
        type="str | float | None",
        text="Target: relative error of the worst output, 0.02.",
        functions=_FUNCTIONS,
        help="Relative error of the worst output.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="0.02",
    ),
    Option(
        name="energy",
        limit=parse_share,
        type="str | float | None",
        text="Target: share of each layer's own output variance to keep, 0.99 (LRDKT's rule).",
        functions=_FUNCTIONS,
        help="Share of each layer's own output variance to keep.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="0.99",
    ),
    Option(
        name="rank",
        type="int | str | Sequence[int | str] | None",
        text='Target: a rank for every layer, or "GLOB=64" for some (one or a list); beside another target, "GLOB=64" '
        'and "GLOB=keep" pin single layers.',
        functions=_FUNCTIONS,
        help="A rank for every layer, or those a pattern matches; repeatable. Beside another target, GLOB=K and "
        "GLOB=keep pin single layers.",
        commands=_COMMANDS,
        group=GROUP,
        many=True,
        metavar="K|GLOB=K",
    ),
    Option(
        name="plan",
        type="Plan | PathLike | None",
        text="A Plan or its file, in place of a target.",
        functions=("optimize",),
        help="A plan in place of a target.",
        commands=("optimize",),
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="confidence",
        type="str | float | None",
        text='Hold `max_drop` or `max_error` with this confidence, "95%" or 0.95, not just on the samples.',
        functions=_FUNCTIONS,
        help="Hold --max-drop or --max-error with this confidence, not just on average.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="95%",
    ),
    Option(
        name="best_effort",
        type="bool",
        default=False,
        text="Where the target cannot be met, take the closest model there is, with a note.",
        functions=_FUNCTIONS,
        help="Where the target cannot be met, write the closest.",
        commands=_COMMANDS,
        group=GROUP,
        parsed=bool,
    ),
    Option(
        name="rank_multiple",
        type="int",
        default=1,
        text="Choose ranks that are multiples of it.",
        functions=_FUNCTIONS,
        help="Choose ranks that are multiples of it.",
        commands=_COMMANDS,
        group=GROUP,
        parsed=int,
        metavar="N",
        shows_default=False,
    ),
    Option(
        name="min_rank",
        type="int",
        default=1,
        text="Choose no rank below it.",
        functions=_FUNCTIONS,
        help="Choose no rank below it.",
        commands=_COMMANDS,
        group=GROUP,
        parsed=int,
        metavar="N",
        shows_default=False,
    ),
    Option(
        name="target",
        type="Target | None",
        text="What a plan is going to be asked for: what cannot be met is then refused before samples are run.",
        functions=("analyze",),
    ),
)
