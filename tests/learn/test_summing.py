"""Sums that are made where the model runs are those of the rows, and what cannot be summed up there is not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Need
from onnx_dalr.graph import moments
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn import behind
from onnx_dalr.learn import summing as room
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.thinning import Thinner
from onnx_dalr.session.held import Holding
from onnx_dalr.session.session import Runtime, runs_on_cuda
from tests.learn.summing_cases import FLOAT32, HERE, THERE, assert_alike, both, watched

KINDS = {"float": np.float32, "float16": np.float16, "double": np.float64}


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def model(ends: str, body: str, kind: str = "float", opset: int = 17, **constants: Any) -> Model:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> net {ends} {{ {body} }}'.replace("T[", f"{kind}[")
    proto = onnx.parser.parse_model(text)
    for name, value in constants.items():
        kept = value.astype(KINDS[kind]) if value.dtype == np.float32 else value
        proto.graph.initializer.append(numpy_helper.from_array(kept, name))
    onnx.checker.check_model(proto, full_check=True)
    return load(proto)


def batches(x: Any, size: int, **more: Any) -> list[dict[str, Any]]:
    feed = {"x": x, **more}
    return [{name: each[at : at + size] for name, each in feed.items()} for at in range(0, len(x), size)]


ENDS = "(T[N, 12] x) => (T[N, 9] y)"
MLP = "[one] h = Gemm(x, W, b) r = Relu(h) [two] y = MatMul(r, V)"
WEIGHTS = {"W": numbers(12, 20), "b": numbers(20), "V": numbers(20, 9)}


# What is summed up


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dalr-2017"])
def test_the_sums_are_those_of_the_rows(method: str) -> None:
    made = model(ENDS, MLP, **WEIGHTS)
    assert_alike(made, batches(numbers(70, 12), 16), method)


@pytest.mark.parametrize("rounded", [False, True])
def test_blocks_for_rounding_are_summed_up_too(rounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.factorize.moment.LARGEST_BLOCK", 7)  # 12 inputs are two blocks, 20 are three
    found = assert_alike(model(ENDS, MLP, **WEIGHTS), batches(numbers(70, 12), 16), rounded=lambda layer: rounded)
    assert any(Need.BLOCKS in stats.needs for stats in found.statistics.values()) == rounded


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64, 65])
def test_batches_of_many_rows_are_added_up_in_pieces(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "PIECE", 8)
    made = model("(T[N, L, 12] x) => (T[N, L, 9] y)", MLP.replace("Gemm(x, W, b)", "MatMul(x, W)"), **WEIGHTS)
    assert_alike(made, [{"x": numbers(1, rows, 12)}, {"x": numbers(2, rows, 12)}])


def test_the_means_of_many_batches_are_multiplied_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BATCHES", 3)
    assert_alike(model(ENDS, MLP, **WEIGHTS), batches(numbers(70, 12), 10))


def test_a_mean_far_above_the_spread_costs_no_digits_of_the_covariance() -> None:
    x = numbers(600, 12) + 1000 * numbers(12, seed=1)
    found = assert_alike(model(ENDS.replace("9", "30"), "[up] y = MatMul(x, V)", V=numbers(12, 30)), batches(x, 50))
    truth = np.cov(x.astype(float), rowvar=False, bias=True)
    np.testing.assert_allclose(found.statistics["up"].input_covariance, truth, atol=FLOAT32 * truth.max())


def test_nor_of_that_of_the_output_beyond_those_of_products_in_single_precision() -> None:
    x, V = numbers(600, 12) + 1000 * numbers(12, seed=1), numbers(12, 9)
    found = both(model(ENDS, "[two] y = MatMul(x, V)", V=V), batches(x, 50), "svd-bc")
    truth = np.cov(x.astype(float) @ V.astype(float), rowvar=False, bias=True)
    here, there = (np.abs(each.statistics["two"].output_covariance - truth).max() / truth.max() for each in found)
    assert there < 5e-5
    assert there < 2 * here


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("gemm", ["<alpha = 0.5>", "<transB = 1>", "<transB = 1, alpha = 2.0, beta = 0.5>"])
def test_weights_are_applied_as_the_node_does(gemm: str, opset: int) -> None:
    W = numbers(9, 12) if "transB" in gemm else numbers(12, 9)
    assert_alike(
        model(ENDS, f"[fc] y = Gemm {gemm} (x, W, b)", opset=opset, W=W, b=numbers(9)), batches(numbers(40, 12), 16)
    )


def test_the_rows_of_transposed_data_are_its_columns() -> None:
    made = model("(T[12, N] x) => (T[N, 9] y)", "r = Relu(x) [fc] y = Gemm <transA = 1> (r, W)", W=numbers(12, 9))
    assert_alike(made, [{"x": numbers(12, 30)}, {"x": numbers(12, 5)}])


def test_the_rows_of_a_1x1_convolution_are_its_positions() -> None:
    made = model("(T[N, 12, A, B] x) => (T[N, 9, A, B] y)", "r = Relu(x) [fc] y = Conv(r, W)", W=numbers(9, 12, 1, 1))
    assert_alike(made, batches(numbers(5, 12, 6, 4), 2))


KERNELS = {
    "plain": ((8, 8), (3, 3), ""),
    "padded": ((8, 7), (3, 3), "<pads = [1, 0, 2, 1]>"),
    "by strides": ((9, 8), (3, 2), "<strides = [2, 3], dilations = [1, 2], pads = [1, 1, 1, 1]>"),
    "by its length": ((8, 7), (3, 3), '<auto_pad = "SAME_LOWER", strides = [2, 2]>'),
    "of one that steps": ((8, 7), (1, 1), "<strides = [2, 3]>"),
    "of one that pads": ((8, 7), (1, 1), "<pads = [1, 0, 0, 2]>"),
    "along a line": ((30,), (5,), "<pads = [2, 2]>"),
    "in space": ((4, 5, 6), (2, 3, 2), ""),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("case", KERNELS)
def test_what_a_kernel_sees_at_a_position_is_a_row(case: str, opset: int) -> None:
    spatial, kernel, how = KERNELS[case]
    axes = ", ".join(map(str, spatial))
    body = f"r = Relu(x) [conv] h = Conv {how} (r, K) a = GlobalAveragePool(h) f = Flatten(a) [fc] y = MatMul(f, V)"
    made = model(f"(T[N, 4, {axes}] x) => (T[N, 9] y)", body, opset=opset, K=numbers(6, 4, *kernel), V=numbers(6, 9))
    assert_alike(made, batches(numbers(5, 4, *spatial), 2))


def test_rows_of_a_kernel_are_thinned_out_there_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.learn.thinning.FEWEST_PATCHES", 100)
    monkeypatch.setattr("onnx_dalr.learn.thinning.PATCHES_AN_INPUT", 1)
    body = "r = Relu(x) [conv] h = Conv (r, K) a = GlobalAveragePool(h) f = Flatten(a) [fc] y = MatMul(f, V)"
    made = model("(T[N, 4, 8, 8] x) => (T[N, 9] y)", body, K=numbers(6, 4, 3, 3), V=numbers(6, 9))
    thinner = partial(Thinner, 6, lambda feed: len(feed["x"]))
    found = assert_alike(made, batches(numbers(6, 4, 8, 8), 2), thinner=thinner)
    assert found.statistics["conv"].count == 6 * 17


def test_what_a_kernel_sees_of_padding_stays_out() -> None:
    made = model(
        "(T[N, L, 4] x, int64[N, L] attention_mask) => (T[N, 9, L] y)",
        "t = Transpose <perm = [0, 2, 1]> (x) r = Relu(t) [conv] y = Conv <pads = [1, 1]> (r, K)",
        K=numbers(9, 4, 3),
    )
    feed = {"x": numbers(3, 4, 4), "attention_mask": MASK}
    assert assert_alike(made, [feed], mask_input="attention_mask").statistics["conv"].count == 7


def test_rows_that_nobody_sums_up_there_are_read_here_in_the_same_run() -> None:
    made = model(
        "(T[N, 4, 8, 8] x) => (T[N, 9] y)",
        "r = Relu(x) [up] h = ConvTranspose <strides = [2, 2]> (r, K) a = GlobalAveragePool(h) f = Flatten(a) "
        "[fc] y = MatMul(f, V)",
        K=numbers(4, 6, 3, 3),
        V=numbers(6, 9),
    )
    assert_alike(made, batches(numbers(5, 4, 8, 8), 2))


def test_users_of_one_weight_and_layers_of_one_tensor_share() -> None:
    made = model(
        "(T[N, 12] x) => (T[N, 9] y, T[N, 9] z, T[N, 9] w)",
        "r = Relu(x) [a] y = MatMul(r, W) e = Exp(x) [b] z = MatMul(e, W) [c] w = MatMul(r, V)",
        W=numbers(12, 9),
        V=numbers(12, 9, seed=1),
    )
    found = assert_alike(made, batches(numbers(50, 12), 16))
    assert [stats.count for stats in found.statistics.values()] == [100, 50]


def test_external_data_stays_where_it_is(tmp_path: Path) -> None:
    made = model(ENDS, MLP, **WEIGHTS)
    path = tmp_path / "model.onnx"
    onnx.save(made.proto, path, save_as_external_data=True, location="data", size_threshold=0)
    assert_alike(load(path), batches(numbers(40, 12), 16))


# Element types


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_summed_up_in_single_and_double_in_double(kind: str) -> None:
    """ONNX Runtime computes half precision on the CPU in single: what is read from it is rounded, what stays is not."""
    x = numbers(70, 12).astype(KINDS[kind])
    close = 2e-3 if kind == "float16" else FLOAT32
    assert_alike(model(ENDS, MLP, kind, **WEIGHTS), batches(x, 16), close=close)


@pytest.mark.parametrize("stored", [TensorProto.BFLOAT16, TensorProto.FLOAT16])
def test_weights_stored_in_half_precision_are_cast_as_the_node_casts_them(stored: int) -> None:
    made = model(ENDS, "S = Cast <to = 1> (H) [fc] y = MatMul(x, S)", H=numbers(12, 9)).proto
    made.graph.initializer[0].CopyFrom(helper.make_tensor("H", stored, [12, 9], numbers(12, 9).ravel()))
    found = assert_alike(load(made), batches(numbers(40, 12), 16), "svd")
    assert found.statistics["fc"].output is not None


# Padding

TOKENS = "(T[N, L, 12] x, int64[N, L] attention_mask) => (T[N, L, 9] y)"
MASK = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], np.int64)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("ends", "body"),
    [
        (TOKENS, "r = Relu(x) [fc] y = MatMul(r, W)"),
        (TOKENS.replace("[N, L, 9]", "[L, N, 9]"), "t = Transpose <perm = [1, 0, 2]> (x) [fc] y = MatMul(t, W)"),
        (TOKENS.replace("T[N, L, 9]", "T[M, 9]"), "f = Reshape(x, flat) [fc] y = Gemm(f, W)"),
        (TOKENS.replace("[N, L, 9]", "[N, 9, L]"), "t = Transpose <perm = [0, 2, 1]> (x) [fc] y = Conv(t, K)"),
    ],
)
def test_padding_stays_out_of_the_sums(ends: str, body: str, opset: int) -> None:
    made = model(ends, body, opset=opset, W=numbers(12, 9), flat=np.array([-1, 12]), K=numbers(9, 12, 1))
    x = numbers(3, 4, 12)
    x[MASK == 0] = np.nan
    feeds = [{"x": x, "attention_mask": MASK}, {"x": x[:2, :3], "attention_mask": MASK[:2, :3]}]
    found = assert_alike(made, feeds, mask_input="attention_mask")
    assert found.statistics["fc"].count == 11


def test_a_mask_of_another_size_is_noted() -> None:
    ends = "(T[N, L, 12] x, int64[N, L] attention_mask) => (T[N, L, 9] y, T[N, 9] z)"
    body = "[fc] y = MatMul(x, W) p = ReduceMean <axes = [1], keepdims = 0> (x) [pool] z = MatMul(p, V)"
    made = model(ends, body, W=numbers(12, 9), V=numbers(12, 9, seed=1))
    found = assert_alike(made, [{"x": numbers(3, 4, 12), "attention_mask": MASK}], mask_input="attention_mask")
    assert len(found.notes) == 1
    assert found.statistics["pool"].count == 3


def test_a_batch_of_nothing_but_padding_adds_nothing() -> None:
    made = model(TOKENS, "r = Relu(x) [fc] y = MatMul(r, W)", W=numbers(12, 9))
    x = numbers(3, 4, 12)
    feeds = [{"x": x, "attention_mask": MASK}, {"x": x, "attention_mask": 0 * MASK}]
    assert assert_alike(made, feeds, mask_input="attention_mask").statistics["fc"].count == 7


def test_rows_of_a_size_that_nobody_can_tell_before_are_read_here() -> None:
    body = "s = NonZero(x) r = Relu(x) t = Transpose <perm = [1, 0]> (s) c = Cast <to = 1> (t) [fc] y = MatMul(c, W)"
    made = model(
        "(T[N, L] x, int64[N, L] attention_mask) => (T[M, 9] y)", body.replace("r = Relu(x) ", ""), W=numbers(2, 9)
    )
    feed = {"x": numbers(3, 4), "attention_mask": MASK}
    layers, _ = find(made)
    assert [layer.name for layer in layers] == ["fc"]
    assert_alike(made, [feed], mask_input="attention_mask", taken=False)
    assert_alike(made, [feed])


# What is not summed up there


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_layer_that_sees_no_numbers_is_named_in_the_same_words(bad: float) -> None:
    x = numbers(40, 12)
    x[33, 2] = bad
    made = model(ENDS, MLP, **WEIGHTS)
    layers, _ = find(made)
    said = []
    for device in (HERE, THERE):
        with pytest.raises(InputError, match="layer 'one' sees NaN or infinity") as error:
            capture(made, layers, METHODS["dalr"], batches(x, 16), device=device)
        said.append(str(error.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_numbers_whose_squares_are_none_in_single_precision_are_read_here(scale: float) -> None:
    x = numbers(48, 12)
    x[16:32] *= np.float32(scale)
    assert_alike(model(ENDS, MLP, **WEIGHTS), batches(x, 16), taken=[True, False, True])


def test_a_layer_that_only_ever_sees_zeros_is_summed_up_there() -> None:
    made = model(ENDS, MLP, **WEIGHTS | {"b": np.full(20, -1e4, np.float32)})
    here, there = both(made, batches(numbers(40, 12), 16))
    assert here.statistics["two"].trace == there.statistics["two"].trace == 0
    assert there.statistics["two"].count == 40


def test_rows_themselves_are_kept_here() -> None:
    found = assert_alike(model(ENDS, MLP, **WEIGHTS), batches(numbers(10, 12), 4), "dalr-2017", taken=[])
    assert found.statistics["one"].rows is not None


def test_samples_of_another_shape_are_refused_in_the_same_words() -> None:
    made = model(ENDS, MLP, **WEIGHTS)
    layers, _ = find(made)
    with pytest.raises(InputError, match=r"cannot run the model on x \[5, 9\]"):
        capture(made, layers, METHODS["dalr"], [{"x": numbers(5, 9)}], device=THERE)


def test_where_the_device_has_not_the_memory_the_rest_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = Holding.run, []

    def failing(self: Holding, *given: Any) -> Any:
        calls.append(given)
        if len(calls) > 2:
            raise InputError("no memory is left")
        return run(self, *given)

    monkeypatch.setattr(Holding, "run", failing)
    assert_alike(model(ENDS, MLP, **WEIGHTS), batches(numbers(70, 12), 16), taken=[True, True, False])


def test_models_of_old_opsets_are_read_here() -> None:
    made = model(ENDS, MLP, opset=moments.OLDEST - 1, **WEIGHTS)
    assert_alike(made, batches(numbers(40, 12), 16), taken=[])


@pytest.mark.parametrize("device", ["cpu", Runtime("cpu"), "auto", Runtime("auto", sums_there=False)])
def test_nobody_sums_up_elsewhere_without_cuda(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if runs_on_cuda("auto"):
        monkeypatch.setattr(behind, "runs_on_cuda", lambda device: False)
    made = model(ENDS, MLP, **WEIGHTS)
    layers, _ = find(made)
    with watched() as seen:
        capture(made, layers, METHODS["dalr"], batches(numbers(20, 12), 16), device=device)
    assert seen == []


@pytest.mark.parametrize(("provider", "taken"), [("CPUExecutionProvider", []), ("CUDAExecutionProvider", [True] * 3)])
def test_it_is_the_provider_that_runs_that_decides(
    provider: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA works for a small model: whether it takes this one its session says."""
    made = model(ENDS, MLP, **WEIGHTS)
    layers, _ = find(made)
    monkeypatch.setattr(behind, "runs_on_cuda", lambda device: True)
    monkeypatch.setattr(room.Summing, "provider", provider)
    with watched() as seen:
        found = capture(made, layers, METHODS["dalr"], batches(numbers(40, 12), 16), device="cpu")
    assert seen == taken
    assert found.provider == (provider if taken else "CPUExecutionProvider")


# Real shapes


def test_the_demo_and_its_convolutions(demo: Path) -> None:
    x = np.random.default_rng(0).random((80, 1, 16, 16)).astype(np.float32)
    made = load(demo / "digits-target.onnx")
    assert_alike(made, [{"image": each["x"]} for each in batches(x, 32)])


@pytest.mark.assets
def test_sentences_of_different_lengths(assets: Path) -> None:
    with np.load(assets / "data" / "banking77-train.npz") as held:
        data = {name: held[name][:48] for name in held}
    feeds = []
    for at in (0, 16, 32):
        part = {name: each[at : at + 16] for name, each in data.items()}
        longest = int(part["attention_mask"].sum(axis=1).max())
        feeds.append({name: each[:, :longest] for name, each in part.items()})
    assert_alike(load(assets / "models" / "minilm-l6-v2.onnx"), feeds, mask_input="attention_mask")


@pytest.mark.assets
def test_photographs_in_a_network_of_convolutions(assets: Path) -> None:
    x = np.random.default_rng(0).random((16, 3, 32, 32)).astype(np.float32)
    made = load(assets / "models" / "vgg-cifar-target.onnx")
    name = made.proto.graph.input[0].name
    assert_alike(made, [{name: x[:8]}, {name: x[8:]}])
