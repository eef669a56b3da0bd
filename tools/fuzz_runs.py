"""What tools/fuzz.py runs models with: ONNX Runtime as the graph says, on numbers that are the same each time."""

from __future__ import annotations

from contextlib import redirect_stdout
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto


def session_on(proto: ModelProto) -> Any:
    """A session on a model; None where ONNX Runtime does not load it."""
    options = ort.SessionOptions()
    # What the graph says: the optimizer loses constant outputs and quantizes what a DequantizeLinear is multiplied by.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        with redirect_stdout(None):  # it prints what it raises
            return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def numbers(value: Any) -> NDArray[Any]:
    """Something for an input, the same for the same name.

    Raises:
        ValueError: It wants too much.
    """
    shape = [axis if isinstance(axis, int) else 3 for axis in value.shape]
    if np.prod(shape, dtype=float) > 1e6:
        raise ValueError(shape)
    dtype = {"float": "float32", "double": "float64"}.get(kind := value.type[7:-1], kind)
    return np.asarray(np.random.default_rng(len(value.name)).standard_normal(shape)).astype(dtype)
