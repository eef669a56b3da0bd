"""Where two models begin to differ: in groups that fit into memory, past masks and rounding."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.graph.inside import as_rounded, computed
from onnx_dalr.graph.storage.model import load
from onnx_dalr.quality import drift
from onnx_dalr.quality.drift import Drift, TensorDrift, find_drift
from onnx_dalr.samples.base import InputSpec
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.samples.sources import open_samples
from tests.cli import tiny


def model(body: str, outputs: str = "float[N, 4] y") -> ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4] x) => ({outputs}) {{ {body} }}'
    )


def samples(values: np.ndarray) -> SampleSet:
    spec = InputSpec("x", (None, values.shape[1]), np.dtype(np.float32))
    return SampleSet(open_samples(values, [spec]), np.arange(len(values)), 32)


def drifting(a: ModelProto, b: ModelProto, values: np.ndarray | None = None) -> Drift:
    given = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32) if values is None else values
    return find_drift(load(a), load(b), samples(given), "cpu")


def test_tensors_that_do_not_fit_into_memory_together_are_looked_at_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = load(tiny.mlp()), load(tiny.mlp(seed=1))
    ticks: list[int] = []
    whole = find_drift(*pair, samples(tiny.rows()), "cpu")
    opened: list[object] = []
    session = drift._session
    monkeypatch.setattr(drift, "_AT_ONCE", 1)
    monkeypatch.setattr(drift, "_session", lambda *given: (opened.append(given[1]), session(*given))[1])
    apart = find_drift(*pair, samples(tiny.rows()), "cpu", ticks.append)
    assert opened[::2] == [["h1"], ["r1"], ["h2"], ["r2"], ["y"]]
    assert [tensor.name for tensor in apart.tensors] == [tensor.name for tensor in whole.tensors]
    for one, other in zip(apart.tensors, whole.tensors, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-4)
    assert sum(ticks) == drift.MOST_SAMPLES


def test_of_large_tensors_fewer_samples_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_IN_ALL", 3 * 4 * (48 + 48 + 48 + 48 + 4))
    assert find_drift(load(tiny.mlp()), load(tiny.mlp()), samples(tiny.rows()), "cpu").samples == 3


def test_what_a_mask_leaves_does_not_hide_the_rest() -> None:
    mask = "m = Constant <value = float[4] {-1e4, 0, 0, 0}> () h = Add(x, m) "
    masked = mask + "s = Constant <value = float {}> () y = Mul(h, s)"
    found = drifting(model(masked.replace("{}", "{1}")), model(masked.replace("{}", "{1.5}")))
    assert found.first is not None
    assert (found.first.name, found.first.error) == ("y", pytest.approx(0.5, rel=1e-3))


def test_rounded_digits_of_what_is_next_to_nothing_are_no_drift() -> None:
    """1 − cos²x − sin²x, say: all that is left is rounding."""
    a = model("b = Constant <value = float {1000}> () c = Add(x, b) d = Sub(c, b) h = Sub(d, x) y = Add(h, x)")
    b = model("b = Constant <value = float {1001}> () c = Add(x, b) d = Sub(c, b) h = Sub(d, x) y = Add(h, x)")
    found = drifting(a, b)
    by_name = {tensor.name: tensor for tensor in found.tensors}
    assert found.first is None or found.first.name == "c"
    assert by_name["y"].error < 1e-3


def test_the_first_that_drifts_stands_out_from_all_before_it() -> None:
    """Errors that grow slowly past the threshold are not where it begins."""
    errors = [8e-4, 1.1e-3, 1.3e-3, 0.08, 0.3]
    tensors = [TensorDrift(str(at), "", "Mul", "Mul", (1,), error, 0.0, True, False) for at, error in enumerate(errors)]
    assert drift._first(tensors, tensors[1:]) is tensors[3]
    assert drift._first(tensors[:3], tensors[1:3]) is tensors[1]
    assert drift._first(tensors[:1], []) is None


def test_what_a_quantizer_rounds_is_looked_at_behind_the_rounding() -> None:
    """The Relu of the original lives on in the rounding, which has nothing below zero."""
    rounding = (
        "s = Constant<value: tensor = float {0.0001}>()  z = Constant<value: tensor = uint16 {0}>() "
        "q = QuantizeLinear(r, s, z)  r2 = DequantizeLinear(q, s, z) "
    )
    relu = model("h = Neg(x)  r = Relu(h)  y = Neg(r)")
    fused = model(f"r = Neg(x)  {rounding}  y = Neg(r2)")
    for proto in (relu, fused):
        proto.opset_import[0].version = 21
        proto.ir_version = 10
    (r, y) = drifting(relu, fused).tensors
    assert (r.name, r.op, r.op_b) == ("r", "Relu", "Neg")
    assert 0 < r.error < 1e-3
    assert y.error < 1e-3
    assert all(tensor.error == 0 for tensor in drifting(fused, fused).tensors)


def test_half_precision_alone_is_no_drift() -> None:
    half = "h = Cast <to = 10> (x) g = Mul(h, h) y = Cast <to = 1> (g)"
    whole = "h = Identity(x) g = Mul(h, h) y = Identity(g)"
    found = drifting(model(whole), model(half))
    assert [tensor.name for tensor in found.tensors] == ["h", "g", "y"]
    assert 1e-5 < found.before < 1e-3
    assert found.first is None


def test_nodes_come_in_an_order_of_computation_as_near_to_the_files_as_can_be() -> None:
    proto = model("a = Neg(x) b = Relu(x) c = Add(a, b) y = Mul(c, a)")
    assert [one.name for one in computed(proto)] == ["a", "b", "c", "y"]
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([nodes[3], nodes[1], nodes[2], nodes[0]])
    assert [one.name for one in computed(proto)] == ["b", "a", "c", "y"]


def test_constants_are_not_among_what_is_computed() -> None:
    proto = model("k = Constant <value = float {2}> () w = Neg(k) h = Mul(x, w) y = Relu(h)")
    (h, _) = computed(proto)
    assert (h.name, h.op, h.read) == ("h", "Mul", {"x", "w"})


def test_what_onnx_runtime_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        del given
        raise InputError("ONNX Runtime cannot load the model")

    monkeypatch.setattr(drift, "_session", refuse)
    found = drifting(model("y = Neg(x)"), model("y = Neg(x)"))
    assert (found.tensors, found.note) == ((), "ONNX Runtime cannot load the model")


def test_what_is_rounded_for_nobody_inside_is_looked_at_as_it_is() -> None:
    """Of a model whose output is the rounding itself, nothing comes back from it."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x) => (uint8[1,2] q)'
        " <float s = {0.1}, uint8 z = {0}> { y = Relu(x) q = QuantizeLinear(y, s, z) }"
    )
    assert as_rounded(proto) == {}
