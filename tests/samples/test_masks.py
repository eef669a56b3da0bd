"""Padding: which input marks it, how its values are read, and which rows are real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import Mask, find_mask, open_samples
from onnx_dalr.samples.masks import entries_kept, kept, kept_in
from tests.samples.conftest import spec

REAL = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
N, T, H = 3, 5, 2
CAUSAL = np.tril(np.ones((T, T), bool))
LOWEST = float(np.finfo(np.float32).min)


def additive(keeps: Any, below: float = -1e4) -> Any:
    return np.where(keeps, 0, below).astype(np.float32)


# How it is read

KINDS = {
    "int64": lambda keeps: keeps.astype(np.int64),
    "bool": lambda keeps: keeps,
    "float": lambda keeps: keeps.astype(np.float32),
    "uint8 of 255": lambda keeps: (255 * keeps).astype(np.uint8),
    "-10000": additive,
    "-100": lambda keeps: additive(keeps, -100),
    "-1": lambda keeps: additive(keeps, -1),
    "-inf": lambda keeps: additive(keeps, -np.inf),
    "lowest": lambda keeps: additive(keeps, LOWEST),
    "float16 lowest": lambda keeps: additive(keeps, float(np.finfo(np.float16).min)).astype(np.float16),
    "float64": lambda keeps: additive(keeps).astype(np.float64),
    "integers below 0": lambda keeps: additive(keeps).astype(np.int32),
}
SHAPES = {
    "[N, T]": lambda keeps: keeps,
    "[N, T, 1]": lambda keeps: keeps[:, :, None],
    "[N, 1, T]": lambda keeps: keeps[:, None],
    "[N, 1, 1, T]": lambda keeps: keeps[:, None, None],
    "[N, S, T]": lambda keeps: np.repeat(keeps[:, None], 4, axis=1),
    "[N, H, S, T]": lambda keeps: np.tile(keeps[:, None, None], (1, H, 4, 1)),
    "[N, 1, T, T] causal": lambda keeps: keeps[:, None, None] & CAUSAL,
    "[N, T, T] of real queries alone": lambda keeps: keeps[:, None] & keeps[:, :, None] & CAUSAL,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_its_kind_and_shape_a_mask_says_which_positions_are_real(kind: str, shape: str) -> None:
    mask = KINDS[kind](SHAPES[shape](REAL))
    assert kept(mask).tolist() == REAL.tolist()
    assert kept(mask, N).tolist() == REAL.tolist()


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"integers below 0"}))  # all 0, integers mask everything
def test_samples_without_padding_are_all_real(kind: str) -> None:
    assert kept(KINDS[kind](np.ones((N, T), bool))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_without_a_real_token_is_all_padding(kind: str) -> None:
    keeps = REAL.copy()
    keeps[1] = False
    assert kept(KINDS[kind](keeps)).tolist() == keeps.tolist()


@pytest.mark.parametrize("kind", ["int64", "bool", "-10000", "-inf"])
def test_a_batch_without_a_real_token_is_all_padding(kind: str) -> None:
    assert not kept(KINDS[kind](np.zeros((N, T), bool))).any()


def test_masks_that_were_added_up_hold_infinity_beside_the_lowest_number() -> None:
    mask = np.array([[0, LOWEST, -np.inf]], np.float32)
    assert kept(mask).tolist() == [[True, False, False]]


def test_a_bias_by_distance_beside_the_mask_makes_no_padding() -> None:
    distance = -np.abs(np.arange(T)[:, None] - np.arange(T)) * 0.5
    mask = np.where(REAL[:, None, None], distance * np.array([1, 4])[:, None, None], -np.inf)
    assert kept(mask).tolist() == REAL.tolist()


@pytest.mark.parametrize("shape", [(T,), (1, T), (1, 1, T), (1, 1, 1, T)], ids=str)
def test_a_mask_of_all_samples_is_repeated_for_them(shape: tuple[int, ...]) -> None:
    row = REAL[0].reshape(shape)
    assert kept(row).tolist() == [REAL[0].tolist()]
    assert kept(row, N).tolist() == [REAL[0].tolist()] * N


@pytest.mark.parametrize("samples", [None, N, T])
def test_a_causal_mask_of_all_samples_marks_no_padding(samples: int | None) -> None:
    """[T, T], also where there happen to be as many samples as positions."""
    for mask in (CAUSAL, additive(CAUSAL), additive(CAUSAL)[None, None]):
        assert kept(mask, samples).shape == (samples or 1, T)
        assert kept(mask, samples).all()


def test_as_many_samples_as_positions_are_still_samples() -> None:
    keeps = np.arange(T) < np.array([2, 5, 1, 3, 4])[:, None]
    assert kept(keeps, T).tolist() == keeps.tolist()


def test_how_many_samples_a_feed_holds_is_told_by_the_other_inputs() -> None:
    ids, causal = np.zeros((N, T), np.int64), additive(CAUSAL)
    assert np.array_equal(kept_in({"ids": ids, "bias": causal}, "bias"), np.ones((N, T), bool))
    assert np.array_equal(kept_in({"rate": np.array(1), "ids": ids, "bias": REAL[:1]}, "bias"), REAL[[0, 0, 0]])
    assert np.array_equal(kept_in({"ids": ids.T, "bias": REAL}, "bias"), REAL)  # ids with time first
    assert kept_in({"ids": ids}, None) is None


# Where it lies in a tensor


def laid(shape: tuple[int, ...], **how: Any) -> Any:
    found = entries_kept(REAL, shape, **how)
    return found if found is None else np.broadcast_to(found, shape)


def test_the_axes_of_the_mask_are_found_by_their_lengths() -> None:
    assert np.array_equal(laid((N, T)), REAL)
    assert np.array_equal(laid((T, N)), REAL.T)
    assert np.array_equal(laid((N, T, 7)), np.broadcast_to(REAL[:, :, None], (N, T, 7)))
    assert np.array_equal(laid((T, N, 7)), np.broadcast_to(REAL.T[:, :, None], (T, N, 7)))
    assert np.array_equal(laid((N, 7, T)), np.broadcast_to(REAL[:, None], (N, 7, T)))
    assert np.array_equal(laid((N, 7, 1, T)), np.broadcast_to(REAL[:, None, None], (N, 7, 1, T)))
    assert np.array_equal(laid((1, N, T)), REAL[None])


def test_axes_that_the_mask_does_not_cover_have_length_one() -> None:
    shapes = {(N, T, 7): (N, T, 1), (N, 7, T): (N, 1, T), (T, N, 7, 2): (T, N, 1, 1), (N * T, 7): (N * T, 1)}
    for shape, expected in shapes.items():
        found = entries_kept(REAL, shape)
        assert found is not None
        assert found.shape == expected


def test_samples_and_positions_may_be_joined_in_one_axis() -> None:
    assert np.array_equal(laid((N * T,)), REAL.reshape(-1))
    assert np.array_equal(laid((N * T,), positions_first=True), REAL.T.reshape(-1))
    grid = np.tile([True, True, False, False], (2, 1))
    assert np.array_equal(entries_kept(grid, (2, 2, 2)), grid.reshape(2, 2, 2))


@pytest.mark.parametrize("shape", [(), (N,), (T,), (N, 7), (7, T), (N, T + 1), (N * T + 1, 2)], ids=str)
def test_a_mask_that_does_not_fit_is_not_applied(shape: tuple[int, ...]) -> None:
    assert entries_kept(REAL, shape) is None


def test_one_sample_fits_with_or_without_its_axis() -> None:
    for shape in ((1, T), (T, 1), (T,), (1, 7, T)):
        assert entries_kept(REAL[:1], shape) is not None


# Which input it is

IDS = spec(None, None, name="ids", dtype="int64")


def named(name: str, dtype: str = "int64") -> Any:
    return spec(None, None, name=name, dtype=dtype)


def feeds(name: str, *masks: Any) -> Any:
    return [{"ids": np.zeros((1, mask.shape[-1]), np.int64), name: mask} for mask in masks]


@pytest.mark.parametrize(
    "name",
    ["attention_mask", "input_mask", "encoder_attention_mask", "text.attention_mask", "input_mask:0", "Attention_Mask"],
)
def test_a_mask_is_found_by_its_name(name: str) -> None:
    found = find_mask([IDS, named(name)], feeds(name, REAL[:1].astype(np.int64)))
    assert found == Mask(name, additive=False, length=T)
    assert str(found) == f"input '{name}' is a mask (0 marks padding)"


@pytest.mark.parametrize("name", ["mask", "token_type_ids", "preattention_mask", "attention_mask_2"])
def test_ones_and_zeros_of_another_name_are_no_mask(name: str) -> None:
    assert find_mask([IDS, named(name)], feeds(name, REAL[:1].astype(np.int64))) is None
    assert find_mask([IDS, named(name, "float32")], feeds(name, REAL[:1].astype(np.float32))) is None


def test_the_whole_name_goes_before_its_ending() -> None:
    specs = [IDS, named("global_attention_mask"), named("attention_mask")]
    feed = {"ids": np.zeros((1, T)), "global_attention_mask": REAL[2:], "attention_mask": REAL[:1]}
    found = find_mask(specs, [feed])
    assert found is not None
    assert found.name == "attention_mask"


@pytest.mark.parametrize("below", [-1e3, -1e4, LOWEST, -np.inf])
@pytest.mark.parametrize("shape", ["[N, T]", "[N, 1, 1, T]", "[N, 1, T, T] causal"])
def test_an_additive_mask_is_found_by_its_values(below: float, shape: str) -> None:
    masks = [additive(SHAPES[shape](REAL[at : at + 1]), below) for at in (1, 0, 2)]
    found = find_mask([IDS, named("bias", "float32")], feeds("bias", *masks))
    assert found == Mask("bias", additive=True, length=T)
    assert str(found) == "input 'bias' is an additive mask (0 keeps)"


def test_the_mask_that_was_asked_for_goes_before_all_others() -> None:
    specs = [IDS, named("attention_mask"), named("bias", "float32")]
    feed = {"ids": np.zeros((1, T)), "attention_mask": REAL[:1].astype(int), "bias": additive(REAL[:1])}
    found = find_mask(specs, [feed], asked="bias")
    assert found == Mask("bias", additive=True, length=T)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, T)),  # of a state that starts at 0, say
        np.random.default_rng(0).standard_normal((3, T)),
        -1e4 * np.random.default_rng(0).random((3, T)),
        np.where(REAL, 0, -10),  # decibels
        np.where(REAL, 1, -1e4),
    ],
    ids=["zeros", "numbers", "large numbers", "small", "not 0"],
)
def test_other_numbers_are_no_mask(values: Any) -> None:
    rows = [row[None].astype(np.float32) for row in values]
    assert find_mask([IDS, named("bias", "float32")], feeds("bias", *rows)) is None


def test_a_causal_mask_alone_is_none() -> None:
    assert find_mask([IDS, named("bias", "float32")], feeds("bias", additive(CAUSAL)[None, None])) is None


def test_the_only_input_of_a_model_is_none() -> None:
    assert find_mask([named("x", "float32")], [{"x": additive(REAL[:1])}]) is None


def test_a_mask_goes_over_positions_that_another_input_has() -> None:
    feed = {"ids": np.zeros((1, 9)), "missing": additive(REAL[:1])}
    assert find_mask([IDS, named("missing", "float32")], [feed]) is None


def test_where_samples_differ_in_length_the_mask_has_none() -> None:
    masks = [additive(REAL[:1]), additive(REAL[:1, :4])]
    assert find_mask([IDS, named("bias", "float32")], feeds("bias", *masks)) == Mask("bias", additive=True, length=None)


def test_floats_all_zero_are_an_additive_mask_only_where_no_sample_says_otherwise() -> None:
    specs, zeros, ones = [IDS, named("attention_mask", "float32")], np.zeros((1, T), np.float32), REAL[:1]
    assert str(find_mask(specs, feeds("attention_mask", zeros))).endswith("additive mask (0 keeps)")
    both = feeds("attention_mask", zeros, ones.astype(np.float32))
    assert str(find_mask(specs, both)).endswith("(0 marks padding)")


# Infinity in it


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_additive_mask_may_hold_infinity(kind: Any) -> None:
    with open_samples(
        {"ids": np.zeros((N, T), np.int64), "bias": np.where(REAL, 0, -np.inf).astype(kind)},
        [IDS, named("bias", "float32")],
    ) as samples:
        assert samples.read(0)["bias"].tolist() == [[0, 0, 0, -np.inf, -np.inf]]


@pytest.mark.parametrize("row", [[0, 1, -np.inf], [0, 0, np.inf], [0, np.nan, -np.inf]], ids=str)
def test_infinity_elsewhere_is_refused(row: list[float]) -> None:
    with (
        open_samples({"x": np.array([row], np.float32)}, [spec(None, 3)]) as samples,
        pytest.raises(InputError, match=r"hold (NaN|infinity)"),
    ):
        samples.read(0)


def test_infinity_is_no_integer() -> None:
    with (
        open_samples({"x": np.array([[0, -np.inf]])}, [spec(None, 2, dtype="int64")]) as samples,
        pytest.raises(InputError, match="hold infinity"),
    ):
        samples.read(0)
