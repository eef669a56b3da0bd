"""The output metric: gradients of random probes against Jacobians taken by brute force."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_dalr.factorize import Settings, Statistics
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn import probes as room
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.probes import add_metric
from onnx_dalr.learn.seeds import Seeder
from onnx_dalr.quality.task import TaskName
from onnx_dalr.samples.sets import watched
from onnx_dalr.session.session import Session, open_session
from tests.learn.metric_cases import (
    DALR,
    ENDS,
    KIND,
    KINDS,
    MLP,
    STEP,
    TWO,
    TWO_WEIGHTS,
    Array,
    X,
    assert_exact,
    expected,
    gradients,
    jacobians,
    metric_of,
    model,
    numbers,
    probed,
    run,
    samples_of,
)
from tests.quality.task_cases import CLASSIFY, of_model

# Layers of every kind


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_two_gemms_at_logits_and_at_features(task: TaskName) -> None:
    found = assert_exact(MLP, task, X)
    assert (found.samples, found.notes) == (6, ())
    assert found.passes == 1 + 3 * room.PROBES


def test_squares_are_in_units_of_each_output() -> None:
    made = model(
        "(T[N, 5] x) => (T[N, 3] y, T[N, 4] z)",
        f"{TWO} z = Tanh(h)",
        TWO_WEIGHTS,
    )
    assert_exact(made, "regress", X)


def test_at_probabilities() -> None:
    assert_exact(model(ENDS, TWO.replace("y =", "s =") + " y = Softmax <axis = -1> (s)", TWO_WEIGHTS), "classify", X)


def test_a_matmul_whose_bias_is_an_add() -> None:
    made = model(ENDS, "[one] h = MatMul(x, W) a = Add(h, b) r = Tanh(a) [two] y = MatMul(r, V)", TWO_WEIGHTS)
    assert_exact(made, "classify", X)


def test_a_gemm_with_alpha_and_beta() -> None:
    scaled = "[one] h = Gemm <alpha = 0.5, beta = 2.0> (x, W, b) r = Tanh(h) [two] y = Gemm <alpha = 3.0> (r, V)"
    assert_exact(model(ENDS, scaled, TWO_WEIGHTS), "classify", X)


def test_a_gemm_that_transposes_its_data() -> None:
    flipped = "t = Transpose <perm = [1, 0]> (x) [one] h = Gemm <transA = 1> (t, W) r = Tanh(h) [two] y = MatMul(r, V)"
    assert_exact(model(ENDS, flipped, TWO_WEIGHTS), "classify", X)


def test_a_layer_with_more_outputs_than_inputs_keeps_what_its_weight_sees() -> None:
    wide = model(ENDS, TWO, {"W": numbers(5, 9), "b": numbers(9), "V": numbers(9, 3), "c": numbers(3)})
    layers, _ = find(wide)
    stats, _ = probed(wide, "classify", X)
    assert [(layer.m, layer.n, len(stats[layer.name].output_metric)) for layer in layers] == [(9, 5, 5), (3, 9, 3)]
    assert_exact(wide, "classify", X)


TOKENS = "(T[N, L, 5] x, int64[N, L] attention_mask) => (T[N, 2] y)"
POOLED = """[one] h = MatMul(x, W) a = Tanh(h) f = CastLike(attention_mask, x) axes = Constant <value_ints = [2]> ()
u = Unsqueeze(f, axes) k = Mul(a, u) p = ReduceSum <keepdims = 0> (k, one_axis) [two] y = MatMul(p, V)"""


def tokens() -> dict[str, Array]:
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], np.int64)
    return {"x": numbers(4, 3, 5), "attention_mask": mask}


def of_tokens(body: str = POOLED, m: int = 4) -> Model:
    made = model(TOKENS, body, {"W": numbers(5, m), "V": numbers(m, 2)})
    made.proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one_axis"))
    return made


def test_every_token_is_a_row_and_counts_with_what_it_does_to_the_sample() -> None:
    assert_exact(of_tokens(), "classify", tokens())


def test_masked_tokens_are_left_out() -> None:
    mean = POOLED.replace("k = Mul(a, u)", "k = Identity(a)")  # the padding moves the output too
    made, feed = of_tokens(mean), tokens()
    masked, _ = probed(made, "classify", feed, mask_input="attention_mask")
    every, _ = probed(made, "classify", feed)
    assert masked["one"].metric_rows == 9 * room.PROBES < every["one"].metric_rows == 12 * room.PROBES
    assert masked["one"].metric_probes == every["one"].metric_probes == 4 * room.PROBES
    (layer, _), _ = find(made)
    for stats, mask in ((masked, "attention_mask"), (every, None)):
        truth = expected(made, layer, "classify", feed, mask=mask)
        np.testing.assert_allclose(metric_of(stats["one"]), truth, atol=1e-5 * np.abs(truth).max())


def test_a_1x1_convolution_with_strides() -> None:
    body = """[one] h = Conv <kernel_shape = [1, 1], strides = [2, 2]> (x, K) r = Relu(h) p = GlobalAveragePool(r)
    q = Flatten(p) [two] y = MatMul(q, V)"""
    made = model("(T[N, 5, 4, 4] x) => (T[N, 3] y)", body, {"K": numbers(4, 5, 1, 1), "V": numbers(4, 3)}, "float")
    feed = {"x": numbers(3, 5, 4, 4).astype(np.float32)}
    layers, _ = find(made)
    stats, _ = probed(made, "classify", feed)
    assert stats["one"].metric_rows == 3 * 2 * 2 * room.PROBES
    truth = expected(made, layers[0], "classify", feed, axis=1, step=1e-2)
    np.testing.assert_allclose(metric_of(stats["one"]), truth, atol=1e-3 * np.abs(truth).max())


def test_a_weight_used_twice_adds_up_over_its_nodes() -> None:
    twice = "[one] h = MatMul(x, W) r = Tanh(h) [two] s = MatMul(r, W) t = Tanh(s) [three] y = MatMul(t, V)"
    made = model(ENDS, twice, {"W": numbers(5, 5), "V": numbers(5, 3)})
    stats, _ = probed(made, "classify", X)
    assert list(stats) == ["one", "three"]
    assert stats["one"].metric_rows == 2 * stats["three"].metric_rows
    assert stats["one"].metric_probes == stats["three"].metric_probes
    assert_exact(made, "classify", X)


POOL = " p = ReduceSum <keepdims = 0> (a, one_axis) [two] y = MatMul(p, V)"
ROWS = "[one] h = MatMul(x, W) a = Tanh(h)" + POOL
LENGTH_FIRST = (
    """t = Transpose <perm = [1, 0, 2]> (x) [one] h = MatMul(t, W) r = Tanh(h)
