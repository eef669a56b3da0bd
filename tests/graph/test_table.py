"""Lookup tables: which weights are one, and what is written of a table in several parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from onnx_dalr.factorize import Form, Need, Statistics, parse_form
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.factorize.joined.table import Table, Use
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.rewrite import Part, Substitution, rewrite
from onnx_dalr.graph.storage.model import Model
from tests.graph.helpers import model, ops, run

ROWS, COLUMNS = 4200, 12
PLAIN = "(int64[2,3] i) => (float[2,3,12] y) { y = Gather(E, i) }"
FORMS = [parse_form(text) for text in ("by-use 64 int4/32", "by-use 128x4 int8", "by-use 256x6 int4/64")]


def layer_of(proto: ModelProto) -> Layer:
    (found,) = find(Model(proto), in_one_piece=True)[0]
    return found


def picks(proto: ModelProto) -> bool:
    return bool(layer_of(proto).joined)


def stored_by_use(proto: ModelProto, form: Form) -> tuple[ModelProto, np.ndarray]:
    """The model with its table in a form, and the table that it stands for, [rows, columns]."""
    layer = layer_of(proto)
    W, stats = matrix(Model(proto), layer), Statistics(layer.n, layer.m, Need.NONE)
    stats.update_picked(np.arange(100) ** 2 % layer.m)
    found = Table.of(W, Use.of(stats, 1.0), [form], layer.dtype, list(FORMATS.values()))
    made = found.encoded(W, form, layer.dtype)
    result = rewrite(Model(proto), [Substitution(layer, (Part("W", made),), np.zeros(layer.m))]).proto
    onnx.checker.check_model(result, full_check=True)
    return result, made.values


def with_table(proto: ModelProto, W: np.ndarray) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    (table,) = [tensor for tensor in made.graph.initializer if tensor.name == "E"]
    stored = W if tuple(table.dims) == W.shape else W.T
    table.CopyFrom(numpy_helper.from_array(stored.astype(numpy_helper.to_array(table).dtype), "E"))
    return made


def feed(rows: int = ROWS) -> dict[str, np.ndarray]:
    return {"i": np.random.default_rng(0).integers(-rows, rows, (2, 3))}


CASES = {
    "plain": (PLAIN, (ROWS, COLUMNS), np.float32),
    "half, behind a Cast": (
        "(int64[2,3] i) => (float[2,3,12] y) { c = Cast <to = 1> (E) y = Gather(c, i) }",
        (ROWS, COLUMNS),
        np.float16,
    ),
    "half": ("(int64[2,3] i) => (float16[2,3,12] y) { y = Gather(E, i) }", (ROWS, COLUMNS), np.float16),
    "double": ("(int64[2,3] i) => (double[2,3,12] y) { y = Gather(E, i) }", (ROWS, COLUMNS), np.float64),
    "turned": (
        "(int64[2,3] i) => (float[2,3,12] y) { t = Transpose <perm = [1, 0]> (E) y = Gather(t, i) }",
        (COLUMNS, ROWS),
        np.float32,
    ),
    "picked from twice": (
        "(int64[2,3] i) => (float[2,3,12] y) { a = Gather(E, i) b = Gather <axis = 0> (E, i) y = Add(a, b) }",
        (ROWS, COLUMNS),
        np.float32,
    ),
    "by numbers that are computed": (
        "(int64[2,3] i) => (float[2,3,12] y) { j = Neg(i) k = Abs(j) l = Neg(k) y = Gather(E, l) }",
        (ROWS, COLUMNS),
        np.float32,
    ),
    "many rows": (PLAIN, (66000, COLUMNS), np.float32),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_table_in_parts_gives_the_rows_it_stands_for(
    case: tuple[str, tuple[int, int], type], form: Form, opset: int
) -> None:
    text, shape, dtype = case
    proto = model(f"net {text}", opset=opset, E=np.random.default_rng(1).standard_normal(shape).astype(dtype))
    assert picks(proto)
    made, W = stored_by_use(proto, form)
    expected, found = run(with_table(proto, W), feed(max(shape))), run(made, feed(max(shape)))
    tolerance = 2e-2 if dtype == np.float16 else 1e-5
    np.testing.assert_allclose(found["y"], expected["y"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_all_of_it_is_done_when_the_model_is_loaded(form: Form, tmp_path: Path) -> None:
    made, _ = stored_by_use(model(f"net {PLAIN}", E=(ROWS, COLUMNS)), form)
    assert {"Concat", "Gather"} <= set(ops(made))
    assert ("_B" in str([tensor.name for tensor in made.graph.initializer])) == (len(form.rank) > 1)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert ops(onnx.load(tmp_path / "loaded.onnx")) == ["Gather"]


def test_the_node_stays_and_the_table_is_made_under_its_name() -> None:
    proto = model(f"net {PLAIN}", E=(ROWS, COLUMNS))
    made, _ = stored_by_use(proto, FORMS[1])
    assert made.graph.node[-1] == proto.graph.node[0]
    assert made.graph.node[-2].output[0] == "E"


NONE = {
    "a table that is multiplied by too": (
        "(int64[2] i) => (float[2,4200] y) { r = Gather(E, i) t = Transpose <perm = [1, 0]> (E) y = MatMul(r, t) }",
        (ROWS, COLUMNS),
    ),
    "picked along the other axis": ("(int64[3] i) => (float[12,3] y) { y = Gather <axis = 1> (E, i) }", (12, 4200)),
    "of three axes": ("(int64[2,3] i) => (float[2,3,4,5] y) { y = Gather(E, i) }", (4200, 4, 5)),
    "reshaped on the way": (
        "(int64[2,3] i) => (float[2,3,12] y) <int64[2] s = {4200, 12}> { e = Reshape(E, s) y = Gather(e, i) }",
        (4200, 3, 4),
    ),
    "by numbers that are constant": (
        "(float[2,12] x) => (float[2,12] y) <int64[2] i = {3, 5}> { r = Gather(E, i) y = Add(x, r) }",
        (ROWS, COLUMNS),
    ),
    "inside a branch": (
        """(bool c, int64[2] i) => (float[2,12] y) {
            y = If (c) <then_branch = a () => (float[2,12] t) { t = Gather(E, i) },
                        else_branch = b () => (float[2,12] e) { r = Gather(E, i) e = Neg(r) }>
        }""",
        (ROWS, COLUMNS),
    ),
}


@pytest.mark.parametrize("case", NONE.values(), ids=NONE)
def test_what_else_is_done_with_a_weight_leaves_it_in_one_piece(case: tuple[str, tuple[int, ...]]) -> None:
    layer = layer_of(model(f"net {case[0]}", E=case[1]))
    assert layer.in_one_piece
    assert not layer.joined
    assert layer.sees == layer.shape


def test_what_its_nodes_see_is_the_table_turned() -> None:
    layer = layer_of(model(f"net {PLAIN}", E=(ROWS, COLUMNS)))
    assert (layer.sees.m, layer.sees.n) == (layer.n, layer.m) == (COLUMNS, ROWS)
