"""The ways that tools/benchmark_weights.py compares: from a model and samples to a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from benchmark_data import Feeds
from benchmark_weights_cases import WeightCase
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    GPTQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

import onnx_dalr

_BATCH = 32
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Way:
    """A tool with its settings.

    Attributes:
        name: Of the tool.
        asked: Its settings, as a row shows them.
        make: Writes the file.
        ours: It is `optimize`.
    """

    name: str
    asked: str
    make: Callable[[WeightCase, Path], None]
    ours: bool = False


def ways(case: WeightCase) -> Iterator[Way]:
    """All of them for a model."""
    for size in case.sizes:
        yield _ours("auto", size)
    yield _ours("int8", case.integers)
    for size in case.ranks:
        yield _ours("keep", size)
    yield Way("float16", "convert_float_to_float16", _float16)
    for per_channel in (False, True):
        asked = "int8, per channel" if per_channel else "int8"
        yield Way("quantize_dynamic", asked, partial(_dynamic, per_channel=per_channel))
    yield Way("quantize_static", "QDQ, int8, per channel", _static)
    for block in (32, 128):
        plain = partial(_nbits, block=block, config=None)
        yield Way("MatMulNBits", f"int4/{block}", plain)
        yield Way("MatMulNBits + quantize_dynamic", f"int4/{block}, the rest int8", partial(_and_rest, first=plain))
    yield Way("MatMulNBits", "int4/32, Gather too", partial(_nbits_and_gather, block=32))
    for name, config in (("k_quant", _k_quant), ("GPTQ", _gptq)):
        first = partial(_nbits, block=32, config=config)
        yield Way("MatMulNBits + quantize_dynamic", f"{name}, int4/32, the rest int8", partial(_and_rest, first=first))


def _ours(weights: str, size: str) -> Way:
    return Way("ours", f"--weights {weights} --size {size}", partial(_optimize, weights=weights, size=size), ours=True)


def _optimize(case: WeightCase, out: Path, *, weights: str, size: str) -> None:
    onnx_dalr.optimize(
        case.model, out, calib=case.calib, weights=weights, size=size, device="cpu", force=True, **case.options
    )


def _float16(case: WeightCase, out: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(case.model), keep_io_types=True), out)


def _prepared(case: WeightCase, beside: Path) -> Path:
    """Shapes inferred, constants folded: what the quantizers ask for."""
    prepared = beside.with_name(f"{beside.name}.prepared")
    quant_pre_process(case.model, prepared, skip_symbolic_shape=True)
    return prepared


def _dynamic(case: WeightCase, out: Path, *, per_channel: bool) -> None:
    prepared = _prepared(case, out)
    quantize_dynamic(prepared, out, weight_type=QuantType.QInt8, per_channel=per_channel)
    prepared.unlink()


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """The samples, a batch at a time."""

    def __init__(self, feeds: Feeds) -> None:
        count = len(next(iter(feeds.values())))
        self._batches = [{n: a[i : i + _BATCH] for n, a in feeds.items()} for i in range(0, count, _BATCH)]
        self._next = 0

    def get_next(self) -> dict[str, Any] | None:
        self._next += 1
        return self._batches[self._next - 1] if self._next <= len(self._batches) else None


def _static(case: WeightCase, out: Path) -> None:
    prepared = _prepared(case, out)
    quantize_static(
        prepared,
        out,
        _Reader(case.calib),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()


def _matmuls(case: WeightCase) -> onnx.ModelProto:
    """Every Gemm as a MatMul and an Add: the quantizer takes only MatMul."""
    model = ONNXModel(onnx.load(case.model))
    model.replace_gemm_with_matmul()
    return model.model


def _k_quant(case: WeightCase) -> Any:
    del case
    return KQuantWeightOnlyQuantConfig()


def _gptq(case: WeightCase) -> Any:
    return GPTQWeightOnlyQuantConfig(calibration_data_reader=_Reader(case.calib))


def _nbits(case: WeightCase, out: Path, *, block: int, config: Callable[[WeightCase], Any] | None) -> None:
    chosen = config(case) if config else DefaultWeightOnlyQuantConfig(block_size=block)
    _quantized(MatMulNBitsQuantizer(_matmuls(case), block_size=block, algo_config=chosen), out, ("MatMulNBits",))


def _nbits_and_gather(case: WeightCase, out: Path, *, block: int) -> None:
    operators = ("MatMul", "Gather")
    config = DefaultWeightOnlyQuantConfig(
        block_size=block, op_types_to_quantize=operators, quant_axes=(("MatMul", 0), ("Gather", 1))
    )
    quantizer = MatMulNBitsQuantizer(_matmuls(case), block_size=block, algo_config=config)
    _quantized(quantizer, out, ("MatMulNBits", "GatherBlockQuantized"))


def _quantized(quantizer: Any, out: Path, made: Sequence[str]) -> None:
    """Writes what a quantizer made.

    Raises:
        ValueError: It left every weight as it was, which its row is to say.
    """
    quantizer.process()
    found = {node.op_type for node in quantizer.model.model.graph.node}
    for operator in made:
        if operator not in found:
            raise ValueError(f"it makes no {operator} of this model")
    model = quantizer.model.model
    if not any(each.domain == _MICROSOFT for each in model.opset_import):  # k_quant and GPTQ leave it out
        model.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    onnx.save(model, out)


def _and_rest(case: WeightCase, out: Path, *, first: Callable[[WeightCase, Path], None]) -> None:
    """What is left in floats, kernels and embeddings, as int8."""
    between = out.with_name(f"{out.name}.between")
    first(case, between)
    quantize_dynamic(between, out, op_types_to_quantize=["Gather", "Conv"], weight_type=QuantType.QInt8)
    between.unlink()


logging.getLogger().setLevel(logging.ERROR)  # the quantizers name every node, and ask for what they were given
