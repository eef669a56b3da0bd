"""`onnx-dalr inspect`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import check_json, exit_codes, out, reporting_on, show, write_json, write_markdown
from onnx_dalr.cli.parameters import takes_its_options


@takes_its_options
def inspect(**given: Any) -> None:
    """Show where all the bytes of a model are, what is eligible, and why the rest is not.

    Nothing is run and no weights are read: it is instant on models of any size.
    """
    with exit_codes():
        from onnx_dalr.commands.inspect import inspect as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.inspect import inspection_view  # noqa: PLC0415

        model, json, markdown = given["model"], given["json"], given["markdown"]
        check_json(json, [model], markdown=markdown)
        top = None if given["all"] else given["top"] or None
        found = run(model)
        write_json(json, found.to_json())
        write_markdown(markdown, lambda width: inspection_view(found, width, top=top))
        if "-" not in (str(json), str(markdown)):
            with reporting_on(json, markdown):
                show(inspection_view(found, out.width, top=top))
