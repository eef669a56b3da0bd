"""Models on disk: what cannot be loaded says why, and nothing is written by halves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, external_data_helper

from onnx_dalr.errors import InputError
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import (
    Model,
    artifact_size,
    count_params,
    input_specs,
    is_valid,
    load,
    metadata,
    save,
    saved_size,
)
from tests.graph.helpers import initializers, layers_of, model, run, some_feeds, thin, with_constant_nodes

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")


def small() -> ModelProto:
    return model("g (float[N,6] x) => (float[N,8] y) { y = Gemm(x, W, b) }", W=(6, 8), b=(8,))


def saved(path: Path, proto: ModelProto | None = None) -> Path:
    path.write_bytes((proto or small()).SerializeToString())
    return path


def refused(path: Path) -> InputError:
    """The one-line error, with a hint and exit code 2, of a model that cannot be loaded."""
    with pytest.raises(InputError) as caught:
        load(path)
    error = caught.value
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert str(path) in error.message
    return error


# Loading


def test_a_model_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    for given in (path, str(path)):
        found = load(given)
        assert (found.path, found.folder, found.proto) == (path, tmp_path, small())
        assert found.size == path.stat().st_size


def test_a_model_in_memory_is_taken_as_it_is() -> None:
    proto = small()
    found = load(proto)
    assert found.proto is proto
    assert (found.path, found.folder, found.size) == (None, None, proto.ByteSize())


def test_no_such_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere.onnx")
    assert error.message.startswith("no such model")
    assert error.hint


def test_a_folder(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.message.endswith("is a folder")
    assert error.hint


@as_root
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx")
    path.chmod(0)
    assert "cannot read" in refused(path).message


NO_MODELS = {
    "empty": b"",
    "text": b"this is no model\n",
    "JSON": b"{}",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zip": b"PK\x03\x04",
    "utf-8": "ünïcode".encode(),
    "zeros": bytes(99),
}


@pytest.mark.parametrize("content", NO_MODELS)
@pytest.mark.parametrize("suffix", [".onnx", ""])
def test_a_file_that_is_no_model(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(NO_MODELS[content])
    error = refused(path)
    assert "is not an ONNX model" in error.message
    assert error.hint


@pytest.mark.parametrize("name", ["plan.json", "labels.txt", "m.textproto", "m.onnxtxt"])
def test_a_file_whose_ending_tells_that_it_is_no_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no model\n")
    assert "is not an ONNX model" in refused(tmp_path / name).message


def test_a_truncated_file_anywhere(tmp_path: Path) -> None:
    proto = small()
    whole = proto.SerializeToString()
    proto.ClearField("opset_import")  # what follows the graph
    path = tmp_path / "m.onnx"
    for length in range(proto.ByteSize()):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_model_in_memory_that_refers_to_files() -> None:
    proto = small()
    external_data_helper.set_external_data(proto.graph.initializer[0], "weights.bin")
    with pytest.raises(InputError, match="external data") as caught:
        load(proto)
    assert caught.value.hint


# External data


def locations(proto: ModelProto) -> set[str]:
    """The files that initializers lie in."""
    return {entry.value for t in proto.graph.initializer for entry in t.external_data if entry.key == "location"}


def scattered(tmp_path: Path, one_file: bool) -> Path:
    """small(), its constants at offsets of one file or in a file each."""
    proto = small()
    for tensor in proto.graph.initializer:
        location = "all.bin" if one_file else f"parts/{tensor.name}.bin"
        raw = tensor.raw_data
        file = tmp_path / location
        file.parent.mkdir(exist_ok=True)
        before = file.read_bytes() if file.exists() else b"\xff" * 4096
        file.write_bytes(before + raw + b"\xff" * 100)
        external_data_helper.set_external_data(tensor, location, offset=len(before), length=len(raw))
        tensor.ClearField("raw_data")
    return saved(tmp_path / "big.onnx", proto)


@pytest.mark.parametrize("one_file", [True, False], ids=["one file", "many files"])
def test_external_data_is_read_when_asked_for(tmp_path: Path, one_file: bool) -> None:
    found = load(scattered(tmp_path, one_file))
    for name, expected in initializers(small()).items():
        assert not found.constants[name].raw_data
        np.testing.assert_array_equal(found.array(found.constants[name]), expected)


@pytest.mark.parametrize("one_file", [True, False], ids=["one file", "many files"])
def test_size_counts_every_external_file_once(tmp_path: Path, one_file: bool) -> None:
    path = scattered(tmp_path, one_file)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert artifact_size(path) == load(path).size == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("one_file", [True, False], ids=["one file", "many files"])
def test_a_model_with_external_data_is_saved_with_one_file_beside(tmp_path: Path, one_file: bool) -> None:
    source = load(scattered(tmp_path, one_file))
    target = tmp_path / "new"
    target.mkdir()
    save(source.proto, source, target / "out.onnx")
    assert sorted(file.name for file in target.iterdir()) == ["out.onnx", "out.onnx.data"]
    made = load(target / "out.onnx")
    assert locations(made.proto) == {"out.onnx.data"}
    for name, expected in initializers(small()).items():
        np.testing.assert_array_equal(made.array(made.constants[name]), expected)
    feeds = some_feeds(small())
    np.testing.assert_allclose(run(str(target / "out.onnx"), feeds)["y"], run(small(), feeds)["y"], rtol=0, atol=1e-4)
    assert is_valid(target / "out.onnx") is None


def test_a_saved_model_with_external_data_is_not_changed_in_memory(tmp_path: Path) -> None:
    source = load(scattered(tmp_path, one_file=True))
    before = source.proto.SerializeToString(deterministic=True)
    save(source.proto, source, tmp_path / "out.onnx")
    assert source.proto.SerializeToString(deterministic=True) == before


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = load(scattered(tmp_path, one_file=False))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(source.proto, source, tmp_path / folder / "m.onnx")
    for name in ("m.onnx", "m.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_without_external_data_is_one_file(tmp_path: Path) -> None:
    save(small(), Model(small()), tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert onnx.load(tmp_path / "m.onnx") == small()


# The size before it is written


def weighed(proto: ModelProto, original: Model, path: Path) -> int:
    """The size of an artifact as it was foretold, which is what it weighs on disk."""
    foretold = saved_size(proto, original, path.name)
    assert list(path.parent.glob(f"{path.name}*")) == []
    save(proto, original, path)
    assert foretold == artifact_size(path)
    assert foretold == sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return foretold


def large() -> ModelProto:
    """Weights above and below a page, a megabyte and the thousand bytes from which new tensors lie beside."""
    text = """
    g (float[N,64] x) => (float[N,8] y) {
      [a] h = Gemm(x, W1, b1)
      [b] i = Gemm(h, W2, b2)
      [c] j = Gemm(i, W3)
      [d] y = Gemm(j, W4, b4)
    }"""
    shapes = {"W1": (64, 600), "b1": (600,), "W2": (600, 600), "b2": (600,), "W3": (600, 40), "W4": (40, 8), "b4": (8,)}
    return model(text, **shapes)


def stored(tmp_path: Path, how: str) -> Path:
    path = tmp_path / "m.onnx"
    options = {"external": {"size_threshold": 0}, "partly external": {"size_threshold": 10_000}}
    if how == "inline":
        return saved(path, large())
    onnx.save(large(), path, save_as_external_data=True, location="weights", **options[how])
    return path


@pytest.mark.parametrize("how", ["inline", "external", "partly external"])
@pytest.mark.parametrize("name", ["s.onnx", "a-much-longer-name-than-the-original-has.onnx"])
def test_the_size_of_what_will_be_saved_is_known_before(tmp_path: Path, how: str, name: str) -> None:
    original = load(stored(tmp_path, how))
    (tmp_path / "out").mkdir()
    for rank in (1, 2, 7, 63):
        made = rewrite(original, [thin(layer, min(rank, layer.m, layer.n)) for layer in layers_of(large())]).proto
        kept = made.SerializeToString()
        assert weighed(made, original, tmp_path / "out" / f"{rank}-{name}") < original.size
        assert made.SerializeToString() == kept


@pytest.mark.parametrize("how", ["inline", "external", "partly external"])
def test_the_size_of_a_model_that_is_saved_as_it_is_is_known_too(tmp_path: Path, how: str) -> None:
    original = load(stored(tmp_path, how))
    weighed(original.proto, original, tmp_path / "again.onnx")


def test_the_size_of_a_scattered_model_is_known_too(tmp_path: Path) -> None:
    original = load(scattered(tmp_path, one_file=False))
    weighed(original.proto, original, tmp_path / "again.onnx")


def test_the_size_of_a_model_in_memory_is_that_of_its_bytes() -> None:
    assert saved_size(small(), Model(small()), "m.onnx") == len(small().SerializeToString())


def read_weight(path: Path) -> np.ndarray:
    found = load(path)
    return found.array(found.constants["W"])


@pytest.mark.parametrize("outside", ["../secret.bin", "parts/../../secret.bin", "{absolute}"])
def test_external_data_outside_the_models_folder_is_refused(tmp_path: Path, outside: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 48))
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    proto = small()
    location = outside.format(absolute=tmp_path / "secret.bin")
    external_data_helper.set_external_data(proto.graph.initializer[0], location, offset=0, length=4 * 48)
    proto.graph.initializer[0].ClearField("raw_data")
    path = saved(folder / "m.onnx", proto)
    with pytest.raises(InputError) as caught:
        read_weight(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "too short"])
def test_external_data_that_is_not_there(tmp_path: Path, damage: str) -> None:
    path = scattered(tmp_path, one_file=True)
    if damage == "missing":
        (tmp_path / "all.bin").unlink()
    else:
        (tmp_path / "all.bin").write_bytes(b"\0" * 4100)
    with pytest.raises(InputError, match="'W'") as caught:
        read_weight(path)
    assert "\n" not in str(caught.value)


# Counting


def test_params_are_the_floating_constants() -> None:
    proto = model(
        "g (float[N,6] x) => (float[N,8] y) { y = Gemm(x, W, b) }",
        W=(6, 8),
        b=(8,),
        half=np.zeros(3, np.float16),
        double=np.zeros(5),
        whole=np.zeros(7, np.int64),
        scalar=(),
    )
    assert count_params(proto) == load(proto).params == 48 + 8 + 3 + 5 + 1


def test_a_shared_constant_counts_once() -> None:
    proto = model("g (float[N,8] x) => (float[N,8] y) { h = MatMul(x, W)  y = MatMul(h, W) }", W=(8, 8))
    assert count_params(proto) == 64


def test_constant_nodes_count() -> None:
    assert count_params(with_constant_nodes(small(), "W")) == 56


def test_bodies_and_functions_count() -> None:
    proto = model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N,6] x, bool c) => (float[N,6] z) {
            y = local.Shift(x)
            z = If (c) <
                then_branch = t () => (float[N,6] a) <float[3] t3 = {1.0, 2.0, 3.0}> {
                    k = Constant <value = float[2] {1.0, 2.0}> ()
                    a = Neg(y)
                },
                else_branch = e () => (float[N,6] d) { d = Abs(y) }
            >
        }
        <domain: "local", opset_import: ["" : 17]>
        Shift (x) => (y) { one = Constant <value = float[1] {1.0}> ()  y = Add(x, one) }"""
    )
    assert count_params(proto) == 3 + 2 + 1


# Validity and metadata


def test_a_valid_model_has_nothing_wrong_and_a_broken_one_says_what_in_one_line(tmp_path: Path) -> None:
    assert is_valid(saved(tmp_path / "good.onnx")) is None
    broken = small()
    broken.graph.node[0].input[1] = "nowhere"
    problem = is_valid(saved(tmp_path / "broken.onnx", broken))
    assert problem
    assert "nowhere" in problem
    assert "\n" not in problem


def test_a_model_that_was_never_optimized_has_no_note() -> None:
    assert metadata(small()) is None


def test_constants_are_initializers_and_values_of_constant_nodes() -> None:
    assert set(Model(with_constant_nodes(small(), "W")).constants) == {"W", "b"}


@pytest.mark.parametrize("kind", ["bfloat16", "float8e4m3fn", "int4"])
def test_an_input_of_a_type_that_numpy_lacks_is_named(kind: str) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g ({kind}[N] x) => ({kind}[N] y) {{}}')
    with pytest.raises(InputError, match=f"model input 'x' is {kind}, which ONNX Runtime cannot be fed") as caught:
        input_specs(proto)
    assert "Cast" in caught.value.hint
