"""The same samples, summed up from rows here and where the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.factorize.gram import symmetric
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.capture import Capture, capture
from onnx_dalr.learn.summing import Summing, Taken
from onnx_dalr.learn.thinning import Thinner
from onnx_dalr.samples import Batch
from onnx_dalr.session.session import Runtime

HERE, THERE = Runtime("cpu"), Runtime("cpu", sums_there=True)
FLOAT32 = 2e-5
"""What sums of some thousand products are good for, as a share of the largest."""

SUMS = ("total", "squares", "output_total", "output", "input", "sketch", "blocks", "channels", "rows")


@contextmanager
def watched() -> Iterator[list[bool]]:
    """Of every batch, whether its sums were made where the model runs."""
    seen: list[bool] = []
    take = Summing.take

    def taking(self: Summing, *given: Any) -> Taken | None:
        found = take(self, *given)
        seen.append(found is not None)
        return found

    with mock.patch.object(Summing, "take", taking):
        yield seen


def both(
    model: Model,
    batches: Sequence[Batch],
    method: str = "dalr",
    *,
    taken: bool | Sequence[bool] = True,
    thinner: Callable[[], Thinner | None] = lambda: None,
    **how: Any,
) -> tuple[Capture, Capture]:
    """What is captured here and there; says which batches, or all of them, have to be summed up there."""
    layers, _ = find(model)
    with watched() as seen:
        here = capture(model, layers, METHODS[method], batches, device=HERE, thinner=thinner(), **how)
        assert seen == []
        there = capture(model, layers, METHODS[method], batches, device=THERE, thinner=thinner(), **how)
    assert seen == ([taken] * len(batches) if isinstance(taken, bool) else list(taken))
    assert here.notes == there.notes
    assert list(here.statistics) == list(there.statistics)
    return here, there


def assert_alike(
    model: Model, batches: Sequence[Batch], method: str = "dalr", *, close: float = FLOAT32, **how: Any
) -> Capture:
    """Both say the same, to the accuracy of single precision, around the mean too; gives what was captured there."""
    here, there = both(model, batches, method, **how)
    for name, stats in here.statistics.items():
        assert_close(there.statistics[name], stats, close)
    return there


def assert_close(found: Statistics, truth: Statistics, close: float = FLOAT32) -> None:
    """The same count, and sums that differ by no more than a share of the largest."""
    assert (found.m, found.n, found.needs, found.count) == (truth.m, truth.n, truth.needs, truth.count)
    for name in SUMS:
        one, other = getattr(found, name), getattr(truth, name)
        assert (one is None) == (other is None), name
        if other is not None:
            one, other = (symmetric(each) if name in ("output", "input") else each for each in (one, other))
            np.testing.assert_allclose(one, other, rtol=0, atol=close * np.abs(other).max(), err_msg=name)
    for name in ("output", "input"):
        if getattr(truth, name) is not None:
            one, other = (getattr(each, f"{name}_covariance") for each in (found, truth))
            np.testing.assert_allclose(one, other, rtol=0, atol=close * np.abs(other).max(), err_msg=name)
    np.testing.assert_allclose(found.trace, truth.trace, rtol=close)
