"""The factorizations by name, and what each needs to know of a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from onnx_dalr.factorize.dalr2017 import dalr_2017, rows_or_moment
from onnx_dalr.factorize.projection import dalr, moment_and_sketch, moment_on_smaller_side, svd, svd_bc
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.spectrum import Spectrum
from onnx_dalr.factorize.statistics import Need, Statistics


@dataclass(frozen=True)
class Method:
    """A factorization by name.

    Attributes:
        name: As on the command line (methods.md §1).
        summary: One line for help texts.
        needs: (m, n) → the statistics it reads; a caller that has gradients adds METRIC where it takes one.
        compensates: It changes the bias, so a layer without one needs one.
        takes_ridge: `--ridge` means something to it.
        takes_metric: It can weigh the layer's outputs by gradients (methods.md §3).
        spectrum: (W [m, n], statistics, settings) → Spectrum.
    """

    name: str
    summary: str
    needs: Callable[[int, int], Need]
    compensates: bool
    takes_ridge: bool
    takes_metric: bool
    spectrum: Callable[[NDArray[Any], Statistics, Settings], Spectrum]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "dalr",
            "centred covariance, shrunk toward W; the default",
            moment_and_sketch,
            compensates=True,
            takes_ridge=False,
            takes_metric=True,
            spectrum=lambda W, stats, settings: dalr(W, stats, settings.shrinkage, settings.metric),
        ),
        Method(
            "dalr-2017",
            "the paper's closed form: uncentred, ridge toward zero, bias unchanged",
            rows_or_moment,
            compensates=False,
            takes_ridge=True,
            takes_metric=False,
            spectrum=lambda W, stats, settings: dalr_2017(W, stats, settings.ridge),
        ),
        Method(
            "svd-bc",
            "truncated SVD with the mean put back into the bias",
            moment_on_smaller_side,
            compensates=True,
            takes_ridge=False,
            takes_metric=False,
            spectrum=lambda W, stats, _: svd_bc(W, stats),
        ),
        Method(
            "svd",
            "truncated SVD of the weight, blind to the data",
            moment_on_smaller_side,
            compensates=False,
            takes_ridge=False,
            takes_metric=False,
            spectrum=lambda W, stats, _: svd(W, stats),
        ),
    )
}
