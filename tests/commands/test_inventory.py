"""What `inspect` sums up: operators, formats, files, shared weights, ways to take layers apart, the plan of a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper

import onnx_dalr
from onnx_dalr.commands.inspect import inspect
from onnx_dalr.factorize import Shape
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.results.inspect import Inspection
from tests.cli import tiny
from tests.graph.helpers import model, values

MS = "com.microsoft"


def add_up(found: Inspection) -> None:
    """Every tensor is of one operator and of one format."""
    held = sum(tensor.bytes for tensor in found.tensors)
    assert sum(entry.bytes for entry in found.operators) == held
    assert sum(entry.bytes for entry in found.formats) == held
    assert sum(entry.tensors for entry in found.operators) == len(found.tensors)
    assert sum(entry.numbers for entry in found.formats) == sum(one.numbers for one in found.tensors if not one.aside)


def fused() -> ModelProto:
    """As ONNX Runtime writes it: an attention, a convolution with its activation, a product in blocks of four bits."""
    proto = model(
        """g (float[N,4,32] x, float[N,3,8,8] image) => (float[N,4,16] y, float m) {
            [attend] a = com.microsoft.Attention <num_heads = 4> (x, QKV, b)
            [norm] s = com.microsoft.SkipLayerNormalization(a, x, g)
            [four] y = com.microsoft.MatMulNBits <K = 32, N = 16, bits = 4, block_size = 16> (s, P, scales)
            [stem] c = com.microsoft.FusedConv <activation = "Relu"> (image, K)
            [own] m = acme.Twist(c, T)
        }""",
        checked=False,
        QKV=(32, 96),
        b=(96,),
        g=(32,),
        P=values("P", (16, 2, 8), np.uint8),
        scales=(32,),
        K=(8, 3, 3, 3),
        T=(8, 8),
    )
    proto.opset_import.add(domain="acme", version=3)
    return proto


def test_operators_are_counted_everywhere_with_what_is_stored_for_them() -> None:
    found = inspect(fused())
    add_up(found)
    by_op = {entry.op: entry for entry in found.operators}
    attention, four, own = by_op["Attention"], by_op["MatMulNBits"], by_op["Twist"]
    assert (attention.domain, attention.nodes, attention.tensors) == (MS, 1, 2)
    assert attention.bytes == 4 * (32 * 96 + 96)
    assert attention.says == "a whole attention of 4 heads, fused; its weight holds q, k and v"
    assert (four.bytes, four.says) == (256 + 4 * 32, "MatMul by a weight in int4 in blocks of 16")
    assert (own.domain, own.says) == ("acme", "an operator of acme")
    assert found.operators[0].op == "Attention"
    text = str(found)
    assert "opset onnx 17, com.microsoft 1, acme 3" in text
    assert "acme.Twist" in text
    assert "Conv and its Relu, fused" in text.split("largest")[1]


def test_nodes_in_bodies_and_functions_count_and_their_weights_too() -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((8, 8), np.float32), "W")],
    )
    proto = model("g (float[N,8] x, bool c) => (float[N,8] y) { y = MatMul(x, V) }", V=(8, 8), checked=False)
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    inner = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.zeros((8, 8), np.float32), "k"))
    body = [inner, helper.make_node("Gemm", ["a", "k"], ["o"])]
    proto.functions.append(helper.make_function("own", "F", ["a"], ["o"], body, [helper.make_opsetid("", 17)]))
    found = inspect(proto)
    add_up(found)
    by_op = {entry.op: (entry.nodes, entry.tensors, entry.bytes) for entry in found.operators}
    assert by_op["MatMul"] == (3, 3, 3 * 256)
    assert by_op["Gemm"] == (1, 1, 256)
    assert by_op["If"] == (1, 0, 0)
    assert "Constant" not in by_op


def test_what_no_node_reads_is_of_no_operator() -> None:
    found = inspect(model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }", U=(40, 8), checked=False))
    add_up(found)
    assert [(entry.op, entry.nodes, entry.bytes) for entry in found.operators] == [("", 0, 1280), ("Relu", 1, 0)]
    assert "read by no node      0  1.28 kB" in str(found)


def test_formats_have_their_scales_with_them_and_say_what_a_number_takes() -> None:
    found = inspect(fused())
    by_format = {entry.format: entry for entry in found.formats}
    packed = by_format["int4"]
    assert (packed.tensors, packed.numbers, packed.bytes) == (1, 512, 256 + 128)
    assert packed.grains == ("in blocks of 16",)
    assert packed.bits == 8 * (256 + 128) / 512
    assert by_format["float32"].bits == 32
    assert sum(entry.share for entry in found.formats) == pytest.approx(1 - found.other_bytes / found.bytes)


@pytest.mark.parametrize(
    ("nodes", "scale", "grain"),
    [
        ("w = DequantizeLinear(W, s)", (), "one scale"),
        ("w = DequantizeLinear <axis = 1> (W, s)", (24,), "a scale a channel"),
        ("c = Cast <to = 1> (W)  w = Mul(c, s)", (1, 24), "a scale a channel"),
    ],
)
def test_how_many_numbers_share_a_scale_is_told_by_the_scales(nodes: str, scale: tuple[int, ...], grain: str) -> None:
    constants = {"W": values("W", (32, 24), np.int8), "s": values("s", scale)}
    found = inspect(model(f"g (float[N,32] x) => (float[N,24] y) {{ {nodes}  y = MatMul(x, w) }}", **constants))
    (entry,) = found.formats
    assert (entry.format, entry.grains) == ("int8", (grain,))
    assert grain in str(found).split("largest")[1]


def test_a_weight_that_several_nodes_use_is_stored_and_counted_once() -> None:
    found = inspect(model("g (float[N,32] x) => (float[N,32] y) { a = MatMul(x, W)  y = MatMul(a, W) }", W=(32, 32)))
    add_up(found)
    assert [(tensor.name, tensor.uses) for tensor in found.tied] == [("W", 2)]
    assert "tied 1 weight, 4.1 kB, is used by 2 nodes, stored and counted once (W ×2)" in str(found)
    assert "tied" not in str(inspect(model("g (float[N,32] x) => (float[N,32] y) { y = MatMul(x, W) }", W=(32, 32))))


def sparse(folder: Path, files: int, size: int) -> Path:
    """A model of weights that nobody wrote: its data files are holes."""
    proto = model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }", checked=False)
    for at in range(files):
        tensor = proto.graph.initializer.add(name=f"W{at}", data_type=TensorProto.FLOAT, dims=[8, size // 32])
        tensor.raw_data = b""
        external_data_helper.set_external_data(tensor, f"w{at}.bin", offset=0, length=size)
        tensor.ClearField("raw_data")
        with (folder / f"w{at}.bin").open("wb") as file:
            file.truncate(size + 4096 * at)
        proto.graph.node.add(op_type="MatMul", input=["x", f"W{at}"], output=[f"z{at}"])
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_data_files_are_named_with_what_of_them_is_no_tensor(tmp_path: Path) -> None:
    found = inspect(sparse(tmp_path, 7, 1 << 20))
    assert [(file.name, file.tensors, file.unclaimed) for file in found.files] == [
        (f"w{at}.bin", 1, 4096 * at) for at in reversed(range(7))
    ]
    assert sum(file.bytes for file in found.files) == 7 * (1 << 20) + 21 * 4096
    text = str(found)
    assert "with 7 data files, " in text
    assert [line.split() for line in text.splitlines() if line.startswith("w6.bin")] == [
        ["w6.bin", "1", "1.07", "MB", "24.6", "kB"]
    ]
    assert "and 2 more, 2.1 MB: to_text(top=None) shows them" in text
    assert "w0.bin" in found.to_text(top=None)


def test_weights_of_three_gigabytes_are_not_read(tmp_path: Path) -> None:
    """A file of holes that nothing reads takes no room on the disk, and no memory."""
    try:
        path = sparse(tmp_path, 1, 3 << 30)
    except OSError:
        pytest.skip("no file of 3 GB can be made here, not even of holes")
    found = inspect(path)
    assert found.bytes == path.stat().st_size + (3 << 30)
    assert found.tensors[0].bytes == 3 << 30
    assert "3.22 GB with 1 data file" in str(found)


def test_inspect_loads_neither_a_runtime_nor_statistics() -> None:
    code = "import sys, onnx_dalr.commands.inspect; print(*({'onnxruntime', 'scipy.stats', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_every_structure_that_pays_is_named_with_the_largest_rank_that_does() -> None:
    found = inspect(model("g (float[N,32,9,9] x) => (float y) { [c] y = Conv(x, K) }", K=(48, 32, 3, 3), checked=False))
    (layer,) = found.layers
    assert [way.name for way in layer.structures] == ["out", "in", "v", "h", "tucker"]
    shape, room = Shape(48, 32, (3, 3)), 48 * 288 - 48  # a bias is added
    for way in layer.structures:
        slots = STRUCTURES[way.name].slots(shape, way.largest)
        assert sum(slot.shape.params for slot in slots) < room
        if len(way.largest) == 1:
            every = STRUCTURES[way.name].ranks(shape, 10 * room)
            more = [rank for rank in every if rank > way.largest]
            assert all(sum(s.shape.params for s in STRUCTURES[way.name].slots(shape, rank)) >= room for rank in more)
    assert layer.break_even == layer.structures[0].largest[0]
    wide, middle, narrow = (found.to_text(width=width).split("largest")[1].splitlines()[1] for width in (120, 70, 60))
    assert "out ≤ 40, in ≤ 29, v/h ≤ 57, tucker ≤ " in wide
    assert middle.endswith("out ≤ 40, 4 more")
    assert narrow.endswith("rank ≤ 40")


def test_fewer_bits_reach_what_ranks_do_not() -> None:
    found = inspect(model("g (int64[N] i) => (float[N,64] y) { y = Gather(E, i) }", E=(500, 64)))
    assert found.reachable.layers == 0
    bits = found.fewer_bits
    assert bits is not None
    assert (bits.weights, bits.bytes) == (1, 128_000)
    assert 500 * 64 < bits.in_int8 < 500 * 64 + 4 * 500 + 1000
    assert 'weights="int8" makes about 3' in str(found)
    assert inspect(model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }")).fewer_bits is None


@pytest.mark.parametrize(
    ("options", "form", "numbers"),
    [
        ({"rank": ["first=8", "second=keep", "third=keep"]}, "pair 8", 8 * (16 + 48)),
        ({"rank": ["first=8", "second=keep", "third=keep"], "weights": "first=int8"}, "pair 8 int8", 8 * (16 + 48)),
    ],
)
def test_a_model_of_ours_shows_its_plan(options: dict[str, object], form: str, numbers: int) -> None:
    original = tiny.mlp((16, 48, 48, 4))
    result = onnx_dalr.optimize(original, calib=tiny.rows(), **options)  # type: ignore[arg-type]
    assert result.model is not None
    found = inspect(result.model)
    made = found.made
    assert made is not None
    assert (made.version, made.method, made.calibration) == (
        onnx_dalr.__version__,
        "dalr",
        result.samples and result.samples.fingerprint,
    )
    assert made.original_bytes == result.bytes_before
    assert (made.tuned, made.again) == (False, False)
    (layer,) = [layer for layer in made.layers if layer.name == "first"]
    assert (layer.form, layer.numbers_before, layer.numbers) == (form, 16 * 48, numbers)
    assert layer.bytes == sum(tensor.bytes for tensor in found.tensors if tensor.name in layer.tensors)
    text = str(found)
    assert f"of {result.bytes_before / 1000:.3g} kB, " in text
    (row,) = [line for line in text.splitlines() if line.startswith("first ")]
    assert row.split()[1:6] == [*form.split(), "768", "→", str(numbers)][:5]


def test_of_a_plan_as_much_is_shown_as_of_the_rest() -> None:
    proto = model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }")
    note = {"version": "0.1", "method": "dalr", "ranks": {f"fc{at}": at for at in range(1, 31)}, "before": "{}"}
    proto.metadata_props.add(key="onnx_dalr", value=json.dumps(note))
    found = inspect(proto)
    assert found.made is not None
    assert found.made.layers[0].numbers_before is None  # nothing of it is in the model
    assert "made by onnx-dalr 0.1, method dalr; it was not the first time" in str(found)
    assert "fc20" in str(found)
    assert "fc21" not in str(found)
    assert "and 10 more: to_text(top=None) shows them" in str(found)
    assert "fc30   pair 30" in found.to_text(top=None)


def test_a_note_that_is_not_ours_is_shown_as_it_is() -> None:
    proto = model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }")
    proto.metadata_props.add(key="onnx_dalr", value="[bold]\x1b[2J")
    found = inspect(proto)
    assert found.made is None
    assert "note: optimized before: [bold]\\x1b[2J" in str(found)


def test_thousands_of_layers_are_summed_up() -> None:
    nodes = [helper.make_node("MatMul", [f"h{at}", f"W{at}"], [f"h{at + 1}"], f"fc{at}") for at in range(1500)]
    ends = [helper.make_tensor_value_info(f"h{at}", TensorProto.FLOAT, ["N", 8]) for at in (0, 1500)]
    weights = [numpy_helper.from_array(np.ones((8, 8), np.float32), f"W{at}") for at in range(1500)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    found = inspect(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)]))
    add_up(found)
    assert len(found.layers) == 1500
    assert "MatMul        1500  384 kB" in str(found)
    assert len(str(found).splitlines()) < 50


def test_an_initializer_that_is_an_input_too_is_counted_once() -> None:
    proto = model("g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, W) }", W=(32, 24))
    proto.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [32, 24]))
    found = inspect(proto)
    add_up(found)
    assert [tensor.name for tensor in found.tensors] == ["W"]


@pytest.mark.assets
def test_real_models_add_up(assets: Path) -> None:
    for path in sorted((assets / "models").glob("*.onnx")):
        found = inspect(path)
        add_up(found)
        known = sum(entry.macs or 0 for entry in found.operators)
        assert found.macs is None or known == found.macs, path.name
