"""Files that are no models, damaged ones and graphs no exporter writes: refused in one line, and nothing is written.

The long part is `python tools/fuzz.py`; here are fixed seeds of its stages and what it found, each as a test.
"""

from __future__ import annotations

import gzip
import importlib
import os
import threading
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import onnx_dalr
from onnx_dalr.cli.main import app
from onnx_dalr.errors import DalrError, InputError
from onnx_dalr.graph.layers import find, matrix
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import load
from tests.graph.helpers import assert_same_outputs, exact, layers_of, model, reason, rewritten, with_constant_nodes

TEXT = """
g (float[N,16] x) => (float[N,16] y) <float[N,16] h, float[N,16] r> {
  [mm] h = MatMul(x, W1)
  r = Relu(h)
  [fc] y = Gemm<alpha = 1.0, beta = 1.0, transB = 1>(r, W2, b)
}
"""


def small() -> ModelProto:
    return model(TEXT, W1=(16, 16), W2=(16, 16), b=(16,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with samples for the small model."""
    np.savez(tmp_path / "calib.npz", x=np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32))
    return tmp_path


def refused(path: Path, fragment: str = "", commands: tuple[str, ...] = ("inspect", "optimize")) -> InputError | None:
    """Python and the command line refuse the model in one line, and the folder stays as it is."""
    before = listing(path.parent)
    found = None
    if "inspect" in commands:
        with pytest.raises(InputError) as caught:
            str(onnx_dalr.inspect(path))
        found = caught.value
        assert fragment in found.message + found.hint, (found.message, found.hint)
        assert_one_line(found)
    rest = {"inspect": [], "optimize": [path.parent / "out.onnx", "--calib", path.parent / "calib.npz", "--rank", "2"]}
    for command in commands:
        result = CliRunner().invoke(app, [command, str(path), *map(str, rest[command])])
        assert result.exit_code == 2, result.stderr
        assert "Traceback" not in result.stderr
        assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1, result.stderr
    assert listing(path.parent) == before
    return found


def assert_one_line(error: DalrError) -> None:
    assert error.message
    assert len(error.message.splitlines()) == 1
    assert error.message.isprintable()
    assert error.hint.isprintable()


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# ------------------------------------------------------------------------------------------------------------- fuzzer


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    """tools/fuzz.py, which is no package."""
    return importlib.import_module("fuzz")


@pytest.mark.parametrize(("stage", "count"), [("loader", 120), ("layers", 120), ("optimize", 40)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_fixed_seeds_of_the_fuzzer(fuzz: ModuleType, stage: str, count: int, tmp_path: Path) -> None:
    findings = []
    for number in range(count):
        (tmp_path / str(number)).mkdir()
        found = fuzz.try_case(f"{stage}:suite:{number}", tmp_path / str(number))
        findings += [f"{found.id}: {found.what}"] if isinstance(found, fuzz.Finding) else []
    assert not findings


def test_the_fuzzer_notices_a_wrong_rewrite(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that finds nothing has to be able to find something."""
    right = fuzz.exact

    def wrong(*arguments: object) -> object:
        made = right(*arguments)
        made.parts[0].encoded.arrays[""][0] += 1
        return made

    monkeypatch.setattr(fuzz, "exact", wrong)
    assert any(isinstance(fuzz.try_case(f"layers:suite:{n}", tmp_path), fuzz.Finding) for n in range(20))


# ---------------------------------------------------------------------------------------------------- no model at all


FILES = {
    "empty": (b"", "empty"),
    "text": (b"this is a text file\n", "is not an ONNX model"),
    "json": (b'{"layers": []}', "is not an ONNX model"),
    "web page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
    "web page, indented": (b"\n  <html lang='en'>", "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"),
    "gzip": (gzip.compress(b"model", mtime=0), "gzip archive"),
    "zeros": (bytes(1000), "is not an ONNX model"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not an ONNX model"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else(folder: Path, name: str) -> None:
    content, fragment = FILES[name]
    (folder / "model.onnx").write_bytes(content)
    refused(folder / "model.onnx", fragment)


def test_a_zip_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.onnx", "w") as archive:
        archive.writestr("model.onnx", small().SerializeToString())
    refused(folder / "model.onnx", "unpack it")


def test_a_folder(folder: Path) -> None:
    (folder / "model.onnx").mkdir()
    refused(folder / "model.onnx", "is a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "model.onnx")
    done = threading.Event()

    def check() -> None:
        with pytest.raises(InputError, match="regular file"):
            load(folder / "model.onnx")
        done.set()

    threading.Thread(target=check, daemon=True).start()
    assert done.wait(10)


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(folder: Path, part: float) -> None:
    content = small().SerializeToString()
    (folder / "model.onnx").write_bytes(content[: max(1, int(part * len(content)))])
    refused(folder / "model.onnx")


# ------------------------------------------------------------------------------------------------------ external data


def external(folder: Path, **entries: str) -> Path:
    """The small model, W1 in a file of its own, with these entries in place of the right ones."""
    proto = small()
    tensor = proto.graph.initializer[0]
    (folder / "data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "data", "offset": "0", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("location", ["/etc/passwd", "../data", "sub/../../data", "sub/../data"])
def test_external_data_elsewhere(folder: Path, location: str) -> None:
    refused(external(folder, location=location), "outside the model's folder")


@pytest.mark.skipif(os.name == "nt", reason="there it is the way")
def test_a_place_that_was_written_on_windows(folder: Path) -> None:
    path = external(folder, location="weights\\data")
    found = refused(path, "weights\\data")
    assert found is not None
    assert found.hint == "keep it beside the .onnx file"
    (folder / "weights").mkdir()
    (folder / "data").rename(folder / "weights/data")
    found = refused(path, "weights\\data")
    assert found is not None
    assert "as on Windows" in found.hint


def test_a_link_that_leads_out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data"
    elsewhere.write_bytes(bytes(5000))
    (folder / "link").symlink_to(elsewhere)
    refused(external(folder, location="link"), "outside the model's folder")


def test_a_link_to_itself(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    refused(external(folder, location="loop"))


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "ten"},
        {"length": "long"},
        {"offset": ""},
        {"location": "da\0ta"},
        {"location": "x" * 5000},
        {"location": ""},
        {"location": "."},
        {"location": "none"},
    ],
    ids=lambda entries: repr(entries)[:30],
)
def test_external_data_that_is_nowhere(folder: Path, entries: dict[str, str]) -> None:
    path = external(folder, **entries)
    if entries != {"offset": ""}:  # which onnx reads as 0
        refused(path)


@pytest.mark.parametrize("offset", ["1", "-1", str(2**63 - 1), str(2**70)])
def test_external_data_that_ends_too_early(folder: Path, offset: str) -> None:
    path = external(folder, offset=offset)
    refused(path, commands=("optimize",))

    def first_matrix() -> None:
        read = load(path)
        matrix(read, find(read)[0][0])

    with pytest.raises(InputError) as caught:
        first_matrix()
    assert_one_line(caught.value)


# ---------------------------------------------------------------------------------------------------- damaged messages


def spoil(old: bytes, new: bytes) -> Callable[[ModelProto], bytes]:
    """Replaces bytes of the file by as many others."""
    assert len(old) == len(new)

    def made(proto: ModelProto) -> bytes:
        content = proto.SerializeToString()
        assert old in content
        return content.replace(old, new)

    return made


def change(edit: Callable[[ModelProto], object]) -> Callable[[ModelProto], bytes]:
    def made(proto: ModelProto) -> bytes:
        edit(proto)
        return proto.SerializeToString()

    return made


def set_attribute(node: NodeProto, name: str, value: object) -> None:
    others = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, value)])


def behind(op: str, inputs: list[str], **attributes: object) -> Callable[[ModelProto], None]:
    """The weight of the MatMul made by another node."""

    def edit(proto: ModelProto) -> None:
        proto.graph.node.insert(0, helper.make_node(op, inputs, ["V"], **attributes))
        proto.graph.node[1].input[1] = "V"

    return edit


def named_by_reference(proto: ModelProto) -> None:
    proto.graph.node[2].attribute.append(
        AttributeProto(name="transA", type=AttributeProto.INT, ref_attr_name="a function's")
    )


def weight_dims(*dims: int) -> Callable[[ModelProto], None]:
    def edit(proto: ModelProto) -> None:
        del proto.graph.initializer[0].dims[:]
        proto.graph.initializer[0].dims.extend(dims)

    return edit


DAMAGE: dict[str, tuple[Callable[[ModelProto], bytes], str]] = {
    "name of a node is not UTF-8": (spoil(b"mm", b"m\xff"), "UTF-8"),
    "name of a weight is not UTF-8": (spoil(b"W1", b"W\xff"), "UTF-8"),
    "operator is not UTF-8": (spoil(b"Relu", b"Re\xc3u"), "UTF-8"),
    "name of a dimension is not UTF-8": (spoil(b"\x12\x01N", b"\x12\x01\xff"), "UTF-8"),
    "weight without a type": (change(lambda p: p.graph.initializer[0].ClearField("data_type")), "element type"),
    "weight of an unknown type": (change(lambda p: setattr(p.graph.initializer[0], "data_type", 99)), "element type"),
    "weight of a negative type": (change(lambda p: setattr(p.graph.initializer[0], "data_type", -(2**31))), "type"),
    "value of an unknown type": (
        change(lambda p: setattr(p.graph.value_info[0].type.tensor_type, "elem_type", 100)),
        "element type",
    ),
    "input of an unknown type": (
        change(lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 100)),
        "element type",
    ),
    "gigantic dims": (change(weight_dims(2**31, 2**31)), "impossible shape"),
    "dims beyond 64 bits": (change(weight_dims(2**62, 2**62)), "impossible shape"),
    "dims of terabytes": (change(weight_dims(2**20, 2**20)), "larger than the file"),
    "negative dims": (change(weight_dims(-16, -16)), "impossible shape"),
    "MatMul without an output": (change(lambda p: p.graph.node[0].ClearField("output")), ""),
    "Gemm without an output": (change(lambda p: p.graph.node[2].ClearField("output")), ""),
    "alpha is text": (change(lambda p: set_attribute(p.graph.node[2], "alpha", "one")), ""),
    "beta is a list": (change(lambda p: set_attribute(p.graph.node[2], "beta", [1.0, 2.0])), ""),
    "an attribute of a function": (change(named_by_reference), ""),
    "perm is a number": (change(behind("Transpose", ["W1"], perm=1)), ""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_message(folder: Path, name: str) -> None:
    make, fragment = DAMAGE[name]
    (folder / "model.onnx").write_bytes(make(small()))
    refused(folder / "model.onnx", fragment)


REFUSED_WHEN_RUN: dict[str, Callable[[ModelProto], object]] = {
    "input without a type": lambda p: p.graph.input[0].type.tensor_type.ClearField("elem_type"),
    "two nodes that make one tensor": lambda p: p.graph.node.append(p.graph.node[0]),
    "a weight shorter than its shape": lambda p: setattr(p.graph.initializer[0], "raw_data", bytes(100)),
    "a cycle of nodes": lambda p: p.graph.node[0].input.__setitem__(0, "r"),
    "a node that reads itself": behind("Identity", ["V"]),
    "an input that nothing makes": lambda p: p.graph.node[0].input.__setitem__(0, "nowhere"),
    "Identity of nothing": behind("Identity", []),
    "a Constant without a value": behind("Constant", []),
    "an operator nobody knows": lambda p: setattr(p.graph.node[1], "op_type", "NoSuchOp"),
    "a domain nobody knows": lambda p: setattr(p.graph.node[1], "domain", "no.such.domain"),
    "an opset from the future": lambda p: setattr(p.opset_import[0], "version", 10**6),
}


@pytest.mark.parametrize("name", REFUSED_WHEN_RUN)
def test_what_cannot_be_run(folder: Path, name: str) -> None:
    """`inspect` may read these or refuse them; `optimize` refuses them before it writes anything."""
    proto = small()
    REFUSED_WHEN_RUN[name](proto)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    refused(folder / "model.onnx", commands=("optimize",))
    looked = CliRunner().invoke(app, ["inspect", str(folder / "model.onnx")])
    assert looked.exit_code in (0, 2), looked.stderr


def test_a_cycle_of_carriers_ends() -> None:
    proto = small()
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("V", "U"), ("U", "V"))]
    proto.graph.node.extend(nodes)
    proto.graph.node[0].input[1] = "V"
    try:
        layers, _ = find(load(proto))
    except InputError as error:
        assert_one_line(error)
    else:
        assert [layer.weight for layer in layers] == ["W2"]


