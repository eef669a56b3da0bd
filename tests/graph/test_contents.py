"""Every stored tensor once, with its bytes and its readers, wherever a model may keep one; the parts are the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper

from onnx_dalr.graph.contents import Content, Contents, contents
from onnx_dalr.graph.storage.model import Model, artifact_size, load
from tests.graph.helpers import model, values, with_constant_nodes
from tests.survival.layouts import LAYOUTS, network

FUNCTIONS = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


def taken(source: ModelProto | Path) -> Contents:
    """The contents of a model, which add up to its size."""
    loaded = Model(source) if isinstance(source, ModelProto) else load(source)
    found = contents(loaded)
    assert sum(tensor.bytes for tensor in found.tensors) + found.other + found.unclaimed == loaded.size
    assert all(tensor.bytes >= 0 for tensor in found.tensors)
    assert found.other >= found.remarks >= 0
    return found


def one(source: ModelProto | Contents, name: str) -> Content:
    found = source if isinstance(source, Contents) else taken(source)
    (tensor,) = [tensor for tensor in found.tensors if tensor.name == name]
    return tensor


def readers(tensor: Content) -> list[tuple[str, str, int, str]]:
    """(operator, name, operand, what lies between) of those who read a tensor."""
    return [(each.node.op_type, each.node.name, each.operand, " ".join(each.via)) for each in tensor.readers]


# Where tensors are kept.


def test_initializers_have_the_bytes_of_their_values() -> None:
    found = taken(network())
    assert {tensor.name: (tensor.shape, tensor.dtype, tensor.bytes) for tensor in found.tensors} == {
        "W": ((64, 48), "float32", 4 * 64 * 48),
        "b": ((64,), "float32", 4 * 64),
        "V": ((64, 64), "float32", 4 * 64 * 64),
        "d": ((64,), "float32", 4 * 64),
    }
    assert all(tensor.where == "" and tensor.file is None and not tensor.output for tensor in found.tensors)


def test_values_of_constant_nodes_go_by_the_name_of_what_they_make() -> None:
    assert one(with_constant_nodes(network(), "W"), "W").bytes == 4 * 64 * 48


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ("value_floats = [1.0, 2.0, 3.0]", "float32", (3,)),
        ("value_float = 1.5", "float32", ()),
        ("value_ints = [1, 2]", "int64", (2,)),
        ("value_int = 7", "int64", ()),
        ('value_strings = ["a", "bc"]', "string", (2,)),
        ('value_string = "abc"', "string", ()),
    ],
)
def test_a_constant_may_hold_plain_numbers(value: str, dtype: str, shape: tuple[int, ...]) -> None:
    proto = model(f"g (float[N] x) => (float[N] y) {{ c = Constant <{value}> ()  y = Identity(x) }}")
    tensor = one(proto, "c")
    assert (tensor.dtype, tensor.shape) == (dtype, shape)
    assert 0 < tensor.bytes < 50


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint64", "float16", "float64", "bool", "int8"])
def test_values_in_fields_of_their_type_are_weighed_as_they_are_stored(dtype: str) -> None:
    array = np.arange(500).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    packed = helper.make_tensor("c", kind, array.shape, array.view("uint16") if dtype == "float16" else array.tolist())
    raw = numpy_helper.from_array(array, "c")
    assert not packed.HasField("raw_data")
    proto = model("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    empty = proto.ByteSize()
    for tensor in (packed, raw):
        del proto.graph.initializer[:]
        proto.graph.initializer.append(tensor)
        added = proto.ByteSize() - empty
        assert added - 40 < one(proto, "c").bytes < added
    assert one(proto, "c").bytes == array.nbytes


def test_four_bits_are_half_a_byte() -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    proto.graph.initializer.append(TensorProto(name="c", dims=[5, 3], data_type=TensorProto.INT4, raw_data=b"\0" * 8))
    assert (one(proto, "c").bytes, one(proto, "c").dtype) == (8, "int4")


def test_text_is_weighed_too() -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["one", "twenty-two"], dtype=object), "c"))
    assert one(proto, "c").dtype == "string"
    assert 13 <= one(proto, "c").bytes < 20


def test_a_sparse_tensor_is_its_values_and_their_places() -> None:
    proto = model("g (float[N,8] x) => (float[N,8] y) { [add] y = Add(x, S) }", checked=False)
    sparse = proto.graph.sparse_initializer.add(dims=[8])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "S"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1, 4, 6]), "S_indices"))
    tensor = one(proto, "S")
    assert (tensor.shape, tensor.bytes, readers(tensor)) == ((8,), 3 * 4 + 3 * 8, [("Add", "add", 1, "")])


def test_tensors_in_attributes_are_read_by_their_node() -> None:
    proto = model(
        "g (int64[1] n) => (float[N] y) { [fill] y = ConstantOfShape <value = float[1] {2.0}> (n) }", checked=False
    )
    tensor = one(proto, "fill.value")
    assert (tensor.bytes, readers(tensor)) == (4, [("ConstantOfShape", "fill", -1, "")])


BRANCHES = """g (float[N,6] x, bool c) => (float[?,8] y) {
    y = If (c) <
        then_branch = t () => (float[?,8] a) <float[6,8] W> { [then] a = MatMul(x, W) },
        else_branch = e () => (float[?,8] b) { [else] b = MatMul(x, V) }
    >
}"""


def test_bodies_store_tensors_and_read_those_outside() -> None:
    proto = model(BRANCHES, checked=False, V=(6, 8))
    proto.graph.node[0].name = "if"
    inner = next(attribute.g for attribute in proto.graph.node[0].attribute if attribute.name == "then_branch")
    del inner.input[:]
    inner.initializer.append(numpy_helper.from_array(values("W", (6, 8)), "W"))
    found = taken(proto)
    assert (one(found, "W").where, one(found, "W").bytes) == ("then_branch of If 'if'", 192)
    assert readers(one(found, "W")) == [("MatMul", "then", 1, "")]
    assert (one(found, "V").where, readers(one(found, "V"))) == ("", [("MatMul", "else", 1, "")])


def test_a_name_inside_a_body_hides_that_outside() -> None:
    proto = model(
        """g (float[N,8] x, bool c) => (float[?,8] y) {
            y = If (c) <
                then_branch = t () => (float[?,8] a) { W = Neg(x)  [then] a = Add(x, W) },
                else_branch = e () => (float[?,8] b) { [else] b = Add(x, W) }
            >
        }""",
        checked=False,
        W=(8,),
    )
    assert readers(one(proto, "W")) == [("Add", "else", 1, "")]


LOOP = """g (float[6,6] x, int64 n, bool go) => (float[6,6] y) {
    y, last = Loop (n, go, x, W) <body = b (int64 i, bool c, float[6,6] h, float[6,6] w)
        => (bool d, float[6,6] k, float[6,6] v) {
        d = Identity(c)  [inner] k = MatMul(h, w)  v = Identity(w)
    }>
}"""


def test_what_a_loop_is_given_is_read_inside_it() -> None:
    proto = model(LOOP, W=(6, 6))
    proto.graph.node[0].name = "loop"
    assert readers(one(proto, "W")) == [("MatMul", "inner", 1, ""), ("Loop", "loop", -1, "Identity")]


def test_the_count_of_a_loop_is_read_by_the_loop() -> None:
    proto = model(LOOP.replace(", int64 n", ""), W=(6, 6), n=np.array(3))
    proto.graph.node[0].name = "loop"
    assert readers(one(proto, "n")) == [("Loop", "loop", 0, "")]


def test_functions_store_tensors_and_read_what_they_are_given() -> None:
    proto = model(
        f"""{FUNCTIONS}
        g (float[N,6] x) => (float[N,8] y) {{ h = local.dense(x, W)  y = local.dense(h, V) }}
        <domain: "local", opset_import: ["" : 17]>
        dense (x, w) => (y) {{
            c = Constant <value = float[8] {{1, 2, 3, 4, 5, 6, 7, 8}}> ()
            p = MatMul(x, w)
            y = Add(p, c)
        }}
        """,
        W=(6, 8),
        V=(8, 8),
    )
    found = taken(proto)
    assert (one(found, "c").where, one(found, "c").bytes, one(found, "c").uses) == ("function 'dense'", 32, 1)
    for name in ("W", "V"):
        assert readers(one(found, name)) == [("MatMul", "", 1, "")]


def test_one_weight_given_to_three_calls_has_three_uses() -> None:
    proto = model(
        f"""{FUNCTIONS}
        g (float[N,8] x) => (float[N,8] y) {{ h = local.f(x, W)  k = local.f(h, W)  y = local.f(k, W) }}
        <domain: "local", opset_import: ["" : 17]>
        f (x, w) => (y) {{ y = MatMul(x, w) }}
        """,
        W=(8, 8),
    )
    assert one(proto, "W").uses == 3


def test_a_function_that_nothing_calls_or_that_calls_itself_is_counted_like_any_other() -> None:
    proto = model(
        f"""{FUNCTIONS}
        g (float[N] x) => (float[N] y) {{ y = Identity(x) }}
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f (x) => (y) {{ c = Constant <value = float[2] {{1, 2}}> ()  h = Add(x, c)  y = local.f(h) }}
        """,
        checked=False,
    )
    assert one(proto, "c").bytes == 8


def test_training_has_tensors_of_its_own() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { [fc] y = MatMul(x, W) }", W=(6, 8))
    algorithm = proto.training_info.add().algorithm
    algorithm.CopyFrom(onnx.parser.parse_graph("step () => (float[6,8] new) { [step] new = Add(W, G) }"))
    algorithm.initializer.append(numpy_helper.from_array(values("G", (6, 8)), "G"))
    found = taken(proto)
    assert (one(found, "G").where, one(found, "G").bytes) == ("training", 192)
    assert readers(one(found, "W")) == [("MatMul", "fc", 1, ""), ("Add", "step", 0, "")]


# Who reads them.


@pytest.mark.parametrize(
    ("way", "via"),
    [
        ("w = Identity(W)", "Identity"),
        ("w = Transpose <perm = [1, 0]> (W)", "Transpose"),
        ("v = Cast <to = 11> (W)  w = Cast <to = 1> (v)", "Cast Cast"),
        ("w = Reshape(W, s)", "Reshape"),
        ("p, w = Split <axis = 0> (W)", "Split"),
        ("w = Concat <axis = 0> (W, W)", "Concat"),
    ],
)
def test_what_only_lays_a_constant_out_is_not_its_reader(way: str, via: str) -> None:
    proto = model(
        f"g (float[N,8] x) => (float[?,?] y) {{ {way}  [fc] y = MatMul(x, w) }}",
        checked=False,
        W=(8, 8),
        s=np.array([8, 8]),
    )
    assert set(readers(one(proto, "W"))) == {("MatMul", "fc", 1, via)}
    assert one(proto, "W").uses == 1


def test_a_constant_joined_to_what_is_computed_is_read_there() -> None:
    proto = model("g (float[N,8] x) => (float[?,8] y) { [join] c = Concat <axis = 0> (T, x)  y = Relu(c) }", T=(1, 8))
    assert readers(one(proto, "T")) == [("Concat", "join", 0, "")]


def test_a_quantized_weight_is_read_by_the_node_behind_its_scale() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y) { [dq] w = DequantizeLinear(W, s, z)  [fc] y = MatMul(x, w) }",
        W=values("W", (6, 8), np.int8),
        s=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
    )
    found = taken(proto)
    assert readers(one(found, "W")) == [("MatMul", "fc", 1, "DequantizeLinear")]
    assert readers(one(found, "s")) == [("DequantizeLinear", "dq", 1, "")]


def test_where_nothing_reads_what_a_carrier_makes_the_carrier_is_the_reader() -> None:
    proto = model(
        "g (float[N] x) => (float[N] y, float[3,2] t) { y = Relu(x)  [turn] t = Transpose(W) }", checked=False, W=(2, 3)
    )
    tensor = one(proto, "W")
    assert (readers(tensor), tensor.output) == ([("Transpose", "turn", 0, "")], True)


def test_what_nothing_reads_and_what_is_an_output() -> None:
    proto = model("g (float[N] x) => (float[N] y, float[2] V) { y = Relu(x) }", W=(2,), V=(2,))
    found = taken(proto)
    assert (one(found, "W").readers, one(found, "W").output) == ((), False)
    assert (one(found, "V").readers, one(found, "V").output) == ((), True)


def test_a_shared_weight_is_one_tensor_with_its_uses() -> None:
    proto = model(
        "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, W)  b = Gemm(a, W)  t = Transpose(W)  y = MatMul(b, t) }",
        W=(8, 8),
    )
    assert (one(proto, "W").uses, one(proto, "W").bytes) == (3, 256)


def test_an_omitted_input_is_no_tensor() -> None:
    proto = model("g (float[N] x) => (float[N] y) { a, b = Split <axis = 0> (W)  y = Clip(x, , m) }", W=(4,), m=())
    proto.graph.node[0].output[1] = ""
    assert readers(one(proto, "W")) == [("Split", "", 0, "")]


# External data.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_external_data_is_counted_however_it_is_laid_out(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    LAYOUTS[layout](path)
    found = taken(path)
    assert {tensor.name: tensor.bytes for tensor in found.tensors} == {"W": 12288, "b": 256, "V": 16384, "d": 256}
    assert all(tensor.file for tensor in found.tensors if tensor.bytes > 1000)
    assert sum(tensor.bytes for tensor in found.tensors) + found.other + found.unclaimed == artifact_size(path)
    if layout == "odd_offsets":
        assert found.unclaimed == len(b"a header" + b"a footer") + 4 * 13


def test_tensors_at_one_place_of_a_data_file_are_one(tmp_path: Path) -> None:
    proto = model(
        "g (float[N,8] x) => (float[N,8] y) { [a] h = MatMul(x, V)  [b] y = MatMul(h, W) }", V=(8, 8), W=(8, 8)
    )
    (tmp_path / "w.bin").write_bytes(proto.graph.initializer[0].raw_data)
    for tensor in proto.graph.initializer:
        external_data_helper.set_external_data(tensor, "w.bin", offset=0, length=256)
        tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (tensor,) = taken(tmp_path / "m.onnx").tensors
    assert (tensor.name, tensor.also, tensor.bytes, tensor.uses) == ("V", ("W",), 256, 2)
    assert [each.node.name for each in tensor.readers] == ["a", "b"]


def test_bytes_that_two_tensors_share_in_part_are_counted_once(tmp_path: Path) -> None:
    proto = model("g (float[N,8] x) => (float[N,8] y) { h = Add(x, V)  y = Add(h, W) }", V=(8,), W=(4, 8))
    (tmp_path / "w.bin").write_bytes(b"\0" * 128)
    for tensor in proto.graph.initializer:
        external_data_helper.set_external_data(tensor, "w.bin", offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert sum(tensor.bytes for tensor in taken(tmp_path / "m.onnx").tensors) == 128


def test_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS["one_file"](tmp_path / "m.onnx")
    loaded = load(tmp_path / "m.onnx")
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("mapped"))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    assert len(contents(loaded).tensors) == 4


def test_a_damaged_tensor_counts_with_what_is_there() -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    proto.graph.initializer.append(TensorProto(name="c", dims=[90], data_type=TensorProto.FLOAT, raw_data=b"\0" * 8))
    assert one(proto, "c").bytes == 8


# What is no tensor.


def test_doc_strings_and_metadata_are_told_apart_from_the_rest_of_the_graph() -> None:
    proto = network()
    before = taken(proto)
    assert before.remarks == 0
    proto.doc_string = "ü" * 500
    proto.graph.node[0].doc_string = "x" * 1000
    entry = proto.graph.node[1].metadata_props.add(key="stack", value="y" * 3000)
    after = taken(proto)
    assert after.remarks == 1000 + 1000 + entry.ByteSize()
    assert after.other - before.other >= after.remarks


@pytest.mark.assets
def test_every_byte_of_real_models_is_accounted_for(assets: Path) -> None:
    for path in sorted((assets / "models").glob("*.onnx")):
        found = taken(path)
        raw = sum(len(t.raw_data) for t in onnx.load(path).graph.initializer)
        assert sum(tensor.bytes for tensor in found.tensors) >= raw, path.name
        assert found.unclaimed == 0
