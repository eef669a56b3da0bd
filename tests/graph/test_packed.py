"""Weights that stay packed: rows picked before they are unpacked, DequantizeLinear before products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_dalr.graph.layers import find
from onnx_dalr.graph.packed.products import dequantize, left_over, sizes_as_floats
from onnx_dalr.graph.packed.tables import pick_then_unpack
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.session.fused import not_fused
from tests.graph.helpers import initializers, model, ops, run, values
from tests.graph.test_formats import stored

PACKED = ["int8", "int4/32", "int4/64", "int4/128"]
LOOKUP = "g (int64[A,B] ids) => (float[A,B,N] y) { [look] y = Gather(W, ids) }"
PRODUCT = "g (float[B,N] x) => (float[B,M] y) { [fc] p = MatMul(x, W)  y = Add(p, b) }"


def unpacked_table(name: str, dims: tuple[int, ...], opset: int = 13, text: str = LOOKUP, **more: Any) -> ModelProto:
    """A model with its table in a format, unpacked as a whole."""
    proto = model(
        text.replace("N]", f"{dims[-1]}]"), opset=opset, ir_version=7 if opset < 21 else 10, W=values("W", dims), **more
    )
    (layer,) = find(Model(proto), in_one_piece=True)[0]
    return stored(proto, layer, name)[0]


def copied(proto: ModelProto) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    return made


def computed_at_run_time(proto: ModelProto) -> list[str]:
    """Operators of the nodes that some input of the model leads to."""
    reached, found = {value.name for value in proto.graph.input}, []
    for node in proto.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            found.append(node.op_type)
    return found


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
@pytest.mark.parametrize("name", [*PACKED, "float16"])
@pytest.mark.parametrize("dims", [(40, 64), (41, 70), (33, 96), (300, 5), (64, 130)])
def test_rows_are_picked_as_they_are_stored(name: str, dims: tuple[int, int], opset: int) -> None:
    whole = unpacked_table(name, dims, opset)
    ids = np.array([[0, dims[0] - 1, 3], [7, 7, 1]])
    made = copied(whole)
    if not pick_then_unpack(made, {"W": dims[0]}):  # a row that does not end with a byte is unpacked with all
        assert name.startswith("int4")
        assert made == whole
        return
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_array_equal(run(made, {"ids": ids})["y"], run(whole, {"ids": ids})["y"])
    assert len(computed_at_run_time(made)) == len(made.graph.node)  # nothing is left to be folded
    assert "W" not in {name for node in made.graph.node for name in (*node.input, *node.output)}
    assert made.graph.node[0].name == "look"


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (2, 1, 3), (0,)])
def test_indices_have_any_rank_and_may_be_negative(name: str, shape: tuple[int, ...]) -> None:
    axes = ",".join("ABC"[: len(shape)])
    ids_type, y_type = (f"int64[{axes}]", f"float[{axes},64]") if axes else ("int64", "float[64]")
    whole = unpacked_table(name, (40, 64), text=f"g ({ids_type} ids) => ({y_type} y) {{ y = Gather(W, ids) }}")
    made, ids = copied(whole), np.asarray(np.arange(int(np.prod(shape))).reshape(shape) - 2)
    assert pick_then_unpack(made, {"W": 40}) == {"W"}
    found, expected = run(made, {"ids": ids})["y"], run(whole, {"ids": ids})["y"]
    assert found.shape == (*shape, 64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", PACKED)
def test_rows_may_have_several_axes(name: str) -> None:
    text = "g (int64[A] ids) => (float[A,8,6] y) { y = Gather(W, ids) }"
    whole = unpacked_table(name, (40, 8, 6), text=text)
    made, ids = copied(whole), np.array([3, 39])
    assert pick_then_unpack(made, {"W": 40}) == {"W"}
    np.testing.assert_array_equal(run(made, {"ids": ids})["y"], run(whole, {"ids": ids})["y"])


def test_several_nodes_pick_from_one_table() -> None:
    text = "g (int64[A] i, int64[A] j) => (float[A,64] y) { a = Gather(W, i)  b = Gather(W, j)  y = Add(a, b) }"
    whole = unpacked_table("int4/32", (40, 64), text=text)
    made, feeds = copied(whole), {"i": np.array([1, 2]), "j": np.array([3, 0])}
    assert pick_then_unpack(made, {"W": 40}) == {"W"}
    np.testing.assert_array_equal(run(made, feeds)["y"], run(whole, feeds)["y"])
    assert list(initializers(made)).count("W.dalr_W") == 1


@pytest.mark.parametrize(
    "text",
    [
        "g (int64[A] ids) => (float[A,64] y, float[40,64] z) { y = Gather(W, ids)  z = Identity(W) }",
        "g (int64[A] ids, float[40,64] x) => (float[A,64] y, float[40,40] z)"
        " { y = Gather(W, ids)  t = Transpose(W)  z = MatMul(x, t) }",
        "g (int64[A] ids) => (float[40,A] y) { y = Gather<axis = 1>(W, ids) }",
        "g (int64[A,B] ids) => (float y) { y = GatherND(W, ids) }",
    ],
)
def test_a_table_that_is_read_otherwise_too_stays(text: str) -> None:
    proto = model(text, opset=13, W=values("W", (40, 64)))
    found = [layer for layer in find(Model(proto), in_one_piece=True)[0] if layer.weight == "W"]
    made = stored(proto, found[0], "int8")[0] if found else copied(proto)
    before = copied(made)
    assert not pick_then_unpack(made, {"W": 40})
    assert made == before


def test_before_ir_version_4_new_constants_are_inputs_too() -> None:
    proto = model(LOOKUP.replace("N]", "64]"), opset=9, ir_version=3, checked=False, W=values("W", (40, 64)))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("W", TensorProto.FLOAT, [40, 64]))
    (layer,) = find(Model(proto), in_one_piece=True)[0]
    made = stored(proto, layer, "int4/32")[0]
    assert pick_then_unpack(made, {"W": 40})
    onnx.checker.check_model(made, full_check=True)
    assert set(initializers(made)) == {value.name for value in made.graph.input} - {"ids"}


def product(
    name: str, n: int = 64, m: int = 40, opset: int = 21, text: str = PRODUCT, ir_version: int = 10
) -> tuple[ModelProto, set[str]]:
    """A model with its weight in a format, folded at load, and the constants that hold it."""
    text = text.replace("N]", f"{n}]").replace("M]", f"{m}]")
    constants = {"W": values("W", (n, m)), "b": values("b", (m,))}
    proto = model(text, opset=opset, ir_version=ir_version, **constants)
    (layer,) = find(Model(proto))[0]
    made = stored(proto, layer, name)[0]
    return made, set(sizes_as_floats(made))


def exact(proto: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the nodes say, one by one."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("name", "n", "opset"),
    [
        ("int8", 64, 13),
        ("int8", 37, 21),
        ("int4/32", 64, 21),
        ("int4/64", 128, 21),
        ("int4/128", 128, 23),
        ("int4/32", 32, 21),
    ],
)
@pytest.mark.parametrize("m", [40, 33])
def test_a_product_reads_the_same_numbers(name: str, n: int, m: int, opset: int) -> None:
    whole, constants = product(name, n, m, opset)
    made = copied(whole)
    assert dequantize(made, constants) == constants
    onnx.checker.check_model(made, full_check=True)
    assert ops(made) == ["DequantizeLinear", "MatMul", "Add"]
    feeds = {"x": np.eye(n, dtype=np.float32)}
    np.testing.assert_allclose(exact(made, feeds), run(whole, feeds)["y"], rtol=1e-6, atol=1e-6)
    assert made.ByteSize() <= whole.ByteSize()


def test_int4_without_whole_blocks_is_written_where_the_last_one_is_short() -> None:
    whole, constants = product("int4/32", 48)
    made = copied(whole)
    done = dequantize(made, constants)
    feeds = {"x": np.eye(48, dtype=np.float32)}
    assert done in (set(), constants)
    np.testing.assert_allclose(exact(made, feeds) if done else run(made, feeds)["y"], run(whole, feeds)["y"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "n", "opset", "ir_version"),
    [
        ("int8", 64, 12, 7),  # DequantizeLinear has one scale for all
        ("int4/32", 64, 20, 9),  # and no blocks
        ("int4/32", 60, 21, 10),  # blocks of 30
        ("int4/32", 8, 21, 10),  # too few for a block that is fused
        ("float16", 64, 21, 10),
    ],
)
def test_what_the_operator_set_or_the_runtime_does_not_take_stays(
    name: str, n: int, opset: int, ir_version: int
) -> None:
    made, constants = product(name, n, opset=opset, ir_version=ir_version)
    before = copied(made)
    assert not dequantize(made, constants)
    assert made == before


def test_two_products_with_one_weight_keep_it_folded() -> None:
    text = "g (float[B,64] x) => (float[B,64] y) { p = MatMul(x, W)  q = Add(p, b)  y = MatMul(q, W) }"
    made, constants = product("int8", 64, 64, 13, text)
    assert not dequantize(made, constants)


def test_what_was_not_asked_for_stays() -> None:
    made, _ = product("int8")
    assert not dequantize(made, {"another"})


@pytest.mark.parametrize("text", [PRODUCT, PRODUCT.replace("Add(p, b)", "Add(b, p)")])
def test_a_bias_apart_is_subtracted(text: str) -> None:
    whole, constants = product("int8", text=text)
    made = copied(whole)
    assert dequantize(made, constants, constants) == constants
    assert ops(made)[-1] == "Sub"
    feeds = {"x": values("x", (5, 64))}
    np.testing.assert_allclose(exact(made, feeds), exact(whole, feeds), rtol=1e-5, atol=1e-5)


def test_a_bias_that_another_node_reads_keeps_its_sign() -> None:
    text = "g (float[B,N] x) => (float[B,M] y) { p = MatMul(x, W)  q = Add(p, b)  y = Mul(q, b) }"
    whole, constants = product("int8", text=text)
    made = copied(whole)
    assert dequantize(made, constants, constants) == constants
    feeds = {"x": values("x", (5, 64))}
    np.testing.assert_allclose(exact(made, feeds), exact(whole, feeds), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(initializers(made)["b"], initializers(whole)["b"])


def optimized(proto: ModelProto, path: Any) -> list[str]:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("name", PACKED[:3])
def test_onnx_runtime_makes_one_operator_of_the_two(name: str, tmp_path: Any) -> None:
    made, constants = product(name, 128)
    dequantize(made, constants)
    if not_fused(made.SerializeToString(), constants, "cpu"):
        pytest.skip(f"this ONNX Runtime does not fuse {name}")
    assert optimized(made, tmp_path / "o.onnx") == ["MatMulNBits"]
    assert left_over(tmp_path / "o.onnx") == set()


def test_it_is_found_out_where_it_does_not() -> None:
    text = "g (float[B,N] x, float[B,M] c) => (float[B,M] y) { p = MatMul(x, W)  y = Add(p, c) }"
    made, constants = product("int8", text=text)
    dequantize(made, constants)
    assert not_fused(made.SerializeToString(), constants, "cpu") == constants
    assert not_fused(b"no model", constants, "cpu") == constants
    assert not_fused(made.SerializeToString(), (), "cpu") == set()


def test_four_bits_are_packed_as_onnx_reads_them() -> None:
    whole, constants = product("int4/32", 64, 33)
    made = copied(whole)
    dequantize(made, constants)
    q = next(tensor for tensor in made.graph.initializer if tensor.name in constants)
    numbers = numpy_helper.to_array(q).astype(np.int8)
    assert numbers.shape == (64, 33)
    scale = initializers(made)[f"{q.name}_scale"]
    W = run(whole, {"x": np.eye(64, dtype=np.float32)})["y"] - initializers(whole)["b"]
    np.testing.assert_allclose(np.repeat(scale, 32, axis=0) * numbers, W, atol=1e-6)
