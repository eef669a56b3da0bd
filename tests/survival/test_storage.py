"""Weights in files beside the model, in Constant nodes, behind links; and files that are not what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

import onnx_dalr
from onnx_dalr.graph.storage.model import stored_tensors
from tests.graph.helpers import model, values, with_constant_nodes
from tests.survival.helpers import compressed, largest_error, optimize, rows
from tests.survival.layouts import LAYOUTS, SAMPLES, locations, network, one_file


def weight_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# Every layout in, one data file out.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_external_data_in_any_layout(layout: str, path: Path, output: Path) -> None:
    LAYOUTS[layout](path)
    result = optimize(path, output, calib=SAMPLES[16:], rank=12)
    assert compressed(result) == {"gemm", "matmul"}
    assert result.bytes_before == weight_of(path.parent)
    assert result.bytes_after == weight_of(output.parent) < result.bytes_before
    onnx.checker.check_model(output, full_check=True)
    assert largest_error(network(), str(output), {"x": SAMPLES[:16]}) < 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_is_that_of_the_model_in_one_piece(layout: str, path: Path, output: Path) -> None:
    LAYOUTS[layout](path)
    optimize(path, output, calib=SAMPLES, rank=12)
    whole = optimize(network(), calib=SAMPLES, rank=12).model
    found, expected = onnx.load(output), {tensor.name: tensor for tensor in whole.graph.initializer}
    assert {tensor.name for tensor in found.graph.initializer} == set(expected)
    for tensor in found.graph.initializer:
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(expected[tensor.name]), err_msg=tensor.name
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_data_file_is_named_after_the_model_and_can_move_with_it(
    layout: str, path: Path, output: Path, tmp_path: Path
) -> None:
    LAYOUTS[layout](path)
    optimize(path, output, calib=SAMPLES, rank=12)
    assert sorted(file.name for file in output.parent.iterdir()) == ["small.onnx", "small.onnx.data"]
    assert locations(output) == {"small.onnx.data"}
    moved = output.parent.rename(tmp_path / "elsewhere") / output.name
    assert largest_error(network(), str(moved), {"x": SAMPLES[:16]}) < 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_runs_give_the_same_bytes(layout: str, path: Path, output: Path, tmp_path: Path) -> None:
    LAYOUTS[layout](path)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / output.name
    for file in (output, again):
        optimize(path, file, calib=SAMPLES, rank=12)
    first, second = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in (output.parent, again.parent)
    )
    assert first == second


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_input_is_left_as_it_was(layout: str, path: Path, output: Path) -> None:
    LAYOUTS[layout](path)
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    optimize(path, output, calib=SAMPLES, rank=12)
    assert {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()} == before


def test_a_model_in_one_file_stays_in_one_file(path: Path, output: Path) -> None:
    onnx.save(network(), path)
    optimize(path, output, calib=SAMPLES, rank=12)
    assert [file.name for file in output.parent.iterdir()] == ["small.onnx"]
    assert locations(output) == set()


def test_two_runs_on_a_model_in_one_file_give_the_same_bytes(path: Path, output: Path) -> None:
    onnx.save(network(), path)
    optimize(path, output, calib=SAMPLES, rank=12)
    optimize(path, output.with_name("again.onnx"), calib=SAMPLES, rank=12)
    assert output.read_bytes() == output.with_name("again.onnx").read_bytes()


def test_what_is_external_and_stays_dense_is_external_afterwards_with_its_values(path: Path, output: Path) -> None:
    one_file(path)
    optimize(path, output, calib=SAMPLES, rank="gemm=12")
    (kept,) = (t for t in onnx.load(output, load_external_data=False).graph.initializer if t.name == "V")
    assert external_data_helper.uses_external_data(kept)
    (kept,) = (t for t in onnx.load(output).graph.initializer if t.name == "V")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), values("V", (64, 64)) / np.float32(8))


def test_no_data_file_is_written_where_all_that_was_external_has_become_small(path: Path, output: Path) -> None:
    proto = model("g (float[N,48] x) => (float[N,48] y) { y = MatMul(x, W) }", W=values("W", (48, 48)))
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    optimize(path, output, calib=SAMPLES, rank=4, method="svd")
    assert [file.name for file in output.parent.iterdir()] == ["small.onnx"]
    onnx.checker.check_model(output, full_check=True)


def test_the_output_may_stand_beside_the_input(path: Path) -> None:
    one_file(path)
    output = path.with_name("small.onnx")
    optimize(path, output, calib=SAMPLES, rank=12)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"model.onnx", "weights.bin", "small.onnx", "small.onnx.data"}
    assert largest_error(network(), str(output), {"x": SAMPLES[:16]}) < 0.1


def test_an_output_can_be_compressed_again(path: Path, output: Path) -> None:
    one_file(path)
    optimize(path, output, calib=SAMPLES, rank="gemm=12")
    result = optimize(output, output.with_name("smaller.onnx"), calib=SAMPLES, rank="matmul=12")
    assert result.bytes_after < result.bytes_before
    assert largest_error(network(), str(output.with_name("smaller.onnx")), {"x": SAMPLES[:16]}) < 0.1


def test_large_constant_nodes_become_initializers_of_the_factors(path: Path, output: Path) -> None:
    onnx.save(with_constant_nodes(network(), "W", "V", "b", "d"), path)
    result = optimize(path, output, calib=SAMPLES, rank=12)
    assert compressed(result) == {"gemm", "matmul"}
    assert "Constant" not in {node.op_type for node in onnx.load(output).graph.node}
    assert largest_error(network(), str(output), {"x": SAMPLES[:16]}) < 0.1


# Links, as download caches make them.


@pytest.mark.parametrize("linked", ["both", "a folder"])
def test_a_model_referred_to_through_a_link(linked: str, path: Path, output: Path, tmp_path: Path) -> None:
    one_file(path)
    if linked == "a folder":
        (tmp_path / "cache").symlink_to(path.parent)
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / path.name).symlink_to(path)
    if linked == "both":
        (tmp_path / "cache" / "weights.bin").symlink_to(path.with_name("weights.bin"))
    result = optimize(tmp_path / "cache" / path.name, output, calib=SAMPLES[16:], rank=12)
    assert result.bytes_before == weight_of(path.parent)
    assert largest_error(network(), str(output), {"x": SAMPLES[:16]}) < 0.1


def test_a_link_to_the_model_alone_is_refused_as_onnxruntime_refuses_it(
    path: Path, output: Path, tmp_path: Path
) -> None:
    one_file(path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / path.name).symlink_to(path)
    with pytest.raises(onnx_dalr.InputError, match=r"external data of '.*' is missing: no file .*cache/weights.bin"):
        optimize(tmp_path / "cache" / path.name, output, calib=SAMPLES, rank=12)


def test_content_addressed_blobs_behind_links(path: Path, output: Path, tmp_path: Path) -> None:
    """snapshots/model.onnx → blobs/3f2a, snapshots/weights.bin → blobs/9c1b: as the Hugging Face hub keeps them."""
    one_file(path)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots").mkdir()
    for file, blob in ((path, "3f2a"), (path.with_name("weights.bin"), "9c1b")):
        (tmp_path / "snapshots" / file.name).symlink_to(file.rename(tmp_path / "blobs" / blob))
    optimize(tmp_path / "snapshots" / path.name, output, calib=SAMPLES[16:], rank=12)
    assert largest_error(network(), str(output), {"x": SAMPLES[:16]}) < 0.1


def test_external_data_inside_a_body_comes_along(path: Path, output: Path) -> None:
    proto = model(
        """g (float[N,256] x, bool c) => (float[N,256] y) {
            [fc] h = MatMul(x, W)
            y = If (c) <then_branch = t () => (float[N,256] a) { a = Add(h, outer) },
                        else_branch = e () => (float[N,256] d) { d = Identity(h) }>
        }""",
        W=values("W", (256, 256)),
        outer=(256,),
    )
    body = next(entry.g for entry in proto.graph.node[1].attribute if entry.name == "else_branch")
    body.initializer.append(onnx.numpy_helper.from_array(values("inside", (256, 256)), "inside"))
    body.node[0].CopyFrom(helper.make_node("MatMul", ["h", "inside"], [body.output[0].name], name="inner"))
    onnx.save(proto, path)
    with_files = onnx.load(path)
    stored = list(stored_tensors(with_files.graph))
    data = b""
    for tensor in stored:
        raw = tensor.raw_data
        external_data_helper.set_external_data(tensor, "weights.bin", offset=len(data), length=len(raw))
        tensor.ClearField("raw_data")
        data += raw
    path.with_name("weights.bin").write_bytes(data)
    path.write_bytes(with_files.SerializeToString())
    samples = rows((64, 256))
    feeds = {"x": samples[:16], "c": np.array(False)}
    calib = [{"x": part, "c": np.array(False)} for part in np.split(samples, 8)]
    optimize(path, output, calib=calib, rank=12)
    assert locations(output) == {"small.onnx.data"}
    assert largest_error(proto, str(output), feeds) < 0.02
    assert TensorProto.EXTERNAL in {tensor.data_location for tensor in stored}
