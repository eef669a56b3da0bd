"""`onnx-dalr check`."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from onnx_dalr.cli.common import check_json, exit_codes, reporting_on, show_line, write_json
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.errors import one_line
from onnx_dalr.files import files_read

_OVER_BUDGET = 3


@takes_its_options
def check(**given: Any) -> None:
    """Fail (exit code 3) when a model is over its budget: one line per budget."""
    with exit_codes():
        from onnx_dalr.commands.check import check as run  # noqa: PLC0415 - heavy: not for --help

        json = given.pop("json")
        check_json(json, files_read(*given["models"], given["baseline"]))
        result = run(**as_python("check", given))
        write_json(json, result.to_json())
        if str(json) != "-":
            with reporting_on(json):
                for line in result.lines:
                    show_line(Text(one_line(str(line)), style="" if line.passed else "bold red"))
        if not result.passed:
            raise typer.Exit(_OVER_BUDGET)
