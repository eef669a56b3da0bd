"""The model cut down to the tensors asked for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.graph.probe import probe
from tests.graph.helpers import model, ops, run, session, some_feeds

CHAIN = """g (float[N,6] x, float[N,8] other) => (float[N,7] z) {
    h = Gemm(x, W, b)
    r = Relu(h)
    s = Add(r, other)
    z = MatMul(s, V)
}"""


def chain() -> ModelProto:
    return model(CHAIN, W=(6, 8), b=(8,), V=(8, 7))


def outputs(proto: ModelProto) -> list[str]:
    return [value.name for value in proto.graph.output]


def everything(proto: ModelProto, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime computes for inner tensors of the whole model."""
    wide = ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run(wide, feeds)


def assert_values(proto: ModelProto, names: list[str]) -> ModelProto:
    """The probe gives the values of the whole model, and nothing else."""
    feeds = some_feeds(proto)
    cut = probe(proto, names)
    assert outputs(cut) == list(dict.fromkeys(names))
    found, expected = run(cut, feeds), everything(proto, outputs(cut), feeds)
    for name in outputs(cut):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    return cut


@pytest.mark.parametrize(
    ("names", "nodes", "constants"),
    [
        (["h"], ["Gemm"], ["W", "b"]),
        (["r"], ["Gemm", "Relu"], ["W", "b"]),
        (["s", "h"], ["Gemm", "Relu", "Add"], ["W", "b"]),
        (["z"], ["Gemm", "Relu", "Add", "MatMul"], ["W", "b", "V"]),
        (["h", "h"], ["Gemm"], ["W", "b"]),
    ],
    ids=str,
)
def test_nothing_is_computed_after_the_last_tensor_asked_for(
    names: list[str], nodes: list[str], constants: list[str]
) -> None:
    cut = assert_values(chain(), names)
    assert ops(cut) == nodes
    assert {tensor.name for tensor in cut.graph.initializer} == set(constants)


def test_inputs_are_those_of_the_model_even_where_nothing_reads_them() -> None:
    proto = chain()
    cut = probe(proto, ["h"])
    assert list(cut.graph.input) == list(proto.graph.input)


def test_branches_that_are_not_asked_for_are_left_out() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y, float[N,8] z)"
        "{ a = MatMul(x, V)  b = MatMul(x, W)  y = Neg(a)  z = Abs(b) }",
        V=(6, 8),
        W=(6, 8),
    )
    cut = assert_values(proto, ["b"])
    assert ops(cut) == ["MatMul"]
    assert [tensor.name for tensor in cut.graph.initializer] == ["W"]


def test_the_original_is_left_as_it_is() -> None:
    proto = chain()
    before = proto.SerializeToString(deterministic=True)
    probe(proto, ["h"])
    assert proto.SerializeToString(deterministic=True) == before


def test_bodies_keep_what_they_read_of_the_outer_graph() -> None:
    proto = model(
        """g (float[N,6] x, bool c) => (float[N,8] y) {
            p = MatMul(x, W)
            unused = Neg(p)
            i = If (c) <
                then_branch = t () => (float[N,8] a) {
                    n = If (c) <
                        then_branch = tt () => (float[N,8] f) { f = Add(p, outer) },
                        else_branch = te () => (float[N,8] h) { h = Mul(p, deep) }
                    >
                    a = Relu(n)
                },
                else_branch = e () => (float[N,8] d) { d = Identity(p) }
            >
            y = Abs(i)
        }""",
        W=(6, 8),
        outer=(8,),
        deep=(8,),
        last=(8,),
    )
    cut = assert_values(proto, ["i"])
    assert ops(cut) == ["MatMul", "If"]
    assert {tensor.name for tensor in cut.graph.initializer} == {"W", "outer", "deep"}


def test_loops_keep_their_state() -> None:
    proto = model(
        """g (float[5,8] x) => (float[5,8] y) {
            l = Loop (count, , x) <body = b (int64 i, bool c, float[5,8] s) => (bool k, float[5,8] t) {
                k = Identity(c)
                t = Add(s, step)
            }>
            y = Neg(l)
        }""",
        checked=False,
        count=np.array(3),
        step=(8,),
    )
    assert ops(assert_values(proto, ["l"])) == ["Loop"]


def test_functions_stay() -> None:
    proto = model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N,6] x) => (float[N,8] z) { h = MatMul(x, W)  y = local.Twice(h)  z = Neg(y) }
        <domain: "local", opset_import: ["" : 17]>
        Twice (x) => (y) { y = Add(x, x) }""",
        W=(6, 8),
    )
    assert list(assert_values(proto, ["y"]).functions) == list(proto.functions)


def test_initializers_that_are_inputs_too_go_with_their_readers() -> None:
    proto = model(
        "g (float[N,6] x, float[6,8] W, float[8,7] V) => (float[N,7] z) { h = MatMul(x, W)  z = MatMul(h, V) }",
        opset=8,
        ir_version=3,
        W=(6, 8),
        V=(8, 7),
    )
    cut = assert_values(proto, ["h"])
    assert [value.name for value in cut.graph.input] == ["x", "W"]
    assert [value.name for value in session(cut).get_inputs()] == ["x"]


def test_a_node_with_several_outputs_gives_the_one_asked_for() -> None:
    proto = model(
        "g (float[N,8] x) => (float[N,4] z) { a, b = Split <axis = 1> (x, halves)  z = Add(a, b) }",
        halves=np.array([4, 4]),
    )
    assert ops(assert_values(proto, ["b"])) == ["Split"]


def test_sparse_initializers_stay_where_they_are_read() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { s = MatMul(x, W)  y = Neg(s) }", checked=False)
    numbers = helper.make_tensor("W", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    where = helper.make_tensor("W_where", TensorProto.INT64, [3], [0, 9, 20])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(numbers, where, [6, 8]))
    assert len(assert_values(proto, ["s"]).graph.sparse_initializer) == 1


def test_no_tensor_asked_for_is_no_node() -> None:
    assert ops(probe(chain(), [])) == []
