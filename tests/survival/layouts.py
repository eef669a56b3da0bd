"""One small model, stored in every way that ONNX has for its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, external_data_helper

from onnx_dalr.graph.storage.model import stored_tensors
from tests.graph.helpers import model, values, with_constant_nodes
from tests.survival.helpers import rows

SAMPLES = rows((64, 48))


def network() -> ModelProto:
    return model(
        """g (float[N,48] x) => (float[N,64] y) {
            [gemm] h = Gemm <transB = 1> (x, W, b)
            l = LeakyRelu <alpha = 0.7> (h)
            [matmul] p = MatMul(l, V)
            y = Add(p, d)
        }""",
        W=values("W", (64, 48)) / np.float32(7),
        b=(64,),
        V=values("V", (64, 64)) / np.float32(8),
        d=(64,),
    )


def one_file(path: Path) -> None:
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def many_files(path: Path) -> None:
    onnx.save(network(), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)


def large_only(path: Path) -> None:
    """The weights outside, the biases inside."""
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=1024)


def odd_offsets(path: Path) -> None:
    """Tensors in no order, at places that are no multiple of anything, between bytes that belong to nobody."""
    proto, data = network(), b"a header"
    for tensor in reversed(proto.graph.initializer):
        data += b"?" * 13
        raw = tensor.raw_data
        external_data_helper.set_external_data(tensor, "weights.bin", offset=len(data), length=len(raw))
        tensor.ClearField("raw_data")
        data += raw
    path.with_name("weights.bin").write_bytes(data + b"a footer")
    path.write_bytes(proto.SerializeToString())


def no_length(path: Path) -> None:
    """One file for each tensor and neither offset nor length, as the standard allows."""
    proto = network()
    for tensor in proto.graph.initializer:
        path.with_name(f"{tensor.name}.bin").write_bytes(tensor.raw_data)
        external_data_helper.set_external_data(tensor, f"{tensor.name}.bin")
        tensor.ClearField("raw_data")
    path.write_bytes(proto.SerializeToString())


def in_a_folder(path: Path) -> None:
    path.with_name("data").mkdir()
    onnx.save(network(), path, save_as_external_data=True, location="data/weights.bin", size_threshold=0)


def constant_nodes(path: Path) -> None:
    """External, and in Constant nodes."""
    proto = with_constant_nodes(network(), "W", "V")
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=True)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (one_file, many_files, large_only, odd_offsets, no_length, in_a_folder, constant_nodes)
}


def locations(path: Path) -> set[str]:
    proto = onnx.load(path, load_external_data=False)
    return {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in stored_tensors(proto.graph)
        if external_data_helper.uses_external_data(tensor)
    }
