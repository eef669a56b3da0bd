"""What a form costs in multiply-adds is what the model that is written takes."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.candidate.candidate import outline
from onnx_dalr.candidate.forms import forms_of, macs_of
from onnx_dalr.factorize import METHODS, UNTOUCHED, Form
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.macs import MultiplyAdds, multiply_adds
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.progress import Silent
from onnx_dalr.request.context import Context
from onnx_dalr.request.options import make_options
from tests.cli import tiny

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,16,13,12] x) => (float[N,8,A,B] y, float[N,40] z) {
  [conv] c = Conv<pads: ints = [1,1,0,1], strides: ints = [2,3]>(x, K, b)
  r = Relu(c)
  [up] u = ConvTranspose<strides: ints = [2,2]>(r, T)
  [point] y = Conv(u, P)
  p = GlobalAveragePool(c)
  f = Flatten(p)
  [head] h = MatMul(f, W)
  [again] g = MatMul(f, W)
  z = Add(h, g)
}
"""
SHAPES = {"K": (24, 16, 3, 3), "b": (24,), "T": (24, 16, 3, 3), "P": (8, 16, 1, 1), "W": (24, 40)}
FED = {"x": (2, 16, 13, 12)}
MODEL = Model(tiny.with_weights(TEXT, {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}))
LAYERS, _ = find(MODEL)
NAMES = [layer.name for layer in LAYERS]


def counted(model: Model) -> MultiplyAdds:
    return multiply_adds(model, sizes_on(model.proto, FED), 2)


KNOWN = counted(MODEL)
FORMS = [
    (name, form)
    for name, layer in zip(NAMES, LAYERS, strict=True)
    for form in {form.structure: form for form in forms_of(layer, METHODS["dalr"])}.values()
]


@pytest.mark.parametrize(("name", "form"), FORMS, ids=str)
def test_the_price_of_a_form_is_what_its_nodes_take(name: str, form: Form) -> None:
    at = NAMES.index(name)
    forms = [form if other == at else UNTOUCHED for other in range(len(LAYERS))]
    made = outline(Context(MODEL, make_options(), Silent()), LAYERS, None, forms).proto
    saved = macs_of(LAYERS[at], UNTOUCHED, KNOWN) - macs_of(LAYERS[at], form, KNOWN)
    assert counted(Model(made)).whole == KNOWN.whole - saved


def test_every_structure_is_among_them() -> None:
    assert {form.structure for name, form in FORMS if name == "conv"} >= {"out", "in", "v", "h", "tucker", "dense"}


def test_a_strided_kernel_runs_where_its_first_piece_reads() -> None:
    conv = LAYERS[NAMES.index("conv")]
    first, last = 16, 24 * 9  # of one direction: before and after it
    assert macs_of(conv, Form("in", (5,)), KNOWN) == 5 * (first * 13 * 12 + last * 6 * 4)
    assert macs_of(conv, Form("v", (5,)), KNOWN) == 5 * (16 * 3 * 6 * 12 + 24 * 3 * 6 * 4)
    assert macs_of(conv, Form("h", (5,)), KNOWN) == 5 * (16 * 3 * 13 * 4 + 24 * 3 * 6 * 4)
    assert macs_of(conv, Form("out", (5,)), KNOWN) == 5 * (16 * 9 + 24) * 6 * 4
    assert macs_of(conv, Form("tucker", (8, 4)), KNOWN) == 8 * 16 * 13 * 12 + (8 * 4 * 9 + 4 * 24) * 6 * 4


def test_a_layer_of_unknown_size_costs_nothing_in_any_form() -> None:
    nothing = MultiplyAdds({}, {})
    assert {macs_of(layer, form, nothing) for layer in LAYERS for form in forms_of(layer, METHODS["dalr"])} == {0.0}
