"""The printed inspection: as approved, readable in any width, honest about what it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import ModelProto, numpy_helper
from rich.cells import cell_len

from onnx_dalr.commands.inspect import inspect
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.rewrite import rewrite
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.report.inspect import inspection_view
from onnx_dalr.report.names import cut, middle, shortened
from onnx_dalr.report.text import as_text
from onnx_dalr.results.inspect import Inspection
from tests.commands.test_inventory import fused
from tests.golden import assert_golden
from tests.graph.helpers import model, thin, values
from tests.survival.layouts import odd_offsets


def text_model() -> ModelProto:
    """An embedding tied to the head, a weight used twice, a kernel, a normalization, a product of what is computed."""
    proto = model(
        """g (int64[N,12] tokens, float[N,3,8,8] image) => (float[N,12,500] logits, float scores, float map) {
            [embed] words = Gather(table, tokens)
            [one] a = MatMul(words, shared)
            [two] b = MatMul(a, shared)
            [norm] n = LayerNormalization(b, scale, shift)
            turned = Transpose <perm = [0, 2, 1]> (n)
            [scores] scores = MatMul(n, turned)
            back = Transpose(table)
            [head] logits = MatMul(n, back)
            [stem] map = Conv <pads = [1, 1, 1, 1]> (image, kernel)
        }""",
        checked=False,
        table=(500, 64),
        shared=(64, 64),
        scale=(64,),
        shift=(64,),
        kernel=(16, 3, 3, 3),
    )
    nodes = {
        "embed": "/model/embeddings/word/Gather",
        "one": "/model/encoder/layer.0/output/dense/MatMul",
        "two": "/model/encoder/layer.1/output/dense/MatMul",
        "scores": "/model/attention/MatMul_1",
        "head": "/model/head/MatMul",
        "stem": "/stem/conv/Conv",
    }
    tensors = {"table": "model.embeddings.word_embeddings.weight", "kernel": "stem.conv.weight"}
    for node in proto.graph.node:
        node.name = nodes.get(node.name, node.name)
        node.input[:] = [tensors.get(name, name) for name in node.input]
    for tensor in proto.graph.initializer:
        tensor.name = tensors.get(tensor.name, tensor.name)
    return proto


def printed(found: Inspection, width: int, top: int | None = 20) -> str:
    return as_text(inspection_view(found, width, top=top), width)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_demo_model_is_printed_as_approved(demo: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.chdir(demo)
    assert_golden(f"inspect-digits-{width}", printed(inspect("digits-target.onnx"), width))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_language_model_is_printed_as_approved(width: int) -> None:
    assert_golden(f"inspect-text-{width}", printed(inspect(text_model()), width))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_model_that_a_runtime_fused_is_printed_as_approved(width: int) -> None:
    assert_golden(f"inspect-fused-{width}", printed(inspect(fused()), width))


def made_by_us() -> ModelProto:
    """A layer in rank 10, of a model that had been made by this tool."""
    source = Model(model("g (float[N,60] x) => (float[N,80] y) { [fc] y = MatMul(x, W) }", W=(60, 80)))
    note = {"version": "0.1.0", "method": "dalr", "calibration": "05b7a2fbedd0ad2e"}
    note |= {"of": 19_500, "tuned": 1, "ranks": {"fc": 10, "gone": "dense int8"}}
    return rewrite(source, [thin(find(source)[0][0], 10)], note=json.dumps(note | {"before": "{}"})).proto


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_model_of_ours_is_printed_as_approved(width: int) -> None:
    assert_golden(f"inspect-made-{width}", printed(inspect(made_by_us()), width))


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal_and_no_number_breaks(width: int) -> None:
    lines = printed(inspect(text_model()), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    for other in (fused(), made_by_us()):
        assert max(map(cell_len, printed(inspect(other), width).splitlines())) <= width
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("largest")) :]
    for amount in ("128 kB", "16.4 kB", "1.73 kB"):
        assert sum(amount in line for line in table) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_why_weights_are_not_eligible_is_said_beside_or_below(width: int) -> None:
    text = " ".join(printed(inspect(text_model()), width).split())
    assert "lookup table: its rows are" in text
    assert ("why not embedding: " in text) == (width == 80)


def test_a_shared_weight_is_one_row_with_its_uses() -> None:
    found = inspect(text_model())
    (row,) = [line for line in printed(found, 120).splitlines() if "64×64" in line]
    assert "MatMul ×2" in row
    (row,) = [line for line in printed(found, 60).splitlines() if "64×64" in line]
    assert "×2 rank ≤ 31" in row
    (row,) = [line for line in printed(found, 120).splitlines() if "500×64" in line]
    assert "Gather + MatMul" in row


def test_nodes_whose_reason_no_tensor_shows_come_last() -> None:
    lines = printed(inspect(text_model()), 160).splitlines()
    assert lines[-2:] == [
        "skipped 1 MatMul: dynamic weight: both operands are computed at run time (/model/attention/MatMul_1)",
        "skipped 1 MatMul: its weight is also read by Gather '/model/embeddings/word/Gather', so factoring would not "
        "remove it (/model/head/MatMul)",
    ]
    assert not any("skipped" in line for line in lines[:-2])


def test_small_constants_are_one_line_however_many_tensors_are_shown() -> None:
    found = inspect(text_model())
    assert "small constants                2    512 B" in printed(found, 120, top=None)
    assert "scale" not in printed(found, 120, top=None)
    shown = printed(found, 120, top=1)
    assert "and 2 more, 18.1 kB (" in shown
    assert "stem.conv.weight" not in shown


def test_bytes_of_data_files_that_are_no_tensors_have_a_line(tmp_path: Path) -> None:
    odd_offsets(tmp_path / "m.onnx")
    assert "of no tensor, in data files            68 B" in printed(inspect(tmp_path / "m.onnx"), 120)


@pytest.mark.parametrize("width", [60, 120])
def test_doc_strings_and_metadata_are_pointed_at_where_they_are_most_of_the_graph(width: int) -> None:
    proto = text_model()
    assert "doc strings" not in printed(inspect(proto), width)
    proto.doc_string = "x" * 50_000
    assert "50 kB of it doc strings and metadata" in " ".join(printed(inspect(proto), width).split())


def test_names_hold_anything() -> None:
    proto = model("g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, W) }", W=(64, 64))
    odd = "[bold]\x1b[2J\n模型" * 8
    proto.graph.initializer[0].name = proto.graph.node[0].input[1] = odd
    for width in (40, 60, 120):
        text = printed(inspect(proto), width)
        assert "\x1b" not in text
        assert max(map(cell_len, text.splitlines())) <= width


def test_an_operator_of_any_length_leaves_room_for_numbers() -> None:
    proto = model("g (float[N,64] x) => (float y) { y = custom.Op(x, W) }", checked=False, W=(64, 64))
    proto.graph.node[0].op_type = "AnOperatorWithAVeryLongNameThatNobodyNeedsInFull"
    lines = printed(inspect(proto), 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("16.4 kB" in line for line in lines) == 4  # by kind, operator and format, and of the tensor


@pytest.mark.assets
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_real_models_fit(assets: Path, width: int) -> None:
    for path in sorted((assets / "models").glob("*.onnx")):
        lines = printed(inspect(path), width).splitlines()
        assert max(map(cell_len, lines[1:])) <= width, path.name


# Names that fit.


def test_names_that_fit_are_left_as_they_are() -> None:
    assert shortened(["a/b", "c/d"], 3) == ["a/b", "c/d"]
    assert shortened([], 3) == []


def test_what_most_long_names_begin_with_goes_first() -> None:
    names = [f"/model/encoder/layer.{i}/dense/MatMul" for i in range(3)]
    assert shortened(["short", *names], 20) == ["short", *(f"…{i}/dense/MatMul" for i in range(3))]


def test_no_more_of_it_goes_than_has_to() -> None:
    names = [f"/model/encoder/layer.{i}/dense/MatMul" for i in range(3)]
    assert shortened(names, 30) == [f"…encoder/layer.{i}/dense/MatMul" for i in range(3)]
    assert shortened(names, 23) == [f"…layer.{i}/dense/MatMul" for i in range(3)]


def test_then_what_they_end_in_for_their_kind_then_the_middle() -> None:
    names = [
        f"/model/encoder/layer.{i}/{part}/dense/MatMul" for i in range(2) for part in ("intermediate", "attention")
    ]
    made = shortened(names, 14)
    assert len(set(made)) == 4
    assert all(len(name) <= 14 and name.startswith("…") for name in made)
    assert "MatMul" not in "".join(made)


def test_names_that_shortening_would_make_equal_stay_whole_and_are_folded() -> None:
    names = [f"x{'a' * 30}{letter}{'b' * 30}y" for letter in "pq"]
    assert shortened(names, 12) == names


def test_text_is_cut_by_what_it_takes_on_the_terminal() -> None:
    assert (middle("abcdefghij", 7), cut("abcdefghij", 7)) == ("abc…hij", "abcdef…")
    assert middle("abcdefghij", 10) == "abcdefghij"
    assert [cell_len(middle("模型模型模型模型", width)) <= width for width in range(1, 20)] == [True] * 19
    assert [cell_len(cut("模型模型模型模型", width)) <= width for width in range(1, 20)] == [True] * 19


def test_a_weight_whose_name_says_nothing_goes_by_its_node() -> None:
    proto = model("g (float[N,3,8,8] x) => (float y) { [stem] y = Conv(x, W) }", checked=False)
    proto.graph.initializer.append(numpy_helper.from_array(values("W", (16, 3, 3, 3)), "onnx::Conv_12"))
    proto.graph.node[0].input[1] = "onnx::Conv_12"
    assert any(line.startswith("stem ") for line in printed(inspect(proto), 80).splitlines())
