"""Weights as inputs: unless something is fed a model computes what it did; fed with W' it is the rewritten model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.overridable import Override, overridable
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, input_specs, load
from tests.graph.helpers import model, pair, run, session, some_feeds, values, with_constant_nodes

IR3 = '<ir_version: 3, opset_import: ["" : 17]>'


def cast_half() -> ModelProto:
    text = "net (float[N, 8] x) => (float[N, 6] y) { V = Cast <to = 1> (W) [fc] p = MatMul(x, V) y = Add(p, b) }"
    return model(text, W=values("W", (8, 6), np.float16), b=(6,))


def shared() -> ModelProto:
    return model(
        "net (float[N, 6] x) => (float[N, 6] y) { h = MatMul(x, W) r = Relu(h) p = MatMul(r, W) y = Add(p, b) }",
        W=(6, 6),
        b=(6,),
    )


def listed_as_inputs() -> ModelProto:
    return model(
        "net (float[N, 8] x, float[8, 6] W, float[6] b) => (float[N, 6] y) { [fc] y = Gemm(x, W, b) }",
        W=(8, 6),
        b=(6,),
    )


def old_ir() -> ModelProto:
    return model(
        IR3 + "net (float[N, 8] x, float[8, 6] W, float[6] b) => (float[N, 6] y) { [fc] y = Gemm(x, W, b) }",
        W=(8, 6),
        b=(6,),
    )


def in_a_constant_node() -> ModelProto:
    plain = model("net (float[N, 8] x) => (float[N, 6] y) { [fc] y = Gemm(x, W, b) }", W=(8, 6), b=(6,))
    return with_constant_nodes(plain, "W", "b")


def conv(body: str, *, shape: tuple[int, ...] = (6, 8, 1, 1), x: str = "float[N, 8, 7, 5] x") -> ModelProto:
    ends = "y" if len(shape) == 4 else "float[N, 6, L] y"
    output = "float[N, 6, H, V] y" if ends == "y" else ends
    return model(f"net ({x}) => ({output}) {{ [fc] {body} }}", W=shape, b=(6,))


def gemm(attributes: str, inputs: str = "x, W, b", *, x: str = "float[N, 8] x", **constants: object) -> ModelProto:
    shapes = {"W": (6, 8) if "transB" in attributes else (8, 6)} | constants
    return model(f"net ({x}) => (float[N, 6] y) {{ [fc] y = Gemm {attributes} ({inputs}) }}", **shapes)


TWICE = "net (float[N, 8] x) => (float[N, 6] h, float[N, 4] y) "
MODELS = {
    "Gemm": gemm("", b=(6,)),
    "Gemm with transB": gemm("<transB = 1>", b=(6,)),
    "Gemm with transA": gemm("<transA = 1>", x="float[8, N] x", b=(6,)),
    "Gemm with transA and transB": gemm("<transA = 1, transB = 1>", x="float[8, N] x", b=(6,)),
    "Gemm with alpha and beta": gemm("<transB = 1, alpha = 0.5, beta = 2.0>", b=(6,)),
    "Gemm with a negative alpha": gemm("<alpha = -3.0>", b=(6,)),
    "Gemm without a bias": gemm("", "x, W"),
    "Gemm with a scalar bias": gemm("", b=()),
    "Gemm with a bias of one row": gemm("<beta = 0.5>", b=(1, 6)),
    "Gemm with a bias of one column": gemm("", x="float[5, 8] x", b=(5, 1)),
    "Gemm with a bias that is an input": gemm("<beta = 2.0>", x="float[N, 8] x, float[6] b"),
    "MatMul": model("net (float[N, 8] x) => (float[N, 6] y) { [fc] y = MatMul(x, W) }", W=(8, 6)),
    "MatMul of sequences": model("net (float[N, L, 8] x) => (float[N, L, 6] y) { y = MatMul(x, W) }", W=(8, 6)),
    "MatMul of one vector": model("net (float[8] x) => (float[6] y) { y = MatMul(x, W) }", W=(8, 6)),
    "MatMul and Add": model(
        "net (float[N, 8] x) => (float[N, 6] y) { [fc] p = MatMul(x, W) y = Add(b, p) }", W=(8, 6), b=(6,)
    ),
    "MatMul behind a Transpose": model(
        "net (float[N, 8] x) => (float[N, 6] y) { V = Transpose <perm = [1, 0]> (W) [fc] y = MatMul(x, V) }", W=(6, 8)
    ),
    "Conv": conv("y = Conv(x, W, b)"),
    "Conv with stride": conv("y = Conv <strides = [2, 3]> (x, W, b)"),
    "Conv with padding and without a bias": conv("y = Conv <pads = [1, 0, 2, 1]> (x, W)"),
    "Conv along one axis": conv("y = Conv <strides = [2]> (x, W, b)", shape=(6, 8, 1), x="float[N, 8, 9] x"),
    "float64": model(
        "net (double[N, 8] x) => (double[N, 6] y) { [fc] y = MatMul(x, W) }", W=values("W", (8, 6), np.float64)
    ),
    "float16 and Cast": cast_half(),
    "shared weight": shared(),
    "a weight in a Constant node": in_a_constant_node(),
    "initializers listed as inputs": listed_as_inputs(),
    "IR version 3": old_ir(),
    "a layer's output is one of the graph's": model(
        TWICE + "{ [one] h = Gemm(x, W, b) r = Relu(h) [two] y = MatMul(r, V) }", W=(8, 6), b=(6,), V=(6, 4)
    ),
    "names that are taken": model(
        TWICE + '{ [one] h = MatMul(x, W) [two] "h.raw" = MatMul(h, V) y = Add("h.raw", "W.shift") }',
        W=(8, 6),
        V=(6, 4),
        W__shift=(4,),
    ),
}
each = pytest.mark.parametrize("proto", MODELS.values(), ids=MODELS)


@dataclass(frozen=True)
class Opened:
    """A model with its weights as inputs, ready to be fed."""

    proto: ModelProto
    layers: dict[str, Layer]
    overrides: dict[str, Override]


def opened(proto: ModelProto) -> Opened:
    layers, _ = find(Model(proto))
    assert layers
    made, overrides = overridable(Model(proto), layers)
    return Opened(made, {layer.name: layer for layer in layers}, overrides)


def some_factors(layer: Layer, rank: int = 2) -> Substitution:
    A, B, shift = (values(layer.name + role, dims) for role, dims in zip("ABs", dims_of(layer, rank), strict=True))
    return pair(layer, A, B, shift)


def dims_of(layer: Layer, rank: int) -> tuple[tuple[int, ...], ...]:
    return (layer.m, rank), (rank, layer.n), (layer.m,)


def product(made: Substitution) -> np.ndarray:
    B, A = (part.encoded.arrays[""].astype(np.float64) for part in made.parts)
    return A @ B


def feed_of(found: Opened, made: Substitution) -> dict[str, np.ndarray]:
    return found.overrides[made.layer.name].feed(product(made), made.shift)


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert list(found) == list(expected)
    for name, values_expected in expected.items():
        assert found[name].dtype == values_expected.dtype
        assert found[name].shape == values_expected.shape
        scale = max(1.0, float(np.abs(values_expected).max()))
        np.testing.assert_allclose(found[name], values_expected, rtol=0, atol=tolerance * scale, err_msg=name)


@each
def test_unless_something_is_fed_it_computes_what_the_original_does(proto: ModelProto) -> None:
    assert_close(run(opened(proto).proto, some_feeds(proto)), run(proto), 1e-6)


@each
def test_feeding_the_weight_it_has_changes_nothing(proto: ModelProto) -> None:
    found = opened(proto)
    feeds = some_feeds(proto)
    for name, layer in found.layers.items():
        feeds |= found.overrides[name].feed(matrix(Model(proto), layer), np.zeros(layer.m))
    assert_close(run(found.proto, feeds), run(proto), 1e-6)


@each
def test_fed_with_a_product_of_factors_and_a_shift_it_is_the_rewritten_model(proto: ModelProto) -> None:
    found = opened(proto)
    feeds, made = some_feeds(proto), [some_factors(layer) for layer in found.layers.values()]
    expected = run(rewrite(Model(proto), made).proto, feeds)
    for each_made in made:
        feeds |= feed_of(found, each_made)
    # A product in float16 is rounded once as a whole and once by factor.
    half = any(layer.dtype == np.float16 for layer in found.layers.values())
    assert_close(run(found.proto, feeds), expected, 5e-3 if half else 1e-5)


@each
def test_it_is_a_valid_model_with_the_inputs_outputs_and_constants_of_the_original(proto: ModelProto) -> None:
    before = proto.SerializeToString()
    found = opened(proto)
    onnx.checker.check_model(found.proto, full_check=True)
    assert proto.SerializeToString() == before, "the original is left alone"
    assert input_specs(found.proto) == input_specs(proto)
    assert [arg.name for arg in session(found.proto).get_inputs()] == [arg.name for arg in session(proto).get_inputs()]
    assert [value.name for value in found.proto.graph.output] == [value.name for value in proto.graph.output]
    inputs = [value.name for value in found.proto.graph.input]
    assert len(set(inputs)) == len(inputs)
    for override in found.overrides.values():
        assert {override.weight, override.shift} <= set(inputs)
    stored = [tensor.name for tensor in found.proto.graph.initializer]
    assert len(set(stored)) == len(stored)


CHAIN = model(
    "net (float[N, 8] x) => (float[N, 6] a, float[N, 6] b, float[N, 4] c)"
    "{ [one] a = Gemm(x, U) [two] b = MatMul(x, V) [three] c = MatMul(b, W) }",
    U=(8, 6),
    V=(8, 6),
    W=(6, 4),
)


@pytest.mark.parametrize(("fed", "moved"), [("one", {"a"}), ("two", {"b", "c"}), ("three", {"c"})])
def test_feeding_one_layer_leaves_the_others_as_they_are(fed: str, moved: set[str]) -> None:
    found, feeds, before = opened(CHAIN), some_feeds(CHAIN), run(CHAIN)
    after = run(found.proto, feeds | feed_of(found, some_factors(found.layers[fed])))
    # Not to the last bit: a weight that is an input is not packed, and another kernel may take it.
    assert {name for name in before if not np.allclose(before[name], after[name], rtol=0, atol=1e-4)} == moved


def test_a_layer_that_is_not_asked_for_stays_a_constant() -> None:
    layers, _ = find(Model(CHAIN))
    made, overrides = overridable(Model(CHAIN), layers[1:2])
    assert list(overrides) == ["two"]
    assert [value.name for value in made.graph.input] == ["x", "V", "V.shift"]
    assert_close(run(made, some_feeds(CHAIN)), run(CHAIN), 0.0)


def test_one_feed_reaches_every_user_of_a_shared_weight() -> None:
    proto = shared()
    found, x = opened(proto), some_feeds(proto)
    (layer,) = found.layers.values()
    made = some_factors(layer)
    W, shift = product(made), made.shift
    expected = np.maximum(x["x"] @ W.T + shift, 0) @ W.T + shift + numpy_helper.to_array(proto.graph.initializer[1])
    after = run(found.proto, x | feed_of(found, made))["y"]
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


def test_the_shift_reaches_an_output_of_the_graph_that_is_the_layers_own() -> None:
    proto = model("net (float[N, 8] x) => (float[N, 6] y) { [fc] y = MatMul(x, W) }", W=(8, 6))
    found, shift = opened(proto), np.arange(6.0)
    feeds = some_feeds(proto) | found.overrides["fc"].feed(matrix(Model(proto), found.layers["fc"]), shift)
    np.testing.assert_allclose(run(found.proto, feeds)["y"], run(proto)["y"] + shift, rtol=1e-5, atol=1e-5)


def test_a_feed_has_the_types_the_model_wants() -> None:
    proto = cast_half()
    found = opened(proto)
    feed = found.overrides["fc"].feed(np.ones((6, 8)), np.ones(6))
    assert {name: array.dtype for name, array in feed.items()} == {"W": np.float16, "W.shift": np.float32}
    assert feed["W"].shape == (8, 6)


def test_a_weight_from_a_constant_node_becomes_an_initializer_and_other_constants_stay() -> None:
    proto = in_a_constant_node()
    found = opened(proto)
    assert [node.op_type for node in found.proto.graph.node] == ["Constant", "Gemm", "Add"]
    assert found.proto.graph.node[0].output[0] == "b"


def test_external_weights_are_still_read_from_their_file(tmp_path: Path) -> None:
    proto = model("net (float[N, 40] x) => (float[N, 30] y) { [fc] y = Gemm(x, W, b) }", W=(40, 30), b=(30,))
    path = tmp_path / "model.onnx"
    external = ModelProto()
    external.CopyFrom(proto)
    onnx.save(external, path, save_as_external_data=True, location="model.data", size_threshold=0)
    found = load(path)
    layers, _ = find(found)
    made, overrides = overridable(found, layers)
    assert made.graph.initializer[0].data_location == TensorProto.EXTERNAL
    from onnx_dalr.session.session import open_session

    opened_session = open_session(made.SerializeToString(), "cpu", found.folder)
    feeds = some_feeds(proto)
    np.testing.assert_allclose(opened_session.run(feeds)[0], run(proto, feeds)["y"], rtol=1e-5, atol=1e-5)
    zero = overrides["fc"].feed(np.zeros((30, 40)), np.zeros(30))
    bias = numpy_helper.to_array(proto.graph.initializer[1])
    after = opened_session.run(feeds | zero)[0]
    np.testing.assert_allclose(after, np.broadcast_to(bias, after.shape), rtol=1e-5, atol=1e-5)


def test_the_constants_a_body_reads_from_outside_keep_their_names() -> None:
    branch = helper.make_graph(
        [helper.make_node("Mul", ["h", "V"], ["out"])],
        "body",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    proto = model("net (float[N, 8] x, bool c) => (float[N, 6] y) { [fc] h = MatMul(x, W) y = Relu(h) }", W=(8, 6))
    proto.graph.initializer.append(numpy_helper.from_array(values("V", (6,)), "V"))
    del proto.graph.node[1]
    proto.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    onnx.checker.check_model(proto, full_check=True)
    found = opened(proto)
    onnx.checker.check_model(found.proto, full_check=True)
    assert_close(run(found.proto, some_feeds(proto)), run(proto), 1e-6)
