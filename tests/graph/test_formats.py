"""Every format as nodes: ONNX Runtime makes of the stored numbers what they stand for, and does so at load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph import layers as layers_file
from onnx_dalr.graph.kinds import KINDS
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import initializers, layers_of, model, only_layer, ops, run, some_feeds, values
from tests.graph.test_handles import nested, with_function

STORED = [name for name in FORMATS if name != "keep"]
OPSETS = [7, 11, 13, 17, 21]
TYPES = {"float16": np.float16, "float": np.float32, "double": np.float64}
DIMS = {"Gemm": (40, 70), "MatMul": (70, 40), "Conv": (40, 70, 1, 1)}
TEXTS = {
    "Gemm": "g (T[N,70] x) => (T[N,40] y) { [fc] y = Gemm <alpha = 0.5, transB = 1> (x, W, b) }",
    "MatMul": "g (T[N,70] x) => (T[N,40] y) { [fc] p = MatMul(x, W)  y = Add(p, b) }",
    "Conv": "g (T[N,70,3,2] x) => (T[N,40,3,2] y) { [fc] y = Conv(x, W, b) }",
}


def made_of(text: str, opset: int, kind: str = "float", **constants: Any) -> ModelProto:
    ir_version = 10 if opset > 20 else 7
    return model(text.replace("T[", f"{kind}["), opset=opset, ir_version=ir_version, **constants)


def example(op: str, opset: int = 17, kind: str = "float") -> ModelProto:
    row = (40,)
    return made_of(TEXTS[op], opset, kind, W=values("W", DIMS[op], TYPES[kind]), b=values("b", row, TYPES[kind]))


def stored(proto: ModelProto, layer: Layer, name: str) -> tuple[ModelProto, np.ndarray]:
    """The model with the weight of its layer in a format, and what that stands for, [m, n]."""
    W = matrix(Model(proto), layer)
    values = W.reshape(layer.shape.dims)
    substitution = Substitution.of(layer, (Piece("W", values),), FORMATS[name], np.zeros(layer.m))
    made = rewrite(Model(proto), [substitution]).proto
    onnx.checker.check_model(made, full_check=True)
    return made, substitution.parts[0].encoded.values.reshape(layer.m, layer.n)


def identity(proto: ModelProto, n: int) -> np.ndarray:
    """Data that make the outputs the columns of the weight."""
    (value,) = proto.graph.input
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    spatial = [axis.dim_value for axis in value.type.tensor_type.shape.dim][2:]
    eye = np.eye(n, dtype=kind)
    return np.broadcast_to(eye.reshape(n, n, *([1] * len(spatial))), (n, n, *spatial)).copy()


def weight_in(proto: ModelProto, n: int) -> np.ndarray:
    """W, [m, n], as a model without a bias computes with it, exactly."""
    outputs = run(proto, {"x": identity(proto, n)})["y"]
    return outputs.reshape(*outputs.shape[:2], -1)[:, :, 0].T


def without_bias(proto: ModelProto) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    bias = next(tensor for tensor in made.graph.initializer if tensor.name == "b")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(onnx.numpy_helper.to_array(bias)), "b"))
    return made


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("op", TEXTS)
def test_the_runtime_reads_the_very_numbers_that_a_format_says_it_stores(op: str, name: str, opset: int) -> None:
    proto = without_bias(example(op, opset))
    made, read = stored(proto, only_layer(proto), name)
    assert made.opset_import[0].version == opset
    np.testing.assert_array_equal(weight_in(made, 70), read.astype(np.float32))


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(("op", "kind"), [*((op, "float16") for op in TEXTS), ("Gemm", "double"), ("MatMul", "double")])
def test_layers_that_compute_in_other_types_get_them_in_that_type(op: str, name: str, kind: str) -> None:
    proto = without_bias(example(op, 17, kind))
    made, read = stored(proto, only_layer(proto), name)
    np.testing.assert_array_equal(weight_in(made, 70), read.astype(TYPES[kind]))


def test_half_floats_of_a_layer_of_half_floats_need_no_node() -> None:
    proto = example("MatMul", kind="float16")
    made, _ = stored(proto, only_layer(proto), "float16")
    assert ops(made) == ops(proto)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(
    ("path", "dims", "kind"),
    [
        ("w = Cast <to = 1> (W)", (70, 40), np.float16),
        ("w = Cast <to = 1> (W)", (70, 40), np.float64),
        ("w = Transpose <perm = [1, 0]> (W)", (40, 70), np.float32),
        ("c = Cast <to = 1> (W)  w = Transpose <perm = [1, 0]> (c)", (40, 70), np.float16),
    ],
    ids=["float16", "float64", "transposed", "both"],
)
def test_weights_behind_other_nodes_are_stored_alike(name: str, path: str, dims: tuple[int, int], kind: Any) -> None:
    text = f"g (float[N,70] x) => (float[N,40] y) {{ {path}  [fc] y = MatMul(x, w) }}"
    proto = made_of(text, 17, W=values("W", dims, kind))
    made, read = stored(proto, only_layer(proto), name)
    assert "W" not in initializers(made)
    np.testing.assert_array_equal(weight_in(made, 70), read.astype(np.float32))


@pytest.mark.parametrize("n", [1, 3, 31, 33, 129])
@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("name", STORED)
def test_pieces_of_any_size(name: str, m: int, n: int) -> None:
    """Thin ones too: what stands for a weight may be chains over latents of any width."""
    proto = made_of("g (float[N,9] x) => (float[N,7] y) { [fc] y = MatMul(x, W) }", 13, W=values("W", (9, 7)))
    layer = only_layer(proto)
    shapes = [(n, 9), (m, n), (7, m)]
    pieces = [Piece(f"P{at}", values(f"P{at}", shape)) for at, shape in enumerate(shapes)]
    substitution = Substitution.of(layer, pieces, FORMATS[name], np.zeros(7))
    made = rewrite(Model(proto), [substitution]).proto
    onnx.checker.check_model(made, full_check=True)
    first, second, third = (part.encoded.values for part in substitution.parts)
    np.testing.assert_allclose(weight_in(made, 9), third @ second @ first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(
    "weight",
    [
        np.zeros((40, 70)),
        np.full((40, 70), 0.3),
        np.full((40, 70), 1e-41),
        np.where(np.arange(2800).reshape(40, 70) % 97, 1e-3, 3e38),
        np.where(np.arange(40)[:, None] % 3, 0.0, np.linspace(-1, 2, 70)),
    ],
    ids=["zeros", "constant", "denormal", "outliers", "zero rows"],
)
def test_weights_of_any_size_are_read_as_they_are_stored(name: str, weight: np.ndarray) -> None:
    proto = made_of(TEXTS["Gemm"], 17, W=weight.astype(np.float32), b=np.zeros(40, np.float32))
    made, read = stored(proto, only_layer(proto), name)
    found = weight_in(made, 70)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, read.astype(np.float32), atol=1e-37)


@pytest.mark.parametrize("opset", [7, 21])
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(("op", "kind"), [*((op, "float") for op in TEXTS), ("MatMul", "double")])
def test_all_of_it_is_done_at_load(op: str, name: str, opset: int, kind: str, tmp_path: Path) -> None:
    proto = example(op, opset, kind)
    made, _ = stored(proto, only_layer(proto), name)
    before, after = optimized(proto, tmp_path), optimized(made, tmp_path)
    assert len(after.graph.node) <= len(before.graph.node) + 1  # a Gemm has become MatMul and Add
    assert {node.op_type for node in after.graph.node} <= {*ops(before), "MatMul", "Add", "Gemm"}


def optimized(proto: ModelProto, folder: Path) -> ModelProto:
    """The graph that ONNX Runtime runs, before it is laid out for a machine."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("name", STORED)
