"""`inspect` shows where the bytes are; `check` is the CI gate: exit 0 or 3, one line per budget."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.cli import tiny
from tests.cli.conftest import Run
from tests.graph.helpers import model as small_net


@pytest.fixture
def model(demo: Path) -> Path:
    return demo / "digits-target.onnx"


def test_inspect_lists_tensors_by_size_with_share_and_break_even_rank(run: Run, model: Path) -> None:
    outcome = run("inspect", model)
    assert outcome.code == 0
    assert "2.18 MB, 544k parameters" in outcome.stdout
    assert "eligible: 2.17 MB of 2.18 MB (100 %) in 7 layers; at best the file becomes 18.3 kB" in outcome.stdout
    rows = [line.split() for line in outcome.stdout.splitlines() if line.startswith("fc")]
    assert [row[0] for row in rows] == ["fc6", "fc7", "fc8"]
    assert rows[0][1:] == ["Gemm", "512×512", "float32", "1.05", "MB", "48.2", "%", "rank", "≤", "255"]
    rows = [line.split() for line in outcome.stdout.splitlines() if line.startswith("conv")]
    assert [row[0] for row in rows] == ["conv2_2", "conv2_1", "conv1_2", "conv1_1"]
    assert rows[0][1:8] == ["Conv", "32×288", "float32", "36.9", "kB", "1.7", "%"]
    assert " ".join(rows[0][8:]) == "out/in ≤ 28, v/h ≤ 47, tucker ≤ 24×24"  # 28·(32 + 288) < 32·288
    assert outcome.stderr == ""


def test_inspect_says_why_the_rest_is_not_eligible_and_what_it_takes(run: Run, tmp_path: Path) -> None:
    text = """g (float[1,64,9,9] x) => (float[1,64,7,7] y) {
        c = Conv (x, K)
        y = Conv <group = 64, pads = [1,1,1,1]> (c, E)
    }"""
    onnx.save(small_net(text, K=(64, 64, 3, 3), E=(64, 1, 3, 3)), tmp_path / "net.onnx")
    rows = [line.split() for line in run("inspect", tmp_path / "net.onnx").stdout.splitlines()]
    (row,) = [row for row in rows if row[:1] == ["depthwise"]]
    assert row[3:11] == ["1", "2.3", "kB", "1.5", "%", "1.5", "%", "depthwise"]
    (row,) = [row for row in rows if row[:2] == ["eligible", "3×3"]]
    assert row[3:6] == ["1", "147", "kB"]


def test_inspect_shows_as_many_tensors_as_it_is_told_and_says_what_it_leaves_out(run: Run, model: Path) -> None:
    def rows(*arguments: object) -> list[str]:
        lines = run("inspect", model, *arguments).stdout.splitlines()
        return lines[next(at for at, line in enumerate(lines) if line.startswith("largest")) + 1 :]

    assert rows("--top", 2)[2] == "and 5 more, 73.3 kB (3.4 %): --all shows them"
    assert [row.split()[0] for row in rows("--top", 2)[:2]] == ["fc6", "fc7"]
    assert rows("--top", 0) == rows("--all") == rows("--top", 7) == rows()
    assert len(rows()) == 7
    assert run("inspect", model, "--top", -1).code == 2


def test_inspect_json_has_the_same_facts(run: Run, model: Path) -> None:
    facts = json.loads(run("inspect", model, "--json", "-").stdout)
    before = {"schema", "path", "bytes", "params", "opsets", "layers", "skipped", "optimized"}
    before |= {"reachable", "kinds", "tensors", "other_bytes", "remark_bytes", "unclaimed_bytes"}
    before |= {"macs", "counted_as_one"}
    assert set(facts) == before | {"operators", "formats", "files", "made", "fewer_bits"}
    assert facts["macs"] == sum(kind["macs"] for kind in facts["kinds"]) == 2_037_760
    assert facts["bytes"] == model.stat().st_size
    assert facts["params"] == 543_732
    assert {layer["name"]: layer["break_even"] for layer in facts["layers"]} == {
        "fc6": 255,
        "fc7": 255,
        "fc8": 3,
        "conv1_1": 5,
        "conv1_2": 14,
        "conv2_1": 26,
        "conv2_2": 28,
    }
    assert sum(tensor["bytes"] for tensor in facts["tensors"]) + facts["other_bytes"] == facts["bytes"]


@pytest.mark.usefixtures("bench")
def test_inspect_shows_what_an_earlier_run_did(run: Run) -> None:
    run("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 8)
    shown = run("inspect", "out/small.onnx").stdout
    assert "made by onnx-dalr " in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("first ")]
    assert " pair 8 " in row


def test_inspect_writes_markdown_to_a_file_or_in_place_of_the_table(run: Run, model: Path, tmp_path: Path) -> None:
    outcome = run("inspect", model, "--markdown", tmp_path / "report.md", "--top", 2)
    assert outcome.stdout.startswith(f"{model}: 2.18 MB")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| fc6 | Gemm | 512×512 | float32 | 1.05 MB | 48.2 % | rank ≤ 255 |\n" in text
    assert "and 5 more, 73.3 kB (3.4 %): --all shows them\n" in text
    assert run("inspect", model, "--markdown", "-", "--top", 2).stdout == text


def test_two_reports_do_not_go_to_one_place(run: Run, model: Path, tmp_path: Path) -> None:
    both = run("inspect", model, "--markdown", "-", "--json", "-")
    assert (both.code, both.stdout) == (2, "")
    assert both.errors[0] == "error: --json and --markdown are both for standard output"
    same = run("inspect", model, "--markdown", tmp_path / "a", "--json", tmp_path / "a")
    assert same.code == 2
    assert run("inspect", model, "--markdown", model).code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["inspect", "check"])
@pytest.mark.usefixtures("bench")
def test_what_is_no_model_is_refused(run: Run, command: str) -> None:
    Path("text.onnx").write_text("hello\n")
    more = ("--max-size", "1MB") if command == "check" else ()
    outcome = run(command, "text.onnx", *more)
    assert outcome.code == 2
    assert outcome.errors == ["error: text.onnx is not an ONNX model, or it is damaged"]


@pytest.mark.parametrize(
    ("budget", "code", "said"),
    [
        (("--max-size", "25MB"), 0, "ok  "),
        (("--max-size", "2MB"), 3, "over"),
        (("--max-params", "544k"), 0, "268 left"),
        (("--max-params", "543731"), 3, "1 over"),
        (("--max-size", "25MB", "--max-params", "1k"), 3, "542,732 parameters"),
    ],
)
def test_check_is_zero_within_the_budget_and_three_over_it(
    run: Run, model: Path, budget: tuple[str, ...], code: int, said: str
) -> None:
    outcome = run("check", model, *budget)
    assert outcome.code == code
    assert said in outcome.stdout
    assert outcome.stderr == ""


def test_check_is_one_line_per_budget(run: Run, model: Path) -> None:
    budgets = ("--max-size", "25MB", "--max-params", "6M", "--baseline", model, "--max-growth", "2%")
    lines = run("check", model, *budgets).stdout.splitlines()
    assert len(lines) == 3
    assert all(str(model) in line for line in lines)


@pytest.mark.usefixtures("bench")
def test_check_against_a_baseline_allows_no_growth_unless_told(run: Run) -> None:
    run("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 8)
    assert run("check", "out/small.onnx", "--baseline", "model.onnx").code == 0
    assert run("check", "model.onnx", "--baseline", "model.onnx").code == 0
    assert run("check", "model.onnx", "--baseline", "out/small.onnx").code == 3
    assert run("check", "model.onnx", "--baseline", "out/small.onnx", "--max-growth", "300%").code == 0
    assert run("check", "out/small.onnx", "--baseline", "model.onnx", "--max-params", "99%").code == 0


def test_check_json_has_limit_value_and_what_is_left(run: Run, model: Path) -> None:
    outcome = run("check", model, "--max-size", "2MB", "--json", "-")
    facts = json.loads(outcome.stdout)
    assert outcome.code == 3
    assert facts["passed"] is False
    (line,) = facts["lines"]
    assert (line["limit"], line["value"], line["left"]) == (2_000_000, 2_176_668, -176_668)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "nothing to check"),
        (("--max-size", "lots"), "--max-size 'lots' is not an amount"),
        (("--max-size", "50%"), "there is none"),
        (("--max-growth", "2%"), "--max-growth needs something to grow from"),
        (("--baseline", "missing.onnx"), "no such model: missing.onnx"),
        (("--baseline", "model.onnx", "--max-growth", "1e999%"), "--max-growth"),
        (("--max-size", "1e999"), "--max-size"),
    ],
)
@pytest.mark.usefixtures("bench")
def test_check_refuses_what_it_cannot_read(run: Run, arguments: tuple[str, ...], fragment: str) -> None:
    outcome = run("check", "model.onnx", *arguments)
    assert outcome.code == 2
    assert len(outcome.errors) == 1
    assert fragment in outcome.errors[0]
    assert len(outcome.hints) == 1


@pytest.mark.usefixtures("bench")
def test_names_are_shown_as_they_are_whatever_markup_or_control_characters_are_in_them(run: Run) -> None:
    made = tiny.mlp()
    made.graph.node[0].name, made.graph.node[2].name = "a[/b][bold]", "c\x1b[2J\nd"
    onnx.save(made, "odd.onnx")
    outcome = run("inspect", "odd.onnx")
    assert outcome.code == 0
    assert "a[/b][bold]" in outcome.stdout
    assert r"c\x1b[2J\nd" in outcome.stdout
    outcome = run("optimize", "odd.onnx", "out/small[v1].onnx", "--calib", "calib.npz", "--rank", "2")
    assert outcome.code == 0
    assert "out/small[v1].onnx" in outcome.stdout
