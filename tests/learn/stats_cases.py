"""A model of two layers, what runs over it would keep, and what it means that statistics are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_dalr._version import __version__
from onnx_dalr.factorize import METHODS, Need, Statistics
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.statistics_set import StatisticsSet, save_statistics

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 40] x) => (float[N, 30] z) <float[40, 12] A, float[12, 30] B> {
    [down] y = MatMul(x, A)
    r = Relu(y)
    [up] z = MatMul(r, B)
}"""
SETTINGS = {"mean": "0.5", "mask input": "none"}
EVERYTHING = Need.OUTPUT | Need.SKETCH | Need.ROWS | Need.METRIC
SUMS = ("total", "squares", "output_total", "output", "input", "sketch", "rows", "metric")
FLOAT32 = 1e-5
"""What sums of some hundred float32 products are good for, as a share of the largest."""
NUMBERS = ("m", "n", "needs", "count", "metric_rows", "metric_probes", "metric_power")


def weight(name: str) -> Any:
    shape = {"A": (40, 12), "B": (12, 30)}[name]
    return np.random.default_rng(ord(name)).standard_normal(shape).astype(np.float32)


def two_layers() -> Model:
    """`down`, 12x40, and `up`, 30x12."""
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(weight(name), name) for name in "AB")
    onnx.checker.check_model(proto, full_check=True)
    return load(proto)


def inputs(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 40)).astype(np.float32)


def statistics(m: int, n: int, needs: Need, rows: int, seed: int = 0) -> Statistics:
    """Statistics of random rows, with every sum that the needs name."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((m, n))
    found = Statistics(m, n, needs)
    found.update(rng.standard_normal((rows, n)), W)
    if Need.METRIC in needs:
        found.update_metric(rng.standard_normal((rows, m)), W, probes=rows)
    return found


def a_set(layers: dict[str, Statistics], *, samples: str = "abc", model: str = "m" * 32, **other: Any) -> StatisticsSet:
    given = {"method": "dalr", "settings": SETTINGS, "version": __version__, "notes": ()} | other
    return StatisticsSet(model=model, samples=frozenset(samples), layers=layers, **given)


def captured(model: Model, layers: list[Layer], method: str, x: Any, samples: str) -> StatisticsSet:
    """What a run over these inputs would save."""
    found = capture(model, layers, METHODS[method], [{"x": x}], device="cpu")
    return a_set(found.statistics, samples=samples, model=model.content_hash, method=method)


def saved(stats: StatisticsSet, path: Path) -> Path:
    save_statistics(stats, path)
    return path


def assert_equal(one: Statistics, other: Statistics) -> None:
    """To the last bit."""
    assert [getattr(one, name) for name in NUMBERS] == [getattr(other, name) for name in NUMBERS]
    for name in SUMS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype == np.float64
            np.testing.assert_array_equal(a, b, err_msg=name)


def assert_close(one: Statistics, other: Statistics) -> None:
    """The same counts, and the same sums to float32's accuracy; rows in any order.

    The sums are float64, what is summed is not: ONNX Runtime and BLAS round float32 rows as the shape of the batch and
    the processor's kernels have it. A sum may cancel, so the measure is its largest entry.
    """
    assert (one.m, one.n, one.needs, one.count) == (other.m, other.n, other.needs, other.count)
    for name in SUMS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if name == "rows" and a is not None:
            a, b = (rows[np.lexsort(rows.T)] for rows in (a, b))
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT32 * np.abs(b).max(), err_msg=name)
