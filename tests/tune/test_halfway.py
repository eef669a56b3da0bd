"""A model goes on from where it was halfway, and computes what it computes from the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, parser

from onnx_dalr.gradient.crossing import crossing, needed
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.session.session import Session, open_session
from onnx_dalr.tune import halfway
from onnx_dalr.tune.halfway import Halfway, Kept

# a → A(changes) → b → B → c; s skips both; k is a constant made by a node.
TEXT = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N,4] x) => (float[N,4] y)
<float[4,4] A = {2,0,0,0, 0,2,0,0, 0,0,2,0, 0,0,0,2}, float[4,4] B = {3,0,0,0, 0,3,0,0, 0,0,3,0, 0,0,0,3},
 float[1] one = {1}>
{
    k = Neg(one)
    a = Add(x, k)
    s = Mul(a, a)
    b = MatMul(a, A)
    t = Relu(b)
    u = Add(t, s)
    c = MatMul(u, B)
    v = Add(c, s)
    y = Add(v, k)
}
"""
PROTO = parser.parse_model(TEXT)
KNOWN = {"x", *(name for node in PROTO.graph.node for name in node.output)}


class Opened:
    """Opens parts of models, and keeps the names of what they read."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def __call__(self, proto: ModelProto) -> Session:
        self.read.append([value.name for value in proto.graph.input])
        return open_session(Model(proto).in_memory(proto)[0], "cpu")


def batches(count: int = 3) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
    rng = np.random.default_rng(3)
    return [((2 * at, 2 * at + 1), {"x": rng.standard_normal((2, 4)).astype(np.float32)}) for at in range(count)]


def ran(proto: ModelProto, tensors: list[str], across: list[str], kept: Kept) -> tuple[list[Any], Kept, Opened]:
    opened = Opened()
    model = Halfway(proto, tensors, across, kept, opened)
    found = [model.run(batch, indices) for indices, batch in batches()]
    return found, model.done(), opened


def test_what_crosses_is_what_others_read_later_and_nothing_that_will_move() -> None:
    assert crossing(PROTO, ["a"], ["u"], [], KNOWN) == ["a"]
    assert crossing(PROTO, ["a", "u"], ["v"], [], KNOWN) == ["s", "u"]
    assert crossing(PROTO, ["a", "u"], ["v"], ["b"], KNOWN) == ["a", "s"]


def test_nodes_within_a_replaced_layer_move_with_it() -> None:
    made = parser.parse_model(TEXT.replace("b = MatMul(a, A)", "l = MatMul(a, A)\n b = MatMul(l, A)"))
    assert "l" not in crossing(made, ["a", "u"], ["v"], ["b"], KNOWN)


def test_from_halfway_it_is_the_same() -> None:
    whole, _, _ = ran(PROTO, ["v"], [], Kept())
    across = crossing(PROTO, ["a", "u"], ["v"], [], KNOWN)
    _, kept, first = ran(PROTO, ["a", "u"], across, Kept())
    assert first.read == [["x"]]
    found, _, then = ran(PROTO, ["v"], [], kept)
    assert [sorted(read) for read in then.read] == [["s", "u"]]
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_allclose(other["v"], one["v"], rtol=1e-6)


def test_what_changed_is_computed_anew() -> None:
    across = crossing(PROTO, ["a", "u"], ["v"], ["b"], KNOWN)
    _, kept, _ = ran(PROTO, ["a", "u"], across, Kept())
    changed = parser.parse_model(TEXT.replace("A = {2,", "A = {7,"))
    whole, _, _ = ran(changed, ["v"], [], Kept())
    found, _, opened = ran(changed, ["v"], [], kept)
    assert all("x" not in read for read in opened.read)
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_allclose(other["v"], one["v"], rtol=1e-6)


def test_a_tensor_that_was_kept_is_handed_out() -> None:
    _, kept, _ = ran(PROTO, ["a", "u"], ["a", "u", "s"], Kept())
    found, _, opened = ran(PROTO, ["u"], [], kept)
    assert opened.read == []
    assert found[0]["u"].shape == (2, 4)


def test_other_samples_are_run_from_the_start() -> None:
    _, kept, _ = ran(PROTO, ["a", "u"], ["u", "s"], Kept())
    opened = Opened()
    model = Halfway(PROTO, ["v"], [], kept, opened)
    model.run(batches()[0][1], (7, 8))
    assert opened.read == [["x"]]


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, kept, _ = ran(PROTO, ["a"], ["a"], Kept())
    monkeypatch.setattr(halfway, "MOST_KEPT", 100)
    _, same, _ = ran(PROTO, ["a", "u"], ["u", "s"], kept)
    assert same is kept


def test_what_is_needed_ends_at_what_is_kept_and_at_inputs() -> None:
    assert set(needed(PROTO, ["v"], {"u", "s"})) == {"u", "s"}
    assert set(needed(PROTO, ["v"], {"t"})) == {"t", "x"}
    assert needed(PROTO, ["v"], set()) == ["x"]
