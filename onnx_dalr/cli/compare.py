"""`onnx-dalr compare`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import (
    TerminalProgress,
    check_json,
    exit_codes,
    out,
    reporting_on,
    show,
    write_json,
    write_markdown,
)
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.files import files_read


@takes_its_options
def compare(**given: Any) -> None:
    """Show what two models differ in: outputs, score, size, latency.

    Runs both on all samples of PATH. A model B that gives NaN is no failure: the table says so, and exit code 0.

        onnx-dalr compare in.onnx out.onnx --data images/
    """
    with exit_codes():
        from onnx_dalr.commands.compare import compare as run  # noqa: PLC0415 - heavy: not for --help
        from onnx_dalr.report.compare import comparison_view  # noqa: PLC0415

        wanted = ("json", "report", "markdown", "verbose", "quiet")
        json, report, markdown, verbose, quiet = (given.pop(name) for name in wanted)
        read = [given[name] for name in ("a", "b", "data", "labels")]
        read = files_read(*read, *(given["ops_library"] or ()), code=(given["preprocess"], given["score"]))
        check_json(json, read, report, markdown)
        found = run(**as_python("compare", given), progress=TerminalProgress(quiet=quiet))
        write_json(json, found.to_json())
        if report is not None:
            found.save_html(report)
        write_markdown(markdown, lambda width: comparison_view(found, width, verbose=verbose))
        if "-" not in (str(json), str(markdown)):
            with reporting_on(json, report, markdown):
                show(comparison_view(found, out.width, verbose=verbose))