def test_a_constant_node_without_an_output() -> None:
    proto = small()
    proto.graph.node.append(helper.make_node("Constant", [], [], value=proto.graph.initializer[0]))
    try:
        assert load(proto).constants
    except InputError as error:
        assert_one_line(error)


# -------------------------------------------------------------------------------------------------------- odd but right


def test_a_weight_behind_thousands_of_nodes() -> None:
    """It was found by recursion once."""
    proto = model("g (float[N,16] x) => (float[N,16] y) { y = MatMul(x, W) }", W=(16, 16))
    names = ["W", *(f"V{number}" for number in range(2000))]
    for at, (a, b) in enumerate(pairwise(names)):
        proto.graph.node.insert(at, helper.make_node("Identity", [a], [b]))
    proto.graph.node[-1].input[1] = names[-1]
    (layer,) = layers_of(proto)
    assert layer.weight == "W"
    assert len(layer.uses[0].path) == 2000


def test_names_that_break_lines_stay_in_one_line(folder: Path) -> None:
    proto = small()
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "a\nb\x1b[31m"
    onnx.save(proto, folder / "model.onnx")
    with pytest.raises(InputError) as caught:
        onnx_dalr.optimize(folder / "model.onnx", calib={"x": np.zeros((9, 16), np.float32)})
    assert_one_line(caught.value)
    refused(folder / "model.onnx", commands=("optimize",))


