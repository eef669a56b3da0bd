"""Real models: all of their layers rewritten with exact factors give the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, is_valid, load, save
from tests.conftest import assets_folder
from tests.graph.helpers import differences, pair, run, session, values

pytestmark = pytest.mark.assets

FOLDER = assets_folder()
NAMES = sorted(path.stem for path in (FOLDER / "models").glob("*.onnx")) if FOLDER else ["none here"]
DATA = {
    "mnist-mlp": "mnist-calib.npz",
    "minilm-l6-v2": "banking77-test.npz",
    "magika-standard-v3_3": "magika-calib.npz",
    "dtln-1": "dtln-1-feeds.npz",
    "dtln-2": "dtln-2-feeds.npz",
    "silero-vad": "silero-vad-feeds.npz",
    "silero-vad-op18-ifless": "silero-vad-feeds.npz",
    "dnsmos-sig-bak-ovr": "dnsmos-sig-bak-ovr-feeds.npz",
}
OPEN_AXES = {"ppocr-v3-det-en": 64, "swift-f0": 4096}
"""How long axes are that the file leaves open; 1 elsewhere."""

LAYERS_WITHOUT_CONVOLUTIONS = {
    "mnist-mlp": 4,
    "minilm-l6-v2": 36,
    "vgg-cifar-source": 3,
    "vgg-cifar-target": 3,
    "magika-standard-v3_3": 2,
}


def one_sample(assets: Path, name: str) -> dict[str, np.ndarray]:
    """A recorded feed where there is one, numbers of the right shape where there is none."""
    found, length = session(str(assets / "models" / f"{name}.onnx")), OPEN_AXES.get(name, 1)
    inputs = {
        value.name: [axis if isinstance(axis, int) else length if at else 1 for at, axis in enumerate(value.shape)]
        for value in found.get_inputs()
    }
    feeds = {}
    if name not in DATA:
        for value in found.get_inputs():
            numbers = values(value.name, inputs[value.name])
            feeds[value.name] = (numbers > 0).astype(np.int64) if value.type == "tensor(int64)" else numbers
        return feeds
    with np.load(assets / "data" / DATA[name]) as stored:
        for key, shape in inputs.items():
            array = stored[key]
            # One axis more than the input: complete feeds, one per step. Else samples along the first axis.
            feeds[key] = np.asarray(array[0]) if array.ndim > len(shape) else array[: shape[0]]
    return feeds


def trivial(model: Model, layer: Layer) -> Substitution:
    """Exact factors without an SVD: the matrix itself and the identity, on the smaller side."""
    W = matrix(model, layer)
    A, B = (W, np.eye(layer.n)) if layer.n < layer.m else (np.eye(layer.m), W)
    return pair(layer, A, B, np.zeros(layer.m))


@pytest.mark.parametrize("name", NAMES)
def test_a_real_model_is_the_same_with_exact_factors_and_with_no_selection(
    assets: Path, tmp_path: Path, name: str
) -> None:
    model = load(assets / "models" / f"{name}.onnx")
    layers, skipped = find(model)
    assert all(entry.reason for entry in skipped)
    assert len({layer.name for layer in layers}) == len(layers)
    dense = [layer for layer in layers if layer.op in ("Gemm", "MatMul")]
    assert len(dense) == LAYERS_WITHOUT_CONVOLUTIONS.get(name, len(dense))

    assert list(differences(model.proto, rewrite(model, []).proto)) == []

    made = rewrite(model, [trivial(model, layer) for layer in layers]).proto
    path = tmp_path / "exact.onnx"
    save(made, model, path)
    assert is_valid(path) is None or is_valid(model.path) is not None
    feeds = one_sample(assets, name)
    before, after = run(str(model.path), feeds), run(str(path), feeds)
    assert list(before) == list(after)
    for key, expected in before.items():
        scale = float(np.abs(expected).max(initial=0)) or 1.0
        np.testing.assert_allclose(after[key], expected, rtol=0, atol=1e-3 * scale, err_msg=key)
