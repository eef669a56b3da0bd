"""Layers that have no output metric, and why: a note, never an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_dalr.errors import InputError
from onnx_dalr.gradient import differentiate
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn import probes as room
from onnx_dalr.learn.probes import Probed
from onnx_dalr.quality.measures import Classes, Values
from onnx_dalr.quality.task import Measured, Task
from tests.learn.metric_cases import (
    ENDS,
    MLP,
    TWO,
    TWO_WEIGHTS,
    X,
    assert_exact,
    expected,
    metric_of,
    model,
    numbers,
    probed,
)
from tests.quality.task_cases import of_model

# What has none


BESIDE = {**TWO_WEIGHTS, "U": numbers(5, 3)}
BRANCHES = """[cut] r = If (yes) <then_branch = a () => (T[N, 4] u) { u = Relu(h) },
else_branch = b () => (T[N, 4] v) { v = Tanh(h) }>"""


def flagged(made: Model) -> Model:
    made.proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    return made


def test_a_layer_behind_an_operator_without_a_rule_has_no_metric_and_the_others_keep_theirs() -> None:
    made = flagged(model(ENDS, f"[one] h = MatMul(x, W) {BRANCHES} [two] y = MatMul(r, V)", TWO_WEIGHTS))
    stats, found = probed(made, "classify", X)
    assert (stats["one"].metric_probes, stats["two"].metric_probes) == (0, 6 * room.PROBES)
    assert found.notes == (
        "1 of 2 layers have no output metric, their ranks go by measured sensitivity: gradients end at If 'cut': no "
        "rule for this operator",
    )
    truth = expected(made, find(made)[0][1], "classify", X)
    np.testing.assert_allclose(metric_of(stats["two"]), truth, rtol=1e-5, atol=1e-5 * np.abs(truth).max())


def test_an_output_beside_the_scored_one_is_worth_its_squared_relative_error() -> None:
    made = model("(T[N, 5] x) => (T[N, 4] y, T[N, 3] z)", "[one] y = MatMul(x, W) [two] z = MatMul(x, U)", BESIDE)
    stats, found = probed(made, "classify", X)
    assert (stats["one"].metric_probes, stats["two"].metric_probes) == (6 * room.PROBES, 6 * room.PROBES)
    assert found.notes == ()
    layer = find(made)[0][1]
    power = float(np.mean(np.sum((X["x"] @ matrix(made, layer).T) ** 2, axis=1)))
    # E[v vᵀ] = I / power, whatever the signs, so its diagonal is exact
    np.testing.assert_allclose(np.diag(stats["two"].output_metric), np.full(3, 1 / power), rtol=1e-5)


def test_where_no_layer_has_one_nothing_is_run() -> None:
    cut = BRANCHES.replace("[N, 4]", "[N, 3]")
    made = flagged(model(ENDS, f"[one] h = MatMul(x, U) {cut} y = Identity(r)", BESIDE))
    stats, found = probed(made, "classify", X)
    assert stats["one"].metric_probes == 0
    assert (found.samples, found.passes, len(found.notes)) == (0, 0, 1)


def test_outputs_of_integers_are_left_out() -> None:
    ends = "(T[N, 5] x) => (int64[N] best, T[N, 3] y)"
    made = model(ends, f"{TWO} best = ArgMax <axis = 1, keepdims = 0> (y)", TWO_WEIGHTS)
    stats, found = probed(made, "regress", X)
    whole, _ = probed(MLP, "regress", X)
    assert found.notes == ()
    assert stats["one"].metric_power == pytest.approx(whole["one"].metric_power, rel=0.5)  # seeds of another output
    assert_exact(made, "regress", X)


def test_a_model_that_answers_in_integers_alone_has_no_metric() -> None:
    ends = "(T[N, 5] x) => (int64[N] best)"
    made = model(ends, f"{TWO} best = ArgMax <axis = 1, keepdims = 0> (y)", TWO_WEIGHTS)
    stats, found = probed(made, "regress", X)
    assert found == Probed(0, 0, ("no output metric: no output that counts has gradients",))
    assert not any(each.metric_probes for each in stats.values())


def test_class_numbers_have_the_gradients_of_the_scores_they_are_made_of() -> None:
    ends = "(T[N, 5] x) => (int64[N] best)"
    made = model(ends, f"{TWO} best = ArgMax <axis = 1, keepdims = 0> (y)", TWO_WEIGHTS)
    asked = Task((Measured("best", 0, Values(answers=True)), Measured("y", 1, Classes(), hidden=True)))
    stats, found = probed(made, asked, X)
    whole, _ = probed(MLP, "classify", X)
    assert found.notes == ()
    for name, each in stats.items():
        assert each.metric_probes == whole[name].metric_probes
        assert each.metric_power == pytest.approx(whole[name].metric_power, rel=0.5)  # seeds of another output


def test_where_outputs_are_declared_the_others_are_not_probed() -> None:
    made = model("(T[N, 5] x) => (T[N, 4] y, T[N, 3] z)", "[one] y = MatMul(x, W) [two] z = MatMul(x, U)", BESIDE)
    stats, found = probed(made, of_model(made, "auto", X, declared=("z",)), X)
    assert (stats["one"].metric_probes, stats["two"].metric_probes) == (0, 6 * room.PROBES)
    assert found.notes == (
        "1 of 2 layers have no output metric, their ranks go by measured sensitivity: no path leads from them to 'z'",
    )


def test_an_output_that_is_always_zero_has_no_say() -> None:
    made = model("(T[N, 5] x) => (T[N, 3] y, T[N, 4] z)", f"{TWO} z = Sub(h, h)", TWO_WEIGHTS)
    assert_exact(made, "regress", X)


def test_gradients_that_are_not_finite_cost_only_the_layers_they_reach() -> None:
    body = "[one] h = MatMul(x, O) p = Mul(h, big) t = Tanh(p) q = Mul(t, big) r = Add(q, b) [two] y = MatMul(r, V)"
    made = model(ENDS, body, {**TWO_WEIGHTS, "O": np.zeros((5, 4)), "big": np.array(1e30)}, "float")
    stats, found = probed(made, "classify", {"x": X["x"].astype(np.float32)})
    assert stats["one"].metric_probes == stats["one"].metric_rows == 0
    assert not np.any(stats["one"].metric)
    assert stats["two"].metric_probes == 6 * room.PROBES
    why = "their gradients are not finite, their ranks go by measured sensitivity"
    assert found.notes == (f"no output metric for one: {why}",)


def test_a_gradient_graph_that_does_not_run_is_a_note_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:

    def broken(proto: ModelProto, seeded: Sequence[str], wanted: Sequence[str]) -> Any:
        found = differentiate(proto, seeded, wanted)
        (last,) = [node for node in found.proto.graph.node if found.names[wanted[0]] in node.output]
        last.op_type, last.domain = "Nowhere", "custom"
        return found

    monkeypatch.setattr(room, "differentiate", broken)
    stats, found = probed(MLP, "classify", X)
    (note,) = found.notes
    assert note.startswith("no output metric: ONNX Runtime cannot load the model")
    assert (found.samples, found.passes) == (0, 0)
    for each in stats.values():
        assert each.metric_probes == each.metric_rows == each.metric_power == 0


def test_a_failure_on_a_later_batch_takes_back_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK_ROWS", 1)
    truth, calls = room._Graph.run, []

    def failing(*given: Any) -> Any:
        calls.append(given)
        if len(calls) > room.PROBES:
            raise InputError("no memory is left")
        return truth(*given)

    monkeypatch.setattr(room._Graph, "run", failing)
    stats, found = probed(MLP, "classify", X)
    assert len(calls) == room.PROBES + 1
    assert found == Probed(0, 0, ("no output metric: no memory is left",))
    for each in stats.values():
        assert each.metric_probes == each.metric_rows == each.metric_power == 0
        assert not np.any(each.metric)
