"""`onnx-dalr check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from onnx_dalr.cli.common import check_json, exit_codes, reporting_on, show_line, write_json
from onnx_dalr.errors import one_line

_OVER_BUDGET = 3


def check(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", readable=False, help="One .onnx file or more.")],
    max_size: Annotated[
        str | None, typer.Option(metavar="25MB|80%", help="Bytes on disk, external data included; % of the baseline.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="6M|80%", help="Floating constants of the model; % of the baseline.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="BASE.onnx", help="A model to compare with.")] = None,
    max_growth: Annotated[
        str | None, typer.Option(metavar="2%|100kB", help="How much larger than the baseline it may be [default: 0].")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the facts as JSON; - for standard output.")
    ] = None,
) -> None:
    """Fail (exit code 3) when a model is over its budget: one line per budget."""
    with exit_codes():
        from onnx_dalr.commands.check import check as run  # noqa: PLC0415 - heavy: not for --help

        check_json(json, [*models, *([baseline] if baseline else [])])
        result = run(models, max_size=max_size, max_params=max_params, baseline=baseline, max_growth=max_growth)
        write_json(json, result.to_json())
        if str(json) != "-":
            with reporting_on(json):
                for line in result.lines:
                    show_line(Text(one_line(str(line)), style="" if line.passed else "bold red"))
        if not result.passed:
            raise typer.Exit(_OVER_BUDGET)