a = Transpose <perm = [1, 0, 2]> (r)"""
    + POOL
)
JOINED = (
    """t = Transpose <perm = [1, 0, 2]> (x) [zero] z = MatMul(t, Z) j = Reshape(z, rows) [one] g = Gemm(j, W)
s = Shape(t) h = Reshape(g, s) r = Tanh(h) a = Transpose <perm = [1, 0, 2]> (r)"""
    + POOL
)
TWICE = "[one] h = MatMul(x, W) r = Tanh(h) [again] q = MatMul(r, W) a = Tanh(q)" + POOL


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("body", [ROWS, LENGTH_FIRST, JOINED, TWICE], ids=["rows", "length first", "joined", "twice"])
def test_what_a_mask_leaves_of_a_sample_is_still_its_own(body: str, size: int) -> None:
    """The samples keep 3, 1, 2 and 3 rows: how much each moves the output is that of its own rows."""
    made, feed = of_tokens(body, m=5), tokens()
    for name, value in {"Z": numbers(5, 5), "rows": np.array([-1, 5])}.items():
        made.proto.graph.initializer.append(numpy_helper.from_array(value, name))
    layer = next(layer for layer in find(made)[0] if layer.name == "one")
    stats, _ = probed(made, "classify", feed, mask_input="attention_mask", size=size)
    rows = list(gradients(made, layer, "classify", feed, mask="attention_mask"))
    assert [len(each) for each in rows[:: room.PROBES]] == [count * len(layer.uses) for count in (3, 1, 2, 3)]
    powers = [np.sum(each**2, axis=1) for each in rows]
    found = stats["one"]
    assert found.metric_rows == sum(map(len, rows))
    np.testing.assert_allclose(found.metric_power, sum(map(np.sum, powers)), rtol=1e-5)
    np.testing.assert_allclose(found.metric_spread[0], sum(np.sum(power**2) for power in powers), rtol=1e-5)
    np.testing.assert_allclose(found.metric_spread[1], sum(np.sum(power) ** 2 for power in powers), rtol=1e-5)


def test_samples_of_unequal_rows_add_up_like_others() -> None:
    made, feed = of_tokens(), tokens()
    parts = [{name: array[part] for name, array in feed.items()} for part in (slice(0, 1), slice(1, 4))]
    halves = [probed(made, CLASSIFY, part, mask_input="attention_mask")[0] for part in parts]
    whole, _ = probed(made, "classify", feed, mask_input="attention_mask")
    for layer in whole:
        assert_same(halves[0][layer] + halves[1][layer], whole[layer])


def test_a_tensor_that_is_an_output_and_read_on_gets_both_gradients() -> None:
    made = model("(T[N, 5] x) => (T[N, 4] h, T[N, 3] y)", TWO, TWO_WEIGHTS)
    assert_exact(made, "regress", X)


# In expectation


def test_with_many_probes_it_is_the_gauss_newton_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROBES", 400)
    stats, _ = probed(MLP, "classify", X, size=6)
    (layer, _), _ = find(MLP)
    truth = np.zeros((4, 4))
    for row in X["x"]:
        _, (J,) = jacobians(MLP, layer.uses[0].output, {"x": row[None]}, STEP)
        logits = run(MLP.proto, {"x": row[None]}, ["y"])[0][0]
        p = np.exp(logits) / np.exp(logits).sum()
        truth += J.T @ (np.diag(p) - np.outer(p, p)) @ J / 2 / len(X["x"])
    np.testing.assert_allclose(stats["one"].output_metric, truth, atol=0.1 * np.abs(truth).max())


def test_its_tail_is_the_divergence_of_compressing_that_layer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROBES", 40)
    x = {"x": 0.3 * numbers(60, 5)}
    stats, _ = probed(MLP, "classify", x, size=20)
    (layer, _), _ = find(MLP)
    W = matrix(MLP, layer)
    spectrum = DALR.spectrum(W, stats["one"], Settings(shrinkage=0.0, metric=0.0))
    assert spectrum.metric_tails is not None
    found = spectrum.factors(3)
    moved = x["x"] @ (found.A @ found.B).T + TWO_WEIGHTS["b"] + found.shift
    before, after = (
        np.maximum(h, 0) @ TWO_WEIGHTS["V"] + TWO_WEIGHTS["c"] for h in (x["x"] @ W.T + TWO_WEIGHTS["b"], moved)
    )
    p, q = (np.exp(y) / np.exp(y).sum(axis=1, keepdims=True) for y in (before, after))
    measured = float(np.mean(np.sum(p * np.log(p / q), axis=1)))
    assert measured / 2 < spectrum.metric_tails[3] < 2 * measured


# However they come


def assert_same(one: Statistics, other: Statistics, rel: float = 1e-6) -> None:
    assert (one.metric_rows, one.metric_probes) == (other.metric_rows, other.metric_probes)
    a, b = metric_of(one), metric_of(other)
    assert a.any()
    np.testing.assert_allclose(a, b, atol=rel * np.abs(a).max())
    assert one.metric_power == pytest.approx(other.metric_power, rel=rel)
    np.testing.assert_allclose(one.metric_spread, other.metric_spread, rtol=rel)


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_two_halves_add_up_to_the_whole(task: TaskName) -> None:
    asked = of_model(MLP, task, X)
    halves = [probed(MLP, asked, {"x": X["x"][part]})[0] for part in (slice(0, 2), slice(2, 6))]
    whole, _ = probed(MLP, asked, X)
    for layer in whole:
        assert_same(halves[0][layer] + halves[1][layer], whole[layer])


@pytest.mark.parametrize("task", KIND)
@pytest.mark.parametrize("size", [1, 5])
def test_it_does_not_depend_on_the_batch_size(task: TaskName, size: int) -> None:
    one, _ = probed(MLP, task, X, size=size)
    whole, _ = probed(MLP, task, X, size=6)
    for layer in whole:
        assert_same(one[layer], whole[layer])


@pytest.mark.parametrize("rows", [1, 7])
def test_it_does_not_depend_on_the_chunks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = probed(MLP, "classify", X)
    monkeypatch.setattr(room, "CHUNK_ROWS", rows)
    parts, _ = probed(MLP, "classify", X)
    for layer in whole:
        assert_same(parts[layer], whole[layer])


def test_models_that_take_one_sample_at_a_time_work() -> None:
    fixed = model("(T[1, 5] x) => (T[1, 3] y)", TWO, TWO_WEIGHTS)
    feeds = [{"x": row[None]} for row in X["x"]]
    found, _ = probed(fixed, "classify", *feeds)
    whole, _ = probed(MLP, "classify", *feeds)
    for layer in whole:
        assert_same(found[layer], whole[layer])


def test_complete_feeds_work() -> None:
    made = model(
        "(T[L, 5] x, T[4] s) => (T[L, 3] y)", TWO.replace("r = Relu(h)", "m = Mul(h, s) r = Relu(m)"), TWO_WEIGHTS
    )
    feeds = [{"x": numbers(length, 5, seed=length), "s": numbers(4, seed=length)} for length in (2, 5, 3)]
    stats, found = probed(made, CLASSIFY, *feeds)
    assert (found.samples, stats["one"].metric_probes, stats["one"].metric_rows) == (3, 6, 20)


def test_rows_of_many_samples_are_probed_from_some_of_them_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_SAMPLES", 3)
    stats, found = probed(MLP, "classify", X)
    assert (found.samples, stats["one"].metric_probes, stats["one"].count) == (3, 3 * room.PROBES, 6)


def test_what_does_not_fit_into_memory_goes_a_few_samples_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = probed(MLP, "classify", X, size=6)
    monkeypatch.setattr(room, "MOST_BYTES", 1)
    alone, _ = probed(MLP, "classify", X, size=6)
    for layer in whole:
        assert_same(alone[layer], whole[layer])


@pytest.mark.parametrize("said", [1 << 20, 20])
def test_of_a_large_model_one_session_is_open_at_a_time_where_its_answers_fit(
    said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = probed(MLP, "classify", X)
    alive: list[int] = []
    opened: list[weakref.ref[Session]] = []

    def opening(*given: Any, **how: Any) -> Session:
        session = open_session(*given, **how)
        alive.append(sum(one() is not None for one in opened))
        opened.append(weakref.ref(session))
        return session

    monkeypatch.setattr(room, "PACKED_BELOW", 0)
    monkeypatch.setattr(room, "MOST_SAID", said)
    monkeypatch.setattr(room, "open_session", opening)
    monkeypatch.setattr(room, "reference_session", lambda model, *_: opening(model.source(), "cpu"))
    apart, _ = probed(MLP, "classify", X)
    assert alive == [0, 0 if said > 20 else 1]
    for layer in whole:
        assert_same(apart[layer], whole[layer])


def test_progress_counts_samples() -> None:
    layers, _ = find(MLP)
    told: list[int] = []
    with samples_of(MLP, X) as fit:
        stats = capture(MLP, layers, DALR, [batch for _, batch in fit], device="cpu", metric=True).statistics
        add_metric(MLP, layers, stats, fit, CLASSIFY, device="cpu", advance=told.append)
    assert told == [4, 2]


def test_a_layer_that_no_row_reached_is_passed_over() -> None:
    layers, _ = find(MLP)
    with samples_of(MLP, X) as fit:
        stats = capture(MLP, layers, DALR, [batch for _, batch in fit], device="cpu", metric=True).statistics
        del stats["one"]
        found = add_metric(MLP, layers, stats, fit, CLASSIFY, device="cpu")
    assert found.notes == ()
    assert list(stats) == ["two"]
    assert stats["two"].metric_probes


@pytest.mark.parametrize(("kind", "close"), [("float", 1e-4), ("float16", 2e-2)])
@pytest.mark.parametrize("task", KIND)
def test_other_precisions_give_nearly_the_same(kind: str, close: float, task: TaskName) -> None:
    made = model(ENDS, TWO, TWO_WEIGHTS, kind)
    exact = model(ENDS, TWO, {name: value.astype(KINDS[kind]).astype(float) for name, value in TWO_WEIGHTS.items()})
    x = X["x"].astype(KINDS[kind])
    found, notes = probed(made, task, {"x": x})
    layers, _ = find(exact)
    assert notes.notes == ()
    # The seeds are drawn by content: those of this precision, at the Jacobians of the exact model.
    for layer in layers:
        truth = np.zeros((layer.m, layer.m))
        seen: list[str] = []
        with samples_of(made, {"x": x}, size=1) as fit:
            y = np.concatenate([run(made.proto, batch, ["y"])[0] for _, batch in fit])
            seeder = Seeder(of_model(made, task, {"x": x}))
            for at, (_, feed) in enumerate(watched(fit, seen)):
                _, (J,) = jacobians(exact, layer.uses[0].output, {"x": feed["x"].astype(float)}, STEP)
                for probe in range(room.PROBES):
                    g = seeder.draw(y[at : at + 1], 0, seen[-1:], probe).astype(float) @ J
                    truth += g.T @ g
        np.testing.assert_allclose(metric_of(found[layer.name]), truth, atol=close * np.abs(truth).max())
