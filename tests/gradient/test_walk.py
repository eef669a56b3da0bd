"""The walk: which paths it takes, where it ends, and what the model looks like after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_dalr.errors import InputError
from onnx_dalr.gradient import Ended, differentiate
from tests.gradient.helpers import Array, agrees, differences, model, pulled_back, reasons, run, session, spread

X = spread("x", (2, 3))
MLP = "h = Gemm(x, W, b)  r = Relu(h)  y = MatMul(r, V)"


def mlp(**options: Any) -> ModelProto:
    stored = {"W": spread("W", (3, 4)), "b": spread("b", (4,)), "V": spread("V", (4, 2))}
    return model(MLP, 17, {"x": X}, stored, **({"dynamic": True} | options))


def test_activations_and_weights_alike() -> None:
    found = differentiate(mlp(), ["y"], ["h", "W", "b", "V", "x"])
    v = spread("v", (2, 2))
    gradients = pulled_back(found, {"x": X}, {"y": v})
    W, b, V = (numpy_helper.to_array(tensor) for tensor in mlp().graph.initializer)
    h = X @ W + b
    at_h = (v @ V.T) * (h > 0)
    expected = {"h": at_h, "W": X.T @ at_h, "b": at_h.sum(axis=0), "V": np.maximum(h, 0).T @ v, "x": at_h @ W.T}
    for name, value in expected.items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-10, err_msg=name)


def test_the_model_keeps_its_outputs_and_takes_seeds_as_inputs() -> None:
    proto = mlp()
    proto.graph.output[0].type.tensor_type.shape.dim.add(dim_param="batch")
    proto.graph.output[0].type.tensor_type.shape.dim.add(dim_value=2)
    found = differentiate(proto, ["y"], ["h"])
    onnx.checker.check_model(found.proto)
    assert [value.name for value in found.proto.graph.output] == ["y"]
    assert [value.name for value in found.proto.graph.input] == ["x", found.seeds["y"]]
    assert list(found.proto.graph.node)[: len(proto.graph.node)] == list(proto.graph.node)
    seed = found.proto.graph.input[1].type.tensor_type
    assert seed.elem_type == TensorProto.DOUBLE
    assert [dim.dim_param for dim in seed.shape.dim] == ["y_0", "y_1"]


def test_only_what_leads_from_a_seed_to_a_wanted_tensor_is_computed() -> None:
    everything = differentiate(mlp(), ["y"], ["x", "h", "W"])
    last = differentiate(mlp(), ["y"], ["h"])
    new = last.proto.graph.node[3:]
    assert not {"x", "W", "b"} & {name for node in new for name in node.input}
    assert len(last.proto.graph.node) < len(everything.proto.graph.node)


def test_a_tensor_read_by_several_nodes_gets_the_sum() -> None:
    agrees("h = Tanh(x)  a = Mul(h, x)  b = Exp(h)  c = Add(a, b)  y = Mul(c, h)", x=(2, 3))


def test_several_seeds_add_up() -> None:
    proto = model("h = Tanh(x)  y = Exp(h)  z = Sin(h)", 17, {"x": X}, dynamic=True)
    found = differentiate(proto, ["y", "z"], ["x"])
    v, w = spread("v", (2, 3)), spread("w", (2, 3))
    h = np.tanh(X)
    expected = (1 - h**2) * (v * np.exp(h) + w * np.cos(h))
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"y": v, "z": w})["x"], expected, rtol=1e-10)


def test_a_seed_inside_the_model() -> None:
    found = differentiate(mlp(), ["h"], ["x"])
    v = spread("v", (2, 4))
    W = numpy_helper.to_array(mlp().graph.initializer[0])
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"h": v})["x"], v @ W.T, rtol=1e-10)


def test_a_seeded_tensor_may_be_wanted_itself() -> None:
    found = differentiate(mlp(), ["y"], ["y"])
    v = spread("v", (2, 2))
    np.testing.assert_array_equal(pulled_back(found, {"x": X}, {"y": v})["y"], v)


def test_what_does_not_reach_the_seed_has_no_gradient() -> None:
    proto = model("h = Tanh(x)  other = Exp(x)  y = Sin(h)", 17, {"x": X}, dynamic=True)
    found = differentiate(proto, ["y"], ["other", "h", "nobody"])
    assert list(found.names) == ["h"]
    assert found.ended == ()


def test_a_wanted_constant_of_a_node() -> None:
    proto = model("w = Constant <value = double[3] {1, 2, 3}> ()  y = Mul(x, w)", 17, {"x": X}, dynamic=True)
    found = differentiate(proto, ["y"], ["w"])
    v = spread("v", (2, 3))
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"y": v})["w"], (v * X).sum(axis=0), rtol=1e-10)


def test_integers_have_no_gradient_and_end_nothing() -> None:
    body = """n = Shape(x)  i = Cast <to = 7> (x)  f = Cast <to = 11> (i)  m = ReduceMax <keepdims = 0> (i)
              big = Greater(x, f)  z = Where(big, x, f)  y = Reshape(z, n)"""
    proto = model(body, 17, {"x": X}, dynamic=True)
    found = differentiate(proto, ["y"], ["x", "i", "n"])
    assert list(found.names) == ["x"]
    assert found.ended == ()


def test_an_unknown_operator_ends_one_path_and_not_the_others() -> None:
    body = "h = Tanh(x)  u = custom.Mystery(h)  s = Sin(h)  y = Add(s, u)"
    proto = model(body, 17, {"x": X}, dynamic=True)
    proto.graph.node[1].name = "the mystery"
    found = differentiate(proto, ["y"], ["h", "u"])
    assert found.ended == (Ended("the mystery", "custom:Mystery", "no rule for this operator"),)
    assert list(found.names) == ["h", "u"]
    assert found.partial == ("h",)


def test_what_lacks_a_share_is_named_however_far_before_the_end() -> None:
    body = """a = Tanh(x)  p = Exp(a)  q = Sin(a)  u = custom.Mystery(q)  r = Tanh(p)  y = Add(r, u)"""
    found = differentiate(model(body, 17, {"x": X}, dynamic=True), ["y"], ["x", "p", "q", "r", "u"])
    assert found.partial == ("x", "q")
    assert list(found.names) == ["x", "p", "r", "u"]


def test_a_node_without_a_name_is_told_by_its_output() -> None:
    proto = model("h = Tanh(x)  y = custom.Mystery(h)", 17, {"x": X}, dynamic=True)
    found = differentiate(proto, ["y"], ["h"])
    assert [ended.node for ended in found.ended] == ["y"]
    assert found.names == {}
    assert found.partial == ("h",)


def test_an_unknown_operator_that_leads_nowhere_ends_nothing() -> None:
    proto = model("h = Tanh(x)  u = custom.Mystery(z)  y = Mul(h, u)", 17, {"x": X, "z": X}, dynamic=True)
    assert differentiate(proto, ["y"], ["x"]).ended == ()


def test_a_branch_ends_paths_that_enter_it_from_outside() -> None:
    body = """h = Tanh(x)
    b = If (c) <then_branch = t () => (double[] p) { p = Exp(h) }, else_branch = e () => (double[] q) { q = Sin(h) }>
    y = Add(b, h)"""
    proto = model(body, 17, {"x": X}, {"c": np.array(True)}, dynamic=True)
    found = differentiate(proto, ["y"], ["x"])
    assert [(ended.node, ended.op) for ended in found.ended] == [("b", "If")]
    assert list(found.names) == ["x"]


def test_recurrent_operators_end_the_path() -> None:
    ended = reasons("y = LSTM <hidden_size = 2> (x, w, r)", x=(2, 1, 3), w=(1, 8, 3), r=(1, 8, 2))
    assert ended == ["LSTM: no rule for this operator"]


def test_nodes_may_stand_in_any_order() -> None:
    proto = mlp()
    expected = pulled_back(differentiate(proto, ["y"], ["x"]), {"x": X}, {"y": np.ones((2, 2))})["x"]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(proto.graph.node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    found = differentiate(proto, ["y"], ["x"])
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"y": np.ones((2, 2))})["x"], expected, rtol=1e-10)


def test_functions_of_the_model_are_opened() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (double[N,3] x) => (double[N,3] y) { h = local.twice(x)  y = Tanh(h) }
    <domain: "local", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }"""
    proto = onnx.parser.parse_model(text)
    found = differentiate(proto, ["y"], ["x", "h"])
    assert found.ended == ()
    expected = 2 * (1 - np.tanh(2 * X) ** 2)
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"y": np.ones((2, 3))})["x"], expected, rtol=1e-10)


