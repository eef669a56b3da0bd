"""What a rewrite leaves alone: every field of the file that is not of the layers asked for."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.graph.layers import find
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import METADATA_KEY, Model, metadata
from tests.graph.helpers import (
    assert_same_outputs,
    differences,
    initializers,
    layers_of,
    model,
    rewritten,
    run,
    session,
    some_feeds,
    thin,
    with_constant_nodes,
)

TEXT = """<
    ir_version: 10, opset_import: ["" : 17, "local" : 3, "com.microsoft" : 1],
    producer_name: "an exporter", producer_version: "1.2", domain: "org.example", model_version: 7,
    doc_string: "about the model", metadata_props: ["author" : "someone", "stride" : "32"]
>
g (float[N,6] x, bool c) => (float[N,8] y, float[N,8] z, float[N,8] v)
<float[N,8] h, float[N,8] r, float[N,8] l>
{
    [fc] h = Gemm <alpha = 0.5> (x, W, b)
    [relu] r = Relu(h)
    l = local.Twice(r)
    [branch] y = If (c) <
        then_branch = t () => (float[N,8] a) { a = Add(l, outer) },
        else_branch = e () => (float[N,8] d) { d = MatMul(l, inner) }
    >
    [second] p = MatMul(x, V)
    z = Add(p, d2)
    [gelu] v = com.microsoft.Gelu(z)
}
<domain: "local", opset_import: ["" : 17], doc_string: "a function">
Twice (x) => (y) { two = Constant <value = float {2.0}> ()  y = Mul(x, two) }
"""


def everything() -> ModelProto:
    """A model with a value in every field that a file may have."""
    proto = model(
        TEXT,
        checked=False,
        first=(3,),
        W=(6, 8),
        b=(8,),
        outer=(8,),
        V=(6, 8),
        inner=(8, 8),
        d2=(8,),
        unread=(4,),
    )
    graph = proto.graph
    graph.doc_string = "about the graph"
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node):
        value.doc_string = f"about {value.name}"
    for position, node in enumerate(graph.node):
        node.metadata_props.add(key="namespace", value=f"/model/{position}")
        node.attribute.sort(key=lambda entry: entry.name)
    graph.metadata_props.add(key="graph key", value="graph value")
    graph.input[0].metadata_props.add(key="input key", value="input value")
    graph.initializer[0].metadata_props.add(key="initializer key", value="initializer value")
    graph.input[0].type.denotation = "TENSOR"
    for name in ("h", "r", "z"):
        annotation = graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="first")
    entries = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    graph.sparse_initializer.append(
        helper.make_sparse_tensor(entries, helper.make_tensor("where", TensorProto.INT64, [1], [0]), [4])
    )
    step = proto.training_info.add()
    step.algorithm.CopyFrom(onnx.parser.parse_graph("step () => (float[3] new) { new = Add(first, first) }"))
    step.update_binding.add(key="first", value="new")
    proto.functions[0].metadata_props.add(key="function key", value="function value")
    onnx.checker.check_model(proto)
    return proto


FIELDS_WITHOUT_A_VALUE = {"model.configuration", "model.graph.node.device_configurations", "model.graph.node.overload"}


def test_the_model_of_these_tests_has_a_value_in_every_field() -> None:
    proto = everything()
    unset = {f"model.{field.name}" for field in proto.DESCRIPTOR.fields} - {
        f"model.{field.name}" for field, _ in proto.ListFields()
    }
    unset |= {f"model.graph.{field.name}" for field in proto.graph.DESCRIPTOR.fields} - {
        f"model.graph.{field.name}" for field, _ in proto.graph.ListFields()
    }
    set_in_nodes = {field.name for node in proto.graph.node for field, _ in node.ListFields()}
    unset |= {f"model.graph.node.{field.name}" for field in proto.graph.node[0].DESCRIPTOR.fields} - {
        f"model.graph.node.{name}" for name in set_in_nodes
    }
    assert unset <= FIELDS_WITHOUT_A_VALUE


@pytest.mark.parametrize("asked", ["nothing", "a note only"])
def test_with_no_layer_the_result_is_the_original(asked: str) -> None:
    proto = everything()
    made = rewrite(Model(proto), [], note="{}" if asked == "a note only" else None).proto
    if asked == "a note only":
        assert made.metadata_props.pop().key == METADATA_KEY
    assert list(differences(proto, made)) == []
    assert made.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def without(proto: ModelProto, nodes: set[str], constants: set[str]) -> ModelProto:
    """The model less the named nodes and initializers."""
    bare = ModelProto()
    bare.CopyFrom(proto)
    for entries, names in ((bare.graph.node, nodes), (bare.graph.initializer, constants)):
        for entry in [entry for entry in entries if entry.name in names]:
            entries.remove(entry)
    return bare


def test_with_a_layer_all_that_is_not_of_it_is_the_original() -> None:
    proto = everything()
    layer = next(layer for layer in layers_of(proto) if layer.name == "fc")
    made = rewrite(Model(proto), [thin(layer, 2)]).proto
    onnx.checker.check_model(made)
    new_nodes = {"fc.dalr_B", "fc.dalr_A", "fc.dalr_bias"}
    new_constants = {"W.dalr_B", "W.dalr_A", "b.dalr"}
    assert new_nodes <= {node.name for node in made.graph.node}
    left, right = without(proto, {"fc"}, {"W", "b"}), without(made, new_nodes, new_constants)
    assert list(differences(left, right)) == []


def test_with_the_add_of_a_matmul_only_its_bias_input_changes() -> None:
    proto = everything()
    layer = next(layer for layer in layers_of(proto) if layer.name == "second")
    made = rewrite(Model(proto), [thin(layer, 2)]).proto
    before, after = (next(node for node in m.graph.node if node.output[0] == "z") for m in (proto, made))
    assert list(differences(before, after, "z")) == ["z.input: values differ", *_sizes("z", before, after)]
    assert list(after.input) == ["p", "d2.dalr"]


def _sizes(path: str, before: onnx.NodeProto, after: onnx.NodeProto) -> list[str]:
    return [f"{path}: {before.ByteSize()} != {after.ByteSize()} bytes"]


def test_new_nodes_inherit_doc_string_and_metadata() -> None:
    proto = everything()
    layer = next(layer for layer in layers_of(proto) if layer.name == "fc")
    made = rewrite(Model(proto), [thin(layer, 2)]).proto
    ours = [node for node in made.graph.node if node.name.startswith("fc.dalr")]
    assert len(ours) == 3
    for node in ours:
        assert node.doc_string == "about fc"
        assert [(entry.key, entry.value) for entry in node.metadata_props] == [("namespace", "/model/0")]


def test_the_order_of_the_constants_is_kept_and_new_ones_stand_where_the_old_weight_stood() -> None:
    proto = everything()
    made = rewrite(Model(proto), [thin(layer, 2) for layer in layers_of(proto)]).proto
    names = [tensor.name for tensor in made.graph.initializer]
    untouched = ["first", "outer", "inner", "unread"]
    assert [name for name in names if name in untouched] == untouched
    assert names.index("first") < names.index("W.dalr_B") < names.index("outer") < names.index("V.dalr_B")
    assert names.index("V.dalr_B") < names.index("inner")


def test_what_goes_is_gone_everywhere() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { y = Gemm(x, W, b) }", W=(6, 8), b=(8,))
    for name, shape in (("W", [6, 8]), ("b", [8])):
        proto.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        proto.graph.quantization_annotation.add(tensor_name=name)
    made = rewritten(proto, 1.0)
    assert not made.graph.value_info
    assert not made.graph.quantization_annotation
    assert not {"W", "b"} & {name for node in made.graph.node for name in node.input}
    assert not {"W", "b"} & set(initializers(made))


def test_a_constant_node_that_nothing_reads_any_more_is_gone() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { y = Gemm(x, W, b) }", W=(6, 8), b=(8,))
    made = rewritten(with_constant_nodes(proto, "W", "b"), 1.0)
    assert "Constant" not in {node.op_type for node in made.graph.node}


def test_a_constant_that_nothing_ever_read_stays() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y) { y = Gemm(x, W) }", W=(6, 8), unread=(3,))
    assert "unread" in initializers(rewritten(proto))


READERS = {
    "node": "z = Relu(b)",
    "body": "z = If (c) <then_branch = t () => (float[8] a) { a = Relu(b) }, "
    "else_branch = e () => (float[8] d) { d = Neg(b) }>",
}


@pytest.mark.parametrize("nodes", ["y = Gemm(x, W, b)", "p = MatMul(x, W)  y = Add(p, b)"])
@pytest.mark.parametrize("reader", READERS)
def test_a_bias_that_others_read_stays_for_them(nodes: str, reader: str) -> None:
    proto = model(
        f"g (float[N,6] x, bool c) => (float[N,8] y, float[8] z) {{ {nodes}  {READERS[reader]} }}", W=(6, 8), b=(8,)
    )
    made = rewritten(proto, 1.0)
    np.testing.assert_array_equal(initializers(made)["b"], initializers(proto)["b"])
    feeds = some_feeds(proto)
    before, after = run(proto, feeds), run(made, feeds)
    np.testing.assert_array_equal(before["z"], after["z"])
    np.testing.assert_allclose(after["y"], before["y"] + 1, atol=1e-4)


def test_a_bias_that_is_an_output_stays() -> None:
    proto = model("g (float[N,6] x) => (float[N,8] y, float[8] b) { y = Gemm(x, W, b) }", W=(6, 8), b=(8,))
    assert_same = initializers(rewritten(proto, 1.0))["b"]
    np.testing.assert_array_equal(assert_same, initializers(proto)["b"])


def test_constants_of_the_outer_graph_that_a_body_reads_stay() -> None:
    proto = everything()
    made = rewrite(Model(proto), [thin(layer, 2) for layer in find(Model(proto))[0]]).proto
    np.testing.assert_array_equal(initializers(made)["outer"], initializers(proto)["outer"])
    np.testing.assert_array_equal(initializers(made)["inner"], initializers(proto)["inner"])


def _all_names(graph: onnx.GraphProto) -> list[str]:
    """Names made anywhere: of inputs, initializers and node outputs, in bodies too."""
    names = [value.name for value in (*graph.input, *graph.initializer)]
    for node in graph.node:
        names += node.output
        for entry in node.attribute:
            names += _all_names(entry.g) if entry.HasField("g") else []
    return names


def test_new_names_are_unique_though_the_obvious_ones_are_taken() -> None:
    proto = model(
        """g (float[N,6] x, bool c) => (float[N,8] y, float[?,?] z) {
            [fc] y = Gemm(x, W, b)
            ["fc.dalr_B"] z = If (c) <
                then_branch = t () => (float[?,?] y_dalr_latent) {
                    ["fc.dalr_A"] W_dalr_A = Neg(x)
                    y_dalr_latent = Neg(W_dalr_A)
                },
                else_branch = e () => (float[?,?] d) { d = Add(y, b_dalr) }
            >
        }""".replace('["fc.dalr_B"]', "[fcB]").replace('["fc.dalr_A"]', "[fcA]"),
        W=(6, 8),
        b=(8,),
        b_dalr=(8,),
        W_dalr_B=(1,),
    )
    dotted = {"y_dalr_latent": "y.dalr_latent", "W_dalr_A": "W.dalr_A", "W_dalr_B": "W.dalr_B", "b_dalr": "b.dalr"}
    _rename(proto.graph, {**dotted, "fcB": "fc.dalr_B", "fcA": "fc.dalr_A"})
    onnx.checker.check_model(proto, full_check=True)
    made = rewritten(proto, 1.0)
    names = _all_names(made.graph)
    assert len(names) == len(set(names))
    assert set(dotted.values()) < set(names)
    nodes = [node.name for node in made.graph.node]
    assert len(nodes) == len(set(nodes)) == 4
    assert {"fc.dalr_B_2", "fc.dalr_A_2"} <= set(nodes)
    assert_same_y = run(made)["y"] - run(proto)["y"]
    np.testing.assert_allclose(assert_same_y, 1, atol=1e-4)


def _rename(graph: onnx.GraphProto, new: dict[str, str]) -> None:
    for value in itertools.chain(graph.input, graph.output, graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        node.name = new.get(node.name, node.name)
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
        for entry in node.attribute:
            if entry.HasField("g"):
                _rename(entry.g, new)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_ir_version_3_lists_its_new_constants_among_the_inputs(shift: float) -> None:
    proto = model(
        "g (float[N,6] x, float[6,8] W, float[8] b) => (float[N,8] y) { y = Gemm(x, W, b) }",
        opset=8,
        ir_version=3,
        W=(6, 8),
        b=(8,),
    )
    made = rewritten(proto, shift)
    assert {value.name for value in made.graph.input} == {"x", *initializers(made)}
    assert "W" not in initializers(made)
    fed = [[(value.name, value.shape, value.type) for value in session(m).get_inputs()] for m in (proto, made)]
    assert fed[0] == fed[1] == [("x", ["N", 6], "tensor(float)")]
    assert_same_outputs(proto, made, moved_by=shift)


def test_a_note_is_a_metadata_entry_that_replaces_an_older_one() -> None:
    proto = everything()
    once = rewrite(Model(proto), [], note="first").proto
    assert metadata(once) == "first"
    twice = rewrite(Model(once), [], note="second").proto
    assert [(entry.key, entry.value) for entry in twice.metadata_props] == [
        ("author", "someone"),
        ("stride", "32"),
        (METADATA_KEY, "second"),
    ]
    assert metadata(rewrite(Model(twice), []).proto) == "second"


def test_shapes_can_be_inferred_through_the_new_nodes() -> None:
    proto = model("g (float[6,N] x) => (float[N,8] y) { y = Gemm <transA = 1> (x, W, b) }", W=(6, 8), b=(8,))
    inferred = onnx.shape_inference.infer_shapes(rewritten(proto, 1.0), check_type=True, strict_mode=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    assert shapes["y.dalr_latent"] == ["N", 6]
    assert shapes["y.dalr_product"] == ["N", 8]


def test_a_rewritten_model_can_be_rewritten_again() -> None:
    proto = model("g (float[N,12] x) => (float[N,12] y) { y = Gemm(x, W, b) }", W=(12, 12), b=(12,))
    once = rewrite(Model(proto), [thin(layers_of(proto)[0], 5)]).proto
    assert_same_outputs(once, rewritten(once))
    names = _all_names(rewritten(once).graph)
    assert len(names) == len(set(names))
