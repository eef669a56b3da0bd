"""`inspect`: where the bytes are, what is eligible, why the rest is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.model import Model, artifact_size, count_params
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.inspection import Inspection, inspect
from tests.graph.helpers import model, thin


def mixed() -> ModelProto:
    """Three layers of different sizes, one used twice, and three nodes that are none."""
    return model(
        """g (float[N,60] x, float[10,10] w) => (float[N,10] y, float[N,50] z, float[N,10] v, float[N,2] t) {
            [hidden] h = Gemm(x, W1, b1)
            r = Relu(h)
            [out] y = MatMul(r, W2)
            [once] p = Gemm(x, W3)
            [twice] q = MatMul(x, W3)
            z = Add(p, q)
            [dynamic] v = MatMul(y, w)
            [tiny] t0 = MatMul(x, W4)
            [tinier] t = MatMul(t0, W5)
        }""",
        W1=(60, 80),
        b1=(80,),
        W2=(80, 10),
        W3=(60, 50),
        W4=(60, 1),
        W5=(1, 2),
    )


def inspected(tmp_path: Path, proto: ModelProto | None = None) -> Inspection:
    path = tmp_path / "m.onnx"
    path.write_bytes((proto or mixed()).SerializeToString())
    return inspect(path)


def test_layers_come_largest_first_with_their_facts(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert [(f.name, f.op, f.weight, f.uses, f.m, f.n) for f in found.layers] == [
        ("hidden", "Gemm", "W1", 1, 80, 60),
        ("once", "Gemm", "W3", 2, 50, 60),
        ("out", "MatMul", "W2", 1, 10, 80),
    ]
    assert [(f.params, f.bytes, f.dtype) for f in found.layers] == [
        (4800, 19200, "float32"),
        (3000, 12000, "float32"),
        (800, 3200, "float32"),
    ]


def test_break_even_counts_a_bias_that_has_to_be_added(tmp_path: Path) -> None:
    by_name = {fact.name: fact.break_even for fact in inspected(tmp_path).layers}
    # k·140 < 4800; k·110 + 50 < 3000; k·90 + 10 < 800
    assert by_name == {"hidden": 34, "once": 26, "out": 8}


def test_totals_are_those_of_the_file(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert found.path == tmp_path / "m.onnx"
    assert found.bytes == artifact_size(found.path) == found.path.stat().st_size
    assert found.params == count_params(mixed()) == 4800 + 80 + 800 + 3000 + 60 + 2
    assert found.opsets == {"": 17, "com.microsoft": 1, "custom": 1}
    for fact in found.layers:
        assert fact.share == pytest.approx(fact.bytes / found.bytes)
    assert 0.9 < sum(fact.share for fact in found.layers) < 1


def test_the_rest_is_skipped_with_a_reason(tmp_path: Path) -> None:
    assert {entry.name: entry.reason for entry in inspected(tmp_path).skipped} == {
        "dynamic": "dynamic weight: both operands are computed at run time",
        "tiny": "too small to gain at any rank (1×60)",
        "tinier": "too small to gain at any rank (2×1)",
    }


def test_json_has_the_same_facts(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    facts = json.loads(found.to_json())
    assert facts["schema"] == 2
    assert facts["path"] == str(found.path)
    assert (facts["bytes"], facts["params"], facts["opsets"]) == (found.bytes, found.params, found.opsets)
    assert facts["optimized"] is None
    assert [tuple(entry) for entry in facts["layers"]] == [
        ("name", "weight", "op", "uses", "m", "n", "dtype", "params", "bytes", "share", "break_even")
    ] * 3
    for entry, fact in zip(facts["layers"], found.layers, strict=True):
        assert entry == {name: getattr(fact, name) for name in entry}
    assert {entry["name"]: entry["reason"] for entry in facts["skipped"]} == {
        entry.name: entry.reason for entry in found.skipped
    }


GOLDEN = """\
model: {size} kB, 8.74k parameters, opset onnx 17, com.microsoft 1, custom 1; 3 layers are eligible, {share:.1f} % of \
the file

layer   op       shape  type     parameters    bytes  of file  break-even rank  weight
hidden  Gemm     80×60  float32        4.8k  19.2 kB  {first:>7}               34  W1
once    Gemm ×2  50×60  float32          3k    12 kB  {second:>7}               26  W3
out     MatMul   10×80  float32         800   3.2 kB  {third:>7}                8  W2

skipped 1 MatMul: dynamic weight: both operands are computed at run time (dynamic)
skipped 1 MatMul: too small to gain at any rank (1×60) (tiny)
skipped 1 MatMul: too small to gain at any rank (2×1) (tinier)"""


def test_the_table() -> None:
    found = inspect(mixed())
    first, second, third = (f"{100 * fact.share:.1f} %" for fact in found.layers)
    share = 100 * sum(fact.share for fact in found.layers)
    assert [line.rstrip() for line in str(found).split("\n")] == GOLDEN.format(
        size=f"{found.bytes / 1000:.3g}", share=share, first=first, second=second, third=third
    ).split("\n")


def test_a_model_without_layers_has_no_table() -> None:
    found = inspect(model("g (float[N,6] x) => (float[N,6] y) { y = Relu(x) }"))
    assert (found.layers, found.skipped, found.params) == ((), (), 0)
    assert "0 layers are eligible, 0.0 % of the file" in str(found)
    assert len(str(found).splitlines()) == 1


def test_an_optimized_model_says_so() -> None:
    source = Model(model("g (float[N,60] x) => (float[N,80] y) { y = MatMul(x, W) }", W=(60, 80)))
    (layer,), _ = find(source)
    made = rewrite(source, [thin(layer, 10)], note='{"version": "0"}')
    found = inspect(made)
    assert found.optimized == '{"version": "0"}'
    assert 'note: optimized before: {"version": "0"}' in str(found)


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(InputError, match="is not an ONNX model"):
        inspect(tmp_path / "m.onnx")
