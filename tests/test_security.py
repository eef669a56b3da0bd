"""What docs/security.md says of models, samples and names that somebody else made."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

import onnx_dalr

EVIL = "e\x1b[31mvil\n[bold]<script>alert(1)</script>"


def mlp(*nodes: onnx.NodeProto, second: str = "second") -> ModelProto:
    """Two layers of 64, behind nodes of one's own; the second has a name of one's own."""
    generator = np.random.default_rng(0)
    weights = {name: generator.standard_normal((64, 64)).astype(np.float32) for name in ("first", second)}
    inner = [
        helper.make_node("MatMul", ["x", "first"], ["h"], "one"),
        helper.make_node("MatMul", ["h", second], ["y"], second),
    ]
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy"]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([*nodes, *inner], "g", shape[:1], shape[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def elsewhere(kind: int, name: str = "") -> TensorProto:
    """Four numbers in a file outside of the model's folder."""
    tensor = TensorProto(name=name, data_type=kind, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def sparse_values() -> ModelProto:
    made = mlp()
    places = numpy_helper.from_array(np.arange(4))
    made.graph.sparse_initializer.add(values=elsewhere(TensorProto.FLOAT, "s"), indices=places, dims=[8, 8])
    return made


def sparse_indices() -> ModelProto:
    made = mlp()
    values = numpy_helper.from_array(np.ones(4, np.float32), "s")
    made.graph.sparse_initializer.add(values=values, indices=elsewhere(TensorProto.INT64), dims=[8, 8])
    return made


def sparse_constant() -> ModelProto:
    sparse = SparseTensorProto(values=elsewhere(TensorProto.FLOAT), dims=[8, 8])
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4)))
    node = helper.make_node("Constant", [], ["s"])
    node.attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    return mlp(node)


def sparse_in_a_body() -> ModelProto:
    inner = sparse_constant().graph.node[0]
    out = helper.make_tensor_value_info("s", TensorProto.FLOAT, [8, 8])
    body = helper.make_graph([inner], "body", [], [out])
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    return mlp(condition, helper.make_node("If", ["c"], ["unused"], then_branch=body, else_branch=body))


@pytest.mark.parametrize("made", [sparse_values, sparse_indices, sparse_constant, sparse_in_a_body])
def test_no_part_of_a_sparse_tensor_is_read_from_outside_the_folder(
    made: Callable[[], ModelProto], tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model.onnx"
    path.write_bytes(made().SerializeToString())
    calib = np.zeros((80, 64), np.float32)
    for given in (lambda: onnx_dalr.optimize(path, calib=calib, rank=8), lambda: onnx_dalr.inspect(path)):
        with pytest.raises(onnx_dalr.InputError, match="points outside the model's folder"):
            given()
    with pytest.raises(onnx_dalr.InputError, match="the ModelProto refers to external data files"):
        onnx_dalr.optimize(made(), calib=calib, rank=8)


class Bomb:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("name", ["samples.npy", "samples.npz"])
def test_pickles_among_samples_are_refused_and_run_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], dtype=object)
    if name.endswith("npy"):
        np.save(name, bomb, allow_pickle=True)
    else:
        np.savez(name, x=bomb)
    with pytest.raises(onnx_dalr.InputError, match="it holds Python objects") as caught:
        onnx_dalr.optimize(mlp(), calib=name, rank=8)
    assert "never loaded" in (caught.value.hint or "")
    assert not Path("unpickled").exists()


def test_names_of_a_model_neither_steer_a_terminal_nor_run_in_a_page() -> None:
    model = mlp(second=EVIL)
    samples = np.random.default_rng(1).standard_normal((80, 64)).astype(np.float32)
    for result in (onnx_dalr.inspect(model), onnx_dalr.optimize(model, calib=samples, rank=8, tune="off")):
        text = result.render("text", width=400)
        assert not any(ord(char) < 32 and char != "\n" for char in text)
        assert "vil" in text
        assert "vil\n" not in text
        assert "<script>" not in result.render("html")


def test_a_run_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any, **named: Any) -> None:
        raise AssertionError(f"a socket was opened: {given} {named}")

    monkeypatch.setattr(socket, "socket", refused)
    samples = np.random.default_rng(1).standard_normal((80, 64)).astype(np.float32)
    assert onnx_dalr.optimize(mlp(), calib=samples, rank=8, tune="off").layers
