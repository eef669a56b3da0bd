"""What the tests of packed numbers share."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_dalr.graph.storage.model import all_tensors, numbers_of
from onnx_dalr.graph.storage.operators import FLOATING
from onnx_dalr.graph.storage.packed import Packed
from tests.graph.helpers import model, values

M, N = 40, 70
BIAS = values("b", (M,))
FLOATS = M * N + M
UNPACKED = "c = Cast <to = 1> (W)  p = Div(c, parts)  f = Floor(p)  u = MatMul(f, mix)  z = Sub(u, middle)"


def constants(**more: Any) -> dict[str, Any]:
    return {
        "b": BIAS,
        "parts": np.array([1, 16], np.float32),
        "mix": np.array([[1, 0], [-16, 1]], np.float32),
        "middle": np.array(8, np.float32),
        **more,
    }


def graph(nodes: str, inputs: str = "float[N,70] x", **given: Any) -> ModelProto:
    """A model that has those of the given constants that its nodes name."""
    text = f"g ({inputs}) => (float y) {{ {nodes} }}"
    return model(text, checked=False, **{name: given[name] for name in given if re.search(rf"\b{name}\b", nodes)})


def whole(*shape: int, dtype: Any = np.int8, low: int = -127) -> np.ndarray:
    return np.random.default_rng(3).integers(low, 127, shape).astype(dtype)


def only(proto: ModelProto) -> Packed:
    (packed,) = numbers_of(proto).packed.values()
    return packed


def floating(proto: ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in all_tensors(proto) if tensor.data_type in FLOATING)


def shape(*sizes: int) -> np.ndarray:
    return np.array(sizes)
