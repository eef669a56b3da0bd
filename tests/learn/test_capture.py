"""One pass over the samples: what each weight sees, whatever the batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.factorize.gram import symmetric
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn import capture as room
from onnx_dalr.learn.capture import Capture, capture, groups_within
from onnx_dalr.samples import Batch

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
WEIGHT = np.random.default_rng(7).standard_normal((8, 6)).astype(np.float32)


def constant(name: str, values: Any) -> str:
    shape = ", ".join(map(str, values.shape))
    return f"float[{shape}] {name} = {{{', '.join(map(str, values.ravel().tolist()))}}}"


def model(ends: str, body: str, *constants: str) -> Model:
    text = f"{HEADER} net {ends} <{', '.join([constant('W', WEIGHT), *constants])}> {{ {body} }}"
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto, full_check=True)
    return load(proto)


def captured(found: Model, batches: Any, method: str = "dalr-2017", **options: Any) -> Capture:
    layers, _ = find(found)
    return capture(found, layers, METHODS[method], batches, device="cpu", **options)


def seen(found: Capture, layer: str = "fc") -> Statistics:
    return found.statistics[layer]


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


def in_batches(x: Any, size: int) -> Iterator[Batch]:
    for start in range(0, len(x), size):
        yield {"x": x[start : start + size]}


RELU = model("(float[N, 8] x) => (float[N, 6] y)", "r = Relu(x) [fc] y = MatMul(r, W)")
DIRECT = model("(float[N, 8] x) => (float[N, 6] y)", "[fc] y = MatMul(x, W)")


def assert_saw(stats: Statistics, expected: Any) -> None:
    """The layer saw these rows, in any order."""
    assert stats.count == len(expected)
    if stats.rows is not None:
        order, truth = (np.lexsort(each.T) for each in (stats.rows, expected))
        np.testing.assert_allclose(stats.rows[order], expected[truth], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats.total, expected.sum(axis=0, dtype=np.float64), atol=1e-4)
    np.testing.assert_allclose(stats.squares, (expected.astype(np.float64) ** 2).sum(axis=0), atol=1e-4)


# Whatever the batches


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_statistics_do_not_depend_on_the_batch_size(method: str, size: int) -> None:
    x = rows(50)
    one, whole = (seen(captured(RELU, in_batches(x, each), method)) for each in (size, 50))
    assert one.count == whole.count == 50
    for name in ("total", "squares", "output_total", "output", "input", "sketch"):
        a, b = getattr(one, name), getattr(whole, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("chunk", [1, 5, 49, 50, 51])
def test_statistics_do_not_depend_on_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(50)
    whole = seen(captured(RELU, in_batches(x, 7)))
    monkeypatch.setattr(room, "CHUNK_ROWS", chunk)
    parts = seen(captured(RELU, in_batches(x, 7)))
    assert parts.count == whole.count == 50
    np.testing.assert_allclose(parts.input, whole.input, rtol=1e-6, atol=1e-6)


def test_models_that_take_one_sample_at_a_time_work() -> None:
    fixed = model("(float[1, 8] x) => (float[1, 6] y)", "r = Relu(x) [fc] y = MatMul(r, W)")
    x = rows(5)
    assert_saw(seen(captured(fixed, in_batches(x, 1))), np.maximum(x, 0))


def test_the_output_moment_is_that_of_the_weight_as_the_node_applies_it() -> None:
    scaled = model(
        "(float[N, 8] x) => (float[N, 6] y)",
        "[fc] y = Gemm <alpha = 0.5> (x, W, b)",
        "float[6] b = {9, 9, 9, 9, 9, 9}",
    )
    x = rows(40)
    stats = seen(captured(scaled, in_batches(x, 7), "svd"))
    y = 0.5 * x @ WEIGHT  # before the bias
    assert stats.output is not None
    np.testing.assert_allclose(symmetric(stats.output), y.T @ y, rtol=1e-4, atol=1e-3)


# What the rows are


def test_a_layer_may_read_a_model_input_directly() -> None:
    x = rows(5)
    found = captured(DIRECT, in_batches(x, 2))
    assert found.provider == "none"
    assert_saw(seen(found), x)


def test_the_provider_that_ran_is_told() -> None:
    assert captured(RELU, in_batches(rows(5), 2)).provider == "CPUExecutionProvider"


def test_every_position_of_a_tensor_is_a_row() -> None:
    images = model("(float[N, 3, 2, 8] x) => (float[N, 3, 2, 6] y)", "r = Relu(x) [fc] y = MatMul(r, W)")
    x = rows(12).reshape(2, 3, 2, 8)
    assert seen(captured(images, [{"x": x}])).count == 12


def test_shared_weights_sum_over_their_users() -> None:
    shared = model(
        "(float[N, 8] x) => (float[N, 6] y, float[N, 6] z)",
        "[fc] y = MatMul(x, W) n = Neg(x) e = Exp(n) [other] z = MatMul(e, W)",
    )
    x = rows(3)
    found = captured(shared, in_batches(x, 2))
    assert list(found.statistics) == ["fc"]
    assert_saw(seen(found), np.concatenate([x, np.exp(-x)]))


def test_a_tensor_that_two_users_read_counts_for_both() -> None:
    twice = model("(float[N, 8] x) => (float[N, 6] y, float[N, 6] z)", "[fc] y = MatMul(x, W) [two] z = MatMul(x, W)")
    x = rows(3)
    assert_saw(seen(captured(twice, in_batches(x, 2))), np.concatenate([x, x]))


@pytest.mark.parametrize("operation", ["Identity", "Relu"])
def test_the_rows_of_transposed_data_are_its_columns(operation: str) -> None:
    body = f"r = {operation}(x) [fc] y = Gemm <transA = 1> (r, W)"
    flipped = model("(float[8, N] x) => (float[N, 6] y)", body)
    x = rows(5)
    expected = np.maximum(x, 0) if operation == "Relu" else x
    assert_saw(seen(captured(flipped, [{"x": np.ascontiguousarray(x.T)}])), expected)


def test_the_rows_of_a_1x1_convolution_are_the_positions_it_visits_and_the_zeros_it_pads_with() -> None:
    kernel = f"float[6, 8, 1, 1] K = {{{', '.join(map(str, WEIGHT.T.ravel().tolist()))}}}"
    text = f"""{HEADER} net (float[N, 8, 5, 5] x) => (float[N, 6, A, B] y) <{kernel}>
    {{ [fc] y = Conv <kernel_shape = [1, 1], strides = [2, 2], pads = [1, 0, 0, 0]> (x, K) }}"""
    x = rows(50).reshape(2, 5, 5, 8).transpose(0, 3, 1, 2).copy()
    padded = np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 0)])[:, :, ::2, ::2]
    found = captured(load(onnx.parser.parse_model(text)), [{"x": x}])
    assert_saw(seen(found), np.moveaxis(padded, 1, -1).reshape(-1, 8))


def test_half_precision_is_captured_in_double() -> None:
    half = RELU.proto.__class__()
    half.CopyFrom(RELU.proto)
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    half.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(WEIGHT.astype(np.float16), "W"))
    x = rows(5).astype(np.float16)
    stats = seen(captured(load(half), in_batches(x, 2)))
    assert stats.total.dtype == np.float64
    np.testing.assert_allclose(stats.total, np.maximum(x, 0).astype(np.float64).sum(axis=0))


# Padding

MASKED = "(float[N, L, 8] x, int64[N, L] attention_mask) => (float[N, L, 6] y)"
TOKENS = model(MASKED, "r = Relu(x) [fc] y = MatMul(r, W)")
SWAPPED = model(
    "(float[N, L, 8] x, int64[N, L] attention_mask) => (float[L, N, 6] y)",
    "t = Transpose <perm = [1, 0, 2]> (x) [fc] y = MatMul(t, W)",
)
POOLED = model(
    "(float[N, L, 8] x, int64[N, L] attention_mask) => (float[N, L, 6] y, float[N, 6] z)",
    "[fc] y = MatMul(x, W) p = ReduceMean <axes = [1], keepdims = 0> (x) [pool] z = MatMul(p, V)",
    constant("V", WEIGHT),
)
MASK = np.array([[1, 1, 1], [1, 0, 0]], np.int64)


def tokens() -> Any:
    return rows(6).reshape(2, 3, 8)


def test_masked_rows_do_not_enter() -> None:
    x = tokens()
    found = captured(TOKENS, [{"x": x, "attention_mask": MASK}], mask_input="attention_mask")
    assert_saw(seen(found), np.maximum(x[MASK != 0], 0))
    assert found.notes == ()


def test_without_a_mask_input_every_row_enters() -> None:
    assert seen(captured(TOKENS, [{"x": tokens(), "attention_mask": MASK}])).count == 6


def test_the_mask_fits_tensors_laid_out_length_first() -> None:
    x = tokens()
    found = captured(SWAPPED, [{"x": x, "attention_mask": MASK}], mask_input="attention_mask")
    assert_saw(seen(found), x[MASK != 0])


def test_whatever_stands_in_padding_does_no_harm() -> None:
    x = tokens()
    x[1, 1:] = np.nan
    found = captured(SWAPPED, [{"x": x, "attention_mask": MASK}], mask_input="attention_mask")
    assert seen(found).count == 4


@pytest.mark.parametrize("kind", [np.bool_, np.float32, np.int32])
def test_a_mask_may_be_of_any_type(kind: Any) -> None:
    name = {np.bool_: "bool", np.float32: "float", np.int32: "int32"}[kind]
    typed = model(MASKED.replace("int64", name), "[fc] y = MatMul(x, W)")
    found = captured(typed, [{"x": tokens(), "attention_mask": MASK.astype(kind)}], mask_input="attention_mask")
    assert seen(found).count == 4


def test_a_mask_with_axes_of_length_one_fits() -> None:
    typed = model(MASKED.replace("int64[N, L]", "int64[N, 1, 1, L]"), "[fc] y = MatMul(x, W)")
    feed = {"x": tokens(), "attention_mask": MASK[:, None, None]}
    assert seen(captured(typed, [feed], mask_input="attention_mask")).count == 4


@pytest.mark.parametrize("below", [-1e4, -np.inf])
def test_an_additive_mask_is_read_as_one(below: float) -> None:
    x, made = tokens(), model(MASKED.replace("int64", "float"), "[fc] y = MatMul(x, W)")
    mask = np.where(MASK, 0, below).astype(np.float32)
    found = captured(made, [{"x": x, "attention_mask": mask}], mask_input="attention_mask")
    assert_saw(seen(found), x[MASK != 0])
    none = np.zeros(MASK.shape, np.float32)
    assert seen(captured(made, [{"x": x, "attention_mask": none}], mask_input="attention_mask")).count == 6


def test_a_mask_with_an_axis_of_queries_fits() -> None:
    typed = model(MASKED.replace("int64[N, L]", "float[N, 1, L, L]"), "[fc] y = MatMul(x, W)")
    causal = np.where(MASK[:, None, None] & np.tril(np.ones((3, 3), int)), 0, -1e4).astype(np.float32)
    x = tokens()
    found = captured(typed, [{"x": x, "attention_mask": causal}], mask_input="attention_mask")
    assert_saw(seen(found), x[MASK != 0])


def test_every_head_of_a_padded_position_is_padding() -> None:
    heads = model(
        "(float[N, L, 16] x, int64[N, L] attention_mask) => (float[N, 2, L, 6] y)",
        "h = Reshape(x, shape) t = Transpose <perm = [0, 2, 1, 3]> (h) [fc] y = MatMul(t, W)",
        "int64[4] shape = {0, 0, 2, 8}",
    )
    x = rows(12).reshape(2, 3, 16)
    found = captured(heads, [{"x": x, "attention_mask": MASK}], mask_input="attention_mask")
    assert_saw(seen(found), x[MASK != 0].reshape(8, 8))
    assert found.notes == ()


def test_a_mask_of_another_size_is_noted() -> None:
    found = captured(POOLED, [{"x": tokens(), "attention_mask": MASK}], mask_input="attention_mask")
    assert (seen(found).count, seen(found, "pool").count) == (4, 2)
    assert found.notes == (
        "mask 'attention_mask' does not fit the rows of pool: padding, if they hold any, enters their statistics",
    )


def test_all_rows_masked_is_an_error_that_names_the_layer() -> None:
    with pytest.raises(InputError, match="no row of the samples reached layer 'fc'"):
        captured(TOKENS, [{"x": tokens(), "attention_mask": 0 * MASK}], mask_input="attention_mask")


# What cannot be used


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_that_sees_no_numbers_is_named(bad: float) -> None:
    x = rows(5)
    x[3, 2] = bad
    with pytest.raises(InputError, match="layer 'fc' sees NaN or infinity") as error:
        captured(DIRECT, in_batches(x, 2))
    assert "preprocessing" in error.value.hint


def test_samples_of_another_shape_are_the_users_to_mend() -> None:
    with pytest.raises(InputError, match=r"cannot run the model on x \[5, 9\]"):
        captured(RELU, [{"x": np.zeros((5, 9), np.float32)}])


# Bounded memory


@pytest.mark.parametrize("method", METHODS)
def test_statistics_above_the_memory_limit_are_refused_naming_the_size(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "memory_limit", lambda: 400)
    with pytest.raises(InputError, match=rf"^{method} on .+ needs [\d.]+ .?B of statistics, more than the .+ allowed"):
        captured(RELU, in_batches(rows(100), 7), method)


def test_the_limit_is_for_all_layers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(40)
    single = Statistics.bytes_needed(6, 8, METHODS["dalr-2017"].needs(6, 8), 40)
    three = model(
        "(float[N, 8] x) => (float[N, 6] a, float[N, 6] b, float[N, 6] c)",
        "[one] a = MatMul(x, W) [two] b = MatMul(x, V) [three] c = MatMul(x, U)",
        constant("V", WEIGHT),
        constant("U", WEIGHT),
    )
    monkeypatch.setattr(room, "memory_limit", lambda: 2 * single)
    with pytest.raises(InputError, match="of statistics, more than"):
        captured(three, in_batches(x, 7))


FIVE = model(
    "(float[N, 8] x) => (float[N, 6] a, float[N, 6] b, float[N, 6] c, float[N, 6] d, float[N, 5] e)",
    "[l0] a = MatMul(x, W) [l1] b = MatMul(x, W1) [l2] c = MatMul(x, W2) [l3] d = MatMul(x, W3) [l4] e = MatMul(x, W4)",
    *(constant(f"W{i}", WEIGHT) for i in (1, 2, 3)),
    constant("W4", WEIGHT[:, :5]),
)


@pytest.mark.parametrize(("share", "sizes"), [(0.5, [1] * 5), (1, [1] * 5), (2, [2, 2, 1]), (3.5, [3, 2]), (9, [5])])
def test_layers_go_in_groups_whose_statistics_fit_together(share: float, sizes: list[int]) -> None:
    layers, _ = find(FIVE)
    method = METHODS["svd"]
    single = Statistics.bytes_needed(6, 8, method.needs(6, 8), 0)
    groups = groups_within(layers, method, int(share * single))
    assert [layer.name for group in groups for layer in group] == ["l0", "l1", "l2", "l3", "l4"]
    assert [len(group) for group in groups] == sizes


def test_groups_count_what_the_rows_will_take() -> None:
    layers, _ = find(FIVE)
    method = METHODS["dalr-2017"]
    full = Statistics.bytes_needed(6, 8, method.needs(6, 8), 1000)
    assert [len(group) for group in groups_within(layers, method, 2 * full)] == [2, 2, 1]


def held(stats: Statistics) -> int:
    arrays = [stats.total, stats.squares, stats.output_total, stats.output, stats.input, stats.sketch, stats.rows]
    return sum(array.nbytes for array in arrays if array is not None)


@pytest.mark.parametrize("method", METHODS)
def test_memory_does_not_grow_with_the_samples(method: str) -> None:
    few, many = (seen(captured(RELU, in_batches(rows(count), 100), method)) for count in (100, 5000))
    assert (few.count, many.count) == (100, 5000)
    assert held(few) == held(many)


def test_never_more_rows_than_a_chunk_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    update = Statistics.update

    def recorded(stats: Statistics, x: Any, weight: Any = None) -> None:
        taken.append(len(x))
        update(stats, x, weight)

    monkeypatch.setattr(room, "CHUNK_ROWS", 10)
    monkeypatch.setattr(Statistics, "update", recorded)
    captured(RELU, in_batches(rows(104), 33))
    assert taken == [10] * 10 + [4]


def test_rows_that_wait_do_not_keep_their_batch_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(25)
    before = x.copy()
    monkeypatch.setattr(room, "CHUNK_ROWS", 10)

    def overwritten() -> Iterator[Batch]:
        yield {"x": x}
        x[:] = np.nan

    assert_saw(seen(captured(DIRECT, overwritten())), before)


def test_every_batch_is_told() -> None:
    told: list[int] = []
    each: Callable[[Batch], None] = lambda batch: told.append(len(batch["x"]))  # noqa: E731
    captured(RELU, in_batches(rows(5), 2), each=each)
    assert told == [2, 2, 1]
