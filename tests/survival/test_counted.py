"""Models that ONNX Runtime's own tools quantized: their numbers are counted and named, none of them is a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from onnx_dalr.commands.inspect import inspect
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import count_params, load, numbers_of
from tests.graph.helpers import model, values

CONV, FC, HEAD, TABLE = 8 * 3 * 3 * 3, 8 * 64, 64 * 96, 200 * 64
BIASES = 8 + 64


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Eight of them."""

    def __init__(self) -> None:
        self._left = iter(range(8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one, None after the last."""
        for at in self._left:
            return {"x": values(f"x{at}", (1, 3, 8, 8)), "i": np.full((1, 1), at)}
        return None


@pytest.fixture
def original(tmp_path: Path) -> Path:
    proto = model(
        """g (float[N,3,8,8] x, int64[N,1] i) => (float[N,1,96] y) {
            [conv] c = Conv <pads = [1, 1, 1, 1]> (x, K, k)
            r = Relu(c)
            m = GlobalAveragePool(r)
            f = Flatten(m)
            [fc] h = Gemm(f, W, b)
            u = Unsqueeze(h, axis)
            [embed] e = Gather(T, i)
            a = Add(u, e)
            [head] y = MatMul(a, V)
        }""",
        K=(8, 3, 3, 3),
        k=(8,),
        W=(8, 64),
        b=(64,),
        T=(200, 64),
        V=(64, 96),
        axis=np.array([1]),
        checked=False,
    )
    onnx.save(proto, tmp_path / "m.onnx")
    assert count_params(proto) == CONV + FC + HEAD + TABLE + BIASES
    return tmp_path / "m.onnx"


def by_format(path: Path) -> dict[str, int]:
    counted: dict[str, int] = {}
    for packed in numbers_of(load(path).proto).packed.values():
        counted[packed.format] = counted.get(packed.format, 0) + packed.numbers
    return counted


@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic(original: Path, weights: str, per_channel: bool) -> None:
    made = original.with_name("dynamic.onnx")
    quantize_dynamic(original, made, weight_type=QuantType[weights], per_channel=per_channel)
    assert by_format(made) == {"int8": CONV + FC + HEAD + TABLE}
    assert load(made).params == load(original).params
    assert_left_alone(made)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weights", ["QInt8", "QUInt8", "QInt16", "QInt4"])
def test_static_with_nodes_that_dequantize(original: Path, weights: str, per_channel: bool) -> None:
    made = original.with_name("static.onnx")
    options: dict[str, Any] = {"weight_type": QuantType[weights], "activation_type": QuantType.QUInt8}
    quantize_static(original, made, Samples(), quant_format=QuantFormat.QDQ, per_channel=per_channel, **options)
    bits = {"QInt16": "int16", "QInt4": "int4"}.get(weights, "int8")
    found = by_format(made)
    assert sum(found.values()) == CONV + FC + HEAD + TABLE + BIASES
    assert found[bits] >= CONV + FC + HEAD
    assert found["int32"] == BIASES
    assert_scales_of_data_are_all_that_is_added(made, original)
    assert_left_alone(made)


def test_static_with_operators_on_whole_numbers(original: Path) -> None:
    made = original.with_name("static.onnx")
    quantize_static(original, made, Samples(), quant_format=QuantFormat.QOperator, weight_type=QuantType.QInt8)
    assert sum(by_format(made).values()) == CONV + FC + HEAD + TABLE + BIASES
    assert_scales_of_data_are_all_that_is_added(made, original)
    assert_left_alone(made)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks(original: Path, bits: int, symmetric: bool) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(original), bits=bits, block_size=32, is_symmetric=symmetric)
    quantizer.process()
    made = original.with_name("blocks.onnx")
    quantizer.model.save_model_to_file(str(made))
    assert by_format(made) == {f"int{bits}": HEAD}
    assert load(made).params == load(original).params
    (head,) = [tensor for tensor in inspect(made).tensors if tensor.format]
    assert (head.kind, head.op) == (f"MatMulNBits, int{bits}", "MatMulNBits")


@pytest.mark.parametrize("quant_axes", [(("MatMul", 0), ("Gather", 1))])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_of_tables(original: Path, quant_axes: Any, symmetric: bool) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(original),
        block_size=32,
        is_symmetric=symmetric,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=quant_axes,
    )
    quantizer.process()
    made = original.with_name("blocks.onnx")
    quantizer.model.save_model_to_file(str(made))
    assert by_format(made) == {"int4": HEAD + TABLE}
    assert load(made).params == load(original).params
    assert {tensor.kind for tensor in inspect(made).tensors if tensor.format} == {
        "embedding, int4",
        "MatMulNBits, int4",
    }


def test_blocks_that_nodes_dequantize(original: Path) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(original), block_size=32, quant_format=QuantFormat.QDQ)
    quantizer.process()
    made = original.with_name("blocks.onnx")
    quantizer.model.save_model_to_file(str(made))
    assert by_format(made) == {"int4": HEAD}
    assert load(made).params == load(original).params
    assert {tensor.kind for tensor in inspect(made).tensors if tensor.format} == {"MatMul, int4"}


@pytest.mark.assets
@pytest.mark.parametrize("name", ["mnist-mlp", "minilm-l6-v2", "ultraface-slim320"])
def test_a_network_of_the_assets_has_as_many_numbers_afterwards(assets: Path, tmp_path: Path, name: str) -> None:
    made = tmp_path / "dynamic.onnx"
    quantize_dynamic(assets / "models" / f"{name}.onnx", made, weight_type=QuantType.QInt8)
    before, after = (load(path).params for path in (assets / "models" / f"{name}.onnx", made))
    assert after == pytest.approx(before, rel=1e-4)
    assert sum(by_format(made).values()) > 0.8 * before


def assert_left_alone(path: Path) -> None:
    for in_one_piece in (False, True):
        assert find(load(path), in_one_piece=in_one_piece)[0] == []
    named = [tensor for tensor in inspect(path).tensors if tensor.format and len(tensor.shape) > 1]
    assert named
    assert all(tensor.kind.endswith(f", {tensor.format}") and tensor.reason for tensor in named)


def assert_scales_of_data_are_all_that_is_added(path: Path, original: Path) -> None:
    proto: ModelProto = load(path).proto
    scales = [tensor for tensor in proto.graph.initializer if tensor.data_type == 1 and tensor.name.endswith("_scale")]
    assert 0 <= load(path).params - load(original).params <= len(scales)
