"""What the tests of the gradient room share: tiny models of one line, and central differences to hold gradients to."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, NotImplemented

from onnx_dalr.gradient import Gradients, differentiate
from onnx_dalr.graph.probe import probe

Array = NDArray[Any]
Feeds = dict[str, Array]

STEP = {np.float64: 1e-5, np.float32: 1e-2}
TOLERANCE = {np.float64: 1e-6, np.float32: 2e-3}


def spread(name: str, shape: Sequence[int], low: float = -1.9, high: float = 2.1) -> Array:
    """Values in random order, all as far from each other as fits: no ties, and no kink is hit."""
    count = math.prod(shape)
    values = low + (high - low) * (np.arange(count) + 0.41) / count
    return np.random.default_rng(zlib.crc32(name.encode())).permutation(values).reshape(shape)


def model(
    body: str,
    opset: int,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    *,
    dynamic: bool,
    sized: str = "",
) -> ModelProto:
    """The graph of a body in ONNX text that makes y, its float type that of the first input.

    Args:
        body: Nodes in ONNX text.
        opset: Of the default domain.
        inputs: Graph inputs by name.
        constants: Initializers by name.
        dynamic: Declare no size of any input.
        sized: One input whose sizes are declared all the same.
    """
    domains = f'"": {opset}, "com.microsoft": 1, "custom": 1'
    proto = onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{domains}]> g () => () {{ {body} }}")
    for name, value in inputs.items():
        dims = [f"{name}_{axis}" if dynamic and name != sized else size for axis, size in enumerate(value.shape)]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, dims))
    for name, value in (constants or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    kind = next(entry.type.tensor_type.elem_type for entry in proto.graph.input)
    proto.graph.output.append(helper.make_tensor_value_info("y", kind, None))
    return proto


def session(proto: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(proto: ModelProto, names: Sequence[str], feeds: Feeds) -> list[Array]:
    """Tensors of a model, cut down to them; feeds that it has no input for are left out."""
    made = session(probe(proto, names))
    known = {entry.name for entry in (*made.get_inputs(), *made.get_overridable_initializers())}
    return list(made.run(None, {name: value for name, value in feeds.items() if name in known}))


def pulled_back(found: Gradients, feeds: Feeds, v: Mapping[str, Array]) -> dict[str, Array]:
    """Jᵀv of every wanted tensor that has a gradient."""
    seeds = {found.seeds[name]: value for name, value in v.items()}
    return dict(zip(found.names, run(found.proto, list(found.names.values()), {**feeds, **seeds}), strict=True))


def differences(proto: ModelProto, feeds: Feeds, name: str, v: Array) -> Array:
    """∂(v·y)/∂(input), element by element, by central differences."""
    made, value = session(proto), feeds[name]
    step = STEP[value.dtype.type]
    found = np.zeros(value.shape)
    for place in np.ndindex(value.shape):
        moved = []
        for sign in (1, -1):
            changed = value.copy()
            changed[place] += sign * step
            moved.append(float(np.sum(made.run(["y"], {**feeds, name: changed})[0].astype(np.float64) * v)))
        found[place] = (moved[0] - moved[1]) / (2 * step)
    return found


def agrees(
    body: str,
    opset: int = 17,
    wanted: Sequence[str] | None = None,
    constants: Mapping[str, Any] | None = None,
    dynamic: bool | None = None,
    sized: str = "",
    dtype: Any = np.float64,
    **inputs: Any,
) -> None:
    """Gradients of all float inputs are those of central differences, with sizes declared and without.

    In float64, or in float32 where onnxruntime has no float64 kernel.

    Args:
        body: Nodes in ONNX text that make y.
        opset: Of the default domain.
        wanted: Inputs to look at, by default all of floats.
        constants: Initializers; lists are of integers.
        dynamic: Only without sizes, or only with them.
        sized: One input whose sizes are always declared.
        dtype: Where the operator itself computes in float32.
        inputs: By name: an array, or the shape of one.
    """
    try:
        _agrees(dtype, body, opset, wanted, constants or {}, dynamic, sized, inputs)
    except (NotImplemented, InvalidGraph):  # of onnxruntime: no kernel, no such type in the operator
        _agrees(np.float32, body, opset, wanted, constants or {}, dynamic, sized, inputs)


def _agrees(
    dtype: Any,
    body: str,
    opset: int,
    wanted: Sequence[str] | None,
    constants: Mapping[str, Any],
    dynamic: bool | None,
    sized: str,
    inputs: Mapping[str, Any],
) -> None:
    arrays = {name: spread(name, value) if isinstance(value, tuple) else value for name, value in inputs.items()}
    feeds = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in arrays.items()}
    stored = {
        name: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == np.float64 else np.array(value)
        for name, value in constants.items()
    }
    names = list(wanted or [name for name, value in feeds.items() if value.dtype.kind == "f"])
    for unsized in (False, True) if dynamic is None else (dynamic,):
        proto = model(body, opset, feeds, stored, dynamic=unsized, sized=sized)
        before = proto.SerializeToString()
        found = differentiate(proto, ["y"], names)
        assert proto.SerializeToString() == before
        assert found.ended == ()
        assert sorted(found.names) == sorted(names)
        v = spread("v", session(proto).run(["y"], feeds)[0].shape).astype(dtype)
        for name, gradient in pulled_back(found, feeds, {"y": v}).items():
            expected = differences(proto, feeds, name, v)
            assert gradient.dtype == dtype
            assert gradient.shape == expected.shape
            scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=name)


def reasons(
    body: str, opset: int = 17, constants: Mapping[str, Any] | None = None, sized: str = "", **inputs: Any
) -> list[str]:
    """Where and why the paths from y to all float inputs end."""
    feeds = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
    stored = {name: np.array(value) for name, value in (constants or {}).items()}
    found = differentiate(model(body, opset, feeds, stored, dynamic=True, sized=sized), ["y"], list(feeds))
    return [f"{ended.op}: {ended.reason}" for ended in found.ended]
