"""`--memory small`: what is written, what it computes, what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.candidate.small import stays_small
from onnx_dalr.errors import InputError
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.structures import Piece
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.packed.tables import pick_then_unpack
from onnx_dalr.graph.rewrite import Substitution, rewrite
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.progress import Silent
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from onnx_dalr.session.fused import not_fused
from tests.cli import tiny
from tests.graph.helpers import ops

WIDE = (16, 64, 64, 4)
PROC = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the system does not say what is resident")


def fused(proto: ModelProto) -> None:
    """Skips where this ONNX Runtime is too old to keep weights packed."""
    if "DequantizeLinear" not in ops(proto):
        pytest.skip("this ONNX Runtime does not fuse DequantizeLinear and MatMul")


def small(proto: ModelProto, **more: object) -> onnx_dalr.Result:
    given: dict[str, object] = {"weights": "int8", "rank": 64, "memory": "small", "device": "cpu"} | more
    return onnx_dalr.optimize(proto, calib=tiny.rows(60), **given)  # type: ignore[arg-type]


def stays(original: Model, format: str) -> tuple[ModelProto, ModelProto]:
    """A model with all its weights in a format: folded at load, and packed while it runs."""
    layers, _ = find(original, in_one_piece=True)
    pieces = [(layer, Piece("W", matrix(original, layer).reshape(layer.shape.dims))) for layer in layers]
    made = rewrite(
        original, [Substitution.of(layer, (piece,), FORMATS[format], np.zeros(layer.m)) for layer, piece in pieces]
    )
    plain = ModelProto()
    plain.CopyFrom(made.proto)
    picked = pick_then_unpack(made.proto, {layer.weight: layer.m for layer in layers if layer.in_one_piece})
    names = frozenset(layer.name for layer in layers if layer.weight in picked)
    context = Context(original, make_options(weights="int8", memory="small", device="cpu"), Silent())
    return plain, stays_small(context, layers, Candidate(made.proto, made.tensors, names)).candidate.proto


def said(proto: ModelProto, feeds: dict[str, np.ndarray], **config: str) -> list[np.ndarray]:
    options = ort.SessionOptions()
    for key, value in config.items():
        options.add_session_config_entry(f"session.{key}", value)
    return list(ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feeds))


@PROC
def test_products_stay_packed_and_the_report_says_what_that_takes() -> None:
    result = small(tiny.mlp(WIDE))
    assert result.model is not None
    fused(result.model)
    weights = {tensor.name for tensor in result.model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert ops(result.model).count("DequantizeLinear") == len(weights)
    assert not not_fused(result.model.SerializeToString(), weights, "cpu")
    assert any("rounds what enters a product" in note for note in result.notes)
    assert not any("floats all the same" in note for note in result.notes)
    assert result.memory is not None
    assert re.search(r"^memory +\S+ k?M?B → \S+ k?M?B in a fresh session", str(result), re.MULTILINE)


def test_nothing_new_is_written_or_said_where_it_is_not_asked_for() -> None:
    folded = small(tiny.mlp(WIDE), memory="keep")
    assert folded.model is not None
    assert "DequantizeLinear" not in ops(folded.model)
    assert not any("--memory small:" in note for note in folded.notes)
    kept = small(tiny.mlp(WIDE), memory="keep", weights="keep", rank=8)
    assert kept.memory is None
    assert "memory  " not in str(kept)


@PROC
def test_weights_in_other_formats_are_reason_enough_to_measure() -> None:
    assert small(tiny.mlp(WIDE), memory="keep").memory is not None


def test_where_nothing_is_packed_it_says_so() -> None:
    result = small(tiny.mlp(WIDE), weights="keep", rank=8)
    assert any("no weight is stored as int8 or int4" in note for note in result.notes)


def test_what_becomes_floats_all_the_same_is_said() -> None:
    proto = tiny.mlp(WIDE)
    proto.opset_import[0].version = 12
    proto.ir_version = 7
    (note,) = [note for note in small(proto).notes if "memory" in note and "floats" in note]
    assert "3 layers (Gemm)" in note or "2 layers (Gemm)" in note


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="'tiny' is not known"):
        small(tiny.mlp(WIDE), memory="tiny")


@pytest.mark.parametrize("format", ["int8", "int4", "float16"])
def test_tables_are_picked_from_and_weighed_so(format: str, tmp_path: Path) -> None:
    """They have more nodes: a size that is asked for is met with them."""
    weights = {"table": (200, 32), "W": (32, 24), "b": (24,)}
    random = np.random.default_rng(0)
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    proto = tiny.with_weights(tiny.TOKENS, constants)
    onnx.save(proto, tmp_path / "m.onnx")
    ids = random.integers(0, 200, (60, 7))
    calib = {"ids": ids, "attention_mask": np.ones_like(ids)}
    given = {"calib": calib, "memory": "small", "weights": format, "device": "cpu", "best_effort": True}
    smallest = onnx_dalr.optimize(tmp_path / "m.onnx", tmp_path / "a.onnx", size=1, **given)  # type: ignore[arg-type]
    limit = smallest.bytes_after + 1
    result = onnx_dalr.optimize(tmp_path / "m.onnx", tmp_path / "b.onnx", size=limit, **given)  # type: ignore[arg-type]
    assert (tmp_path / "b.onnx").stat().st_size == result.bytes_after <= limit
    made = onnx.load(tmp_path / "b.onnx")
    types = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    picked = {types[node.input[0]] for node in made.graph.node if node.op_type == "Gather" and node.input[1] == "ids"}
    assert onnx.TensorProto.FLOAT not in picked or format != "float16"
    assert len(picked) == (1 if format == "float16" else 2)  # the numbers, and their scales


def test_a_plan_is_applied_so_too() -> None:
    proto = tiny.mlp(WIDE)
    with onnx_dalr.analyze(proto, calib=tiny.rows(60), weights="int8", device="cpu") as analysis:
        plan = analysis.plan(rank=64)
    result = onnx_dalr.apply(proto, plan, calib=tiny.rows(60), memory="small", device="cpu")
    assert result.model is not None
    fused(result.model)


def test_with_external_data(tmp_path: Path) -> None:
    onnx.save_model(
        tiny.mlp(WIDE), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    result = onnx_dalr.optimize(
        tmp_path / "m.onnx",
        tmp_path / "s.onnx",
        calib=tiny.rows(60),
        weights="int8",
        memory="small",
        rank=64,
        device="cpu",
    )
    assert result.output is not None
    fused(onnx.load(result.output))
    assert (result.memory is not None) == Path("/proc/self/statm").is_file()


@pytest.mark.parametrize("format", ["int8", "int4/32"])
@pytest.mark.parametrize(
    ("name", "opset"), [("mnist-mlp", 17), ("magika-standard-v3_3", 15), ("tribuo-tinybert", 13), ("skardi-ncf", 7)]
)
def test_real_models_compute_with_the_same_numbers(assets: Path, name: str, opset: int, format: str) -> None:
    original = load(assets / "models" / f"{name}.onnx")
    if next(entry.version for entry in original.proto.opset_import if entry.domain == "") != opset:
        original = Model(onnx.version_converter.convert_version(original.proto, opset))
    whole, packed = stays(original, format)
    onnx.checker.check_model(packed)
    random, feeds = np.random.default_rng(0), {}
    for value in original.proto.graph.input:
        if value.name in {tensor.name for tensor in original.proto.graph.initializer}:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [axis.dim_value or 2 for axis in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.integers(0, 2, shape).astype(kind)
    # At level 0 what enters a product is not rounded.
    exact = said(packed, feeds, qdq_matmulnbits_accuracy_level="0")
    for expected, found in zip(said(whole, feeds), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    for expected, found in zip(said(whole, feeds), said(packed, feeds), strict=True):
        assert np.linalg.norm(found - expected) <= 0.05 * np.linalg.norm(expected) + 1e-6
