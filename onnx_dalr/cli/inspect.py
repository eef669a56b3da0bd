"""`onnx-dalr inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_dalr.cli.common import exit_codes, out, reporting_on, show, write_json


def inspect(
    model: Annotated[Path, typer.Argument(readable=False, help="The .onnx file.", show_default=False)],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the facts as JSON; - for standard output.")
    ] = None,
) -> None:
    """Show where the bytes of a model are, what is eligible, and why the rest is not."""
    with exit_codes():
        from onnx_dalr.inspection import inspect as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.inspection import NARROW, inspection_view  # noqa: PLC0415

        found = run(model)
        write_json(json, found.to_json(), [model])
        if str(json) != "-":
            with reporting_on(json):
                show(inspection_view(found, narrow=out.width < NARROW))
