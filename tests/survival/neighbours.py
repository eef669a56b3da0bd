"""Tools that people run over a model after ours, and models of ours to run them over.

`python -m tests.survival.neighbours` prints the table of docs/neighbours.md.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto

import onnx_dalr
from tests.graph.helpers import model
from tests.survival.helpers import largest_error, numbers, optimize, rows, shapes

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class Neighbour:
    """A tool that takes a model file and writes another.

    Attributes:
        name: As the table calls it.
        module: To import; the test skips where that fails.
        package: Whose version the table tells.
        run: (model file, file to write).
        standard: It writes operators of ONNX alone, so the checker can judge them.
    """

    name: str
    module: str
    package: str
    run: Callable[[Path, Path], None]
    standard: bool = True


def _onnxruntime(level: str) -> Callable[[Path, Path], None]:
    def run(path: Path, output: Path) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = LEVELS[level]
        options.optimized_model_filepath = str(output)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    return run


def _onnxslim(path: Path, output: Path) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(path)), output)


def _onnxsim(path: Path, output: Path) -> None:
    import onnxsim

    simplified, same = onnxsim.simplify(onnx.load(path))
    assert same
    onnx.save(simplified, output)


def _onnxoptimizer(path: Path, output: Path) -> None:
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    onnx.save(onnxoptimizer.optimize(onnx.load(path), passes), output)


def _onnxscript(path: Path, output: Path) -> None:
    import onnxscript.optimizer

    onnx.save(onnxscript.optimizer.optimize(onnx.load(path)), output)


def _transformers(path: Path, output: Path) -> None:
    from onnxruntime.transformers import optimizer

    optimizer.optimize_model(str(path), model_type="bert", opt_level=0).save_model_to_file(str(output))


def _quant_pre_process(path: Path, output: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(path), str(output), skip_symbolic_shape=True)


NEIGHBOURS = (
    *(
        Neighbour(f"onnxruntime, {level}", "onnxruntime", "onnxruntime-gpu", _onnxruntime(level), level != "all")
        for level in LEVELS
    ),
    Neighbour("onnxslim", "onnxslim", "onnxslim", _onnxslim),
    Neighbour("onnxsim", "onnxsim", "onnxsim", _onnxsim),
    Neighbour("onnxoptimizer, all passes", "onnxoptimizer", "onnxoptimizer", _onnxoptimizer),
    Neighbour("onnxscript.optimizer", "onnxscript.optimizer", "onnxscript", _onnxscript),
    Neighbour(
        "onnxruntime.transformers", "onnxruntime.transformers.optimizer", "onnxruntime-gpu", _transformers, False
    ),
    Neighbour("quant_pre_process", "onnxruntime.quantization.shape_inference", "onnxruntime-gpu", _quant_pre_process),
)

TRANSFORMER = """g (float[N,L,64] x) => (float[N,L,64] y) {
    [q] qp = MatMul(x, Wq)  qb = Add(bq, qp)
    [k] kp = MatMul(x, Wk)  kb = Add(bk, kp)
    [v] vp = MatMul(x, Wv)  vb = Add(bv, vp)
    kt = Transpose <perm = [0, 2, 1]> (kb)
    scores = MatMul(qb, kt)  scaled = Mul(scores, eighth)  weights = Softmax <axis = -1> (scaled)
    mixed = MatMul(weights, vb)
    [out] op = MatMul(mixed, Wo)  ob = Add(op, bo)
    residual = Add(ob, x)
    normed = LayerNormalization(residual, gamma, beta)
    [up] up = MatMul(normed, Wu)  ub = Add(up, bu)
    cdf = Erf(ub)  half = Mul(ub, cdf)
    [down] dp = MatMul(half, Wd)  db = Add(dp, bd)
    y = Add(db, residual)
}"""
POINTWISE = """g (float[N,32,H,6] x) => (float[N,64,h,w] y) {
    [first] c1 = Conv <strides = [2, 2], kernel_shape = [1, 1]> (x, W1, b1)
    r1 = Relu(c1)
    [depthwise] c2 = Conv <group = 64, pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (r1, W2, b2)
    r2 = Relu(c2)
    [last] c3 = Conv <pads = [1, 0, 0, 1], kernel_shape = [1, 1]> (r2, W3)
    y = Clip(c3, zero, six)
}"""


@dataclass(frozen=True)
class Ours:
    """A model we compressed, on disk, with what it was before and samples it has not seen."""

    path: Path
    result: onnx_dalr.Result
    before: ModelProto
    feeds: dict[str, Any]


def transformer(folder: Path) -> Ours:
    """An attention block and its two-layer network on 3-D rows."""
    weights = {f"W{name}": _matrix(64, 64, name) for name in "qkvo"}
    weights |= {"Wu": _matrix(64, 128, "u"), "Wd": _matrix(128, 64, "d")}
    biases = {f"b{name}": (128 if name == "u" else 64,) for name in "qkvoud"}
    others = {
        "eighth": np.array([0.125], np.float32),
        "gamma": np.ones(64, np.float32),
        "beta": np.zeros(64, np.float32),
    }
    proto = model(TRANSFORMER, **weights, **biases, **others)
    samples = rows((64, 5, 64))
    result = optimize(proto, folder / "transformer.onnx", calib=samples[8:], rank=12)
    return Ours(folder / "transformer.onnx", result, proto, {"x": samples[:8]})


def pointwise(folder: Path) -> Ours:
    """1×1 convolutions around a depthwise 3×3 one, with stride, padding and no bias."""
    kernels = {"W1": _matrix(64, 32, "1").reshape(64, 32, 1, 1), "W3": _matrix(64, 64, "3").reshape(64, 64, 1, 1)}
    limits = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    proto = model(POINTWISE, **kernels, W2=(64, 1, 3, 3), b1=(64,), b2=(64,), **limits)
    samples = rows((48, 32, 8, 6), axis=1)
    result = optimize(proto, folder / "pointwise.onnx", calib=samples[8:], rank=16)
    return Ours(folder / "pointwise.onnx", result, proto, {"x": samples[:8]})


def digits(folder: Path) -> Ours:
    """The demo model at a fifth of its parameters."""
    here = Path(__file__).resolve().parents[2] / "models"
    original, calib = here / "digits-target.onnx", here / "digits" / "calib"
    result = onnx_dalr.optimize(original, folder / "digits.onnx", calib=calib, params="20%", device="cpu")
    feeds = {"image": np.random.default_rng(0).random((16, 1, 16, 16), np.float32)}
    return Ours(folder / "digits.onnx", result, onnx.load(original), feeds)


def mnist(folder: Path, assets: Path) -> Ours:
    """A real network of Gemm and Relu, at 30 %."""
    return _real(folder, assets / "models" / "mnist-mlp.onnx", assets / "data" / "mnist-calib.npz", 512, params="30%")


def minilm(folder: Path, assets: Path) -> Ours:
    """A real transformer, its first two of six blocks at rank 96."""
    blocks = {"rank": 96, "include": ["*layer.0*", "*layer.1*"]}
    return _real(folder, assets / "models" / "minilm-l6-v2.onnx", assets / "data" / "banking77-train.npz", 32, **blocks)


def _real(folder: Path, original: Path, calib: Path, count: int, **options: Any) -> Ours:
    output = folder / original.name
    result = onnx_dalr.optimize(original, output, calib=calib, samples=count, device="cpu", **options)
    with np.load(calib) as arrays:
        feeds = {name: values[-16:] for name, values in arrays.items()}
    return Ours(output, result, onnx.load(original), feeds)


def thin_shapes(ours: Ours) -> list[tuple[int, ...]]:
    """What `shapes` has to find of the compressed layers."""
    ranks = [(layer, layer.rank) for layer in ours.result.layers if layer.rank is not None]
    assert ranks
    return sorted(tuple(sorted((side, rank))) for layer, rank in ranks for side in (layer.m, layer.n))


def kept_thin(ours: Ours, after: ModelProto) -> bool:
    """The two factors of every layer are still two: in their shapes, and in no more numbers than before.

    Tools may lay several weights side by side (a fused attention) or pad channels to a vector's length, so a shape may
    go, but the numbers stay few; multiplied back they would be those of the original.
    """
    before = onnx.load(ours.path)
    found = shapes(after)
    missing = [shape for shape in thin_shapes(ours) if shape not in found]
    return numbers(after) <= 1.02 * numbers(before) and not missing


def _matrix(rows: int, columns: int, name: str) -> np.ndarray:
    random = np.random.default_rng(ord(name))
    return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)


def table(folder: Path, assets: Path | None) -> str:
    """Every neighbour over every model, in Markdown."""
    cases = {"demo": digits(folder), "transformer block": transformer(folder), "1×1 Conv": pointwise(folder)}
    if assets is not None:
        cases |= {"mnist-mlp": mnist(folder, assets), "minilm": minilm(folder, assets)}
    lines = [
        f"| tool | version | valid | results differ by at most | factors | {' | '.join(cases)} |",
        "|---|---|---|---|---|" + "---|" * len(cases),
        f"| original | | | | | {' | '.join(_bytes(ours.result.bytes_before) for ours in cases.values())} |",
        f"| ours | | | | | {' | '.join(_bytes(ours.result.bytes_after) for ours in cases.values())} |",
    ]
    lines += [_row(neighbour, list(cases.values()), folder) for neighbour in NEIGHBOURS]
    return "\n".join(lines)


def _row(neighbour: Neighbour, cases: list[Ours], folder: Path) -> str:
    valid, differences, kept, sizes = True, [0.0], True, []
    for ours in cases:
        output = folder / f"theirs-{ours.path.name}"
        neighbour.run(ours.path, output)
        after = onnx.load(output)
        try:
            onnx.checker.check_model(after, full_check=True)
        except Exception:  # the checker raises its own types
            valid = False
        differences.append(largest_error(onnx.load(ours.path), after, ours.feeds))
        kept = kept and kept_thin(ours, after)
        sizes.append(_bytes(output.stat().st_size))
    version = importlib.metadata.version(neighbour.package)
    words = f"{'yes' if valid else 'runs'} | {max(differences):.0e} | {'kept' if kept else 'CHANGED'}"
    return f"| {neighbour.name} | {version} | {words} | {' | '.join(sizes)} |"


def _bytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


def main() -> None:
    """Prints the table."""
    named = os.environ.get("ONNX_DALR_ASSETS")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(table(Path(folder), Path(named) if named else None) + "\n")


if __name__ == "__main__":
    main()
