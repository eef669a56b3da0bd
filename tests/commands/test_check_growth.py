"""What `check` says of a model that has too much: what grew, what is largest, and what nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_dalr.commands.check import check
from onnx_dalr.commands.inspect import inspect
from onnx_dalr.errors import InputError
from onnx_dalr.results.check import BudgetLine
from tests.cli import tiny
from tests.graph.helpers import model


def saved(path: Path, proto: onnx.ModelProto) -> Path:
    onnx.save(proto, path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return saved(tmp_path / "small.onnx", tiny.mlp())


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return saved(tmp_path / "wide.onnx", tiny.mlp((16, 64, 48, 4)))


def grown(line: BudgetLine) -> list[tuple[str, str, float]]:
    return [(one.name, one.what, one.grown) for one in line.contributors]


def test_the_largest_come_first_and_all_adds_up(small: Path, wide: Path) -> None:
    (line,) = check(wide, baseline=small).lines
    assert grown(line)[:3] == [("second", "Gemm", 3072), ("first", "Gemm", 1024), ("b1", "bias", 64)]
    assert sum(one.grown for one in line.contributors) == line.value
    (line,) = check(wide, baseline=small, max_params="100%").lines
    assert grown(line) == [("second", "Gemm", 768), ("first", "Gemm", 256), ("b1", "bias", 16)]
    (line,) = check(wide, baseline=small, max_macs="100%").lines
    assert grown(line) == [("second", "Gemm", 768), ("first", "Gemm", 256)]


def test_what_is_called_otherwise_is_found_by_the_node_that_reads_it(small: Path, wide: Path) -> None:
    proto = onnx.load(wide)
    for number, tensor in enumerate(proto.graph.initializer):
        for node in proto.graph.node:
            node.input[:] = [f"onnx::{number}" if name == tensor.name else name for name in node.input]
        tensor.name = f"onnx::{number}"
    (line,) = check(saved(wide, proto), baseline=small, max_params="100%").lines
    assert grown(line)[:2] == [("second", "Gemm", 768), ("first", "Gemm", 256)]


def test_without_a_baseline_what_is_largest_is_named(small: Path) -> None:
    (line,) = check(small, max_size="1kB").lines
    assert grown(line)[:2] == [("second", "Gemm", 4 * 48 * 48), ("first", "Gemm", 4 * 48 * 16)]
    assert {one.before for one in line.contributors} == {None}
    assert sum(one.after for one in line.contributors) == line.value


def test_where_nothing_grew_what_is_largest_is_named(small: Path) -> None:
    line = check(small, baseline=small, max_size="1kB", max_growth=0).lines[0]
    assert line.contributors[0].before is None


def test_what_went_is_in_the_rest(small: Path, tmp_path: Path) -> None:
    proto = onnx.load(small)
    for tensor, bias in zip(proto.graph.initializer[::2], proto.graph.initializer[1::2], strict=True):
        assert tensor.name.startswith("W")
        assert bias.name.startswith("b")
    other = tiny.mlp((16, 90, 20, 4))
    (line,) = check(saved(tmp_path / "other.onnx", other), baseline=small, max_params="50%").lines
    assert line.contributors[-1].name == "everything else"
    assert line.contributors[-1].grown < 0
    assert sum(one.grown for one in line.contributors) == check(small, max_params=1).lines[0].value * -1 + line.value


def test_many_are_summed_up(tmp_path: Path) -> None:
    layers = range(1, 15)
    text = "g (float[N,4] x0) => (float[N,4] x14) {" + "\n".join(f"x{k} = MatMul(x{k - 1}, W{k})" for k in layers) + "}"
    path = saved(tmp_path / "deep.onnx", model(text, **{f"W{k}": (4, 4) for k in layers}))
    (line,) = check(path, max_params=1).lines
    assert len(line.contributors) == 11
    assert (line.contributors[-1].name, line.contributors[-1].after) == ("4 more", 64)


def test_the_parts_of_parameters_are_all_of_them_whatever_their_format(tmp_path: Path) -> None:
    text = """g (float[N,64] x) => (float[N,32] y) {
        w = DequantizeLinear (Q, s, z)
        h = MatMul (x, w)
        y = Add (h, b)
    }"""
    rows = np.arange(64 * 32, dtype=np.int64).reshape(64, 32) % 100
    constants = {
        "Q": rows.astype(np.int8),
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.int8),
        "b": np.ones(32, np.float32),
    }
    path = saved(tmp_path / "q.onnx", model(text, **constants))
    (line,) = check(path, max_params=1).lines
    assert line.value == inspect(path).params == sum(one.after for one in line.contributors)


def test_external_data_counts(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "apart.onnx"
    onnx.save(onnx.load(small), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    (line,) = check(path, max_size="1kB").lines
    assert line.value == path.stat().st_size + (tmp_path / "apart.data").stat().st_size
    assert line.contributors[0].name == "second"
    (tmp_path / "apart.data").write_bytes(b"x" * line.value)  # no values of theirs: nobody reads them
    assert check(path, max_params="1M").passed


# Multiply-adds


def test_an_open_axis_of_tokens_counts_as_one_and_that_is_said(tmp_path: Path) -> None:
    table = np.zeros((50, 8), np.float32)
    weights = {"table": table, "W": np.zeros((8, 24), np.float32), "b": np.zeros(24, np.float32)}
    path = saved(tmp_path / "t.onnx", tiny.with_weights(tiny.TOKENS, weights))
    (line,) = check(path, max_macs="1k").lines
    assert (line.value, line.unit, line.notes) == (8 * 24, "multiply-adds", ("L counted as 1",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[N,3,H,W] x) => (float[N,8,h,w] y) { y = Conv (x, K) }", "leaves open how large an input is"),
        (
            "g (float[N,8] x, bool c) => (float[N,8] y) { y = If (c) <then_branch = t () => (float[N,8] a) "
            "{ a = MatMul (x, M) }, else_branch = e () => (float[N,8] b) { b = Identity (x) }> }",
            r"nothing says what 1 of its nodes do \(a\)",
        ),
    ],
)
def test_multiply_adds_that_are_not_known_are_no_success(tmp_path: Path, text: str, message: str) -> None:
    constants = {"K": (8, 3, 3, 3)} if "Conv" in text else {"M": (8, 8)}
    path = saved(tmp_path / "m.onnx", model(text, checked=False, **constants))
    with pytest.raises(InputError, match=message):
        check(path, max_macs="1M")
    assert check(path, max_size="1MB").passed


# Folders of baselines


def test_a_folder_of_baselines_holds_the_model_of_the_same_path_or_name(
    small: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("models/one", "base/models/one"):
        Path(folder).mkdir(parents=True)
    wide.rename("models/one/m.onnx")
    small.rename("base/models/one/m.onnx")
    (line,) = check("models/one/m.onnx", baseline="base").lines
    assert (line.against, line.value) == (str(Path("base/models/one/m.onnx")), 4161)
    Path("base/models/one/m.onnx").rename("base/m.onnx")
    assert check("models/one/m.onnx", baseline="base").lines[0].against == str(Path("base/m.onnx"))


def test_a_new_model_has_no_baseline_and_that_is_said(small: Path, wide: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "small.onnx").write_bytes(small.read_bytes())
    result = check([small, wide], baseline=tmp_path / "base", max_growth=0, max_params="1M")
    assert [(Path(line.model).name, line.budget) for line in result.lines] == [
        ("small.onnx", "params"),
        ("small.onnx", "growth"),
        ("wide.onnx", "params"),
    ]
    assert result.notes == (
        f"{wide} is not in {tmp_path / 'base'}: what would be measured against its baseline is not checked",
    )
    with pytest.raises(InputError, match="holds no model for"):
        check(wide, baseline=tmp_path / "base")
    with pytest.raises(InputError, match="no such model"):
        check(wide, baseline=tmp_path / "none")
