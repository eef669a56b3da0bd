"""Multiply-adds of a sample: as declared, inferred from a feed, or read off a run."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.look.macs import as_declared, on_a_sample
from onnx_dalr.request.options import make_options
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import opened
from tests.graph.helpers import model

OPTIONS = make_options(device="cpu")


def test_an_open_number_of_samples_is_one() -> None:
    found = as_declared(Model(model("g (float[N,10] x) => (float[N,20] y) { y = MatMul (x, W) }", W=(10, 20))))
    assert found is not None
    assert (found.counted.whole, found.open_axes) == (200, ())


def test_of_an_open_number_of_tokens_one_is_counted() -> None:
    text = "g (int64[N,length] x) => (float[N,length,20] y) { e = Gather (T, x)  y = MatMul (e, W) }"
    found = as_declared(Model(model(text, T=(50, 10), W=(10, 20))))
    assert found is not None
    assert (found.counted.whole, found.open_axes) == (200, ("length",))


@pytest.mark.parametrize("shape", ["[N,3,H,W]", "[N,3,8,W]"])
def test_how_large_an_open_image_is_nobody_knows(shape: str) -> None:
    text = f"g (float{shape} x) => (float[N,4,A,B] y) {{ y = Conv (x, K) }}"
    assert as_declared(Model(model(text, K=(4, 3, 3, 3), checked=False))) is None


def test_a_sample_says_how_large_it_is() -> None:
    made = Model(model("g (float[N,3,H,W] x) => (float[N,4,A,B] y) { y = Conv (x, K) }", K=(4, 3, 3, 3)))
    samples = np.zeros((10, 3, 9, 7), np.float32)
    with opened(SampleOptions(samples), input_specs(made.proto)) as sets:
        found = on_a_sample(made, OPTIONS.runtime, sets)
    assert found is not None
    assert found.whole == 7 * 5 * 4 * 27
    assert on_a_sample(made, OPTIONS.runtime, None) is None


def test_what_only_the_run_decides_is_read_off_a_run() -> None:
    text = """g (float[N,10] x) => (float[M,20] y) {
        i = NonZero (x)
        r = Transpose <perm = [1,0]> (i)
        k = Gather <axis = 1> (r, zero)
        p = Gather (x, k)
        y = MatMul (p, W)
    }"""
    made = Model(model(text, W=(10, 20), zero=np.array(0), checked=False))
    samples = np.zeros((8, 10), np.float32)
    samples[:, :3] = 1
    with opened(SampleOptions(samples), input_specs(made.proto)) as sets:
        found = on_a_sample(made, OPTIONS.runtime, sets)
    assert found is not None
    assert (found.whole, found.unknown) == (3 * 200, ())
