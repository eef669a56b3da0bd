"""Compresses a synthetic model of several GB with external data and reports time and peak memory.

    python tools/large_model.py [--gb 3] [--folder DIR]

Three processes, measured apart: an ONNX Runtime session on the original that runs one sample (what any tool needs), the
same for the small one, and `onnx-dalr optimize`. Needs about four times the size on disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDE, THIN = 8192, 1024
LAYER_BYTES = 4 * WIDE * THIN


def build(path: Path, layers: int) -> None:
    """A chain of MatMul and Relu, 1024 → 8192 → 1024 → …, its weights of falling spectrum, in one data file."""
    random = np.random.default_rng(0)
    nodes, initializers, name = [], [], "x"
    with (path.parent / "model.data").open("wb") as file:
        for i in range(layers):
            n, m = (THIN, WIDE) if i % 2 == 0 else (WIDE, THIN)
            rank = 256
            left = random.standard_normal((n, rank), dtype=np.float32) / np.sqrt(n)
            right = random.standard_normal((rank, m), dtype=np.float32) / np.sqrt(rank)
            weight = left @ right + 0.01 / np.sqrt(n) * random.standard_normal((n, m), dtype=np.float32)
            tensor = TensorProto(name=f"W{i}", data_type=TensorProto.FLOAT, dims=[n, m])
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": "model.data", "offset": file.tell(), "length": LAYER_BYTES}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(weight.astype(np.float32).tobytes())
            initializers.append(tensor)
            nodes.append(helper.make_node("MatMul", [name, f"W{i}"], [f"h{i}"], name=f"fc{i}"))
            name = f"h{i}"
            if i % 2 == 0:
                nodes.append(helper.make_node("Relu", [name], [f"r{i}"], name=f"relu{i}"))
                name = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", THIN])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDE if layers % 2 else THIN])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


SESSION = """
import sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones((1, 1024), np.float32)})
"""


def measured(command: list[str]) -> tuple[float, float]:
    """(seconds, peak resident GB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} failed with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        model, small, samples = Path(folder) / "model.onnx", Path(folder) / "small.onnx", Path(folder) / "x.npy"
        build(model, max(2, round(options.gb * 1e9 / LAYER_BYTES)))
        np.save(samples, np.random.default_rng(1).standard_normal((512, THIN), dtype=np.float32))
        size = sum(file.stat().st_size for file in Path(folder).glob("model.*")) / 1e9
        session = measured([sys.executable, "-c", SESSION, str(model)])
        command = [sys.executable, "-m", "onnx_dalr", "optimize", str(model), str(small), "--calib", str(samples)]
        whole = measured([*command, "--params", "50%"])
        print(f"model {size:.2f} GB; session {session[1]:.2f} GB peak, {session[0]:.0f} s")
        print(
            f"optimize {whole[1]:.2f} GB peak, {whole[0]:.0f} s: {(whole[1] - session[1]) / size:.2f}× the model's size"
        )
        print(f"written: {sum(file.stat().st_size for file in Path(folder).glob('small.onnx*')) / 1e9:.2f} GB")
        again = measured([sys.executable, "-c", SESSION, str(small)])
        print(f"session on the small one: {again[1]:.2f} GB peak")


if __name__ == "__main__":
    main()