def test_fused_operators_do_not_hide_the_sizes_behind_them() -> None:
    agrees("h = com.microsoft.Gelu(x)  y = MatMul(h, w)", 17, x=(2, 2, 3), w=(3, 4))


@pytest.mark.parametrize("opset", [11, 17])
def test_axes_unknown_before_the_run_are_found_by_it_or_refused(opset: int) -> None:
    """Behind an operator that inference knows nothing of, not even the number of axes is known."""
    body = "h = Reshape(x, s)  y = Add(h, b)"
    feeds = {"x": X, "s": np.array([2, 3]), "b": spread("b", (3,))}
    found = differentiate(_without_sizes(model(body, opset, feeds, dynamic=True)), ["y"], ["x", "b"])
    if opset < 13:
        assert [ended.op for ended in found.ended] == ["Add", "Add"]
        return
    v = spread("v", (2, 3))
    gradients = pulled_back(found, feeds, {"y": v})
    np.testing.assert_allclose(gradients["b"], v.sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(gradients["x"], v, rtol=1e-10)


def _without_sizes(proto: ModelProto) -> ModelProto:
    for value in proto.graph.input:
        if value.name == "s":
            value.type.tensor_type.shape.dim[0].dim_param = "rank"
    return proto


def test_sizes_that_a_file_claims_of_inner_tensors_are_not_believed() -> None:
    """Made dynamic by hand, files keep the sizes of batch 1 inside."""
    feeds = {"x": spread("x", (4, 3)), "b": spread("b", (4, 1))}
    proto = model("h = Tanh(x)  k = Tanh(b)  y = Add(h, k)", 11, feeds, dynamic=True)
    for name, dims in (("h", [1, 3]), ("k", [1, 1])):
        proto.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, dims))
    found = differentiate(proto, ["y"], ["b", "x"])
    v = spread("v", (4, 3))
    for name, gradient in pulled_back(found, feeds, {"y": v}).items():
        np.testing.assert_allclose(gradient, differences(proto, feeds, name, v), atol=1e-6)


