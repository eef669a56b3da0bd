"""The rows of kernels and of weights in one piece: W times them is what the node makes, before its bias."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from onnx_dalr.graph.kinds.readings import Window
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model, run, some_feeds, values


def layers_of(proto: ModelProto) -> list[Layer]:
    return find(Model(proto), in_one_piece=True)[0]


CONVS = {
    "plain": ("2,8,9,10", "16,8,3,4", ""),
    "strides": ("2,8,9,10", "16,8,3,4", "<strides=[2,3]>"),
    "dilations": ("2,8,9,10", "16,8,3,4", "<dilations=[2,1]>"),
    "uneven pads": ("2,8,9,10", "16,8,3,4", "<pads=[1,2,3,0], strides=[2,1]>"),
    "same, upper": ("2,8,9,10", "16,8,3,4", '<auto_pad="SAME_UPPER", strides=[2,3]>'),
    "same, lower": ("2,8,9,10", "16,8,3,4", '<auto_pad="SAME_LOWER">'),
    "valid": ("2,8,9,10", "16,8,3,4", '<auto_pad="VALID">'),
    "1-D": ("2,16,9", "16,16,5", "<pads=[1,2]>"),
    "3-D": ("1,8,5,6,7", "16,8,2,3,2", "<pads=[1,0,1,0,1,1], strides=[1,2,1]>"),
}


@pytest.mark.parametrize("name", CONVS)
def test_the_rows_of_a_kernel_are_its_patches(name: str) -> None:
    data, kernel, attributes = CONVS[name]
    dims = tuple(map(int, kernel.split(",")))
    proto = model(f"g (float[{data}] x) => (float[?] y) {{ y = Conv {attributes} (x, K) }}", checked=False, K=dims)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert_made_of_rows(proto)


TRANSPOSED = {
    "plain": ("8,16,3,4", ""),
    "taps side by side": ("8,64,2,2", "<strides=[2,2]>"),
    "all of it": ("8,16,3,4", "<strides=[2,3], pads=[1,0,2,1], output_padding=[1,0], dilations=[1,2]>"),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_the_rows_of_a_transposed_kernel_have_zeros_between(name: str) -> None:
    kernel, attributes = TRANSPOSED[name]
    dims = tuple(map(int, kernel.split(",")))
    text = f"g (float[2,8,9,10] x) => (float[?] y) {{ y = ConvTranspose {attributes} (x, K) }}"
    proto = model(text, checked=False, K=dims)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert_made_of_rows(proto)


def assert_made_of_rows(proto: ModelProto) -> None:
    (layer,) = layers_of(proto)
    assert layer.can_be_read
    feeds = some_feeds(proto)
    y = run(proto, feeds)["y"]
    rows = layer.uses[0].rows(feeds["x"]).reshape(-1, layer.n)
    expected = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
    np.testing.assert_allclose(rows @ matrix(Model(proto), layer).T, expected, rtol=1e-4, atol=1e-4)


def test_only_what_is_picked_is_gathered() -> None:
    proto = model("g (float[2,16,20] x) => (float[?,?,?] y) { y = Conv <pads=[1,1]> (x, K) }", K=(32, 16, 3))
    (layer,) = layers_of(proto)
    x = some_feeds(proto)["x"]
    shapes = []

    def pick(shape: tuple[int, ...]) -> np.ndarray:
        shapes.append(shape)
        return np.array([0, 25])

    some = layer.uses[0].some_rows(x, pick)
    assert shapes == [(2, 20)]
    np.testing.assert_array_equal(some, layer.uses[0].rows(x).reshape(-1, layer.n)[[0, 25]])


def test_a_kernel_longer_than_the_data_has_no_rows() -> None:
    assert Window(5).over(3, "").shape == (0, 5)


@pytest.mark.parametrize(("layout", "data", "every"), [(0, "5,2,16", (5, 1, 2, 64)), (1, "2,5,16", (2, 5, 1, 64))])
def test_a_recurrent_layer_sees_its_data_and_its_states_sample_by_sample(
    layout: int, data: str, every: tuple[int, ...]
) -> None:
    text = f"g (float[{data}] x) => (float[?,?,?,?] y) {{ y = RNN <hidden_size=64, layout={layout}> (x, W, R) }}"
    proto = model(text, W=(1, 64, 16), R=(1, 64, 64))
    layers = {layer.weight: layer for layer in layers_of(proto)}
    x, y = values("x", tuple(map(int, data.split(",")))), values("y", every)
    by_sample = (x, y[:, :, 0]) if layout else (x.transpose(1, 0, 2), y[:, 0].transpose(1, 0, 2))
    assert [layers[name].uses[0].data for name in "WR"] == ["x", "y"]
    for name, tensor, rows in zip("WR", (x, y), by_sample, strict=True):
        np.testing.assert_array_equal(layers[name].uses[0].rows(tensor), rows.reshape(-1, rows.shape[-1]))


def test_of_states_the_last_are_enough_and_without_any_there_are_no_rows() -> None:
    text = "g (float[5,2,16] x) => (float[1,2,32] h) {{ {outputs} = LSTM <hidden_size=32> (x, W, R) }}"
    for outputs, read in (("y, h", "y"), ('"", h', "h")):
        weights = {"W": (1, 128, 16), "R": (1, 128, 32)}
        proto = model(text.format(outputs=outputs.replace('""', "none")), **weights)
        if read == "h":
            proto.graph.node[0].output[0] = ""
        layers = {layer.weight: layer for layer in layers_of(proto)}
        assert {name: one.uses[0].data for name, one in layers.items()} == {"W": "x", "R": read}
    proto.graph.node[0].output[1], proto.graph.output[0].name = "", "c"
    proto.graph.node[0].output.append("c")
    layers = {layer.weight: layer for layer in layers_of(proto)}
    assert {name: one.can_be_read for name, one in layers.items()} == {"W": True, "R": False}


UNREAD = {
    "groups": ("g (float[1,16,20] x) => (float[?,?,?] y) { y = Conv <group=2> (x, K) }", {"K": (64, 8, 3)}),
    "a part of it": (
        "g (float[1,16,20] x) => (float[?,?,?] y)"
        " <int64[1] a = {0}, int64[1] b = {16}> { k = Slice(K, a, b)  y = Conv(x, k) }",
        {"K": (32, 16, 3)},
    ),
    "laid out in another way": (
        "g (float[1,16,20] x) => (float[?,?,?] y, float[?,?,?] z)"
        " { y = Conv(x, K)  k = Transpose <perm=[1,0,2]> (K)  z = Conv(x, k) }",
        {"K": (16, 16, 5)},
    ),
    "a table": ("g (int64[3] i) => (float[3,40] y) { y = Gather(K, i) }", {"K": (40, 40)}),
    "a stack": ("g (float[2,3,40] x) => (float[2,3,20] y) { y = MatMul(x, K) }", {"K": (2, 40, 20)}),
    "as large as is said": (
        "g (float[1,16,20] x) => (float[?,?,?] y) { y = ConvTranspose <output_shape=[22]> (x, K) }",
        {"K": (16, 32, 3)},
    ),
    "inside of a branch": (
        "g (bool c, float[1,16,20] x) => (float[?,?,?] y) { y = If (c) <"
        "then_branch = t () => (float[?,?,?] p) { p = Conv(x, K) },"
        " else_branch = e () => (float[?,?,?] q) { q = Identity(x) }> }",
        {"K": (32, 16, 3)},
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_of_others_nothing_is_known(name: str) -> None:
    text, constants = UNREAD[name]
    (layer,) = layers_of(model(text, **constants))
    assert not layer.can_be_read
    if not layer.kind.picks:  # which rows of a table are picked is known, not what they are multiplied by
        with pytest.raises(LookupError, match="not known"):
            layer.uses[-1].rows(np.zeros((1, 16, 20), np.float32))


def test_a_kernel_behind_a_transpose_sees_what_the_node_sees() -> None:
    proto = model(
        "g (float[2,16,20] x) => (float[?,?,?] y) { k = Transpose <perm=[1,0,2]> (K)  y = Conv(x, k) }", K=(16, 32, 3)
    )
    assert_made_of_rows(proto)
