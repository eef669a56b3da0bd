"""`onnx_dalr.tune`: whoever made the student, and whatever it is to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.gradient.emit import Tensor
from onnx_dalr.tune.losses import Written
from tests.graph.helpers import run
from tests.tune.test_transfer import MANY, NET, UNSEEN, constants, divergence


def pruned(share: float = 0.5) -> ModelProto:
    """The network without the smaller half of its weights."""
    made = ModelProto()
    made.CopyFrom(NET)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.ndim == 2:
            values[np.abs(values) < np.quantile(np.abs(values), share)] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return made


def tuned(student: Any = None, **options: Any) -> onnx_dalr.TuneResult:
    given = {"steps": 200, "task": "classify", "device": "cpu"} | options
    return onnx_dalr.tune(pruned() if student is None else student, NET, MANY, **given)


def test_a_pruned_model_learns_and_its_zeros_stay_zeros() -> None:
    result = tuned()
    assert result.tuning.kept
    assert divergence(result.model) < 0.7 * divergence(pruned())
    for name, values in constants(pruned()).items():
        if values.ndim == 2:
            np.testing.assert_array_equal(constants(result.model)[name] == 0, values == 0)
    assert result.after.distortion < result.before.distortion
    text = str(result)
    assert "before" in text
    assert "after" in text
    assert "<table" in result._repr_html_()
    assert '"kept": true' in result.to_json()


def test_quantized_weights_tune_the_scales_that_make_floats_of_them() -> None:
    made = ModelProto()
    made.CopyFrom(NET)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    values = numpy_helper.to_array(stored["W2"])
    scale = np.float32(np.abs(values).max() / 7)
    whole = np.clip(np.rint(values / scale), -8, 7).astype(np.int8)
    stored["W2"].CopyFrom(numpy_helper.from_array(whole, "W2"))
    made.graph.initializer.append(numpy_helper.from_array(np.full(32, scale, np.float32), "W2_scale"))
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(32, np.int8), "W2_zero"))
    made.graph.node.insert(
        0, onnx.helper.make_node("DequantizeLinear", ["W2", "W2_scale", "W2_zero"], ["W2_float"], axis=0)
    )
    node = next(node for node in made.graph.node if "W2" in node.input and node.op_type == "Gemm")
    node.input[1] = "W2_float"
    result = tuned(made, tensors=["W2_scale", "b*"])
    assert result.tuning.kept
    after = constants(result.model)
    np.testing.assert_array_equal(after["W2"], whole)
    assert not np.array_equal(after["W2_scale"], constants(made)["W2_scale"])
    assert divergence(result.model) < divergence(made)


def test_a_tensor_that_is_named_twice_or_is_an_output_is_learned_once() -> None:
    assert tuned(hints=["h2", "h2", "y"]).tuning.kept


class Absolute:
    """|y − t|, value by value."""

    def write(self, y: Tensor, t: Tensor, w: Tensor) -> Written:
        apart = y - t
        return Written(w * apart.op("Abs"), w * apart.op("Sign"))


def test_a_loss_of_ones_own_is_what_is_learned() -> None:
    result = tuned(loss={"y": Absolute()}, hints=["h2"])

    def apart(proto: ModelProto) -> float:
        one, other = (run(each, {"x": UNSEEN})["y"] for each in (NET, proto))
        return float(np.abs(one - other).mean())

    assert result.tuning.kept
    assert apart(result.model) < 0.8 * apart(pruned())


def test_the_file_is_the_model(tmp_path: Path) -> None:
    onnx.save(pruned(), tmp_path / "student.onnx")
    onnx.save(NET, tmp_path / "teacher.onnx")
    result = onnx_dalr.tune(
        tmp_path / "student.onnx", tmp_path / "teacher.onnx", MANY, tmp_path / "out.onnx", steps=200, task="classify"
    )
    assert result.model is None
    assert onnx.load(tmp_path / "out.onnx") == tuned().model
    with pytest.raises(InputError, match="force"):
        onnx_dalr.tune(tmp_path / "student.onnx", tmp_path / "teacher.onnx", MANY, tmp_path / "out.onnx", steps=40)


def test_what_is_no_student_is_refused() -> None:
    other: NDArray[np.float32] = np.zeros((80, 16), np.float32)
    renamed = ModelProto()
    renamed.CopyFrom(NET)
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "z"
    with pytest.raises(InputError, match="outputs differ"):
        onnx_dalr.tune(renamed, NET, other)
    with pytest.raises(InputError, match="no tensor 'inside'"):
        tuned(hints=["inside"])
    with pytest.raises(InputError, match="is no output that counts"):
        tuned(loss={"z": Absolute()})


def test_the_name_is_a_function_whatever_is_imported_first() -> None:
    import onnx_dalr.tune.adam

    assert onnx_dalr.tune.__name__ == "tune"
    assert callable(onnx_dalr.tune)
    assert onnx_dalr.tune is onnx_dalr.tune
