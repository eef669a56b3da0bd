"""What `inspect` and `check` are asked, which run nothing."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.option import Option

FACTS = (
    Option(
        name="top",
        default=20,
        help="Show the N largest tensors; 0 for all.",
        commands=("inspect",),
        parsed=int,
        metavar="N",
        least=0,
    ),
    Option(
        name="all",
        default=False,
        help="Show all tensors but the small constants.",
        commands=("inspect",),
        parsed=bool,
        in_python="to_text(top=None)",
    ),
    Option(
        name="max_size",
        type="str | float | None",
        text='Bytes on disk of the artifact, "25MB"; "80%" is of the baseline.',
        functions=("check",),
        help="Bytes on disk, external data included; % of the baseline.",
        commands=("check",),
        metavar="25MB|80%",
    ),
    Option(
        name="max_params",
        type="str | float | None",
        text='Numbers the model computes with, in whatever format, "6M"; "80%" is of the baseline.',
        functions=("check",),
        help="Numbers the model computes with, in whatever format; % of the baseline.",
        commands=("check",),
        metavar="6M|80%",
    ),
    Option(
        name="baseline",
        type="PathLike | None",
        text="A model to compare with.",
        functions=("check",),
        help="A model to compare with.",
        commands=("check",),
        parsed=Path,
        metavar="BASE.onnx",
    ),
    Option(
        name="max_growth",
        type="str | float | None",
        text='How much larger than the baseline the artifact may be, "2%" or "100kB"; 0 where only a baseline is '
        "given.",
        functions=("check",),
        help="How much larger than the baseline it may be [default: 0].",
        commands=("check",),
        metavar="2%|100kB",
    ),
    Option(
        name="json",
        help="Write the facts as JSON; - for standard output.",
        commands=("inspect", "check"),
        parsed=Path,
        metavar="FILE",
    ),
)
