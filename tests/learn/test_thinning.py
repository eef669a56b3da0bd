"""Few rows of kernels and of weights in one piece: spread, the same whatever the batches, and without padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Need, Statistics
from onnx_dalr.factorize.gram import symmetric
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn.capture import capture, groups_within
from onnx_dalr.learn.thinning import Thinner, rows_wanted
from onnx_dalr.samples import Batch
from tests.graph.helpers import model

KERNEL = load(
    model("g (float[N,8,L] x) => (float[?,?,?] y) { r = Relu(x)  y = Conv <pads=[1,1]> (r, K) }", K=(64, 8, 3))
)
WHOLE = load(  # a kernel that is turned on the way stays in one piece
    model(
        "g (float[N,8,L] x) => (float[?,?,?] y)"
        " { r = Relu(x)  k = Transpose <perm=[1,0,2]> (K)  y = Conv <pads=[1,1]> (r, k) }",
        K=(8, 64, 3),
    )
)


def some(samples: int, length: int = 30) -> Any:
    return np.random.default_rng(0).standard_normal((samples, 8, length)).astype(np.float32)


def in_batches(x: Any, size: int, **others: Any) -> Iterator[Batch]:
    for start in range(0, len(x), size):
        yield {name: each[start : start + size] for name, each in {"x": x, **others}.items()}


def thinner(samples: int) -> Thinner:
    return Thinner(samples, lambda batch: len(batch["x"]))


def seen(batches: Any, made: Model = WHOLE, **options: Any) -> Statistics:
    layers = find(made, in_one_piece=True)[0]
    found = capture(made, layers, METHODS["dalr"], batches, device="cpu", rounded=lambda layer: True, **options)
    return found.statistics[layers[0].name]


def patches(x: Any) -> Any:
    """What the kernel sees, [p, 24]."""
    padded = np.pad(np.maximum(x, 0), ((0, 0), (0, 0), (1, 1)))
    found = np.stack([padded[:, :, tap : tap + 30] for tap in range(3)], axis=-1)  # [N, C, L, taps]
    return found.transpose(0, 2, 1, 3).reshape(-1, 24).astype(np.float64)


def test_the_moment_of_all_rows_is_that_of_all_patches() -> None:
    x = some(4)
    held, rows = seen(in_batches(x, 3)), patches(x)
    assert (held.count, held.needs) == (120, Need.BLOCKS)
    assert held.blocks is not None
    np.testing.assert_allclose(symmetric(held.blocks[0]), rows.T @ rows, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(held.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_which_rows_are_taken_does_not_depend_on_the_batches(size: int) -> None:
    x = some(16, 400)
    held, whole = (seen(in_batches(x, each), thinner=thinner(16)) for each in (size, 5))
    layer = find(WHOLE, in_one_piece=True)[0][0]
    assert held.count == whole.count == rows_wanted(layer) == 2048
    assert held.blocks is not None
    assert whole.blocks is not None
    np.testing.assert_allclose(held.blocks, whole.blocks, rtol=1e-6, atol=1e-6 * whole.blocks.max())


def test_of_a_kernel_that_is_taken_apart_the_whole_moment_is_kept() -> None:
    x = some(4)
    held, rows = seen(in_batches(x, 3), KERNEL), patches(x)
    assert (held.count, held.needs) == (120, Need.INPUT)
    assert held.input is not None
    np.testing.assert_allclose(symmetric(held.input), rows.T @ rows, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(held.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_of_its_many_rows_some_are_taken_whatever_the_batches(size: int) -> None:
    x = some(16, 2500)
    held, whole = (seen(in_batches(x, each), KERNEL, thinner=thinner(16)) for each in (size, 5))
    assert held.count == whole.count == rows_wanted(find(KERNEL)[0][0]) == 32768
    assert held.input is not None
    assert whole.input is not None
    np.testing.assert_allclose(held.input, whole.input, rtol=1e-5, atol=1e-5 * whole.input.max())


def test_they_say_what_all_say() -> None:
    x = some(16, 400)
    few, every = seen(in_batches(x, 4), thinner=thinner(16)), seen(in_batches(x, 4))
    assert every.count == 6400
    assert few.moment is not None
    assert every.moment is not None
    np.testing.assert_allclose(few.moment.blocks[0], every.moment.blocks[0], atol=0.06)


def test_of_a_sample_they_are_spread_and_none_is_taken_twice() -> None:
    picking = thinner(2)
    picking.start({"x": np.zeros(2)})
    numbers = picking.picked((2, 10, 10), 25, None)
    assert len(set(numbers.tolist())) == 50
    np.testing.assert_array_equal(np.bincount(numbers // 4), np.ones(50))
    assert set(numbers[:25] % 4) == {0, 1, 2, 3}


def test_padding_is_never_taken() -> None:
    picking = thinner(1)
    picking.start({"x": np.zeros(1)})
    real = np.arange(100) % 3 == 0
    assert set(picking.picked((1, 100), 10, real)) <= set(np.flatnonzero(real))
    np.testing.assert_array_equal(picking.picked((1, 100), 40, real), np.flatnonzero(real))


@pytest.mark.parametrize("made", [KERNEL, WHOLE], ids=["taken apart", "in one piece"])
@pytest.mark.parametrize("few", [False, True])
def test_masked_positions_do_not_enter(few: bool, made: Model) -> None:
    proto = ModelProto()
    proto.CopyFrom(made.proto)
    proto.graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["N", "L"]))
    masked = load(proto)
    x, mask = some(4), np.ones((4, 30), np.int64)
    mask[1:, 20:] = 0
    options = {"thinner": thinner(4)} if few else {}
    held = seen(in_batches(x, 2, attention_mask=mask), masked, mask_input="attention_mask", **options)
    assert held.count == mask.sum()


def test_what_is_not_finite_is_left_out() -> None:
    x = some(4)
    x[0, 3, 7] = np.inf
    assert seen(in_batches(x, 4)).count == 4 * 30 - 3
    with pytest.raises(InputError, match="layer 'K' sees NaN or infinity"):
        seen(in_batches(x, 4), KERNEL)


def test_rows_of_all_uses_add_up() -> None:
    twice = load(
        model(
            "g (float[N,8,L] x) => (float[?,?,?] y, float[?,?,?] z)"
            " { y = Conv <pads=[1,1]> (x, K)  r = Relu(x)  z = Conv <strides=[2]> (r, K) }",
            K=(64, 8, 3),
        )
    )
    assert seen(in_batches(some(2), 2), twice).count == 2 * (30 + 14)


def test_memory_counts_them() -> None:
    layers = find(WHOLE, in_one_piece=True)[0] * 3
    dalr = METHODS["dalr"]
    assert [len(group) for group in groups_within(layers, dalr, 1, rounded=lambda layer: True)] == [1, 1, 1]
    needed = Statistics.bytes_needed(64, 24, Need.BLOCKS, 0)
    assert [len(group) for group in groups_within(layers, dalr, 2 * needed, rounded=lambda layer: True)] == [2, 1]
