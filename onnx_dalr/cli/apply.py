"""`onnx-dalr apply`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import exit_codes, make_model
from onnx_dalr.cli.parameters import takes_its_options


@takes_its_options
def apply(**given: Any) -> None:
    """Rewrite a model by a plan that was made, reviewed and perhaps edited before.

    The factors are learned anew from the samples of --calib, or taken from --stats, where no sample is run.

        onnx-dalr apply in.onnx plan.json out.onnx --stats stats.npz
    """
    with exit_codes():
        from onnx_dalr.commands.apply import apply as run  # noqa: PLC0415 - heavy: not for --help

        make_model("apply", run, given)
