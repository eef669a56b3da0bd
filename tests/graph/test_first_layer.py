"""What a network's first layer was made for, and inputs that are something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_dalr.graph.first_layer import FirstLayer, first_layer
from onnx_dalr.graph.storage.model import load
from tests.graph.helpers import model

NORMALIZED = "n = BatchNormalization(c, scale, shift, mean, variance) y = Relu(n)"
STATISTICS: dict[str, Any] = {
    "scale": (4,), "shift": (4,), "mean": np.arange(4, dtype=np.float32), "variance": np.full(4, 9, np.float32),
}  # fmt: skip


def network(body: str, ends: str = "(float[N, 3, H, W] x) => (float[N, M, P, Q] y)", **constants: Any) -> ModelProto:
    return model(f"net {ends} {{ {body} }}", **constants)


def found(body: str, *, ends: str = "(float[N, 3, H, W] x) => (float[N, M, P, Q] y)", **more: Any) -> FirstLayer | None:
    return first_layer(load(network(body, ends, K=(4, 3, 3, 3), **more)))


# Where it is


def test_statistics_of_training_are_those_of_the_normalization_behind_it() -> None:
    layer = found(f"[conv] c = Conv(x, K) {NORMALIZED}", **STATISTICS)
    assert layer is not None
    assert (layer.name, layer.tensor) == ("conv", "c")
    np.testing.assert_array_equal(layer.mean, [0, 1, 2, 3])
    assert layer.deviation is not None
    np.testing.assert_allclose(layer.deviation, [3, 3, 3, 3])


def test_else_there_is_its_bias() -> None:
    bias = np.array([1, -1, 2, 0], np.float32)
    layer = found("[conv] c = Conv(x, K, b) y = Relu(c)", b=bias)
    assert layer is not None
    assert layer.deviation is None
    np.testing.assert_array_equal(layer.mean, bias)


@pytest.mark.parametrize(
    "before",
    [
        "d = Div(x, S) z = Sub(d, M)",
        "z = Transpose <perm = [0, 3, 1, 2]> (x)",
        "f = Cast <to = 1> (x) z = Identity(f)",
    ],
)
def test_preprocessing_inside_the_model_is_passed_over(before: str) -> None:
    layer = found(f"{before} [conv] c = Conv(z, K, b) y = Relu(c)", S=(1,), M=(1, 3, 1, 1), b=(4,))
    assert layer is not None
    assert layer.name == "conv"


@pytest.mark.parametrize(
    ("ends", "body"),
    [
        ("(float[N, 3, H, W] x) => (float[N, M, P, Q] y)", "c = Conv(x, K) y = Relu(c)"),  # nothing to compare with
        ("(float[N, 3, H, W] x) => (float[N, M, P, Q] y)", "r = Relu(x) y = Conv(r, K, b)"),
        ("(float[N, 3] x) => (float[N, 4] y)", "y = MatMul(x, F)"),
        ("(float[N, 3, H, W] x, float[N, 3, H, W] o) => (float[N, M, P, Q] y)", "s = Add(x, o) y = Conv(s, K, b)"),
        ("(float[N, 3, H, W] x) => (float[N, 3, H, W] y)", "y = Identity(x)"),
    ],
)
def test_other_networks_say_nothing(ends: str, body: str) -> None:
    assert found(body, ends=ends, b=(4,), F=(3, 4)) is None


def test_a_convolution_that_is_read_twice_was_not_only_normalized() -> None:
    body = f"c = Conv(x, K, b) {NORMALIZED.replace('y = Relu(n)', 'y = Add(n, c)')}"
    layer = found(body, b=(4,), **STATISTICS)
    assert layer is not None
    assert layer.deviation is None


def test_weights_that_are_inputs_too_are_no_inputs_of_data() -> None:
    made = network("c = Conv(x, K, b) y = Relu(c)", K=(4, 3, 3, 3), b=(4,))
    for tensor in made.graph.initializer:
        value = made.graph.input.add(name=tensor.name)
        value.type.tensor_type.elem_type = tensor.data_type
        for length in numpy_helper.to_array(tensor).shape:
            value.type.tensor_type.shape.dim.add(dim_value=length)
    assert first_layer(load(made)) is not None


# What is to be seen there

TRAINED = FirstLayer("conv", "c", np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
BIASED = FirstLayer("conv", "c", np.array([0.5, -0.5, 0.5]), None)


def answers(size: float = 1.0, shift: float = 0.0) -> np.ndarray[Any, Any]:
    """What the layer says of inputs so many times as large, moved by so many deviations."""
    drawn = np.random.default_rng(0).standard_normal((6, 3, 5, 5))
    deviation, mean = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    return (size * drawn + shift) * deviation[:, None, None] + mean[:, None, None]


@pytest.mark.parametrize("size", [0.1, 0.5, 1.0, 3.0])
def test_inputs_as_in_training_are_fine(size: float) -> None:
    assert TRAINED.off_by([answers(size)]) is None
    assert BIASED.off_by([answers(size)]) is None


def test_inputs_far_from_training_are_told() -> None:
    for odd in (answers(255), answers(shift=20)):
        said = TRAINED.off_by([odd])
        assert said is not None
        assert said.startswith("inputs are far outside of what layer 'conv' was trained on")
    assert "256.7 standard deviations" in (TRAINED.off_by([answers(255)]) or "")


def test_inputs_that_hardly_vary_are_told() -> None:
    said = TRAINED.off_by([answers(1 / 255)])
    assert said is not None
    assert said.startswith("inputs hardly vary for layer 'conv': its answers have 0.3")


def test_answers_beside_which_the_bias_is_nothing_are_told() -> None:
    said = BIASED.off_by([answers(255)])
    assert said is not None
    assert said.startswith("inputs look far too large for layer 'conv'")


def test_all_batches_are_looked_at() -> None:
    assert TRAINED.off_by([answers(0.0), answers(1.0)]) is None
    assert TRAINED.off_by([answers(0.0)]) is not None


def test_what_cannot_be_compared_is_not() -> None:
    broken = answers()
    broken[0, 0, 0, 0] = np.nan
    assert TRAINED.off_by([broken]) is None
    assert TRAINED.off_by([255 * np.ones((2, 5, 4, 4))]) is None
    assert FirstLayer("conv", "c", np.zeros(3), None).off_by([answers(255)]) is None
