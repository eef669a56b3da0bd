"""`onnx-dalr optimize`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import TerminalProgress, exit_codes, show_result
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.errors import InputError


@takes_its_options
def optimize(**given: Any) -> None:
    """Make a model smaller for the data it will see.

    Runs IN.onnx on samples of the target domain, factorizes the weights of its Gemm, MatMul and 1×1 Conv nodes, writes
    OUT.onnx and measures that file on held-out samples.

        onnx-dalr optimize in.onnx out.onnx --calib images/
    """
    with exit_codes():
        from onnx_dalr.commands.optimize import optimize as run  # noqa: PLC0415 - heavy: not for --help

        verbose, quiet = given.pop("verbose"), given.pop("quiet")
        if given["output"] is None and not given["dry_run"]:
            raise InputError("OUT.onnx is missing: where is the smaller model to go?", "name it, or use --dry-run")
        result = run(**as_python("optimize", given), progress=TerminalProgress(quiet=quiet))
        show_result(result, given["json"], verbose=verbose)
