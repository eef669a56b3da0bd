"""What student and teacher compute alike is found, cut off and fed, and the rest computes what the whole did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_dalr.tune.suffix import behind, frontier, inlined, shared
from tests.graph.helpers import model, run, values

CHAIN = """g (float[N,6] x) => (float[N,4] y) {
    a = MatMul(x, A)  r = Relu(a)  b = MatMul(r, B)  c = Add(b, bias)  t = Tanh(c)  y = MatMul(t, C)
}"""
CHAIN_TENSORS: dict[str, Any] = {"A": (6, 5), "B": (5, 5), "bias": (5,), "C": (5, 4)}
FACTORED = CHAIN.replace("b = MatMul(r, B)", "p = MatMul(r, B1)  b = MatMul(p, B2)")
FACTORED_TENSORS: dict[str, Any] = {"A": (6, 5), "B1": (5, 2), "B2": (2, 5), "bias": (5,), "C": (5, 4)}


def both(
    student: str = FACTORED, tensors: dict[str, Any] | None = None, opset: int = 17
) -> tuple[ModelProto, ModelProto]:
    made = model(student, opset=opset, **(FACTORED_TENSORS if tensors is None else tensors))
    return made, model(CHAIN, opset=opset, **CHAIN_TENSORS)


def alike(student: ModelProto, teacher: ModelProto, said: Sequence[str] = "y", held: Collection[str] = ()) -> list[str]:
    """What is fed to both."""
    return sorted(frontier([student, teacher], said, shared(student, teacher), held))


def with_value(proto: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    next(tensor for tensor in made.graph.initializer if tensor.name == name).CopyFrom(
        numpy_helper.from_array(value, name)
    )
    return made


def test_all_before_the_first_layer_that_differs_is_shared() -> None:
    student, teacher = both()
    known = shared(student, teacher)
    assert known.tensors == {"x", "A", "bias", "C", "a", "r"}
    assert known.constants == {"A", "bias", "C"}
    assert alike(student, teacher) == ["r"]


def test_models_that_are_the_same_share_all() -> None:
    teacher = model(CHAIN, **CHAIN_TENSORS)
    assert shared(teacher, teacher).tensors == {*CHAIN_TENSORS, *"xarbcty"}
    assert alike(teacher, teacher) == ["y"]


def test_where_the_first_layer_differs_the_samples_are_fed() -> None:
    changed = CHAIN.replace("a = MatMul(x, A)", "p = MatMul(x, A1)  a = MatMul(p, A2)")
    student, teacher = both(changed, {**CHAIN_TENSORS, "A1": (6, 2), "A2": (2, 5)})
    assert alike(student, teacher) == ["x"]


@pytest.mark.parametrize("name", ["A", "bias"])
def test_an_initializer_with_other_values_is_not_shared_nor_what_is_computed_from_it(name: str) -> None:
    teacher = model(CHAIN, **CHAIN_TENSORS)
    student = with_value(teacher, name, values("other", CHAIN_TENSORS[name]))
    known = shared(student, teacher)
    assert name not in known.tensors
    assert alike(student, teacher) == (["x"] if name == "A" else ["b"])
    assert shared(with_value(teacher, name, values(name, CHAIN_TENSORS[name])), teacher).tensors >= {name, "y"}


def test_the_same_values_in_another_type_or_shape_are_another_tensor() -> None:
    teacher = model(CHAIN, **CHAIN_TENSORS)
    student = with_value(teacher, "bias", values("bias", (1, 5)))
    assert "c" not in shared(student, teacher).tensors


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("r = Relu(a)", "r = Sigmoid(a)"),
        ("r = LeakyRelu <alpha = 0.1> (a)", "r = LeakyRelu <alpha = 0.2> (a)"),
        ("r = Add(a, a)", "r = Add(a, bias)"),
        ("r = Relu(a)", "r = custom.Relu(a)"),
    ],
)
def test_a_node_that_differs_is_not_shared_though_its_output_has_the_same_name(one: str, other: str) -> None:
    student, teacher = (
        model(CHAIN.replace("r = Relu(a)", text), checked=False, **CHAIN_TENSORS) for text in (one, other)
    )
    known = shared(student, teacher).tensors
    assert "a" in known
    assert known.isdisjoint("rbcty")


def test_the_order_of_attributes_and_names_of_nodes_do_not_matter() -> None:
    student, teacher = (model(CHAIN, **CHAIN_TENSORS) for _ in range(2))
    for proto, names in ((student, ("alpha", "gamma")), (teacher, ("gamma", "alpha"))):
        node = proto.graph.node[1]
        node.op_type, node.name = "Selu", names[0]
        node.attribute.extend(helper.make_attribute(name, 1.5) for name in names)
    assert "y" in shared(student, teacher).tensors


def test_nodes_need_not_be_in_order() -> None:
    student, teacher = both()
    for proto in (student, teacher):
        nodes = list(proto.graph.node)[::-1]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
    assert alike(student, teacher) == ["r"]
    cut = behind(student, ["r"], ["y"])
    onnx.checker.check_model(cut, full_check=True)
    assert [node.op_type for node in cut.graph.node] == ["MatMul", "MatMul", "Add", "Tanh", "MatMul"]


def test_an_input_that_only_one_of_both_has_is_not_shared() -> None:
    student, teacher = both()
    student.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 6]))
    assert "more" not in shared(student, teacher).tensors


def test_initializers_that_are_listed_as_inputs_are_constants() -> None:
    student, teacher = both()
    for proto in (student, teacher):
        proto.graph.input.append(helper.make_tensor_value_info("A", TensorProto.FLOAT, [6, 5]))
    known = shared(student, teacher)
    assert "A" in known.constants
    assert "a" not in known.constants
    changed = with_value(student, "A", values("other", (6, 5)))
    assert shared(changed, teacher).tensors.isdisjoint({"A", "a"})


def test_what_is_computed_from_constants_alone_is_not_fed() -> None:
    text = CHAIN.replace("a = MatMul(x, A)", "half = Cast <to = 1> (stored)  k = Transpose(half)  a = MatMul(x, k)")
    changed = text.replace("r = Relu(a)", "s = Add(a, k2)  k2 = Identity(bias2)  r = Relu(s)")
    tensors = {**CHAIN_TENSORS, "stored": values("stored", (5, 6), np.float16)}
    student = model(changed, checked=False, **tensors, bias2=(5,))
    teacher = model(text, **tensors)
    assert {"half", "k"} <= shared(student, teacher).constants
    assert alike(student, teacher) == ["a"]
    reads_both = model(text.replace("r = Relu(a)", "q = MatMul(a, half)  r = MatMul(q, k)"), **tensors)
    assert alike(reads_both, teacher) == ["a"]


# Several tensors


def test_what_is_read_on_several_paths_is_fed_by_all_of_them() -> None:
    text = """g (float[N,6] x, float[N,5] z) => (float[N,4] y, float[N,5] w) {
        a = MatMul(x, A)  r = Relu(a)  b = MatMul(r, B)  s = Add(b, a)  u = Mul(s, z)  y = MatMul(u, C)  w = Neg(r)
    }"""
    student = with_value(model(text, **CHAIN_TENSORS), "B", values("other", (5, 5)))
    teacher = model(text, **CHAIN_TENSORS)
    assert alike(student, teacher) == ["a", "r", "z"]
    assert alike(student, teacher, ["y", "w"]) == ["a", "r", "w", "z"]
    assert alike(student, teacher, ["w"]) == ["w"]
    assert alike(student, teacher, ["b"]) == ["r"]


def test_vectors_of_sizes_are_computed_where_they_may_not_be_fed() -> None:
    text = """g (float[N,6] x) => (float[N,6] y) {
        r = Relu(x)  s = Shape(r)  f = Flatten(r)  m = MatMul(f, W)  y = Reshape(m, s)
    }"""
    teacher = model(text, W=(6, 6))
    student = with_value(teacher, "W", values("other", (6, 6)))
    assert alike(student, teacher) == ["f", "s"]
    assert alike(student, teacher, held={"s"}) == ["f", "r"]
    assert alike(student, teacher, held={"s", "r"}) == ["f", "x"]
    assert alike(student, teacher, held={"s", "r", "f", "x"}) == ["x"]  # an input has to be fed


def test_what_a_body_reads_from_outside_is_fed_too() -> None:
    text = """g (float[N,6] x, bool c) => (float[N,5] y) {
        a = MatMul(x, A)  r = Relu(a)
        h = If (c) <
            then_branch = yes () => (float[N,5] t) { t = MatMul(r, B) },
            else_branch = no () => (float[N,5] e) { e = Identity(r) }
        >
        y = Add(h, a)
    }"""
    teacher = model(text, A=(6, 5), B=(5, 5))
    student = with_value(teacher, "B", values("other", (5, 5)))
    assert alike(student, teacher) == ["a", "c", "r"]
    x = values("x", (3, 6))
    for proto in (student, teacher):
        assert_same(proto, ["a", "c", "r"], ["y"], {"x": x, "c": np.array(True)})


def test_functions_are_written_out_first() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    g (float[N,6] x) => (float[N,4] y) { r = own.block(x, A)  y = MatMul(r, C) }
    <domain: "own", opset_import: ["" : 17]>
    block (data, weight) => (out) { h = MatMul(data, weight)  out = Relu(h) }"""
    teacher = model(text, A=(6, 5), C=(5, 4))
    student = with_value(teacher, "C", values("other", (5, 4)))
    one, two = inlined(student), inlined(teacher)
    assert not one.functions
    assert alike(one, two) == ["r"]
    plain = model(CHAIN, **CHAIN_TENSORS)
    assert inlined(plain) is plain
    x = {"x": values("x", (3, 6))}
    np.testing.assert_array_equal(run(one, x)["y"], run(student, x)["y"])


