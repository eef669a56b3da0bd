"""Forms become a model: what is written of it, weighed and measured is one and the same."""

from __future__ import annotations

from collections.abc import Iterator
from json import loads

import numpy as np
import pytest

import onnx_dalr
from onnx_dalr import Analysis
from onnx_dalr.candidate.candidate import build, note, outline, pieces_of, replacement
from onnx_dalr.choose.allocate import Forms
from onnx_dalr.factorize import UNTOUCHED, Form
from onnx_dalr.graph.layers import matrix
from onnx_dalr.graph.storage.model import metadata
from onnx_dalr.session.session import open_session
from tests.choose.allocate_cases import pair, pairs
from tests.cli import tiny

FORMS = [
    pairs(4, None, 2),
    pairs(3, 9, 1),
    pairs(None, 20, None),
    [Form("dense", (), "int4/32"), Form("pair", (9,), "int8"), Form("pair", (3,), "int4/64")],
]


@pytest.fixture(scope="module")
def analysis() -> Iterator[Analysis]:
    with onnx_dalr.analyze(tiny.mlp((16, 64, 64, 4)), calib=tiny.rows(60), weights="auto", device="cpu") as made:
        yield made


def test_with_every_layer_as_it_is_only_the_note_is_new(analysis: Analysis) -> None:
    proto = build(analysis.context, analysis.layers, analysis.learned, [UNTOUCHED] * 3).proto
    del proto.metadata_props[:]
    assert proto == analysis.context.original.proto


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_an_outline_weighs_what_the_model_does(analysis: Analysis, forms: Forms) -> None:
    context, layers, learned = analysis.context, analysis.layers, analysis.learned
    made, empty = build(context, layers, learned, forms).proto, outline(context, layers, learned, forms).proto
    assert made.ByteSize() == empty.ByteSize()
    before = outline(context, layers, None, forms).proto
    assert before.ByteSize() == made.ByteSize(), "before anything is learned, too"


def test_a_layer_in_one_piece_is_its_weight(analysis: Analysis) -> None:
    original, layer = analysis.context.original, analysis.layers[0]
    (piece,) = pieces_of(original, layer, analysis.learned, UNTOUCHED).pieces
    np.testing.assert_array_equal(piece.values, matrix(original, layer))
    W, shift = replacement(analysis.context, analysis.learned, layer, UNTOUCHED)
    np.testing.assert_array_equal(W, matrix(original, layer))
    assert not shift.any()


def test_a_replacement_is_the_product_of_the_pieces_and_their_shift(analysis: Analysis) -> None:
    original, layer = analysis.context.original, analysis.layers[1]
    made = pieces_of(original, layer, analysis.learned, pair(5))
    B, A = (piece.values for piece in made.pieces)
    W, shift = replacement(analysis.context, analysis.learned, layer, pair(5))
    np.testing.assert_array_equal(W, A @ B)
    np.testing.assert_array_equal(shift, made.shift)


@pytest.mark.parametrize("forms", FORMS, ids=str)
def test_the_model_computes_with_the_replacements(analysis: Analysis, forms: Forms) -> None:
    original = analysis.context.original
    x = tiny.rows(8)
    batch = x if isinstance(x, dict) else {original.proto.graph.input[0].name: x}
    (found,) = open_session(
        build(analysis.context, analysis.layers, analysis.learned, forms).proto.SerializeToString(), "cpu"
    ).run(batch)
    h = next(iter(batch.values())).astype(np.float64)
    for layer, form in zip(analysis.layers, forms, strict=True):
        W, shift = replacement(analysis.context, analysis.learned, layer, form)
        bias = original.array(original.constants[str(layer.uses[0].bias)])
        h = h @ W.T.astype(np.float64) + bias + shift
        h = np.maximum(h, 0) if layer is not analysis.layers[-1] else h
    np.testing.assert_allclose(found, h, atol=1e-4 * np.abs(h).max())


def test_the_note_says_what_became_of_the_layers_that_changed(analysis: Analysis) -> None:
    proto = build(analysis.context, analysis.layers, analysis.learned, pairs(4, None, 2)).proto
    text = note(analysis.context, analysis.layers, pairs(4, None, 2), analysis.learned.calibration)
    assert metadata(proto) == text
    facts = loads(text)
    assert facts["ranks"] == {"first": 4, "third": 2}
    assert (facts["method"], facts["calibration"]) == ("dalr", analysis.learned.calibration)


def test_numbers_that_share_a_byte_are_counted_one_by_one(analysis: Analysis) -> None:
    forms = [Form("dense", (), "int4/128"), UNTOUCHED, UNTOUCHED]
    made = build(analysis.context, analysis.layers, analysis.learned, forms)
    assert made.params == analysis.context.original.params
