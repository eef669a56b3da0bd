"""What `compare` names: the samples B loses most on, and the tensors inside that drift."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper
from PIL import Image

import onnx_dalr
from onnx_dalr import compare
from tests.cli import tiny
from tests.commands.test_compare import DOUBLED, SAME, lines, model, rows

SHIFTED = model("b = Constant <value = float[4] {0, 0, 2, 0}> () y = Add(x, b)")
"""Says class 2 more often."""
SHIFT = np.array([0, 0, 2, 0])


def changed(name: str, change: Callable[[Any], Any]) -> ModelProto:
    """The tiny net of three layers with one weight changed."""
    made = tiny.mlp()
    for tensor in made.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return made


# Samples


def test_the_worst_samples_are_those_whose_answers_changed_the_surest_first() -> None:
    x = rows()
    found = compare(SAME, SHIFTED, data=x, task="classify", worst=64)
    answers, new = x.argmax(axis=1), (x + SHIFT).argmax(axis=1)
    lost = {one.id for one in found.worst if one.loss == 1}
    assert lost == {f"array[{index}]" for index in np.flatnonzero(answers != new)}
    assert [one.loss for one in found.worst] == sorted((one.loss for one in found.worst), reverse=True)
    for one in found.worst:
        index = int(one.id[6:-1])
        assert (one.a, one.b, one.label) == (str(answers[index]), str(new[index]), None)
    moved = [one.distortion for one in found.worst if one.loss == 1]
    assert moved == sorted(moved, reverse=True)


def test_with_labels_a_sample_is_lost_that_was_right() -> None:
    x = rows()
    labels = x.argmax(axis=1)
    labels[:20] = -100
    found = compare(SAME, SHIFTED, data=x, labels=labels, worst=64)
    lost = [int(one.id[6:-1]) for one in found.worst if one.loss == 1]
    assert sorted(lost) == [i for i in range(20, 64) if (x[i] + SHIFT).argmax() != labels[i]]
    assert all(one.label == one.a for one in found.worst if one.loss == 1)
    assert {one.label for one in found.worst if int(one.id[6:-1]) < 20} == {None}


def test_as_many_are_named_as_are_asked_for() -> None:
    assert len(compare(SAME, SHIFTED, data=rows()).worst) == 5
    assert len(compare(SAME, SHIFTED, data=rows(), worst=2).worst) == 2
    assert compare(SAME, SHIFTED, data=rows(), worst=0).worst == ()
    assert compare(SAME, SAME, data=rows()).worst == ()
    with pytest.raises(onnx_dalr.InputError, match="worst=-1 is no number of samples"):
        compare(SAME, SHIFTED, data=rows(), worst=-1)


def test_of_numbers_the_worst_have_the_largest_error() -> None:
    x = rows()
    found = compare(SAME, DOUBLED, data=x)
    length = np.linalg.norm(x, axis=1)
    assert [one.id for one in found.worst] == [f"array[{index}]" for index in np.argsort(-length)[:5]]
    assert found.worst[0].loss == pytest.approx(length.max() / np.sqrt(np.mean(length**2)), rel=1e-5)
    assert found.worst[0].a is None


def test_one_number_a_sample_is_told() -> None:
    text = "a = Constant <value = int64[1] {1}> () s = ReduceSum(x, a) y = Add(s, {})"
    zero = text.replace("{}", "z").replace("a =", "z = Constant <value = float {0}> () a =")
    pair = [model(body, outputs="float[N, 1] y") for body in (zero, text.replace("{}", "s"))]
    (worst,) = compare(*pair, data=rows(), worst=1).worst
    assert float(worst.b or "") == pytest.approx(2 * float(worst.a or ""), rel=1e-3)


def test_a_score_of_ones_own_says_what_a_sample_loses() -> None:
    x = rows()
    found = compare(SAME, DOUBLED, data=x, score=lambda outputs, labels: -outputs["y"][:, 0])
    assert [one.id for one in found.worst] == [f"array[{index}]" for index in np.argsort(-x[:, 0])[:5]]
    assert found.worst[0].loss == pytest.approx(x[:, 0].max(), rel=1e-5)


def test_samples_on_which_b_is_not_finite_come_first() -> None:
    x = np.abs(rows()) + 0.1
    x[[7, 40], 0] = -1
    found = compare(SAME, model("r = Sqrt(x) y = Mul(r, r)"), data=x, task="classify", batch_size=16)
    assert {(one.id, one.b, one.finite) for one in found.worst} == {
        ("array[7]", "NaN", False),
        ("array[40]", "NaN", False),
    }


def test_the_output_that_lost_most_on_a_sample_is_named_where_there_are_several() -> None:
    both, outputs = "y = Identity(x) z = {}", "float[N, 4] y, float[N, 4] z"
    pair = [model(both.format(z), outputs=outputs) for z in ("Identity(x)", "Add(x, x)")]
    found = compare(*pair, data=rows())
    assert {one.output for one in found.worst} == {"z"}
    assert lines(found)["worst"].split() == ["worst", "samples", "output", "lost"]


GRAY = """
<ir_version: 8, opset_import: ["" : 17]>
pictures (float[N,1,8,8] image) => (float[N,3] y) {
  flat = Flatten(image)
  y = Gemm<transB: int = 1>(flat, W)
}
"""


def pictures(folder: Path) -> tuple[list[ModelProto], Path]:
    """A model that tells bright halves of pictures, one that tells them wrong, and such pictures in class folders."""
    W = np.zeros((3, 8, 8), np.float32)
    W[0, :4], W[1, 4:], W[2] = 1, 1, 0.55
    models = [tiny.with_weights(GRAY, {"W": each.reshape(3, 64)}) for each in (W, W[[1, 0, 2]])]
    for name, bright in (("a-top", slice(0, 4)), ("b-low", slice(4, 8)), ("whole", slice(0, 8))):
        for number in range(6):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[bright] = 200 + number
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return models, folder


def test_classes_are_called_as_their_folders_and_a_thumbnail_is_what_the_model_sees(tmp_path: Path) -> None:
    models, folder = pictures(tmp_path)
    found = compare(*models, data=folder, worst=18)
    lost = [one for one in found.worst if one.loss == 1]
    assert {(one.a, one.b) for one in lost} == {("a-top", "b-low"), ("b-low", "a-top")}
    assert all(one.label == one.a == one.id.split("/")[0] for one in lost)
    picture = Image.open(BytesIO(lost[0].thumbnail or b""))
    assert (picture.format, picture.size) == ("PNG", (128, 128))
    original = np.asarray(Image.open(folder / lost[0].id))
    np.testing.assert_array_equal(np.asarray(picture)[8::16, 8::16], original)
    assert "thumbnail" not in found.to_json()
    assert "PNG" not in repr(found.worst)


def test_samples_that_are_no_pictures_have_no_thumbnail() -> None:
    assert compare(SAME, SHIFTED, data=rows()).worst[0].thumbnail is None


# Tensors


def test_a_model_does_not_drift_from_itself() -> None:
    found = compare(tiny.mlp(), tiny.mlp(), data=tiny.rows()).drift
    assert found is not None
    assert (found.first, found.jump, found.before, found.samples) == (None, None, 0.0, 16)
    assert [tensor.name for tensor in found.tensors] == ["h1", "r1", "h2", "r2", "y"]
    assert [tensor.output for tensor in found.tensors] == [False] * 4 + [True]


def test_the_first_tensor_that_drifts_is_named_with_its_node() -> None:
    found = compare(tiny.mlp(), changed("W2", lambda W: 1.1 * W), data=tiny.rows())
    drift = found.drift
    assert drift is not None
    assert drift.first is not None
    assert (drift.first.name, drift.first.node, drift.first.op) == ("h2", "second", "Gemm")
    assert drift.first == drift.jump
    assert (drift.before, drift.first.entering) == (0.0, 0.0)
    assert drift.first.error == pytest.approx(0.1, abs=0.02)
    assert drift.first.shape == (1, 48)
    assert drift.tensors[3].entering == drift.first.error
    assert "begins at 'h2', made by second (Gemm): error 0.0998" in lines(found)["drift"]
    assert "2 tensors before it are the same" in lines(found)["drift"]
    facts = json.loads(found.to_json())["drift"]
    assert facts["first"]["name"] == "h2"
    assert [tensor["name"] for tensor in facts["tensors"]] == ["h1", "r1", "h2", "r2", "y"]


def test_the_errors_are_those_of_onnx_runtime_alone() -> None:
    x, other = tiny.rows(12), changed("W1", lambda W: W + 0.05)
    drift = compare(tiny.mlp(), other, data=x).drift
    assert drift is not None
    weights = tiny.mlp_weights()
    h, h_new = (x @ W.T + weights["b1"] for W in (weights["W1"], weights["W1"] + np.float32(0.05)))
    assert drift.tensors[0].error == pytest.approx(np.linalg.norm(h - h_new) / np.linalg.norm(h), rel=1e-4)


def test_tensors_are_matched_by_name_whatever_makes_them() -> None:
    a = model("h = Relu(x) y = Neg(h)")
    b = model("z = Constant <value = float {0}> () h = Max(x, z) g = Neg(h) y = Add(g, z)")
    found = compare(a, b, data=rows())
    assert found.drift is not None
    assert [(tensor.name, tensor.op, tensor.op_b) for tensor in found.drift.tensors] == [
        ("h", "Relu", "Max"),
        ("y", "Neg", "Add"),
    ]
    assert (found.drift.computed_a, found.drift.computed_b) == (2, 3)
    assert "no tensor drifts: all are the same" in lines(found)["drift"]


def test_what_is_in_bodies_is_left_out() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 4] x) => (float[N, 4] y) {
      s = ReduceSum <keepdims = 0> (x)
      c = Cast <to = 9> (s)
      y = If (c) <
        then_branch = one () => (float[N, 4] o) { h = Relu(x) o = Neg(h) },
        else_branch = other () => (float[N, 4] p) { p = Identity(x) }
      >
    }
    """
    proto = onnx.parser.parse_model(text)
    drift = compare(proto, proto, data=rows()).drift
    assert drift is not None
    assert [tensor.name for tensor in drift.tensors] == ["s", "y"]


