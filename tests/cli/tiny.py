"""Tiny models as ONNX text, their random weights beside them, and samples that fit."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

MLP = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N,16] x) => (float[N,4] y) {
  [first] h1 = Gemm<transB: int = 1>(x, W1, b1)
  r1 = Relu(h1)
  [second] h2 = Gemm<transB: int = 1>(r1, W2, b2)
  r2 = Relu(h2)
  [third] y = Gemm<transB: int = 1>(r2, W3, b3)
}
"""

TOKENS = """
<ir_version: 8, opset_import: ["" : 17]>
tokens (int64[N,L] ids, int64[N,L] attention_mask) => (float[N,L,24] y) {
  embedded = Gather<axis: int = 0>(table, ids)
  [project] product = MatMul(embedded, W)
  y = Add(product, b)
}
"""

NO_LAYERS = """
<ir_version: 8, opset_import: ["" : 17]>
none (float[N,16] x) => (float[N,16] y) {
  y = Relu(x)
}
"""


def with_weights(text: str, weights: Mapping[str, np.ndarray]) -> ModelProto:
    """The model of the text, the arrays as its initializers, checked."""
    model = onnx.parser.parse_model(text)
    for name, values in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def mlp_weights(widths: tuple[int, int, int, int] = (16, 48, 48, 4), seed: int = 0) -> dict[str, np.ndarray]:
    """Weights [m, n] and biases of three layers, float32."""
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for layer, (n, m) in enumerate(pairwise(widths), start=1):
        weights[f"W{layer}"] = (random.standard_normal((m, n)) / np.sqrt(n)).astype(np.float32)
        weights[f"b{layer}"] = (0.1 * random.standard_normal(m)).astype(np.float32)
    return weights


def mlp(widths: tuple[int, int, int, int] = (16, 48, 48, 4), seed: int = 0) -> ModelProto:
    """Three Gemm with Relu between them: `first`, `second` and `third`."""
    text = MLP.replace("N,16", f"N,{widths[0]}").replace("N,4]", f"N,{widths[-1]}]")
    return with_weights(text, mlp_weights(widths, seed))


def rows(count: int = 64, width: int = 16, seed: int = 1) -> np.ndarray:
    """Correlated samples with a mean of their own, float32 [count, width]."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((width, width)) * np.geomspace(1, 0.05, width)[:, None]
    return (random.standard_normal((count, width)) @ mixing + 0.5).astype(np.float32)
