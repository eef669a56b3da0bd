"""Kernels of any size, from samples to the file: every form of them is written, runs, and is what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import Analysis, Plan
from onnx_dalr.candidate.candidate import build, composed, substitution
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.graph.overridable import overridable
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.trust import DEFAULT
from tests.graph.helpers import model, ops, run, values

FEW = np.random.default_rng(1).standard_normal((80, 6, 12, 12)).astype(np.float32)
PLACES = ["down", "up", "head"]


@pytest.fixture(scope="module")
def net() -> ModelProto:
    """Kernels with strides, one of them transposed, a normalization, one in groups, one of each channel."""
    return model(
        """g (float[N,6,12,12] x) => (float[N,5] y) {
            [down] a = Conv <pads = [1,0,1,1], strides = [2,2]> (x, K, b)
            r = Relu (a)
            [up] c = ConvTranspose <strides = [2,2], pads = [1,1,0,0]> (r, L)
            n = BatchNormalization (c, scale, shift, mean, var)
            [groups] d = Conv <group = 2, pads = [1,1,1,1]> (n, G)
            [each] e = Conv <group = 16, pads = [1,1,1,1]> (d, E)
            p = GlobalAveragePool (e)
            f = Flatten (p)
            [head] y = Gemm <transB = 1> (f, W, o)
        }""",
        K=(24, 6, 3, 3),
        b=(24,),
        L=(24, 16, 3, 3),
        scale=(16,),
        shift=(16,),
        mean=(16,),
        var=np.linspace(0.5, 2, 16, dtype=np.float32),
        G=(16, 8, 3, 3),
        E=(16, 1, 3, 3),
        W=(5, 16),
        o=(5,),
    )


@pytest.fixture(scope="module")
def analysis(net: ModelProto) -> Iterator[Analysis]:
    with onnx_dalr.analyze(net, calib=FEW, task="regress", device="cpu") as made:
        yield made


@pytest.fixture(scope="module")
def rounding(net: ModelProto) -> Iterator[Analysis]:
    with onnx_dalr.analyze(net, calib=FEW, task="regress", weights="auto", device="cpu") as made:
        yield made


def test_what_is_looked_at_and_what_is_not(analysis: Analysis) -> None:
    assert [layer.name for layer in analysis.layers] == PLACES
    assert {entry.name: entry.reason for entry in analysis.skipped} == {
        "groups": "grouped convolution (2 groups): only one group is supported",
        "each": "depthwise convolution: each channel by itself, there is nothing to take apart",
    }


@pytest.mark.parametrize("too_little", [True, False])
def test_where_all_that_a_kernel_sees_is_too_much_it_is_taken_apart_by_channels_and_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch, too_little: bool
) -> None:
    """216² numbers are 373 kB; the moments of 24 channels, of the outputs and the sketch a third of that."""
    limit = 250_000 if too_little else 1 << 30
    monkeypatch.setattr("onnx_dalr.learn.capture.memory_limit", lambda: limit)
    monkeypatch.setattr("onnx_dalr.learn.learn.memory_limit", lambda: limit)
    monkeypatch.setattr("onnx_dalr.learn.learn.STATISTICS_FLOOR", limit)
    unlike = model(
        "g (float[N,24,6,6] x) => (float[N,32,6,6] y) { [wide] y = Conv <pads = [1,1,1,1]> (x, K) }",
        K=(32, 24, 3, 3),
    )
    x = np.random.default_rng(3).standard_normal((60, 24, 6, 6)).astype(np.float32)
    with onnx_dalr.analyze(unlike, calib=x, task="regress", device="cpu") as made:
        known = set(made.learned.of("wide").by_structure)
        plan = made.plan(params="50%")
        notes = [note for note in made.learned.notes if "does not fit into memory" in note]
        small = plan.apply(unlike, stats=made.stats)
    assert known == ({"out", "in"} if too_little else {"out", "in", "v", "h", "tucker"})
    assert notes == (
        ["'wide': how what the kernel sees goes together does not fit into memory; taken apart as out and in alone"]
        if too_little
        else []
    )
    assert {form.structure for form in plan.forms} <= known
    assert run(small, {"x": x[:2]})["y"].shape == (2, 32, 6, 6)


FORMS = [
    *(
        Form(name, (5,), format)
        for name in ("out", "in", "v", "h")
        for format in ("keep", "int8", "int4/32", "float16")
    ),
    *(Form("tucker", (4, 8), format) for format in ("keep", "int8")),
    Form("dense", (), "int8"),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_model_computes_with_what_its_kernels_come_to(rounding: Analysis, net: ModelProto, form: Form) -> None:
    layers, context, learned = rounding.layers, rounding.context, rounding.learned
    names = [layer.name for layer in layers]
    transposed = form if form.structure in ("out", "in", "dense") else Form("out", (5,), form.format)
    forms = [{"down": form, "up": transposed}.get(name, UNTOUCHED) for name in names]
    made = build(context, layers, learned, forms).proto
    onnx.checker.check_model(made, full_check=True)
    changed = [layer for layer in layers if layer.name in ("down", "up")]
    fed, overrides = overridable(Model(net), changed)
    feeds = {"x": FEW[:4]}
    for layer in changed:
        of_it = forms[names.index(layer.name)]
        feeds |= overrides[layer.name].feed(*composed(substitution(context, layer, learned, of_it, DEFAULT), of_it))
    np.testing.assert_allclose(run(made, {"x": FEW[:4]})["y"], run(fed, feeds)["y"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("structure", ["out", "in"])
def test_what_is_asked_for_is_in_the_file(net: ModelProto, tmp_path: Path, structure: str) -> None:
    onnx.save(net, tmp_path / "net.onnx")
    result = onnx_dalr.optimize(
        tmp_path / "net.onnx",
        tmp_path / "small.onnx",
        calib=FEW,
        rank=["down=4", "up=6"],
        structures=[structure, "head=pair"],
        weights=["down=int8", "up=int8"],
        task="regress",
        device="cpu",
        save_plan=tmp_path / "plan.json",
    )
    assert {layer.name: str(layer.form) for layer in result.layers} == {
        "down": f"{structure} 4 int8",
        "up": f"{structure} 6 int8",
        "head": "dense",
    }
    written = onnx.load(tmp_path / "small.onnx")
    onnx.checker.check_model(written, full_check=True)
    nodes = [op for op in ops(written) if op not in ("Cast", "Mul")]
    assert nodes[:6] == ["Conv", "Conv", "Relu", "ConvTranspose", "ConvTranspose", "BatchNormalization"]
    stored = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in written.graph.initializer}
    assert [name for name, kind in stored.items() if kind == "INT8"] == [
        "K.dalr_B",
        "K.dalr_A",
        "L.dalr_B",
        "L.dalr_A",
    ]
    y = run(str(tmp_path / "small.onnx"), {"x": FEW})["y"]
    again = onnx_dalr.apply(
        tmp_path / "net.onnx", Plan.load(tmp_path / "plan.json"), tmp_path / "again.onnx", calib=FEW, task="regress"
    )
    assert [layer.form for layer in again.layers] == [layer.form for layer in result.layers if layer.name != "head"]
    np.testing.assert_allclose(run(str(tmp_path / "again.onnx"), {"x": FEW})["y"], y, rtol=1e-4, atol=1e-4)
    looked = onnx_dalr.inspect(tmp_path / "small.onnx")
    assert {tensor.format for tensor in looked.tensors if tensor.name.startswith("K.dalr_") and tensor.format} == {
        "int8"
    }


def test_nothing_but_the_kernels_changed(net: ModelProto) -> None:
    result = onnx_dalr.optimize(net, calib=FEW, rank=["down=4", "up=6"], task="regress", device="cpu")
    assert result.model is not None
    kept = {node.output[0]: node for node in result.model.graph.node}
    for node in net.graph.node:
        if node.name not in ("down", "up"):
            assert kept[node.output[0]] == node
    arrays = {tensor.name: tensor for tensor in result.model.graph.initializer}
    for tensor in net.graph.initializer:
        if tensor.name not in ("K", "L", "b"):
            assert arrays[tensor.name] == tensor


@pytest.mark.parametrize("method", ["dalr", "dalr-2017", "svd-bc", "svd"])
def test_every_method_makes_a_smaller_file(net: ModelProto, method: str) -> None:
    result = onnx_dalr.optimize(net, calib=FEW, params="60%", method=method, task="regress", device="cpu")
    assert result.params_after <= 0.6 * result.params_before
    used = {layer.form.structure for layer in result.layers} - {"dense", "pair"}
    assert used
    assert method != "dalr-2017" or used == {"out"}


def test_more_rank_is_closer_to_the_original(net: ModelProto) -> None:
    x = {"x": FEW[:20]}
    y = run(net, x)["y"]
    with onnx_dalr.analyze(net, calib=FEW, task="regress", structures="in", metric=False, device="cpu") as made:
        found = [made.plan(rank=[f"up={rank}"]).apply(net, stats=made.stats) for rank in (2, 8, 14)]
    off = [float(np.linalg.norm(run(small, x)["y"] - y)) for small in found]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.5 * off[0]


def test_a_kernel_used_twice_sees_the_rows_of_both_uses() -> None:
    """With other strides, and of which one has no bias."""
    proto = model(
        """g (float[N,6,12,12] x) => (float[N,16] y, float[N,16] z) {
            [one] a = Conv <strides = [2,2]> (x, K, b)
            p = GlobalAveragePool (a)  y = Flatten (p)
            r = Relu (x)
            [two] c = Conv <pads = [1,1,1,1]> (r, K)
            q = GlobalAveragePool (c)  z = Flatten (q)
        }""",
        K=(16, 6, 3, 3),
        b=values("b", (16,)),
    )
    with onnx_dalr.analyze(proto, calib=FEW, task="regress", holdout=0.5, metric=False, device="cpu") as made:
        (layer,) = made.layers
        assert len(layer.uses) == 2
        assert made.learned.rows[layer.name] == 40 * (25 + 144)
        small = build(made.context, made.layers, made.learned, [Form("in", (6,))]).proto
    assert ops(small).count("Conv") == 4
    before, after = run(proto, {"x": FEW}), run(small, {"x": FEW})
    for name in ("y", "z"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-3)