def test_models_without_a_common_name_say_so() -> None:
    drift = compare(model("y = Identity(x)"), model("y = Identity(x)"), data=rows()).drift
    assert drift is not None
    assert drift.note == ""
    text = model("z = Identity(x) y = Cast <to = 8> (z)", outputs="string[N, 4] y")
    other = model("w = Identity(x) y = Cast <to = 8> (w)", outputs="string[N, 4] y")
    found = compare(text, other, data=rows())
    assert found.drift is not None
    assert found.drift.tensors == ()
    assert "cannot be told: no tensor of floating numbers has the same name" in lines(found)["drift"]


def test_tensors_of_other_shapes_are_named() -> None:
    a = model("h = Relu(x) y = Neg(h)")
    b = model("r = Relu(x) h = Transpose(r) t = Transpose(h) y = Neg(t)")
    found = compare(a, b, data=rows(8))
    assert found.drift is not None
    assert found.drift.reshaped == ("h",)
    assert [tensor.name for tensor in found.drift.tensors] == ["y"]
    assert "h" in lines(found)["other"]


def test_a_tensor_that_is_not_finite_in_b_drifts() -> None:
    found = compare(model("h = Abs(x) y = Neg(h)"), model("h = Sqrt(x) y = Neg(h)"), data=rows())
    assert found.drift is not None
    assert found.drift.first is not None
    assert (found.drift.first.name, found.drift.first.finite) == ("h", False)
    assert "B gives NaN or infinity" in lines(found)["drift"]
    assert json.loads(found.to_json())["drift"]["first"]["error"] is None


