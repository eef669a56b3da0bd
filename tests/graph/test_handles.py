"""Nodes inside bodies of bodies and inside functions: named, found, replaced like those of the main graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from onnx_dalr.factorize.formats import Decoding, Encoded
from onnx_dalr.graph import layers as layers_file
from onnx_dalr.graph.handle import MAIN, Handle, Into, Scope
from onnx_dalr.graph.index import index_of
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.rewrite import Part, Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import assert_same_outputs, exact, layers_of, model, ops, run, some_feeds, values

DEEP = Scope(None, (Into(1, "then_branch"), Into(1, "else_branch")))


def nested() -> ModelProto:
    """A MatMul in a body of a body, whose weight V lies in the main graph, and one whose weight it brings itself."""
    proto = model(
        """g (float[N,6] x, bool c, bool d) => (float[N,8] y, float[N,8] z) {
            z = MatMul(x, V)
            y = If (c) <
                then_branch = t () => (float[N,8] a) {
                    q = Relu(x)
                    a = If (d) <
                        then_branch = u () => (float[N,8] s) { s = MatMul(q, V) },
                        else_branch = e () => (float[N,8] r) {
                            [first] p = MatMul(q, W)
                            [bias] o = Add(p, b)
                            [second] m = MatMul(q, V)
                            r = Sub(o, m)
                        }
                    >
                },
                else_branch = f () => (float[N,8] n) { n = Neg(z) }
            >
        }""",
        V=(6, 8),
        W=(6, 8),
        b=(8,),
    )
    body = DEEP.of(proto)
    for name in ("W", "b"):
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
        body.initializer.append(tensor)
        proto.graph.initializer.remove(tensor)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def with_function() -> ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17, "ours" : 1]>
    g (float[N,6] x) => (float[N,8] y) { h = Relu(x)  y = ours.dense(h) }
    <domain: "ours", opset_import: ["" : 17]>
    dense (t) => (s) { k = Relu(t)  [inner] p = MatMul(k, W)  s = Add(p, b) }"""
    proto = onnx.parser.parse_model(text)
    for name, shape in (("W", (6, 8)), ("b", (8,))):
        constant = helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(values(name, shape)))
        proto.functions[0].node.insert(0, constant)
    return proto


FEEDS = [{"c": np.array(c), "d": np.array(d)} for c in (False, True) for d in (False, True)]


@pytest.fixture
def nothing_barred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers_file, "barred", lambda *_: None)


def test_a_handle_names_a_node_in_a_body_of_a_body_and_in_a_function() -> None:
    assert Handle(MAIN, 0).node(nested()).output[0] == "z"
    assert Handle(DEEP, 2).node(nested()).name == "second"
    assert MAIN.body(1, "then_branch").body(1, "else_branch") == DEEP
    assert list(DEEP.around()) == [DEEP, MAIN.body(1, "then_branch"), MAIN]
    assert [Handle(DEEP, 2).within(scope) for scope in DEEP.around()] == [2, 1, 1]
    assert Handle(Scope(0), 3).node(with_function()).name == "inner"


@pytest.mark.parametrize("handle", [Handle(DEEP, 9), Handle(MAIN.body(0, "then_branch"), 0), Handle(Scope(0), 0)])
def test_a_handle_to_a_place_that_is_not_there_is_an_error(handle: Handle) -> None:
    with pytest.raises(LookupError):
        handle.node(nested())


@pytest.mark.parametrize(
    ("make", "handle"), [(nested, Handle(DEEP, 3)), (with_function, Handle(Scope(0), 4))], ids=["body", "function"]
)
def test_a_node_can_be_replaced_by_its_handle(make: object, handle: Handle) -> None:
    proto = make()  # type: ignore[operator]
    handle.nodes(proto)[handle.position].op_type = "Mul"
    assert handle.node(proto).op_type == "Mul"
    assert proto.SerializeToString() != make().SerializeToString()  # type: ignore[operator]


def test_the_index_of_a_body_sees_outward_and_not_inward() -> None:
    indices = index_of(nested())
    deep, main = indices[DEEP], indices[MAIN]
    assert (deep.producer("q"), deep.producer("z")) == (Handle(MAIN.body(1, "then_branch"), 0), Handle(MAIN, 0))
    assert main.producer("q") is None
    assert (deep.home("V"), deep.home("W")) == (MAIN, DEEP)
    assert (deep.constant("V") is not None, main.constant("W")) == (True, None)
    beside = MAIN.body(1, "then_branch").body(1, "then_branch")
    assert [reader.scope for reader in main.readers("V")] == [MAIN, beside, DEEP]
    assert deep.readers("V") == main.readers("V")


def test_layers_in_bodies_and_functions_are_left_alone_with_the_reason() -> None:
    layers, skipped = find(Model(nested()))
    assert not layers  # V is read inside
    assert [entry.reason for entry in skipped] == [
        "inside a subgraph (then_branch of If 'a')",
        "inside a subgraph (else_branch of If 'a')",
        "inside a subgraph (else_branch of If 'a')",
        "its weight is also read by a node inside a subgraph, so factoring would not remove it",
    ]
    (entry,) = find(Model(with_function()))[1]
    assert entry.reason == "inside the model-local function 'dense'"