def test_a_kernel_without_spatial_axes_is_no_layer() -> None:
    """onnx's checker accepts it."""
    text = "g (float[N,16] x) => (float[N,16] y) { y = Conv(x, W) }"
    assert "no kernel" in reason(model(text, checked=False, W=(16, 16)))
    assert "no kernel" in reason(model(text, checked=False, W=(16,)))


def test_a_gemm_bias_of_three_axes_is_left_alone() -> None:
    """ONNX Runtime takes it for a row; in an Add it would give the result a third axis."""
    text = "g (float[5,16] x) => (float[5,16] y) { y = Gemm(x, W, b) }"
    assert "3 axes" in reason(model(text, checked=False, W=(16, 16), b=(1, 1, 1)))


@pytest.mark.parametrize("twice", ["W1", "b"])
def test_a_constant_stored_twice_is_left_alone(twice: str) -> None:
    """Which of the two counts is up to the runtime; onnx's checker refuses such a model, ONNX Runtime does not."""
    proto = small()
    double = next(tensor for tensor in proto.graph.initializer if tensor.name == twice)
    proto.graph.initializer.append(numpy_helper.from_array(2 * numpy_helper.to_array(double), twice))
    read = load(proto)
    layers, skipped = find(read)
    made = rewrite(read, [exact(proto, layer) for layer in layers]).proto
    assert_same_outputs(proto, made)
    assert [tensor.name for tensor in made.graph.initializer].count(twice) == 2
    assert [entry.reason for entry in skipped] == (["2 constants have its weight's name"] if twice == "W1" else [])


