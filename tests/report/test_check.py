"""What `check` found, as people, pull requests and pipelines see it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from onnx_dalr.report.check import check_view
from onnx_dalr.report.check_formats import CHECK_FORMATS
from onnx_dalr.report.check_github import as_github
from onnx_dalr.report.check_junit import as_junit
from onnx_dalr.report.check_markdown import as_markdown
from onnx_dalr.report.text import as_text
from onnx_dalr.request.rows.budgets import FORMATS
from onnx_dalr.results.check import CheckResult
from tests.golden import assert_golden
from tests.report.made_checks import CHECKED, DETECTOR, EVIL

PASSED = replace(CHECKED, lines=tuple(line for line in CHECKED.lines if line.passed), notes=())


@pytest.mark.parametrize("width", [60, 80, 160])
def test_what_is_printed_is_as_reviewed(width: int) -> None:
    text = as_text(check_view(CHECKED, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert_golden(f"check-{width}", text)


@pytest.mark.parametrize("name", ["markdown", "github", "junit"])
def test_what_is_written_is_as_reviewed(name: str) -> None:
    assert_golden(f"check-{name}", CHECK_FORMATS[name](CHECKED))


def test_every_format_of_the_option_is_there() -> None:
    assert tuple(CHECK_FORMATS) == FORMATS
    assert all(CHECK_FORMATS[name](CHECKED).endswith("\n") for name in FORMATS)


def test_a_budget_that_is_met_is_one_line_with_what_is_left() -> None:
    lines = CHECK_FORMATS["text"](replace(PASSED, lines=PASSED.lines[:2])).splitlines()
    assert lines == [
        "ok   models/a.onnx: size 20.1 MB of 25 MB, 4.86 MB left (19.4 %)",
        "ok   models/a.onnx: params 6M of 6M, 0 left (0.0 %)",
    ]


def test_one_that_is_not_has_limit_value_difference_what_grew_and_where_to_change_it() -> None:
    text = CHECK_FORMATS["text"](CHECKED)
    for said in (
        'limit   85,252 bytes: max-growth = "2%" of the baseline',
        "value   2,716,220 bytes",
        "over by 2,630,968 bytes",
        "/backbone/stage4/block2/conv2/Conv (3×3 Conv) +2.36 MB 2.36 MB → 4.72 MB",
        "/head/classes/MatMul (Gemm)                    +328 kB new",
        "change  max-growth in onnx-dalr.toml:9",
        "change  max-size in budgets[1] of onnx-dalr.toml",
        "over by 1 byte\n",
        "error NaN or infinity of 0.02, over",
        "over 5 of 10 budgets of 3 models",
    ):
        assert said in text, said


def test_str_is_the_text() -> None:
    assert str(PASSED) == as_text(check_view(PASSED))
    assert len([line for line in str(PASSED).splitlines() if line.startswith("ok   ")]) == 5


# Markdown


def test_markdown_is_a_table_with_parts_to_unfold() -> None:
    text = as_markdown(CHECKED)
    rows = [line for line in text.splitlines() if line.startswith(("| ok", "| **over"))]
    assert len(rows) == len(CHECKED.lines)
    assert {line.count("|") for line in rows} == {7}  # what is in a name ends no cell
    assert text.count("<details>") == text.count("</details>") == len(CHECKED.over)
    assert "### onnx-dalr check: over 5 of 10 budgets of 3 models" in text
    assert as_markdown(PASSED).startswith("### onnx-dalr check: within 5 budgets of 2 models\n")


def test_names_are_no_markup() -> None:
    text = as_markdown(CHECKED)
    assert "<code>models/a&#124;b `&lt;x&gt;` ::error, 100%.onnx</code>" in text
    assert "<x>" not in text


# GitHub


def test_annotations_are_escaped() -> None:
    commands = [line for line in as_github(CHECKED).splitlines() if line.startswith("::")]
    assert len(commands) == len(CHECKED.over) + len(CHECKED.notes)
    evil = commands[-2]
    assert evil.startswith(
        "::error file=models/a|b `<x>` %3A%3Aerror%2C 100%25.onnx,title=onnx-dalr%3A size over its budget::"
    )
    assert "%0Alimit: 0 bytes: --max-size 0%0A" in evil
    assert commands[-1].startswith("::notice title=onnx-dalr::models/new.onnx is not in base")
    assert not [line for line in as_github(PASSED).splitlines() if line.startswith("::")]


def test_an_annotation_finds_its_file_from_the_root_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert f"::error file=sub/{DETECTOR},title=" in as_github(CHECKED)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert f"::error file={DETECTOR},title=" in as_github(CHECKED)


# JUnit


def test_junit_counts_what_it_holds() -> None:
    root = ElementTree.fromstring(as_junit(CHECKED))
    assert root.tag == "testsuites"
    for group, cases in (
        (root, root.findall("./testsuite/testcase")),
        *((suite, suite.findall("testcase")) for suite in root),
    ):
        failed = [case for case in cases if case.find("failure") is not None]
        assert (group.get("tests"), group.get("failures")) == (str(len(cases)), str(len(failed)))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names) == len(CHECKED.lines)
    assert (DETECTOR, "drop 2") in names
    assert [suite.get("name") for suite in root] == ["models/a.onnx", DETECTOR, EVIL]


def test_junit_has_no_element_or_attribute_that_its_readers_do_not_know() -> None:
    counts = {"name", "tests", "failures", "errors", "time"}
    known = {
        "testsuites": counts,
        "testsuite": counts,
        "testcase": {"classname", "name", "time"},
        "failure": {"message", "type"},
        "system-out": set[str](),
    }
    assert all(set(one.attrib) == known[one.tag] for one in ElementTree.fromstring(as_junit(CHECKED)).iter())


def test_junit_is_xml_whatever_a_model_is_called() -> None:
    odd = replace(CHECKED.lines[0], model="a\x00\x1b[31m\udc80é<&>\ufffe.onnx")
    text = as_junit(CheckResult((odd,)))
    assert text.isascii()
    (suite,) = ElementTree.fromstring(text)
    assert suite.get("name") == "a\\x00\\x1b[31m\\udc80é<&>\\ufffe.onnx"


def test_json_says_where_to_change_a_limit() -> None:
    facts = json.loads(CHECKED.to_json())
    assert facts["lines"][3]["where"] == {"key": "max-growth", "file": "onnx-dalr.toml", "line": 9, "budget": 0}
    assert facts["lines"][6]["value"] is None
