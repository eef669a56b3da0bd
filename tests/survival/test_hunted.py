"""What a hunt over several hundred other models found, made small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_dalr
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model
from tests.survival.helpers import W, feeds, node_model

ONE = {"x": (TensorProto.FLOAT, ["N", 64])}
LAYER = [
    helper.make_node("MatMul", ["x", "U"], ["p"], "one"),
    helper.make_node("Relu", ["p"], ["r"]),
    helper.make_node("MatMul", ["r", "V"], ["y"], "two"),
]
U, V = (numpy_helper.from_array(W[name], name) for name in "UV")


def optimize(model: ModelProto | Path, **options: object) -> onnx_dalr.Result:
    return onnx_dalr.optimize(model, calib=feeds(), **({"rank": 8} | options))


def test_outputs_that_are_as_many_as_the_model_finds_are_compared() -> None:
    nodes = [*LAYER, helper.make_node("Greater", ["y", "t"], ["c"]), helper.make_node("NonZero", ["c"], ["found"])]
    threshold = numpy_helper.from_array(np.float32(0), "t")
    model = node_model(nodes, ONE, {"found": (TensorProto.INT64, None)}, [U, V, threshold])
    for options in ({"rank": 8}, {"rank": None, "params": "60%"}):
        result = optimize(model, **options)
        assert result.quality.error.value > 0
        assert any("'found' has another shape" in note for note in result.notes)


def test_an_output_of_one_number_is_looked_at_and_compared() -> None:
    nodes = [*LAYER, helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0)]
    model = node_model(nodes, ONE, {"mean": (TensorProto.FLOAT, [])}, [U, V])
    quality = optimize(model).quality
    assert quality is not None
    assert 0 < quality.error.value < 1


def test_class_numbers_of_a_node_without_inputs_are_onnx_runtimes_to_refuse() -> None:
    nodes = [*LAYER, helper.make_node("Identity", [], ["best"])]
    model = node_model(nodes, ONE, {"best": (TensorProto.INT64, ["N"])}, [U, V])
    with pytest.raises(onnx_dalr.InputError, match="ONNX Runtime cannot load"):
        optimize(model)


def of_text() -> ModelProto:
    return node_model(
        [*LAYER, helper.make_node("Cast", ["y"], ["text"], to=TensorProto.STRING)],
        ONE,
        {"text": (TensorProto.STRING, ["N", 64])},
        [U, V],
    )


@pytest.mark.parametrize("options", [{}, {"rank": None, "params": "60%"}], ids=str)
def test_text_is_the_same_or_not(options: dict[str, object]) -> None:
    quality = optimize(of_text(), **options).quality
    assert quality is not None
    assert (quality.score, quality.outputs[0].error) == ("equal values", None)
    assert quality.drop.value > 0.9
    assert optimize(of_text(), holdout=0).model is not None


def test_text_that_never_stays_the_same_cannot_be_held_and_no_labels_are_asked_for() -> None:
    with pytest.raises(onnx_dalr.TargetError, match=r"loses 100\.00 points") as error:
        optimize(of_text(), rank=None)
    assert "labels" not in error.value.hint


@pytest.mark.parametrize("options", [{}, {"rank": None, "params": "60%"}, {"rank": None}], ids=str)
def test_a_model_that_gives_no_arrays_is_refused_before_the_work(options: dict[str, object]) -> None:
    nothing = helper.make_tensor_sequence_value_info("nothing", TensorProto.FLOAT, None)
    model = node_model([*LAYER, helper.make_node("SequenceEmpty", [], ["nothing"])], ONE, {}, [U, V])
    model.graph.output.append(nothing)
    with pytest.raises(onnx_dalr.InputError, match="no numeric output"):
        optimize(model, **options)
    assert optimize(model, holdout=0).model is not None


def test_nodes_in_any_order() -> None:
    """As float16 converters leave them, which onnx refuses and ONNX Runtime runs."""
    model = node_model(LAYER[::-1], ONE, {"y": (TensorProto.FLOAT, ["N", 64])}, [U, V])
    assert optimize(model).quality.error.value < 1


def test_external_data_of_a_function_comes_along(tmp_path: Path) -> None:
    constant = numpy_helper.from_array(W["W"], "k")
    function = helper.make_function(
        "local",
        "F",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["k"], value=constant), helper.make_node("MatMul", ["a", "k"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [*LAYER, helper.make_node("F", ["y"], ["z"], domain="local")]
    model = node_model(nodes, ONE, {"z": (TensorProto.FLOAT, ["N", 64])}, [U, V], {"": 17, "local": 1})
    model.functions.append(function)
    stored = model.functions[0].node[0].attribute[0].t
    (tmp_path / "k.bin").write_bytes(stored.raw_data)
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="k.bin")
    onnx.save(model, tmp_path / "in.onnx")
    (tmp_path / "there").mkdir()
    result = optimize(tmp_path / "in.onnx", output=tmp_path / "there" / "out.onnx")
    assert result.bytes_after == sum(file.stat().st_size for file in (tmp_path / "there").iterdir())
    assert (tmp_path / "there" / "out.onnx.data").exists()


def test_reasons_say_what_is_there() -> None:
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(3, np.float32), "few"), numpy_helper.from_array(np.arange(3), "where"), [64, 64]
    )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"]),
        helper.make_node("MatMul", ["x", "d2"], ["a"], "attention"),
        helper.make_node("DequantizeLinear", ["q2", "s"], ["d2"]),
        helper.make_node("QuantizeLinear", ["t", "s"], ["q2"]),
        helper.make_node("Constant", [], ["k"], sparse_value=sparse),
        helper.make_node("MatMul", ["x", "k"], ["b"], "sparse"),
        helper.make_node("MatMul", ["few", "U"], ["c"], "left"),
    ]
    model = node_model(nodes, ONE, {"a": (TensorProto.FLOAT, None)}, [U, scale])
    model.graph.sparse_initializer.append(sparse)
    found = {entry.name: entry.reason for entry in find(Model(model))[1]}
    assert found["attention"].startswith("dynamic weight")
    assert found["sparse"].startswith("its weight is a Constant with sparse_value")
    assert found["left"] == "both operands are constant"


def test_a_gemm_whose_computed_bias_leaves_the_output_shape_open() -> None:
    """ONNX Runtime infers less of such a shape from the Add than from the Gemm: callers see no other signature."""
    inputs = ONE | {"c": (TensorProto.FLOAT, ["M", 1])}
    model = node_model(
        [helper.make_node("Gemm", ["x", "U", "c"], ["y"], "fc")], inputs, {"y": (TensorProto.FLOAT, None)}, [U]
    )
    samples = [feed | {"c": np.ones((len(feed["x"]), 1), np.float32)} for feed in feeds()]
    result = onnx_dalr.optimize(model, calib=samples, rank=8)
    assert [layer.rank for layer in result.layers] == [8]


def test_a_layer_that_no_row_reaches_is_left_alone_and_the_rest_compressed() -> None:
    nodes = [
        *LAYER,
        helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["top", "never"], ["chosen"]),
        helper.make_node("Compress", ["x", "chosen"], ["few"], axis=0),
        helper.make_node("MatMul", ["few", "E"], ["z"], "expert"),
    ]
    never = numpy_helper.from_array(np.float32(1e30), "never")
    outputs = {"y": (TensorProto.FLOAT, ["N", 64]), "z": (TensorProto.FLOAT, ["K", 64])}
    model = node_model(nodes, ONE, outputs, [U, V, never, numpy_helper.from_array(W["U"], "E")])
    for options in ({}, {"rank": None, "params": "60%"}):
        result = optimize(model, **options)
        assert {layer.name for layer in result.layers} == {"one", "two"}
        assert {entry.name: entry.reason for entry in result.skipped} == {"expert": "no row of the samples reached it"}


def test_a_model_that_draws_random_numbers_is_noted_as_one() -> None:
    noisy = [*LAYER[:-1], helper.make_node("MatMul", ["r", "V"], ["s"], "two")]
    noisy += [helper.make_node("RandomNormalLike", ["s"], ["n"]), helper.make_node("Add", ["s", "n"], ["y"])]
    output = {"y": (TensorProto.FLOAT, ["N", 64])}
    said = [
        any(
            "other outputs each time it runs" in note for note in optimize(node_model(nodes, ONE, output, [U, V])).notes
        )
        for nodes in (noisy, LAYER)
    ]
    assert said == [True, False]


def test_recurrent_nodes_are_skipped_with_the_reason() -> None:
    W_, R = (
        numpy_helper.from_array(np.zeros((1, 32, 64 if name == "Wl" else 8), np.float32), name) for name in ("Wl", "Rl")
    )
    nodes = [
        *LAYER,
        helper.make_node("Unsqueeze", ["y", "axis"], ["u"]),
        helper.make_node("LSTM", ["u", "Wl", "Rl"], ["z"], "lstm", hidden_size=8),
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    model = node_model(nodes, ONE, {"z": (TensorProto.FLOAT, None)}, [U, V, W_, R, axis])
    _, skipped = find(Model(model))
    assert [(entry.name, entry.reason) for entry in skipped] == [
        ("lstm", "recurrent: its weights are left as they are")
    ]
