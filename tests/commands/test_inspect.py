"""`inspect`: where the bytes are, what is eligible, why the rest is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, external_data_helper

from onnx_dalr.ahead.reachable import Reachable, reachable
from onnx_dalr.commands.inspect import inspect
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model, artifact_size, count_params
from onnx_dalr.results.inspect import Inspection, is_small
from tests.graph.helpers import model, thin, values


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
        (
            "name",
            "weight",
            "op",
            "uses",
            "m",
            "n",
            "dtype",
            "params",
            "bytes",
            "share",
            "break_even",
            "macs",
            "structures",
        )
    ] * 3
    for entry, fact in zip(facts["layers"], found.layers, strict=True):
        assert entry.pop("structures") == [{"name": "pair", "largest": [fact.break_even]}]
        assert entry == {name: getattr(fact, name) for name in entry}
    assert {entry["name"]: entry["reason"] for entry in facts["skipped"]} == {
        entry.name: entry.reason for entry in found.skipped
    }
    assert facts["tensors"][1] == {
        "name": "W3",
        "also": [],
        "where": "",
        "op": "Gemm",
        "node": "once",
        "ops": ["Gemm", "MatMul"],
        "uses": 2,
        "dtype": "float32",
        "shape": [60, 50],
        "bytes": 12000,
        "share": 12000 / found.bytes,
        "file": None,
        "kind": "Gemm",
        "layer": "once",
        "break_even": 26,
        "reason": None,
        "format": None,
        "macs": 6000,
        "numbers": 3000,
        "grain": "",
        "aside": None,
        "domain": "",
        "says": None,
    }
    assert facts["kinds"][0] == {
        "kind": "Gemm",
        "eligible": True,
        "reason": None,
        "count": 2,
        "bytes": 31200,
        "share": 31200 / found.bytes,
        "macs": 10_800,
    }
    assert (facts["other_bytes"], facts["remark_bytes"], facts["unclaimed_bytes"]) == (found.other_bytes, 0, 0)
    assert facts["reachable"]["eligible"] == 34400


def test_every_byte_is_in_a_tensor_or_in_the_rest(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert sum(tensor.bytes for tensor in found.tensors) + found.other_bytes == found.bytes
    assert [tensor.name for tensor in found.tensors] == ["W1", "W3", "W2", "b1", "W4", "W5"]
    assert sum(kind.bytes for kind in found.kinds) == sum(tensor.bytes for tensor in found.tensors)
    assert sum(kind.count for kind in found.kinds if kind.bytes) == len(found.tensors)
    for entry in (*found.tensors, *found.kinds):
        assert entry.share == pytest.approx(entry.bytes / found.bytes)


def test_a_tensor_says_what_it_is(tmp_path: Path) -> None:
    first, second, _, bias, tiny, _ = inspected(tmp_path).tensors
    assert (first.layer, first.op, first.node, first.uses, first.shape) == ("hidden", "Gemm", "hidden", 1, (60, 80))
    assert (first.kind, first.break_even, first.reason, first.dtype) == ("Gemm", 34, None, "float32")
    assert (second.layer, second.uses) == ("once", 2)
    assert (bias.kind, bias.layer, bias.reason, bias.op, bias.is_weight) == ("bias", None, None, "Gemm", False)
    assert (tiny.kind, tiny.layer, tiny.node, tiny.is_weight) == ("MatMul", None, "tiny", True)
    assert tiny.reason == "too small to gain at any rank (1×60)"


def test_kinds_sum_tensors_up_by_what_they_are_and_why_not(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert [(kind.kind, kind.eligible, kind.reason, kind.count, kind.bytes) for kind in found.kinds] == [
        ("Gemm", True, None, 2, 31200),
        ("MatMul", True, None, 1, 3200),
        ("small constants", False, None, 1, 320),
        ("MatMul", False, "too small to gain at any rank", 2, 248),
        ("MatMul", False, "both operands are computed", 1, 0),
    ]


def test_every_multiply_add_is_of_a_kind(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert [kind.macs for kind in found.kinds] == [4800 + 2 * 3000, 800, 0, 60 + 2, 100]
    assert found.macs == sum(kind.macs or 0 for kind in found.kinds)
    assert {layer.name: layer.macs for layer in found.layers} == {"hidden": 4800, "once": 6000, "out": 800}
    assert f"{found.macs / 1000:.3g}k multiply-adds, opset" in str(found)
    (row,) = [line for line in str(found).splitlines() if line.endswith("both operands are computed")]
    assert row.split()[:4] == ["MatMul", "1", "0.9", "%"]


def test_a_recurrent_node_is_counted_with_the_first_of_its_weights() -> None:
    text = "g (float[T,N,40] x) => (float[T,1,N,30] y) { y = LSTM <hidden_size = 30> (x, W, R) }"
    found = inspect(model(text, W=(1, 120, 40), R=(1, 120, 30), checked=False))
    assert found.macs is None  # how long a sequence is the file leaves open
    found = inspect(model(text.replace("[T,N,40]", "[7,1,40]"), W=(1, 120, 40), R=(1, 120, 30), checked=False))
    assert found.macs == 7 * 120 * 70
    assert [tensor.macs for tensor in found.tensors] == [7 * 120 * 70, 0]


def test_of_tokens_one_is_counted_and_of_images_none() -> None:
    text = "g (int64[N,length] x) => (float[N,length,20] y) { e = Gather (E, x)  y = MatMul (e, W) }"
    found = inspect(model(text, E=(50, 10), W=(10, 20)))
    assert (found.macs, found.counted_as_one) == (200, ("length",))
    assert "200 multiply-adds (length = 1), opset" in str(found)
    open_image = inspect(model("g (float[N,3,H,W] x) => (float[N,4,A,B] y) { y = Conv (x, K) }", K=(4, 3, 3, 3)))
    assert open_image.macs is None
    assert {kind.macs for kind in open_image.kinds} == {None}
    assert "macs" not in str(open_image)


def test_a_constant_is_small_by_itself_or_by_its_share_and_a_weight_in_use_never_is() -> None:
    made = model(
        "g (float[N,64] x) => (float[N,64] y) { a = Add(x, S)  b = Add(a, L)  c = MatMul(b, W)  y = MatMul(c, V) }",
        S=(250,),
        L=(251,),
        W=(64, 64),
        V=(64, 1),
        U=(250,),
        checked=False,
    )
    found = inspect(made)
    assert {tensor.name: is_small(tensor, found.bytes) for tensor in found.tensors} == {
        **dict.fromkeys("SU", True),
        **dict.fromkeys("LWV", False),
    }
    assert is_small(next(tensor for tensor in found.tensors if tensor.name == "L"), 1_004_000)


def test_what_ranks_reach_is_said_in_one_line(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    left = 4 * (4800 - (60 + 80) + 3000 - (50 + 60 + 50) + 800 - (10 + 80 + 10))
    assert found.reachable == Reachable(3, found.bytes, 4 * 8600, found.bytes - left)
    at_best = f"{(found.bytes - left) / 1000:.3g} kB"
    whole = f"{found.bytes / 1000:.3g} kB"
    assert (
        str(found.reachable) == f"eligible: 34.4 kB of {whole} (97 %) in 3 layers; at best the file becomes {at_best}"
    )
    assert str(Reachable(0, 1000, 0, 1000)) == "eligible: nothing of 1 kB; no rank makes this file smaller"


def test_ranks_reach_less_without_a_correction_of_biases_and_with_a_least_rank() -> None:
    layers, _ = find(Model(mixed()))
    best, bare = (reachable(layers, 40_000, METHODS[name]).at_best for name in ("dalr", "svd"))
    assert best - bare == 4 * (50 + 10)
    assert reachable(layers, 40_000, METHODS["dalr"], least=2).at_best - best == 4 * (140 + 110 + 90)
    assert reachable(layers, 40_000, METHODS["dalr"], least=9999).at_best == 40_000


def test_a_weight_that_two_layers_have_in_one_place_of_a_file_is_one(tmp_path: Path) -> None:
    made = model(
        "g (float[N,32] x) => (float[N,32] y) { [a] h = MatMul(x, V)  [b] y = MatMul(h, W) }", V=(32, 32), W=(32, 32)
    )
    (tmp_path / "w.bin").write_bytes(made.graph.initializer[0].raw_data)
    for tensor in made.graph.initializer:
        external_data_helper.set_external_data(tensor, "w.bin", offset=0, length=4096)
        tensor.ClearField("raw_data")
    found = inspected(tmp_path, made)
    assert [(tensor.layer, tensor.also, tensor.bytes, tensor.file) for tensor in found.tensors] == [
        ("a", ("W",), 4096, "w.bin")
    ]
    assert found.reachable.eligible == 4096
    assert "with 1 data file, " in str(found)


def test_in_a_notebook_it_is_one_line_until_it_is_printed(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    size = f"{found.bytes / 1000:.3g} kB"
    assert re.fullmatch(rf"<Inspection m\.onnx: {size}, 3 eligible layers, [\d.]+ % of the file>", repr(found))
    assert repr(inspect(mixed())).startswith("<Inspection in memory: ")


def test_a_model_without_constants_has_no_table_of_them() -> None:
    found = inspect(model("g (float[N,6] x) => (float[N,6] y) { y = Relu(x) }"))
    assert (found.layers, found.skipped, found.params, found.tensors, found.kinds) == ((), (), 0, (), ())
    assert found.other_bytes == found.bytes
    assert "no rank makes this file smaller" in str(found)
    assert str(found).splitlines()[-5:] == [
        "where the bytes are        count  bytes  of file",
        f"graph, names and metadata         {found.bytes} B  100.0 %",
        "",
        "by operator  nodes  bytes  of file",
        "Relu             1",
    ]


def test_a_model_of_nothing_can_be_shown() -> None:
    assert "0 B" in str(inspect(ModelProto()))


@pytest.mark.assets
def test_every_byte_of_real_models_has_a_kind(assets: Path) -> None:
    for path in sorted((assets / "models").glob("*.onnx")):
        found = inspect(path)
        total = sum(kind.bytes for kind in found.kinds) + found.other_bytes + found.unclaimed_bytes
        assert total == found.bytes == path.stat().st_size
        eligible = [tensor for tensor in found.tensors if tensor.layer]
        assert {tensor.layer: tensor.bytes for tensor in eligible} == {
            layer.name: layer.bytes for layer in found.layers
        }
        assert found.reachable.eligible == sum(tensor.bytes for tensor in eligible)
        unexplained = [tensor for tensor in found.tensors if tensor.kind == "constant" and tensor.share > 0.05]
        assert not unexplained, path.name


def test_an_optimized_model_says_so() -> None:
    source = Model(model("g (float[N,60] x) => (float[N,80] y) { y = MatMul(x, W) }", W=(60, 80)))
    (layer,), _ = find(source)
    made = rewrite(source, [thin(layer, 10)], note='{"version": "0"}').proto
    found = inspect(made)
    assert found.optimized == '{"version": "0"}'
    assert 'note: optimized before: {"version": "0"}' in str(found)


def test_weights_in_a_format_are_weights_with_a_reason_and_their_scales_are_small_constants() -> None:
    proto = model(
        """g (float[N,60] x, int64[M] i) => (float[N,80] y, float[M,8] e) {
            c = Cast <to = 1> (W)  w = Mul(c, s)  [fc] y = MatMul(x, w)
            d = Cast <to = 1> (T)  t = Mul(d, r)  [embed] e = Gather(t, i)
        }""",
        W=values("W", (60, 80), np.int8),
        s=(1, 80),
        T=values("T", (100, 8), np.int8),
        r=(100, 1),
    )
    found = inspect(proto)
    assert found.params == 60 * 80 + 100 * 8
    assert (found.layers, found.reachable.eligible) == ((), 0)
    assert [(entry.kind, entry.count, entry.bytes, entry.reason) for entry in found.kinds] == [
        ("MatMul, int8", 1, 4800, "its weight is stored as int8: begin with the model that it was made from"),
        ("embedding, int8", 1, 800, "its weight is stored as int8: begin with the model that it was made from"),
        ("small constants", 2, 720, None),
    ]
    assert [(entry.node, entry.op, entry.format) for entry in found.tensors[:2]] == [
        ("fc", "MatMul", "int8"),
        ("embed", "Gather", "int8"),
    ]
    text = str(found)
    assert [line.split("%  ")[1] for line in text.split("largest")[1].splitlines()[1:]] == [
        "int8, a scale a channel",
        "embedding, int8, a scale a channel",
    ]
    assert "skipped" not in text


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(InputError, match="is not an ONNX model"):
        inspect(tmp_path / "m.onnx")
