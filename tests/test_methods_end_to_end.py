"""The written model against an oracle: methods.md §1 and §2 in plain float64 NumPy, nothing of ours called for it.

One thing is taken from the result: where the input moment is not kept (m ≤ n) tr C² is estimated from a sketch, so
the oracle takes the shrinkage `a` that is reported, after holding it against the exact one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.factorize import Statistics
from onnx_dalr.learn.statistics_set import StatisticsSet, load_statistics
from tests.cli import tiny

METHODS = ("svd", "svd-bc", "dalr-2017", "dalr")
RANK = 5
TOLERANCE = 1e-4
SKETCHED = 0.35
"""64 random directions say tr C² to about √(2/64), and a is roughly its inverse."""

WITH_METRIC = "dalr with the metric"
PLAIN = {"dalr": {"method": "dalr", "metric": False}, WITH_METRIC: {"method": "dalr"}}
"""methods.md §2 is `dalr` without the output metric, §3 the default."""

Factored = tuple[np.ndarray, np.ndarray]
"""(W' [m, n], new bias [m])."""


def svd(W: np.ndarray, b: np.ndarray, _X: np.ndarray, k: int, _a: float | None) -> Factored:
    """Truncated SVD of W, bias unchanged."""
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    return (U[:, :k] * s[:k]) @ Vt[:k], b


def svd_bc(W: np.ndarray, b: np.ndarray, X: np.ndarray, k: int, a: float | None) -> Factored:
    """The same with b' = b + (W − W')μ."""
    W_new, _ = svd(W, b, X, k, a)
    return W_new, b + (W - W_new) @ X.mean(axis=1)


def dalr_2017(W: np.ndarray, b: np.ndarray, X: np.ndarray, k: int, _a: float | None) -> Factored:
    """Z = W X, A = U, B = Uᵀ Z Xᵀ (X Xᵀ + λI)⁻¹, λ = 1e-3·tr(X Xᵀ)/n."""
    n = len(X)
    Z = W @ X
    U = np.linalg.svd(Z, full_matrices=False)[0][:, :k]
    ridge = 1e-3 * np.trace(X @ X.T) / n
    return U @ np.linalg.solve(X @ X.T + ridge * np.eye(n), X @ Z.T @ U).T, b


def dalr(W: np.ndarray, b: np.ndarray, X: np.ndarray, k: int, a: float | None) -> Factored:
    """U = eig_k((1−a)·W C Wᵀ + a·t·W Wᵀ), W' = U Uᵀ W, b' = b + (I − U Uᵀ) W μ."""
    assert a is not None
    C, mean = np.cov(X, bias=True), X.mean(axis=1)
    t = np.trace(C) / len(X)
    U = np.linalg.eigh((1 - a) * W @ C @ W.T + a * t * W @ W.T)[1][:, ::-1][:, :k]
    W_new = U @ U.T @ W
    return W_new, b + (W - W_new) @ mean


def dalr_with_metric(
    W: np.ndarray, b: np.ndarray, X: np.ndarray, k: int, a: float, s: float, statistics: Statistics
) -> Factored:
    """Min tr[G (W−W') C (W−W')ᵀ], C and G shrunk: W' = W C^½ V Vᵀ C^-½, V = eig_k(C^½ WᵀG W C^½).

    The gradients' own moment is taken from the statistics; its unit does not matter.
    """
    C, mean = np.cov(X, bias=True), X.mean(axis=1)
    shrunk = (1 - a) * C + a * np.trace(C) / len(X) * np.eye(len(X))
    G = statistics.output_metric if len(W) <= W.shape[1] else None
    seen = W.T @ G @ W if G is not None else statistics.output_metric
    M = (1 - s) * seen / (statistics.metric_trace / len(W)) + s * W.T @ W
    values, vectors = np.linalg.eigh(shrunk)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    V = np.linalg.eigh(root @ M @ root)[1][:, ::-1][:, :k]
    W_new = W @ root @ V @ V.T @ inverse
    return W_new, b + (W - W_new) @ mean


def oas(X: np.ndarray) -> float:
    """The shrinkage of methods.md §2 with the exact tr C²."""
    n, p = X.shape
    C = np.cov(X, bias=True)
    square, trace = np.trace(C @ C), np.trace(C)
    a = ((1 - 2 / n) * square + trace**2) / ((p + 1 - 2 / n) * (square - trace**2 / n))
    return float(np.clip(a, 1e-3, 1))


ORACLE: dict[str, Callable[..., Factored]] = {"svd": svd, "svd-bc": svd_bc, "dalr-2017": dalr_2017, "dalr": dalr}


def oracle(
    method: str, W: np.ndarray, b: np.ndarray, X: np.ndarray, layer: Any, stats: StatisticsSet | None = None
) -> Factored:
    """W' and b' of one layer; X is [n, p]; the layer result gives the rank and, to be checked, the shrinkage."""
    W, b, X = (array.astype(np.float64) for array in (W, b, X))
    if method in PLAIN:
        exact = oas(X)
        sketched = len(W) <= W.shape[1]
        assert layer.shrinkage == pytest.approx(exact, rel=SKETCHED if sketched else 1e-6)
    if method == WITH_METRIC:
        assert stats is not None
        assert 0.05 <= layer.metric_shrinkage <= 1
        held = stats.layers[layer.name]
        return dalr_with_metric(W, b, X, layer.rank, layer.shrinkage, layer.metric_shrinkage, held)
    return ORACLE[method](W, b, X, layer.rank, layer.shrinkage)


def options(method: str) -> dict[str, Any]:
    """Of `optimize`, for a method by the name it has here."""
    return PLAIN.get(method, {"method": method})


def outputs(model: Path | ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return np.asarray(ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, feed)[0])


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Agreement to float32 accuracy, relative to the scale of the outputs."""
    assert found.shape == expected.shape
    scale = np.sqrt(np.mean(expected**2))
    assert np.abs(found - expected).max() <= TOLERANCE * scale


def relu_network(weights: list[Factored], x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(output, input of every layer) of Gemm, Relu, Gemm, Relu, Gemm on rows x, in float64."""
    seen = []
    for last, (W, b) in zip((False, False, True), weights, strict=True):
        seen.append(x.T)
        x = x @ W.T + b
        x = x if last else np.maximum(x, 0)
    return x, seen


@dataclass(frozen=True)
class Net:
    """A Gemm and Relu network in float64 beside its ONNX model."""

    model: ModelProto
    weights: list[Factored]


def net(widths: tuple[int, int, int, int], seed: int) -> Net:
    made = tiny.mlp_weights(widths, seed)
    return Net(
        tiny.mlp(widths, seed),
        [(made[f"W{i}"].astype(np.float64), made[f"b{i}"].astype(np.float64)) for i in (1, 2, 3)],
    )


@pytest.mark.parametrize("method", [*METHODS, WITH_METRIC])
@pytest.mark.parametrize(
    ("widths", "count"),
    [
        pytest.param((40, 40, 40, 40), 200, id="square"),
        pytest.param((24, 60, 60, 24), 300, id="wide in the middle"),
        pytest.param((60, 24, 24, 60), 300, id="narrow in the middle"),
        pytest.param((60, 60, 60, 20), 30, id="fewer samples than inputs"),
    ],
)
def test_a_network_of_gemm_and_relu_gives_what_the_definition_says(
    tmp_path: Path, method: str, widths: tuple[int, int, int, int], count: int
) -> None:
    network, path = net(widths, seed=7), tmp_path / "small.onnx"
    x = tiny.rows(count, widths[0])
    given: dict[str, Any] = {"holdout": 0, "device": "cpu", "save_stats": tmp_path / "stats.npz"} | options(method)
    result = onnx_dalr.optimize(network.model, path, calib=x, rank=RANK, **given)
    stats = load_statistics(tmp_path / "stats.npz")
    assert [layer.rank for layer in result.layers] == [RANK] * 3
    weighed = [layer for layer in result.layers if layer.metric_shrinkage not in (None, 1)]
    assert bool(weighed) == (method == WITH_METRIC)
    assert [layer.rows for layer in result.layers] == [count] * 3
    _, seen = relu_network(network.weights, x.astype(np.float64))
    small = [
        oracle(method, W, b, X, layer, stats)
        for (W, b), X, layer in zip(network.weights, seen, result.layers, strict=True)
    ]
    fresh = tiny.rows(50, widths[0], seed=99)
    assert_close(outputs(path, {"x": fresh}), relu_network(small, fresh.astype(np.float64))[0])


@pytest.mark.parametrize("method", [*METHODS, WITH_METRIC])
def test_the_printed_calibration_error_is_the_measured_one(tmp_path: Path, method: str) -> None:
    network, x = net((40, 40, 40, 40), seed=3), tiny.rows(200, 40)
    given: dict[str, Any] = {"holdout": 0, "device": "cpu", "save_stats": tmp_path / "stats.npz"} | options(method)
    result = onnx_dalr.optimize(network.model, calib=x, rank=RANK, **given)
    stats = load_statistics(tmp_path / "stats.npz")
    _, seen = relu_network(network.weights, x.astype(np.float64))
    for (W, b), X, layer in zip(network.weights, seen, result.layers, strict=True):
        W_new, b_new = oracle(method, W, b, X, layer, stats)
        left = (W - W_new) @ X - (b_new - b)[:, None]
        measured = np.sqrt(np.sum(left**2) / np.sum((W @ X) ** 2))
        assert layer.calibration_error == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("ridge", ["1e-2", "abs:1000", "0"])
@pytest.mark.parametrize("count", [25, 200])
def test_the_ridge_of_dalr_2017_is_relative_or_absolute(count: int, ridge: str) -> None:
    network, x = net((40, 40, 40, 40), seed=5), tiny.rows(count, 40)
    result = onnx_dalr.optimize(
        network.model, calib=x, rank=RANK, method="dalr-2017", ridge=ridge, holdout=0, device="cpu"
    )
    _, seen = relu_network(network.weights, x.astype(np.float64))
    small = []
    for (W, b), X in zip(network.weights, seen, strict=True):
        moment = X @ X.T
        value = 1000.0 if ridge.startswith("abs") else float(ridge) * np.trace(moment) / len(X)
        U = np.linalg.svd(W @ X, full_matrices=False)[0][:, :RANK]
        B = U.T @ W @ moment @ np.linalg.pinv(moment + value * np.eye(len(X)), rcond=1e-11)
        small.append((U @ B, b))
    assert_close(outputs(result.model, {"x": x}), relu_network(small, x.astype(np.float64))[0])


TWO_MATMULS = """
<ir_version: 8, opset_import: ["" : 17]>
stack (float[N,T,30] x) => (float[N,T,30] y) {
  [up] p1 = MatMul(x, W1)
  h = Add(b1, p1)
  r = Tanh(h)
  [down] p2 = MatMul(r, W2)
  y = Add(p2, b2)
}
"""


@pytest.mark.parametrize("method", METHODS)
def test_matmul_and_add_on_sequences_count_every_position_as_a_row(tmp_path: Path, method: str) -> None:
    random = np.random.default_rng(11)
    W1, W2 = random.standard_normal((30, 50)) / 5, random.standard_normal((50, 30)) / 7
    b1, b2 = random.standard_normal(50) / 10, random.standard_normal(30) / 10
    given = {name: value.astype(np.float32) for name, value in {"W1": W1, "W2": W2, "b1": b1, "b2": b2}.items()}
    W1, W2, b1, b2 = (given[name].astype(np.float64) for name in ("W1", "W2", "b1", "b2"))
    x, path = tiny.rows(40 * 6, 30).reshape(40, 6, 30), tmp_path / "small.onnx"
    result = onnx_dalr.optimize(
        tiny.with_weights(TWO_MATMULS, given),
        path,
        calib={"x": x},
        rank=RANK,
        holdout=0,
        device="cpu",
        **options(method),
    )
    flat = x.reshape(-1, 30).astype(np.float64)
    first, second = result.layers
    assert (first.rows, second.rows) == (240, 240)
    V1, c1 = oracle(method, W1.T, b1, flat.T, first)
    V2, c2 = oracle(method, W2.T, b2, np.tanh(flat @ W1 + b1).T, second)
    fresh = tiny.rows(5 * 9, 30, seed=98).reshape(5, 9, 30)
    assert_close(outputs(path, {"x": fresh}), np.tanh(fresh.astype(np.float64) @ V1.T + c1) @ V2.T + c2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", ["found by name", "named", "left in"])
def test_tokens_that_a_mask_marks_as_padding_do_not_count(tmp_path: Path, method: str, masked: str) -> None:
    """The padding token's embedding is huge, so that one row too many would show."""
    random = np.random.default_rng(12)
    table = random.standard_normal((50, 30)) * np.geomspace(1, 0.1, 30) + 0.3
    table[0] = 30 * random.standard_normal(30)
    given = {
        "table": table.astype(np.float32),
        "W": (random.standard_normal((30, 24)) / 5).astype(np.float32),
        "b": random.standard_normal(24).astype(np.float32) / 10,
    }
    lengths = random.integers(3, 9, 60)
    mask = (np.arange(8) < lengths[:, None]).astype(np.int64)
    ids = random.integers(1, 50, (60, 8)) * mask
    text = tiny.TOKENS if masked != "named" else tiny.TOKENS.replace("attention_mask", "real")
    if masked == "left in":
        text = tiny.TOKENS.replace("attention_mask", "real")
    name = "attention_mask" if masked == "found by name" else "real"
    mask_option = {"mask_input": "real"} if masked == "named" else {}
    path = tmp_path / "small.onnx"
    result = onnx_dalr.optimize(
        tiny.with_weights(text, given),
        path,
        calib={"ids": ids, name: mask},
        rank=RANK,
        holdout=0,
        batch_size=7,
        device="cpu",
        **options(method) | mask_option,
    )
    (layer,) = result.layers
    rows = given["table"][ids].reshape(-1, 30).astype(np.float64)
    if masked != "left in":
        rows = rows[mask.reshape(-1) == 1]
    assert layer.rows == len(rows)
    W, b = oracle(method, given["W"].T, given["b"], rows.T, layer)
    fresh = random.integers(1, 50, (5, 8))
    expected = given["table"][fresh].astype(np.float64) @ W.T + b
    assert_close(outputs(path, {"ids": fresh, name: np.ones((5, 8), np.int64)}), expected)


def test_a_gemm_with_alpha_beta_and_transposed_data_is_the_layer_it_computes(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    gemm (float[40,N] x) => (float[N,40] y) {
      [fc] y = Gemm<transA: int = 1, transB: int = 0, alpha: float = 0.5, beta: float = 3.0>(x, W, b)
    }
    """
    random = np.random.default_rng(13)
    given = {"W": random.standard_normal((40, 40), np.float32), "b": random.standard_normal(40).astype(np.float32)}
    x, path = tiny.rows(100, 40), tmp_path / "small.onnx"
    model = tiny.with_weights(text, given)
    result = onnx_dalr.optimize(
        model, path, calib=iter([{"x": np.ascontiguousarray(x.T)}]), rank=RANK, holdout=0, metric=False, device="cpu"
    )
    W, b = oracle("dalr", 0.5 * given["W"].T, 3.0 * given["b"], x.T, result.layers[0])
    fresh = tiny.rows(20, 40, seed=97)
    assert_close(outputs(path, {"x": np.ascontiguousarray(fresh.T)}), fresh.astype(np.float64) @ W.T + b)
    onnx.checker.check_model(path, full_check=True)
