"""Real models: the weights in one piece, written anew with the numbers they have, change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, is_valid, load, save
from tests.graph.helpers import run, session
from tests.graph.test_assets import one_sample

pytestmark = pytest.mark.assets

SHARES = {
    "silero-vad": (0.0, 0.93),
    "silero-vad-op18-ifless": (0.0, 0.76),
    "sentinel-lstm": (0.009, 0.94),
    "gtcrn-stream": (0.31, 0.31),
    "minilm-l6-v2": (0.46, 0.99),
    "vgg-cifar-target": (0.83, 0.99),
    "blazeface-back": (0.77, 0.78),
    "dtln-1": (0.09, 0.98),
    "magika-standard-v3_3": (0.15, 0.98),
    "tribuo-tinybert": (0.26, 0.97),
    "skardi-ncf": (0.006, 0.99),
    "ppocr-v3-det-en": (0.68, 0.92),
    "swift-f0": (0.26, 0.95),
    "sed-unet": (0.0, 0.98),
}
"""At least so much of a file's bytes is in layers that can be taken apart, and in layers."""


@pytest.mark.parametrize("name", SHARES)
def test_a_real_model_is_the_same_with_its_weights_in_one_piece_written_anew(
    assets: Path, tmp_path: Path, name: str
) -> None:
    model = load(assets / "models" / f"{name}.onnx")
    layers, skipped = find(model, in_one_piece=True)
    without, all_skipped = find(model)
    assert [layer.name for layer in layers if not layer.in_one_piece] == [layer.name for layer in without]
    assert {(entry.op, entry.name) for entry in skipped} <= {(entry.op, entry.name) for entry in all_skipped}
    assert len({layer.name for layer in layers}) == len(layers)
    stored = [sum(layer.params * layer.dtype.itemsize for layer in found) / model.size for found in (without, layers)]
    assert all(share >= least for share, least in zip(stored, SHARES[name], strict=True)), stored

    whole = [layer for layer in layers if layer.in_one_piece]
    kept = [
        Substitution.of(
            layer, (Piece("W", matrix(model, layer).reshape(layer.shape.dims)),), FORMATS["keep"], np.zeros(layer.m)
        )
        for layer in whole
    ]
    made = rewrite(model, kept)
    assert list(made.tensors) == [layer.name for layer in whole]
    path = tmp_path / "kept.onnx"
    save(made.proto, model, path)
    assert is_valid(path) is None or is_valid(model.path) is not None
    feeds = one_sample(assets, name)
    before, after = run(str(model.path), feeds), run(str(path), feeds)
    for key, expected in before.items():
        np.testing.assert_array_equal(after[key], expected, err_msg=key)
    assert session(str(path)).get_inputs()[0].name == session(str(model.path)).get_inputs()[0].name


@pytest.mark.parametrize("name", ["silero-vad", "sentinel-lstm", "skardi-ncf", "dtln-1"])
def test_weights_in_one_piece_are_written_where_they_were(assets: Path, name: str) -> None:
    model = load(assets / "models" / f"{name}.onnx")
    for layer in find(model, in_one_piece=True)[0]:
        if not layer.in_one_piece:
            continue
        W = matrix(model, layer)
        doubled = Piece("W", 2 * W.reshape(layer.shape.dims))
        made = Model(rewrite(model, [Substitution.of(layer, (doubled,), FORMATS["keep"], np.zeros(layer.m))]).proto)
        (same,) = [
            found
            for found in find(made, in_one_piece=True)[0]
            if (found.home, found.weight) == (layer.home, layer.weight)
        ]
        np.testing.assert_array_equal(matrix(made, same), 2 * W)
