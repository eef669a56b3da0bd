"""Maps of external data: who holds a weight does not hold it in memory."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_dalr.graph.storage.model import load

_SIDE = 1 << 10


def in_memory_of_files() -> int:
    """Bytes of files that are mapped into this process and in memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile:"))


@pytest.mark.skipif(sys.platform != "linux", reason="what is in memory is read off /proc")
def test_what_was_read_of_one_weight_leaves_memory_with_the_next(tmp_path: Path) -> None:
    names = [f"W{number}" for number in range(5)]
    weights = [np.full((_SIDE, _SIDE), number, np.float32) for number in range(5)]
    chain = [onnx.helper.make_node("MatMul", [f"x{at}", name], [f"x{at + 1}"]) for at, name in enumerate(names)]
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["N", _SIDE]) for name in ("x0", "x5")]
    stored = [numpy_helper.from_array(weight, name) for weight, name in zip(weights, names, strict=True)]
    made = onnx.helper.make_model(onnx.helper.make_graph(chain, "chain", ends[:1], ends[1:], stored))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    model = load(tmp_path / "m.onnx")
    gc.collect()
    before = in_memory_of_files()
    held = []
    for tensor in model.proto.graph.initializer:
        held.append(model.array(tensor))
        held[-1].sum()
    assert in_memory_of_files() - before < 2.5 * weights[0].nbytes
    put = [model.put_away(2 * weight) for weight in weights]
    for array, weight in zip(put, weights, strict=True):
        np.testing.assert_array_equal(array, 2 * weight)
    model.let_go()
    assert in_memory_of_files() - before < 0.5 * weights[0].nbytes
    for array, weight in zip(held, weights, strict=True):
        np.testing.assert_array_equal(array, weight)
