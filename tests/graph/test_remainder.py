"""What comes before all layers that may change, and the model that goes on from there."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, ValueInfoProto

from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.remainder import Cut, behind, cut_before
from onnx_dalr.graph.storage.model import load
from tests.graph.helpers import layers_of, model, ops, rewritten, run, some_feeds

CHAIN = """g (float[N,6] x, float[N,8] other) => (float[N,7] z) {
    h = Gemm(x, W, b)
    r = Relu(h)
    s = Add(r, other)
    t = MatMul(s, V)
    u = Add(t, c)
    z = MatMul(u, Q)
}"""


def chain() -> ModelProto:
    return model(CHAIN, W=(6, 8), b=(8,), V=(8, 7), c=(7,), Q=(7, 7))


def layer(proto: ModelProto, weight: str) -> Layer:
    return next(each for each in layers_of(proto) if each.weight == weight)


def crossing(proto: ModelProto, cut: Cut, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    wide = ModelProto()
    wide.CopyFrom(proto)
    own = {value.name for value in proto.graph.output}
    wide.graph.output.extend(ValueInfoProto(name=name) for name in cut.tensors if name not in own)
    found = run(wide, feeds)
    return {name: found[name] for name in cut.tensors}


def continued(proto: ModelProto, cut: Cut, original: ModelProto) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """The rest of a model, and what it gives with what crosses the cut of the original."""
    feeds = some_feeds(original)
    crossed = crossing(original, cut, feeds)
    rest = behind(proto, cut, {name: [array] for name, array in crossed.items()})
    wanted = {value.name for value in rest.graph.input}
    return rest, run(rest, {name: array for name, array in (feeds | crossed).items() if name in wanted})


@pytest.mark.parametrize(
    ("weight", "tensors", "nodes", "left"),
    [
        ("V", ("s",), 3, ["MatMul", "Add", "MatMul"]),
        ("Q", ("u",), 5, ["MatMul"]),
    ],
)
def test_what_comes_before_a_layer_is_computed_once(
    weight: str, tensors: tuple[str, ...], nodes: int, left: list[str]
) -> None:
    proto = chain()
    cut = cut_before(load(proto), [layer(proto, weight)])
    assert cut is not None
    assert cut.tensors == tensors
    assert len(cut.nodes) == nodes
    rest, found = continued(proto, cut, proto)
    assert ops(rest) == left
    np.testing.assert_allclose(found["z"], run(proto, some_feeds(proto))["z"], rtol=1e-5, atol=1e-6)


def test_a_model_whose_first_layer_may_change_has_no_cut() -> None:
    proto = chain()
    assert cut_before(load(proto), [layer(proto, "W"), layer(proto, "Q")]) is None


def test_the_cut_lies_before_all_of_several_layers() -> None:
    proto = chain()
    cut = cut_before(load(proto), [layer(proto, "Q"), layer(proto, "V")])
    assert cut is not None
    assert cut.tensors == ("s",)
    assert cut.weight_bytes == 4 * (6 * 8 + 8)


def test_a_changed_model_goes_on_from_the_cut_of_the_original() -> None:
    proto = model(
        CHAIN.replace("Gemm(x, W, b)", "Mul(x, x)").replace("float[N,8]", "float[N,6]"), V=(6, 7), c=(7,), Q=(7, 7)
    )
    made = rewritten(proto, 1.0)
    cut = cut_before(load(proto), layers_of(proto))
    assert cut is not None
    _, found = continued(made, cut, proto)
    np.testing.assert_allclose(found["z"], run(made, some_feeds(proto))["z"], rtol=1e-4, atol=1e-5)


def test_inputs_that_are_read_behind_it_are_still_fed_and_others_are_not() -> None:
    proto = model(
        "g (float[N,6] x, float[N,7] y) => (float[N,7] z) { h = Relu(x)\n t = MatMul(h, V)\n z = Add(t, y) }",
        V=(6, 7),
    )
    cut = cut_before(load(proto), layers_of(proto))
    assert cut is not None
    rest, found = continued(proto, cut, proto)
    assert {value.name for value in rest.graph.input} == {"y", "h"}
    np.testing.assert_allclose(found["z"], run(proto, some_feeds(proto))["z"], rtol=1e-5, atol=1e-6)


def test_an_output_before_the_cut_crosses_it_and_is_not_computed_again() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,6] h, float[N,7] z) { h = Relu(x)\n t = Neg(h)\n z = MatMul(t, V) }", V=(6, 7)
    )
    cut = cut_before(load(proto), layers_of(proto))
    assert cut is not None
    assert cut.tensors == ("h", "t")
    rest, _ = continued(proto, cut, proto)
    assert [value.name for value in rest.graph.output] == ["z"]


def test_nodes_may_stand_in_any_order() -> None:
    proto = chain()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    cut = cut_before(load(proto), [layer(proto, "V")])
    assert cut is not None
    assert cut.tensors == ("s",)


def test_what_depends_on_nothing_that_is_fed_stays_behind_to_be_folded() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,7] z) { k = Mul(a, a)\n h = Add(x, k)\n q = Neg(k)\n t = MatMul(h, V)\n"
        " z = Add(t, w) }",
        a=(6,),
        V=(6, 7),
        w=(7,),
    )
    cut = cut_before(load(proto), layers_of(proto))
    assert cut is not None
    assert cut.tensors == ("h",)
    assert len(cut.nodes) == 1


def test_a_body_that_reads_what_crosses_is_fed_it_too() -> None:
    proto = model(
        "g (float[N,6] x, bool c) => (float[N,7] z) { h = Relu(x)\n t = MatMul(h, V)\n"
        " z = If(c) <then_branch = a () => (float[N,7] p) { s = ReduceSum(h)\n p = Add(t, s) },"
        " else_branch = b () => (float[N,7] q) { q = Identity(t) }> }",
        V=(6, 7),
    )
    cut = cut_before(load(proto), layers_of(proto))
    assert cut is not None
    assert cut.tensors == ("h",)
    for chosen in (True, False):
        feeds = some_feeds(proto) | {"c": np.array(chosen)}
        crossed = crossing(proto, cut, feeds)
        rest = behind(proto, cut, {name: [array] for name, array in crossed.items()})
        found = run(rest, {"c": feeds["c"]} | crossed)
        np.testing.assert_allclose(found["z"], run(proto, feeds)["z"], rtol=1e-5, atol=1e-6)
