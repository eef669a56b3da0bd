"""`onnx-dalr optimize`."""

from __future__ import annotations

from typing import Any

from onnx_dalr.cli.common import exit_codes, make_model
from onnx_dalr.cli.parameters import takes_its_options


@takes_its_options
def optimize(**given: Any) -> None:
    """Make a model smaller for the data it will see.

    Runs IN.onnx on samples of the target domain, factorizes the weights of its Gemm, MatMul, Conv and ConvTranspose
    nodes, kernels of any size with one group, writes OUT.onnx and measures that file on held-out samples.

        onnx-dalr optimize in.onnx out.onnx --calib images/
    """
    with exit_codes():
        from onnx_dalr.commands.optimize import optimize as run  # noqa: PLC0415 - heavy: not for --help

        make_model("optimize", run, given)
