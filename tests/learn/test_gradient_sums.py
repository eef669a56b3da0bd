"""Moments of gradients that are made where the gradient graph runs are those of the gradients that are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Statistics
from onnx_dalr.graph import moments
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn import probes as room
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.gradient_sums import GradientSums
from onnx_dalr.learn.piles import Values
from onnx_dalr.learn.probes import Probed, add_metric
from onnx_dalr.quality.task import TaskName
from onnx_dalr.session.held import Holding
from onnx_dalr.session.session import Runtime
from tests.learn.metric_cases import ENDS, TWO, TWO_WEIGHTS, metric_of, model, numbers, samples_of
from tests.learn.summing_cases import HERE, THERE
from tests.quality.task_cases import of_model

Feed = Mapping[str, Any]


def probed(
    made: Model, task: TaskName, feeds: tuple[Feed, ...], device: Runtime, size: int, mask: str | None
) -> tuple[dict[str, Statistics], Probed]:
    layers, _ = find(made)
    with samples_of(made, *feeds, size=size) as fit:
        batches = [batch for _, batch in fit]
        found = capture(made, layers, METHODS["dalr"], batches, device=HERE, mask_input=mask, metric=True).statistics
        told = add_metric(made, layers, found, fit, of_model(made, task, *feeds), device=device, mask_input=mask)
    return found, told


def assert_alike(
    made: Model,
    *feeds: Feed,
    taken: bool = True,
    task: TaskName = "classify",
    size: int = 4,
    mask: str | None = None,
    close: float = 2e-5,
) -> dict[str, Statistics]:
    """Both say the same; gives what was summed up there."""
    seen: list[bool] = []
    take = GradientSums.take

    def taking(self: GradientSums, *given: Any) -> Values | None:
        found = take(self, *given)
        seen.append(found is not None)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientSums, "take", taking)
        here, said = probed(made, task, feeds, HERE, size, mask)
        assert seen == []
        there, told = probed(made, task, feeds, THERE, size, mask)
    assert seen
    assert set(seen) == {taken}
    assert said == told
    for name, truth in here.items():
        found = there[name]
        assert (found.metric_rows, found.metric_probes) == (truth.metric_rows, truth.metric_probes)
        np.testing.assert_allclose(found.metric_power, truth.metric_power, rtol=close)
        np.testing.assert_allclose(found.metric_spread, truth.metric_spread, rtol=2 * close)
        if truth.metric_probes:
            one, other = metric_of(found), metric_of(truth)
            np.testing.assert_allclose(one, other, rtol=0, atol=close * np.abs(other).max(), err_msg=name)
    return there


def floats(*shape: int, seed: int = 0) -> Any:
    return numbers(*shape, seed=seed).astype(np.float32)


WIDE = {"W": numbers(5, 11), "b": numbers(11), "V": numbers(11, 3), "c": numbers(3)}


@pytest.mark.parametrize("task", ["classify", "embed", "regress"])
@pytest.mark.parametrize("weights", [TWO_WEIGHTS, WIDE])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_the_moments_are_those_of_the_gradients(task: TaskName, weights: Any, kind: str) -> None:
    """Of more outputs than inputs they are taken back through the weight."""
    x = numbers(10, 5).astype(np.float32 if kind == "float" else np.float64)
    assert_alike(model(ENDS, TWO, weights, kind), {"x": x}, task=task)


def test_half_precision_is_summed_up_in_single() -> None:
    """ONNX Runtime computes it in single precision on the CPU: what is read from it is rounded, what stays is not."""
    made = model(ENDS, TWO, WIDE, "float16")
    assert_alike(made, {"x": numbers(10, 5).astype(np.float16)}, close=5e-3)


@pytest.mark.parametrize("gemm", ["<alpha = 0.5>", "<transB = 1, alpha = 2.0>"])
def test_the_weight_is_taken_as_the_node_applies_it(gemm: str) -> None:
    W = numbers(11, 5) if "transB" in gemm else numbers(5, 11)
    made = model(ENDS, TWO.replace("Gemm (x, W, b)", f"Gemm {gemm} (x, W, b)"), WIDE | {"W": W}, "float")
    assert_alike(made, {"x": floats(10, 5)})


def test_many_rows_are_added_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "PIECE", 3)
    assert_alike(model(ENDS, TWO, WIDE, "float"), {"x": floats(10, 5)}, size=10)


@pytest.mark.parametrize("channels", [3, 20])
def test_every_position_of_a_kernel_counts_for_its_sample(channels: int) -> None:
    made = model(
        "(T[N, 2, 6, 6] x) => (T[N, 7] y)",
        "[c] h = Conv <pads = [1, 1, 1, 1]> (x, K, k) r = Relu(h) a = GlobalAveragePool(r) f = Flatten(a) "
        "[fc] y = Gemm(f, V)",
        {"K": numbers(channels, 2, 3, 3), "k": numbers(channels), "V": numbers(channels, 7)},
        "float",
    )
    assert_alike(made, {"x": floats(6, 2, 6, 6)})


TOKENS = "(T[N, L, 5] x, int64[N, L] attention_mask) => (T[N, 3] y)"


@pytest.mark.parametrize("joined", [False, True])
def test_padding_and_the_sample_of_every_row_are_as_before(joined: bool) -> None:
    lay, back = ("p = Reshape(x, flat)", "q = Reshape(r, apart)") if joined else ("p = Identity(x)", "q = Identity(r)")
    body = f"{lay} [one] h = MatMul(p, W) r = Relu(h) {back} s = ReduceMean <axes = [1], keepdims = 0> (q)"
    made = model(TOKENS, f"{body} [two] y = Gemm(s, V, c)", WIDE, "float").proto
    for name, shape in {"flat": [-1, 5], "apart": [-1, 4, 11]}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    mask = np.tril(np.ones((6, 4), np.int64))
    assert_alike(load(made), {"x": floats(6, 4, 5), "attention_mask": mask}, mask="attention_mask")
    assert_alike(load(made), {"x": floats(6, 4, 5), "attention_mask": mask})


def test_a_layer_whose_gradients_are_not_finite_loses_its_metric_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = "[one] h = MatMul(x, O) p = Mul(h, big) t = Tanh(p) q = Mul(t, big) r = Add(q, b) [two] y = MatMul(r, V)"
    made = model(ENDS, body, {**TWO_WEIGHTS, "O": np.zeros((5, 4)), "big": np.array(1e30)}, "float")
    looked: list[str] = []
    add = room._Sink.add

    def looking(self: room._Sink, *given: Any) -> None:
        looked.append(self.layer.name)
        add(self, *given)

    here, said = probed(made, "classify", ({"x": floats(10, 5)},), HERE, 4, None)
    monkeypatch.setattr(room._Sink, "add", looking)
    there, told = probed(made, "classify", ({"x": floats(10, 5)},), THERE, 4, None)
    assert said == told
    assert looked == ["one", "two"]  # once: what is lost is not looked at again
    assert there["one"].metric_probes == here["one"].metric_probes == 0
    assert not np.any(there["one"].metric)
    assert there["two"].metric_probes == here["two"].metric_probes == 20
    np.testing.assert_allclose(metric_of(there["two"]), metric_of(here["two"]), rtol=1e-5)


def test_where_the_device_has_not_the_memory_the_rest_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    made, feed = model(ENDS, TWO, WIDE, "float"), {"x": floats(10, 5)}
    here, _ = probed(made, "classify", (feed,), HERE, 4, None)
    run, calls = Holding.run, []

    def failing(self: Holding, *given: Any) -> Any:
        calls.append(given)
        if len(calls) > 3:
            raise InputError("no memory is left")
        return run(self, *given)

    monkeypatch.setattr(Holding, "run", failing)
    there, _ = probed(made, "classify", (feed,), THERE, 4, None)
    assert len(calls) == 4
    for name, truth in here.items():
        assert there[name].metric_probes == truth.metric_probes == 20
        np.testing.assert_allclose(metric_of(there[name]), metric_of(truth), rtol=0, atol=3e-6 * metric_of(truth).max())


def test_the_demo(demo: Path) -> None:
    x = np.random.default_rng(0).random((12, 1, 16, 16)).astype(np.float32)
    assert_alike(load(demo / "digits-target.onnx"), {"image": x}, size=6)


@pytest.mark.assets
def test_sentences(assets: Path) -> None:
    with np.load(assets / "data" / "banking77-train.npz") as held:
        feed = {name: held[name][:8] for name in held}
    assert_alike(load(assets / "models" / "minilm-l6-v2.onnx"), feed, task="embed", mask="attention_mask")
