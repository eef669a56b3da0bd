"""The rows of both models come from the same samples, side by side, without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.progress import Silent
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened
from onnx_dalr.tune import pairs
from onnx_dalr.tune.pairs import Pairs
from tests.cli import tiny

X = tiny.rows(90)


def halved(proto: ModelProto, name: str) -> ModelProto:
    """The model with the values of a constant halved."""
    made = ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 2, name))
    return made


def read(original: Model, candidate: ModelProto, calib: Any) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """What every layer sees of all samples, part by part."""
    context = Context(original, make_options(device="cpu"), Silent())
    done: list[int] = []
    with opened(SampleOptions(calib, holdout=0.0), input_specs(original.proto)) as sets:
        assert isinstance(sets, Sets)
        layers, _ = find(original)
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {layer.name: [] for layer in layers}
        for layer, x, met in Pairs(context, candidate, layers).rows(sets.fit, sets.mask_input, done.append):
            found[layer.name].append((x, met))
        assert sum(done) == len(sets.fit)
    return found


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    x, met = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(met)


def test_what_enters_a_layer_in_both_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "CHUNK_ROWS", 40)
    proto, weights = tiny.mlp(), tiny.mlp_weights()
    found = read(Model(proto), halved(proto, "W1"), X)
    x, met = joined(found["first"])
    np.testing.assert_array_equal(x, met)
    x, met = joined(found["second"])
    inputs, _ = joined(found["first"])
    np.testing.assert_allclose(x, np.maximum(inputs @ weights["W1"].T + weights["b1"], 0), atol=1e-4)
    np.testing.assert_allclose(met, np.maximum(inputs @ weights["W1"].T / 2 + weights["b1"], 0), atol=1e-4)
    assert len(found["second"]) > 1
    assert min(len(x) for x, _ in found["second"][:-1]) >= 40


def test_padding_is_left_out_of_both() -> None:
    weights = {
        "table": np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32),
        "W": np.random.default_rng(1).standard_normal((12, 24)).astype(np.float32),
        "b": np.zeros(24, np.float32),
    }
    proto = tiny.with_weights(tiny.TOKENS, weights)
    ids = np.random.default_rng(2).integers(0, 30, (20, 7))
    mask = (np.arange(7) < np.random.default_rng(3).integers(2, 8, 20)[:, None]).astype(np.int64)
    found = read(Model(proto), halved(proto, "table"), {"ids": ids, "attention_mask": mask})
    x, met = joined(found["project"])
    np.testing.assert_allclose(x, weights["table"][ids[mask == 1]], atol=1e-6)
    np.testing.assert_allclose(met, x / 2, atol=1e-6)


def test_values_may_lie_in_another_file(tmp_path: Path) -> None:
    onnx.save(tiny.mlp(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data")
    inside = tiny.mlp()
    outside = load(tmp_path / "m.onnx")
    made = read(outside, outside.proto, X)
    for name, parts in read(Model(inside), inside, X).items():
        np.testing.assert_allclose(joined(made[name])[1], joined(parts)[1], atol=1e-6)
