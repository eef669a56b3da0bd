"""`onnx-dalr inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_dalr.cli.common import check_json, exit_codes, out, reporting_on, show, write_json


def inspect(
    model: Annotated[Path, typer.Argument(readable=False, help="The .onnx file.", show_default=False)],
    *,
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="Show the N largest tensors; 0 for all.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Show all tensors but the small constants.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the facts as JSON; - for standard output.")
    ] = None,
) -> None:
    """Show where all the bytes of a model are, what is eligible, and why the rest is not.

    Nothing is run and no weights are read: it is instant on models of any size.
    """
    with exit_codes():
        from onnx_dalr.commands.inspect import inspect as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.inspection import inspection_view  # noqa: PLC0415

        check_json(json, [model])
        found = run(model)
        write_json(json, found.to_json())
        if str(json) != "-":
            with reporting_on(json):
                show(inspection_view(found, out.width, top=None if everything or not top else top))
