"""What the tests of losses share: each loss in NumPy, in float64, and a student that says a tensor it is fed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from scipy import special

from onnx_dalr.tune.losses import Loss
from onnx_dalr.tune.step import LOSS, step_graph
from onnx_dalr.tune.terms import ByVariance, Term, target_name, weight_name
from tests.gradient.helpers import session

Array = NDArray[Any]
Reference = Callable[[Array, Array, Array], float]  # of y, t, w


def normals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def kl_of_logits(axis: int, temperature: float = 1.0) -> Reference:
    def loss(y: Array, t: Array, w: Array) -> float:
        p, q = (special.softmax(one / temperature, axis=axis) for one in (t, y))
        return float(np.sum(w * temperature**2 * special.rel_entr(p, q).sum(axis=axis, keepdims=True)))

    return loss


def kl_of_probabilities(axis: int) -> Reference:
    return lambda y, t, w: float(np.sum(w * special.rel_entr(t, y).sum(axis=axis, keepdims=True)))


def kl_of_yes(y: Array, t: Array, w: Array) -> float:
    return float(np.sum(w * (special.rel_entr(t, y) + special.rel_entr(1 - t, 1 - y))))


def turned_by(axis: int) -> Reference:
    def loss(y: Array, t: Array, w: Array) -> float:
        lengths = np.linalg.norm(y, axis=axis, keepdims=True) * np.linalg.norm(t, axis=axis, keepdims=True)
        return float(np.sum(w * (1 - np.sum(y * t, axis=axis, keepdims=True) / lengths)))

    return loss


def squares(y: Array, t: Array, w: Array) -> float:
    return float(np.sum(w * (y - t) ** 2))


def slopes(reference: Reference, y: Array, t: Array, w: Array, step: float = 1e-5) -> Array:
    """Central differences, in float64."""
    found = np.zeros(y.shape)
    for place in np.ndindex(y.shape):
        move = np.zeros(y.shape)
        move[place] = step
        found[place] = (reference(y + move, t, w) - reference(y - move, t, w)) / (2 * step)
    return found


def says(shape: tuple[int, ...], dtype: Any, opset: int, *, sized: bool) -> ModelProto:
    """y is what the constant W holds; its sizes are not known before the run where it is not `sized`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    dims = list(shape) if sized else [f"axis_{at}" for at in range(len(shape))]
    nodes = [helper.make_node("Identity", ["W"], ["y"]) if sized else helper.make_node("Add", ["x", "W"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "says",
        [] if sized else [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info("y", kind, None if sized else dims)],
        [numpy_helper.from_array(np.zeros(shape, dtype), "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def computed(
    loss: Loss, y: Array, t: Array, w: Array, *, opset: int = 17, dtype: Any = np.float32, sized: bool = True
) -> tuple[float, Array]:
    """(Σ w·ℓ, its gradient at y), by ONNX Runtime."""
    student = says(y.shape, dtype, opset, sized=sized)
    made = step_graph(student, [Term("y", loss, ByVariance())], {"W": np.zeros(y.shape, dtype)})
    assert made.ended == ()
    fed = {target_name("y"): t.astype(np.float32), weight_name("y"): w.astype(np.float32), "W": y.astype(dtype)}
    if not sized:
        fed["x"] = np.zeros(y.shape, dtype)
    lost, gradient = session(made.proto).run([LOSS, made.gradients["W"]], fed)
    assert (lost.shape, lost.dtype) == ((), np.float32)
    assert (gradient.shape, gradient.dtype) == (y.shape, dtype)
    return float(lost), gradient
