"""Gradients of whole models of others, against differences of the models themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from onnx_dalr.gradient import differentiate
from tests.gradient.helpers import Array, Feeds, run, session

pytestmark = pytest.mark.assets

LAYERS = ("MatMul", "Gemm", "Conv")
FLOAT32 = 1e-7


def images(*shape: int, scale: float = 1.0) -> Array:
    return scale * np.random.default_rng(1).random(shape, np.float32)


def feeds_of(assets: Path, name: str) -> Feeds:
    if name == "dtln-2":
        stored = np.load(assets / "data/dtln-2-feeds.npz")
        return {key: stored[key][3] for key in stored.files}
    files = {"minilm-l6-v2": "banking77-test", "magika-standard-v3_3": "magika-test", "mnist-mlp": "mnist-calib"}
    if name in files:
        stored = np.load(assets / f"data/{files[name]}.npz")
        return {key: stored[key][:3] for key in stored.files}
    shape, scale = {
        "vgg-cifar-target": ((2, 3, 32, 32), 2.0),
        "ultraface-slim320": ((1, 3, 240, 320), 1.0),
        "fastestdet": ((1, 3, 352, 352), 1.0),
        "yolox-netspresso": ((1, 3, 512, 512), 255.0),
    }[name]
    first = onnx.load(assets / f"models/{name}.onnx").graph.input[0].name
    return {first: images(*shape, scale=scale)}


def moved(proto: ModelProto, names: Sequence[str], seeded: Sequence[str]) -> ModelProto:
    """The model with an input beside each tensor that is added to it."""
    made = ModelProto()
    made.CopyFrom(proto)
    for node in made.graph.node:
        node.output[:] = [f"{name}/before" if name in names else name for name in node.output]
    for name in names:
        made.graph.node.append(helper.make_node("Add", [f"{name}/before", f"{name}/move"], [name]))
        made.graph.input.append(helper.make_tensor_value_info(f"{name}/move", TensorProto.FLOAT, None))
    del made.graph.output[:], made.graph.value_info[:]
    made.graph.output.extend(ValueInfoProto(name=name) for name in seeded)
    return made


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("mnist-mlp", 1e-3),
        ("minilm-l6-v2", 1e-3),
        ("vgg-cifar-target", 1e-2),
        ("dtln-2", 1e-3),
        ("magika-standard-v3_3", 2e-2),
        ("ultraface-slim320", 1e-2),
        ("fastestdet", 2e-2),
        ("yolox-netspresso", 2e-2),
    ],
)
def test_gradients_are_the_slopes_of_the_model(assets: Path, name: str, tolerance: float) -> None:
    """Along the gradient at a layer v·y rises by the gradient's length; steps shrink until kinks are out of the way.

    A layer that moves v·y by no more than float32 rounds it even at the largest step cannot be tested.
    """
    proto, feeds = onnx.load(assets / f"models/{name}.onnx"), feeds_of(assets, name)
    seeded = [value.name for value in proto.graph.output]
    layers = [node.output[0] for node in proto.graph.node if node.op_type in LAYERS]
    found = differentiate(proto, seeded, layers)
    assert found.ended == ()
    assert list(found.names) == layers
    picked = [layers[round(at)] for at in np.linspace(0, len(layers) - 1, 4)]
    picked = list(dict.fromkeys(picked))
    rng = np.random.default_rng(2)
    outputs = dict(zip(seeded, run(proto, seeded, feeds), strict=True))
    v = {key: rng.standard_normal(value.shape).astype(np.float32) for key, value in outputs.items()}
    rounding = FLOAT32 * np.sqrt(sum(np.sum((outputs[key] * v[key]).astype(np.float64) ** 2) for key in seeded))
    seeds = {found.seeds[key]: value for key, value in v.items()}
    values = run(found.proto, [*picked, *(found.names[layer] for layer in picked)], {**feeds, **seeds})
    model = session(moved(proto, picked, seeded))
    still = {f"{layer}/move": np.zeros(1, np.float32) for layer in picked}
    tested = 0
    for at, layer in enumerate(picked):
        value, gradient = values[at].astype(np.float64), values[len(picked) + at].astype(np.float64)
        assert gradient.shape == value.shape
        length = np.linalg.norm(gradient)
        assert length > 0
        steps, slopes = 3e-3 * np.linalg.norm(value) / 4.0 ** np.arange(6), []
        if rounding > tolerance * length * steps[0]:
            continue
        tested += 1
        for step in steps:
            ends = []
            for sign in (1, -1):
                move = (sign * step / length * gradient).astype(np.float32)
                ys = model.run(seeded, {**feeds, **still, f"{layer}/move": move})
                ends.append(
                    sum(float(np.sum(y.astype(np.float64) * v[key])) for key, y in zip(seeded, ys, strict=True))
                )
            slopes.append((ends[0] - ends[1]) / (2 * step))
        assert min(abs(slope - length) for slope in slopes) < tolerance * length, (layer, length, slopes)
    assert tested >= min(3, len(picked))
