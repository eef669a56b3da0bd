"""`onnx-dalr apply`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import TerminalProgress, exit_codes, show_result
from onnx_dalr.cli.parameters import as_python, takes_its_options
from onnx_dalr.errors import InputError


@takes_its_options
def apply(**given: Any) -> None:
    """Rewrite a model by a plan that was made, reviewed and perhaps edited before.

    The factors are learned anew from the samples of --calib, or taken from --stats, where no sample is run.

        onnx-dalr apply in.onnx plan.json out.onnx --stats stats.npz
    """
    with exit_codes():
        from onnx_dalr.commands.apply import apply as run  # noqa: PLC0415 - heavy: not for --help

        verbose, quiet = given.pop("verbose"), given.pop("quiet")
        if given["output"] is None and not given["dry_run"]:
            raise InputError("OUT.onnx is missing: where is the smaller model to go?", "name it, or use --dry-run")
        result = run(**as_python("apply", given), progress=TerminalProgress(quiet=quiet))
        show_result(result, given["json"], verbose=verbose)