def test_a_model_that_computes_its_shapes_in_an_old_opset() -> None:
    body = """n = Shape(x)  first = Gather(n, zero)  f = Unsqueeze <axes = [0]> (first)
              s = Concat <axis = 0> (f, rest)  h = Reshape(x, s)  t = Tanh(h)  y = Mul(t, b)"""
    agrees(body, 9, constants={"zero": 0, "rest": [-1, 2]}, x=(2, 6), b=(2, 3, 2))


def test_external_data_is_only_referred_to(tmp_path: Path) -> None:
    proto = mlp()
    v = np.ones((2, 2))
    expected = pulled_back(differentiate(proto, ["y"], ["x", "W"]), {"x": X}, {"y": v})
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    outside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    found = differentiate(outside, ["y"], ["x", "W"])
    assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in found.proto.graph.initializer)
    onnx.load_external_data_for_model(found.proto, str(tmp_path))
    gradients = pulled_back(found, {"x": X}, {"y": v})
    for name in ("x", "W"):
        np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-10)


def test_initializers_that_are_inputs_too() -> None:
    proto = mlp()
    proto.graph.input.append(helper.make_tensor_value_info("W", TensorProto.DOUBLE, [3, 4]))
    found = differentiate(proto, ["y"], ["x", "W"])
    other = spread("other", (3, 4))
    v = np.ones((2, 2))
    gradients = pulled_back(found, {"x": X, "W": other}, {"y": v})
    b, V = (numpy_helper.to_array(tensor) for tensor in proto.graph.initializer[1:])
    np.testing.assert_allclose(gradients["x"], ((v @ V.T) * (X @ other + b > 0)) @ other.T, rtol=1e-10)


def test_names_that_are_taken_are_left_alone() -> None:
    body = "h = Tanh(x)  taken = Exp(h)  y = Add(taken, h)"
    proto = model(body, 17, {"x": X}, dynamic=True)
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = "y/seed"
    found = differentiate(proto, ["y"], ["x"])
    assert found.seeds["y"] != "y/seed"
    h = np.tanh(X)
    expected = (np.exp(h) + 1) * (1 - h**2)
    np.testing.assert_allclose(pulled_back(found, {"x": X}, {"y": np.ones((2, 3))})["x"], expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["n", "missing"])
def test_a_seed_that_holds_no_floats_is_an_error(name: str) -> None:
    proto = model("n = Shape(x)  y = Tanh(x)", 17, {"x": X}, dynamic=True)
    with pytest.raises(InputError, match=f"no gradient can start at '{name}'"):
        differentiate(proto, [name], ["x"])


def test_opsets_before_broadcasting_end_every_path() -> None:
    proto = model("y = Tanh(x)", 6, {"x": X}, dynamic=True)
    assert [ended.reason for ended in differentiate(proto, ["y"], ["x"]).ended] == ["opset 6 is older than 7"]


def test_a_batch_of_any_size_goes_through_one_model() -> None:
    found = differentiate(mlp(), ["y"], ["W"])
    one, two = spread("one", (1, 3)), spread("two", (5, 3))
    both: Array = np.concatenate([one, two])
    parts = [pulled_back(found, {"x": x}, {"y": np.ones((len(x), 2))})["W"] for x in (one, two, both)]
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], rtol=1e-10)


def test_the_forward_model_computes_what_it_did() -> None:
    proto = mlp()
    found = differentiate(proto, ["y"], ["x", "W"])
    (y,) = run(found.proto, ["y"], {"x": X, found.seeds["y"]: np.ones((2, 2))})
    np.testing.assert_allclose(y, session(proto).run(["y"], {"x": X})[0], rtol=1e-10)