def test_a_constant_of_another_domain_is_not_onnx_s() -> None:
    proto = with_constant_nodes(small(), "W1", "W2")
    proto.graph.node[0].domain = "custom"
    layers, skipped = find(load(proto))
    assert [layer.weight for layer in layers] == ["W1"]
    assert len(skipped) == 1


def test_every_name_may_be_odd() -> None:
    proto = small()
    for node, name in zip(proto.graph.node, ["[bold]x[/]", "", "\n"], strict=True):
        node.name = name
    assert_same_outputs(proto, rewritten(proto))
    str(onnx_dalr.inspect(proto))


# --------------------------------------------------------------------------------------------------------------- depth


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, prefix = len(content), bytearray()
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*prefix, size]) + content


def nested(depth: int) -> bytes:
    """A model of If in If in If, written by hand: the library refuses to make the deep ones."""
    graph = field(1, field(1, b"x") + field(2, b"o") + field(4, b"Identity")) + field(12, field(1, b"o"))
    for _ in range(depth):
        branches = b"".join(
            field(5, field(1, name) + field(6, graph) + b"\xa0\x01\x05")
            for name in (b"then_branch", b"else_branch")[:1]
        )
        graph = field(1, field(1, b"c") + field(2, b"o") + branches + field(4, b"If")) + field(12, field(1, b"o"))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


@pytest.mark.parametrize("depth", [1, 20, 30])
def test_bodies_in_bodies(folder: Path, depth: int) -> None:
    (folder / "model.onnx").write_bytes(nested(depth))
    assert onnx_dalr.inspect(folder / "model.onnx").layers == ()


@pytest.mark.parametrize("depth", [100, 1000])
def test_bodies_deeper_than_protobuf_reads(folder: Path, depth: int) -> None:
    (folder / "model.onnx").write_bytes(nested(depth))
    refused(folder / "model.onnx")


def test_the_small_model_is_fine(folder: Path) -> None:
    """What the damage above is done to."""
    onnx.save(small(), folder / "model.onnx")
    assert len(onnx_dalr.inspect(folder / "model.onnx").layers) == 2
    result = onnx_dalr.optimize(folder / "model.onnx", calib=folder / "calib.npz", rank=2)
    assert result.model is not None
    assert {t.name for t in result.model.graph.initializer} >= {"W1.dalr_A", "W2.dalr_A"}
    (folder / "calib.npz").unlink()
    path = external(folder)
    assert (
        numpy_helper.to_array(small().graph.initializer[0]).tolist()
        == load(path).array(load(path).proto.graph.initializer[0]).tolist()
    )
