"""`onnx-dalr analyze`."""

from __future__ import annotations

import sys
from typing import Any

from rich.text import Text

from onnx_dalr.cli.common import TerminalProgress, exit_codes, out, reporting_on, show
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.errors import one_line
from onnx_dalr.files import files_read, together
from onnx_dalr.request.option import PLAN
from onnx_dalr.request.table import of_function
from onnx_dalr.shown import PAGE


@takes_its_options
def analyze(**given: Any) -> None:
    """Make the plan and show the curves; nothing is written but the plan, and the statistics where asked for.

    onnx-dalr analyze in.onnx --calib images/ --size 40% -o plan.json
    """
    with exit_codes():
        from onnx_dalr.commands.analyze import analyze as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.graph.storage.model import load  # noqa: PLC0415
        from onnx_dalr.report.views import view  # noqa: PLC0415
        from onnx_dalr.request.command import as_typed  # noqa: PLC0415
        from onnx_dalr.request.target import make_target  # noqa: PLC0415
        from onnx_dalr.write.destination import Destination  # noqa: PLC0415

        command = as_typed("analyze", as_python("analyze", given))
        output, stats, verbose, quiet = (given.pop(name) for name in ("save_plan", "save_stats", "verbose", "quiet"))
        shown = str(output) == "-"
        written = Destination(
            force=given["force"],
            thumbnails=given["thumbnails"],
            plan=None if shown else output,
            stats=stats,
            page=given.pop("report"),
            plan_option="-o",
        )
        read = [given["calib"], given["labels"], *(given["stats"] or ()), *(given["ops_library"] or ())]
        original = load(given["model"])
        written.check(original, files_read(*read, code=(given["preprocess"], given["score"])))
        target = make_target(**as_python("analyze", {name: given.pop(name) for name in of_function(PLAN)}))
        asked = as_python("analyze", given) | {"model": original, "target": target}
        with run(**asked, progress=TerminalProgress(quiet=quiet)) as analysis:
            plan = analysis.plan_for(target)
            with together() as files:
                written.write_beside(files, analysis, plan)
                if written.page is not None:
                    page = analysis.render(PAGE, plan=plan, command=command)
                    files.write_text(written.page, page, force=True)
            with reporting_on(output, stats, written.page):
                if shown:
                    sys.stdout.write(plan.to_json())
                else:
                    show(view(plan, out.width, verbose=verbose))
                    show(Text())
                    show(view(analysis, out.width))
                    for note in analysis.context.notes:
                        show(Text(f"note: {one_line(note)}"))
