"""Every operator set from 7 on and every IR version that ONNX Runtime runs; other domains keep their versions."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_dalr
from tests.graph.helpers import differences, ops, values
from tests.survival.helpers import checked, compressed, dtypes, largest_error, node_model, optimize, rows


def runs(opset: int, ir_version: int) -> bool:
    """Whether this ONNX Runtime takes a model of these versions."""
    vector = {"x": (TensorProto.FLOAT, [2])}, {"y": (TensorProto.FLOAT, [2])}
    proto = node_model([helper.make_node("Relu", ["x"], ["y"])], *vector, [], {"": opset}, ir_version)
    try:
        ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime raises its own types
        return False
    return True


OPSETS = [opset for opset in range(7, onnx.defs.onnx_opset_version() + 1) if runs(opset, 8)]
IR_VERSIONS = [version for version in range(3, onnx.IR_VERSION + 1) if runs(13, version)]


def network(opset: int, ir_version: int = 8, domains: dict[str, int] | None = None) -> ModelProto:
    """1×1 Conv, mean over positions, Gemm, MatMul and Add; written as each operator set wants it."""
    if opset < 13:
        squeeze = helper.make_node("Squeeze", ["pooled"], ["flat"], axes=[2, 3])
    else:
        squeeze = helper.make_node("Squeeze", ["pooled", "where"], ["flat"])
    gemm = {"transB": 1} if opset >= 11 else {"transB": 1, "alpha": 1.0, "beta": 1.0}
    nodes = [
        helper.make_node("Conv", ["x", "K", "c"], ["maps"], name="conv", kernel_shape=[1, 1], strides=[2, 2]),
        helper.make_node("LeakyRelu", ["maps"], ["positive"], alpha=0.7),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        squeeze,
        helper.make_node("Gemm", ["flat", "W", "b"], ["hidden"], name="gemm", **gemm),
        helper.make_node("MatMul", ["hidden", "V"], ["product"], name="matmul"),
        helper.make_node("Add", ["product", "d"], ["y"], name="add"),
    ]
    stored = {"K": (48, 32, 1, 1), "c": (48,), "W": (64, 48), "b": (64,), "V": (64, 40), "d": (40,)}
    constants = [numpy_helper.from_array(values(name, shape) / np.float32(6), name) for name, shape in stored.items()]
    if opset >= 13:
        constants.append(helper.make_tensor("where", TensorProto.INT64, [2], [2, 3]))
    inputs = {"x": (TensorProto.FLOAT, ["N", 32, 6, 6])}
    if ir_version < 4:
        inputs |= {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in constants}
    outputs = {"y": (TensorProto.FLOAT, ["N", 40])}
    made = node_model(nodes, inputs, outputs, constants, {**(domains or {}), "": opset}, ir_version)
    onnx.checker.check_model(made, full_check=True)
    return made


SAMPLES = rows((64, 32, 6, 6), axis=1)


def expect_compressed(proto: ModelProto) -> ModelProto:
    result = optimize(proto, calib=SAMPLES[8:], rank=14)
    assert compressed(result) == {"conv", "gemm", "matmul"}
    made = checked(result)
    assert largest_error(proto, made, {"x": SAMPLES[:8]}) < 0.05
    assert result.bytes_after < result.bytes_before
    assert made.ir_version == proto.ir_version
    assert [(o.domain, o.version) for o in made.opset_import] == [(o.domain, o.version) for o in proto.opset_import]
    assert (ops(made).count("Conv"), ops(made).count("MatMul"), ops(made).count("Gemm")) == (2, 4, 0)
    return made


def test_there_are_operator_sets_from_7_and_ir_versions_from_3() -> None:
    assert OPSETS[0] == 7
    assert len(OPSETS) == OPSETS[-1] - 6 >= 15
    assert IR_VERSIONS[0] == 3
    assert len(IR_VERSIONS) == IR_VERSIONS[-1] - 2 >= 8


@pytest.mark.parametrize("opset", OPSETS)
def test_an_operator_set(opset: int) -> None:
    expect_compressed(network(opset))


@pytest.mark.parametrize("ir_version", IR_VERSIONS)
def test_an_ir_version(ir_version: int) -> None:
    expect_compressed(network(13 if ir_version > 3 else 8, ir_version))


def test_before_ir_version_4_every_constant_is_listed_among_the_inputs_and_no_other() -> None:
    made = expect_compressed(network(8, 3))
    assert made.graph.input[0].name == "x"
    assert {value.name for value in made.graph.input} == {"x", *dtypes(made)}


@pytest.mark.parametrize("opset", [8, 13, OPSETS[-1]])
def test_other_domains_keep_their_versions_and_their_order(opset: int) -> None:
    domains = {"ai.onnx.ml": 2, "com.microsoft": 1, "org.example": 5}
    made = expect_compressed(network(opset, domains=domains))
    assert [entry.domain for entry in made.opset_import] == [*domains, ""]


def test_nodes_of_another_domain_are_byte_for_byte_as_they_were() -> None:
    proto = network(13, domains={"com.microsoft": 1})
    proto.graph.node[-1].output[0] = "sum"
    proto.graph.node.append(helper.make_node("Gelu", ["sum"], ["y"], name="gelu", domain="com.microsoft"))
    made = expect_compressed(proto)
    assert list(differences(proto.graph.node[-1], made.graph.node[-1])) == []


def test_the_default_domain_spelled_out_is_the_default_domain() -> None:
    """ONNX Runtime says so; the checker of onnx refuses the original and what becomes of it alike."""
    proto = network(13)
    proto.graph.node.insert(0, helper.make_node("Identity", ["V"], ["V.carried"]))
    next(node for node in proto.graph.node if node.name == "matmul").input[1] = "V.carried"
    proto.opset_import[0].domain = "ai.onnx"
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    result = optimize(proto, calib=SAMPLES[8:], rank=14)
    assert compressed(result) == {"conv", "gemm", "matmul"}
    assert largest_error(proto, result.model, {"x": SAMPLES[:8]}) < 0.05


def test_operator_set_6_is_skipped_with_advice() -> None:
    inputs, outputs = {"x": (TensorProto.FLOAT, [4, 48])}, {"y": (TensorProto.FLOAT, [4, 64])}
    nodes = [helper.make_node("Gemm", ["x", "W", "b"], ["y"], name="gemm", broadcast=1)]
    constants = [numpy_helper.from_array(values(name, shape), name) for name, shape in (("W", (48, 64)), ("b", (64,)))]
    proto = node_model(nodes, inputs, outputs, constants, {"": 6}, 4)
    onnx.checker.check_model(proto)
    with pytest.raises(onnx_dalr.NothingToGainError) as caught:
        optimize(proto, calib=rows((64, 48)), rank=14)
    assert "opset 6 is too old: convert the model to opset 7 or newer first" in caught.value.hint
    assert caught.value.exit_code == 5