@pytest.mark.usefixtures("nothing_barred")
@pytest.mark.parametrize("chosen", [["first"], ["V"], ["first", "V"]], ids=" and ".join)
def test_layers_in_bodies_of_bodies_can_be_rewritten(chosen: list[str]) -> None:
    proto = nested()
    found = [layer for layer in layers_of(proto) if {layer.name, layer.weight} & set(chosen)]
    assert [len(layer.uses) for layer in found] == [{"first": 1, "V": 3}[name] for name in sorted(chosen)]
    made = rewrite(Model(proto), [exact(proto, layer) for layer in found])
    onnx.checker.check_model(made.proto, full_check=True)
    for switches in FEEDS:
        feeds = some_feeds(proto) | switches
        before, after = run(proto, feeds), run(made.proto, feeds)
        for name in before:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-4)
    body, main = inner_after(made.proto), made.proto.graph
    inside, outside = ({tensor.name for tensor in graph.initializer} for graph in (body, main))
    assert inside == ({"W.dalr_B", "W.dalr_A", "b"} if "first" in chosen else {"W", "b"})
    assert outside == ({"V.dalr_B", "V.dalr_A"} if "V" in chosen else {"V"})


def inner_after(proto: ModelProto) -> onnx.GraphProto:
    """What was at DEEP: nodes that were put in before it have moved it."""
    outer = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g
    return next(node for node in outer.node if node.op_type == "If").attribute[1].g


@pytest.mark.usefixtures("nothing_barred")
def test_what_makes_floats_of_a_weight_stands_once_where_the_weight_is_stored() -> None:
    proto = nested()
    (layer,) = [layer for layer in layers_of(proto) if layer.weight == "V"]
    W = matrix(Model(proto), layer)
    half = Encoded({"": W.astype(np.float16)}, W, (Decoding("Cast", attributes={"to": None}),))
    made = rewrite(Model(proto), [Substitution(layer, (Part("W", half),), np.zeros(8))]).proto
    onnx.checker.check_model(made, full_check=True)
    assert ops(made) == ["Cast", "MatMul", "If"]
    assert "Cast" not in [node.op_type for node in inner_after(made).node]
    for switches in FEEDS:
        feeds = some_feeds(proto) | switches
        for name, expected in run(proto, feeds).items():
            np.testing.assert_allclose(run(made, feeds)[name], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.usefixtures("nothing_barred")
def test_a_new_bias_of_a_layer_in_a_body_stays_in_the_body() -> None:
    proto = nested()
    (layer,) = [layer for layer in layers_of(proto) if layer.weight == "W"]
    made = rewrite(Model(proto), [exact(proto, layer, 0.5)])
    assert set(made.tensors["first"]) == {"W.dalr_B", "W.dalr_A", "b.dalr"}
    feeds = some_feeds(proto) | {"c": np.array(True), "d": np.array(False)}
    np.testing.assert_allclose(run(made.proto, feeds)["y"], run(proto, feeds)["y"] + 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("nothing_barred")
def test_layers_in_functions_can_be_rewritten() -> None:
    proto = with_function()
    (layer,) = layers_of(proto)
    assert (layer.name, layer.home) == ("inner", Scope(0))
    made = rewrite(Model(proto), [exact(proto, layer, 0.5)]).proto
    assert_same_outputs(proto, made, moved_by=0.5)
    stored = {node.output[0] for node in made.functions[0].node if node.op_type == "Constant"}
    assert stored == {"W.dalr_B", "W.dalr_A", "b.dalr"}
    assert list(made.graph.node) == list(proto.graph.node)


@pytest.mark.usefixtures("nothing_barred")
def test_the_weights_of_layers_in_bodies_can_be_fed() -> None:
    proto = nested()
    found = layers_of(proto)
    made, overrides = overridable(Model(proto), found)
    onnx.checker.check_model(made, full_check=True)
    for switches in FEEDS:
        feeds = some_feeds(proto) | switches
        for name, expected in run(proto, feeds).items():
            np.testing.assert_allclose(run(made, feeds)[name], expected, rtol=1e-5, atol=1e-5)
        for layer in found:
            fed = overrides[layer.name].feed(matrix(Model(proto), layer) * 2, np.ones(layer.m))
            other = exact(doubled(proto, layer.weight), layer, 1.0)
            for name, expected in run(rewrite(Model(proto), [other]).proto, feeds).items():
                np.testing.assert_allclose(run(made, feeds | fed)[name], expected, rtol=1e-4, atol=1e-4)


def doubled(proto: ModelProto, weight: str) -> ModelProto:
    """The model with a weight twice as large."""
    made = ModelProto()
    made.CopyFrom(proto)
    for graph in (made.graph, DEEP.of(made)):
        for tensor in graph.initializer:
            if tensor.name == weight:
                tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), weight))
    return made
