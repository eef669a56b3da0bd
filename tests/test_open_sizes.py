"""Axes that a file leaves open: a name, nothing, a −1 (Paddle writes that) or a 0 mean the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, ValueInfoProto
from PIL import Image

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.gradient.facts import facts_about
from onnx_dalr.gradient.footprint import activation_bytes
from onnx_dalr.graph.storage.model import input_specs
from onnx_dalr.write.verify import _compatible
from tests.cli.tiny import with_weights

FCN = """
<ir_version: 8, opset_import: ["" : 17]>
fcn (float[N,3,H,W] x) => (float[N,2,H,W] y) {
  [wide] h = Conv(x, W1, b1)
  r = Relu(h)
  [deep] h2 = Conv(r, W2)
  r2 = Relu(h2)
  [last] y = Conv(r2, W3)
}
"""


def fcn() -> ModelProto:
    random = np.random.default_rng(0)
    shapes = {"W1": (24, 3), "b1": (24,), "W2": (24, 24), "W3": (2, 24)}
    weights = {
        name: random.standard_normal(shape).astype(np.float32).reshape(*shape, *(1, 1) * (len(shape) - 1))
        for name, shape in shapes.items()
    }
    return with_weights(FCN, weights)


def written(proto: ModelProto, size: int) -> ModelProto:
    """The same model, its open axes written as a number."""
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = size
    return proto


def sizes(value: ValueInfoProto) -> list[int]:
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(20):
        size = (9 + number % 2, 8)  # of two sizes
        Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("size", [-1, 0])
def test_an_axis_written_as_no_size_is_open(size: int) -> None:
    (spec,) = input_specs(written(fcn(), size))
    assert spec.shape == (None, 3, None, None)
    assert str(spec) == "'x' float32 [?, 3, ?, ?]"


@pytest.mark.parametrize("size", [-1, 0])
def test_nothing_counts_with_a_size_that_is_none(size: int) -> None:
    proto = written(fcn(), size)
    facts = facts_about(proto, list(proto.graph.node))
    assert facts.dims["x"] == (None, 3, None, None)
    assert facts.dims["r"] == (None, 24, None, None)
    assert activation_bytes(proto, {}) == activation_bytes(fcn(), {}) > 0


def test_the_file_is_read_and_not_mended() -> None:
    proto = written(fcn(), -1)
    before = proto.SerializeToString()
    facts_about(proto, list(proto.graph.node))
    assert proto.SerializeToString() == before


def test_a_model_of_sizes_written_as_minus_one_is_optimized(tmp_path: Path) -> None:
    model, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(written(fcn(), -1), model)
    x = np.random.default_rng(2).standard_normal((30, 3, 5, 4)).astype(np.float32)
    result = onnx_dalr.optimize(model, small, calib={"x": x}, rank="deep=4", device="cpu")
    assert result.quality is not None
    assert "metric" in result.seconds
    made = onnx.load(small)
    assert sizes(made.graph.input[0]) == [-1, 3, -1, -1]
    assert sizes(made.graph.output[0]) == [-1, 2, -1, -1]
    assert onnx_dalr.compare(model, small, data={"x": x}, device="cpu").quality.n == 30


def test_images_need_a_size_from_somebody_and_the_message_says_so(photos: Path) -> None:
    model = written(fcn(), -1)
    with pytest.raises(InputError, match=r"'x' float32 \[\?, 3, \?, \?\] leaves the size of images open") as caught:
        onnx_dalr.optimize(model, calib=photos, rank="deep=4", device="cpu")
    assert "resize=(H, W)" in caught.value.hint
    result = onnx_dalr.optimize(model, calib=photos, rank="deep=4", device="cpu", resize=(6, 7))
    assert result.samples is not None
    assert result.samples.settings["input size"] == "6x7"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [((None, 3), (5, 3), True), (("N", 3), (5, 3), True), ((-1, 3), (5, 3), True), ((2, 3), (5, 3), False)],
)
def test_a_signature_differs_only_where_both_know_a_size(
    one: tuple[object, ...], other: tuple[object, ...], same: bool
) -> None:
    assert _compatible(one, other) is same
    assert _compatible(other, one) is same


@pytest.mark.assets
def test_a_detector_exported_from_paddle(assets: Path, tmp_path: Path) -> None:
    model, small = assets / "models/ppocr-v3-det-en.onnx", tmp_path / "small.onnx"
    found = onnx_dalr.inspect(model)
    assert len(found.layers) == 59
    result = onnx_dalr.optimize(
        model, small, calib=assets / "data/photos", preset="imagenet", resize=(96, 128), params="90%", device="cpu"
    )
    assert result.params_after <= 0.9 * result.params_before
    assert sizes(onnx.load(small).graph.input[0]) == [-1, 3, -1, -1]