# The part behind


def assert_same(proto: ModelProto, fed: list[str], said: list[str], feeds: dict[str, np.ndarray]) -> None:
    """The part behind says what the whole says."""
    whole = ModelProto()
    whole.CopyFrom(proto)
    inputs = {value.name for value in proto.graph.input}
    made = {output for node in proto.graph.node for output in node.output}
    asked = dict.fromkeys([*(name for name in fed if name in made), *said])
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
    found = {**feeds, **run(whole, feeds)}
    cut = behind(proto, fed, said)
    assert [value.name for value in cut.graph.input] == fed
    assert [value.name for value in cut.graph.output] == said
    told = run(cut, {name: found[name] for name in fed})
    assert set(fed) <= inputs | made
    for name in said:
        np.testing.assert_allclose(told[name], found[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fed", [["x"], ["a"], ["r"], ["b"]])
@pytest.mark.parametrize("said", [["y"], ["y", "t"], ["c", "y"]])
def test_it_computes_what_the_whole_does(fed: list[str], said: list[str]) -> None:
    for proto in both():
        assert_same(proto, fed, said, {"x": values("x", (3, 6))})


def test_it_holds_no_more_than_it_needs() -> None:
    student, _ = both()
    before = student.SerializeToString()
    cut = behind(student, ["r"], ["y"])
    assert student.SerializeToString() == before
    assert {tensor.name for tensor in cut.graph.initializer} == {"B1", "B2", "bias", "C"}
    assert {tensor.name for tensor in behind(student, ["t"], ["y"]).graph.initializer} == {"C"}
    assert not behind(student, ["r"], ["p"]).graph.output[0].type.HasField("tensor_type")


def test_any_number_of_samples_can_be_fed() -> None:
    text = CHAIN.replace("N,", "1,")
    student = model(text.replace("b = MatMul(r, B)", "p = MatMul(r, B1)  b = MatMul(p, B2)"), **FACTORED_TENSORS)
    (fed,) = behind(student, ["r"], ["y"]).graph.input
    sizes = fed.type.tensor_type.shape.dim
    assert (fed.type.tensor_type.elem_type, len(sizes)) == (TensorProto.FLOAT, 2)
    assert (sizes[0].HasField("dim_value"), sizes[1].dim_value) == (False, 5)


def test_a_tensor_of_another_type_keeps_it() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        ids = Cast <to = 7> (x)  h = Cast <to = 10> (x)  e = Gather(T, ids)  s = ReduceSum(e, axis)
        f = Cast <to = 1> (h)  k = Slice(f, start, end, axis)  y = Add(s, k)
    }"""
    constants = {"T": (9, 4), "axis": np.array([1]), "start": np.array([0]), "end": np.array([4])}
    proto = model(text, checked=False, **constants)
    cut = behind(proto, ["ids", "h"], ["y"])
    kinds = [value.type.tensor_type.elem_type for value in cut.graph.input]
    assert kinds == [TensorProto.INT64, TensorProto.FLOAT16]
    assert_same(proto, ["ids", "h"], ["y"], {"x": np.abs(values("x", (2, 6)))})


def test_an_output_that_is_shared_itself_is_fed_and_said() -> None:
    text = CHAIN.replace("(float[N,4] y)", "(float[N,4] y, float[N,5] r)")
    student = with_value(model(text, **CHAIN_TENSORS), "B", values("other", (5, 5)))
    teacher = model(text, **CHAIN_TENSORS)
    assert alike(student, teacher, ["y", "r"]) == ["r"]
    assert_same(student, ["r"], ["y", "r"], {"x": values("x", (3, 6))})


def test_nothing_is_known_of_models_that_share_no_names() -> None:
    other = model("g (float[N,6] data) => (float[N,4] y) { y = MatMul(data, Q) }", Q=(6, 4))
    known = shared(other, model(CHAIN, **CHAIN_TENSORS))
    assert (known.tensors, known.constants) == (frozenset(), frozenset())
