"""Multiply-adds and structures, from what was asked for to the file that is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import InputError, NothingToGainError
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.macs import multiply_adds
from onnx_dalr.graph.storage.model import Model
from tests.cli import tiny

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4,12,12] x) => (float[N,5] y) {
  [first] c = Conv<pads: ints = [1,1,1,1]>(x, K, b)
  r = Relu(c)
  [second] d = Conv<pads: ints = [1,1,1,1], strides: ints = [2,2]>(r, L, b)
  s = Relu(d)
  p = GlobalAveragePool(s)
  f = Flatten(p)
  [head] y = Gemm<transB: int = 1>(f, W, e)
}
"""
SHAPES = {"K": (24, 4, 3, 3), "b": (24,), "L": (24, 24, 3, 3), "W": (5, 24), "e": (5,)}
X = np.random.default_rng(1).standard_normal((60, 4, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> ModelProto:
    random = np.random.default_rng(0)
    return tiny.with_weights(TEXT, {k: random.standard_normal(s).astype(np.float32) for k, s in SHAPES.items()})


def counted(proto: ModelProto) -> int:
    return multiply_adds(Model(proto), sizes_on(proto, {"x": (1, 4, 12, 12)})).whole


WHOLE = 24 * 36 * 144 + 24 * 216 * 36 + 24 * 5


@pytest.mark.parametrize("structures", ["v", "auto"])
def test_what_is_written_takes_no_more_than_was_asked_for(net: ModelProto, structures: str) -> None:
    result = onnx_dalr.optimize(net, calib=X, macs="60%", method="svd", structures=structures, task="regress")
    assert result.model is not None
    assert result.macs_before == counted(net) == WHOLE
    assert result.macs_after == counted(result.model) <= 0.6 * WHOLE
    used = {layer.form.structure for layer in result.layers} - {"dense"}
    assert used <= ({"v"} if structures == "v" else {"pair", "out", "in", "v", "h", "tucker"})
    facts = json.loads(result.to_json())
    assert (facts["macs_before"], facts["macs_after"]) == (result.macs_before, result.macs_after)
    (row,) = [line for line in str(result).splitlines() if line.startswith("multiply-adds")]
    assert row.split()[1:4] == ["311k", "→", f"{result.macs_after / 1000:.3g}k"]


def test_a_layer_that_may_not_be_taken_apart_is_skipped_with_the_reason(net: ModelProto) -> None:
    with onnx_dalr.analyze(net, calib=X, method="svd", structures="v", task="regress") as analysis:
        assert [layer.name for layer in analysis.layers] == ["first", "second"]
        (skipped,) = analysis.skipped
    assert (skipped.name, skipped.reason) == ("head", 'structures="v": none of these applies to it')


def test_where_none_applies_there_is_nothing_to_gain() -> None:
    with pytest.raises(NothingToGainError, match="no layer is eligible"):
        onnx_dalr.analyze(tiny.mlp(), calib=tiny.rows(50), structures="v,tucker")


def test_a_name_that_is_no_structure_is_refused(net: ModelProto) -> None:
    with pytest.raises(InputError, match="there is no structure 'both'"):
        onnx_dalr.analyze(net, calib=X, structures="both")