def test_numbers_are_stored_once_for_all_who_use_them(name: str) -> None:
    proto = made_of(
        "g (float[N,70] x) => (float[N,40] y) { a = MatMul(x, W)  c = MatMul(x, W)  y = Add(a, c) }",
        17,
        W=values("W", (70, 40)),
    )
    made, read = stored(proto, layers_of(proto)[0], name)
    assert ops(made).count("Cast") == 1
    np.testing.assert_allclose(weight_in(made, 70), 2 * read, rtol=1e-6)


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("made_by", [nested, with_function])
def test_the_steps_lie_where_the_weight_lay(made_by: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the body of an If, in a function: each has constants and nodes of its own."""
    monkeypatch.setattr(layers_file, "barred", lambda *_: None)
    proto = made_by()
    layer = next(layer for layer in layers_of(proto) if layer.weight == "W")
    made, _ = stored(proto, layer, name)
    assert ops(made) == ops(proto)
    feeds = some_feeds(proto)
    if "c" in feeds:
        feeds |= {"c": np.array(True), "d": np.array(False)}
    for output, expected in run(proto, feeds).items():
        np.testing.assert_allclose(run(made, feeds)[output], expected, atol=2 if "int4" in name else 0.1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_floats_are_laid_out_by_steps_as_arrays_are_at_once(kind: Any) -> None:
    for shape, dims in [((4, 3), (4, 3, 1, 1) if "Conv" in kind.ops else (3, 4)), ((4, 3, 1), (4, 3, 1))]:
        if len(shape) > 2 and "Conv" not in kind.ops:
            continue
        array = values("array", shape)
        laid_out = array
        for step in kind.laying_out(shape, dims):
            laid_out = applied(step.op, step.attributes, laid_out)
        np.testing.assert_array_equal(laid_out, kind.operand(array, dims))


def applied(op: str, attributes: Any, array: np.ndarray) -> np.ndarray:
    return array.reshape(attributes["shape"]) if op == "Reshape" else array.transpose(attributes["perm"])


def test_names_are_new_and_nodes_in_order() -> None:
    proto = example("Conv")
    made, _ = stored(proto, only_layer(proto), "int4/64")
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    assert all(isinstance(node, NodeProto) for node in made.graph.node)
    assert ops(made)[-2:] == ["Reshape", "Conv"]