def test_it_is_not_looked_for_where_nobody_asks() -> None:
    found = compare(SAME, DOUBLED, data=rows(), drift=False)
    assert found.drift is None
    assert "drift" not in lines(found)


def test_a_long_table_is_for_those_who_ask() -> None:
    body = " ".join(f"h{i + 1} = Mul(h{i}, c)" for i in range(12))
    text = "c = Constant <value = float {}> () h0 = Identity(x) " + body + " y = Identity(h12)"
    found = compare(model(text.replace("{}", "{1.0}")), model(text.replace("{}", "{1.01}")), data=rows())
    short, whole = found.render("text"), found.render("text", verbose=True)
    assert "h7 " not in short
    assert all(f"\nh{i} " in whole for i in range(13))


# What it costs


def test_multiply_adds_are_those_of_both() -> None:
    found = compare(tiny.mlp(), tiny.mlp((16, 8, 8, 4)), data=tiny.rows())
    assert (found.a.macs, found.b.macs) == (16 * 48 + 48 * 48 + 48 * 4, 16 * 8 + 64 + 32)
    assert "3.26k → 224 a sample (6.9 %)" in lines(found)["multiply-adds"]


def test_external_data_stays_where_it_is(tmp_path: Path) -> None:
    for name, made in (("a", tiny.mlp()), ("b", changed("W3", lambda W: -W))):
        onnx.save(
            made, tmp_path / f"{name}.onnx", save_as_external_data=True, location=f"{name}.data", size_threshold=0
        )
    found = compare(tmp_path / "a.onnx", tmp_path / "b.onnx", data=tiny.rows())
    assert found.drift is not None
    assert found.drift.first is not None
    assert found.drift.first.name == "y"
