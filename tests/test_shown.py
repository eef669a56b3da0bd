"""Results for people: `repr()` is one line, `print` the table, and a notebook shows the table as one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import onnx_dalr
from onnx_dalr import Plan
from onnx_dalr.plan.choice import Choice
from onnx_dalr.report.html import as_html
from onnx_dalr.report.parts import add_row, table
from onnx_dalr.report.renderers import RENDERERS
from onnx_dalr.report.text import as_text
from onnx_dalr.shown import Shown
from tests.cli import tiny
from tests.forms import pair

VOID = {"br"}


class Page(HTMLParser):
    """A page taken apart: is it well formed, its words, its tables cell by cell, all its attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "in.onnx").write_bytes(tiny.mlp().SerializeToString())
    result = onnx_dalr.optimize(
        folder / "in.onnx", folder / "out.onnx", calib=tiny.rows(), rank=["first=8", "second=9"]
    )
    with onnx_dalr.analyze(folder / "in.onnx", calib=tiny.rows(), method="svd") as analysis:
        yield {
            "Result": result,
            "Analysis": analysis,
            "Plan": analysis.plan(params="80%"),
            "Inspection": onnx_dalr.inspect(folder / "in.onnx"),
            "ModelComparison": onnx_dalr.compare(folder / "in.onnx", folder / "out.onnx", data=tiny.rows(seed=3)),
            "CheckResult": onnx_dalr.check([folder / "in.onnx", folder / "out.onnx"], max_size="10kB"),
            "StatisticsSet": analysis.stats,
        }


BRIEF = {
    "Result": r"out\.onnx: 13\.8 kB → 7\.\d\d kB \(5\d\.\d %\), 1 − error lost [\d.]+ points",
    "Analysis": r"in\.onnx: 3 layers, 0 skipped; svd from 45 samples",
    "Plan": r"params 80%: svd, [123] of 3 layers get a rank",
    "Inspection": r"in\.onnx: 13\.8 kB, 3 eligible layers, 9\d\.\d % of the file",
    "ModelComparison": r"in\.onnx → out\.onnx: 13\.8 kB → 7\.\d\d kB \(5\d\.\d %\), 1 − error lost [\d.]+ points",
    "CheckResult": r"failed: over 1 of 2 budgets",
    "StatisticsSet": r"svd: 3 layers of model [0-9a-f]{8} from 45 samples",
}


DRAWN = ("Result", "Analysis", "ModelComparison", "CheckResult")


@pytest.mark.parametrize("name", BRIEF)
def test_repr_is_one_line_that_says_which_it_is(results: dict[str, Any], name: str) -> None:
    assert re.fullmatch(f"<{name} {BRIEF[name]}>", repr(results[name])), repr(results[name])


def test_repr_of_what_was_not_written_or_not_measured(results: dict[str, Any]) -> None:
    result = results["Result"]
    assert repr(replace(result, output=None)).startswith("<Result in memory: ")
    assert repr(replace(result, output=None, dry_run=True)).startswith("<Result dry run: ")
    assert repr(replace(result, quality=None)).endswith(", quality not measured>")
    gained = replace(result.quality, score="accuracy", drop=replace(result.quality.drop, value=-0.004))
    assert repr(replace(result, quality=gained)).endswith(", accuracy gained 0.4 points>")
    assert repr(replace(result, quality=replace(gained, finite=False))).endswith(", gives NaN or infinity>")
    own = replace(gained, score="ndcg", score_before=gained.drop, drop=replace(gained.drop, value=0.01234))
    assert repr(replace(result, quality=own)).endswith(", ndcg lost 0.01234>")
    assert repr(Plan("svd", ())) == "<Plan no target: svd, 0 of 0 layers get a rank>"
    assert repr(replace(results["CheckResult"], lines=results["CheckResult"].lines[1:])) == (
        "<CheckResult passed: 1 budget>"
    )


def test_repr_stays_one_line_whatever_a_file_is_called(results: dict[str, Any]) -> None:
    shown = repr(replace(results["Result"], output=Path("a\nb\x1b[31m.onnx")))
    assert shown.isprintable()
    assert r"a\nb\x1b[31m.onnx" in shown


@pytest.mark.parametrize("name", BRIEF)
def test_print_is_the_table(results: dict[str, Any], name: str) -> None:
    shown = str(results[name])
    assert len(shown.splitlines()) > 1
    assert "\x1b" not in shown
    assert shown != repr(results[name])


@pytest.mark.parametrize("name", BRIEF)
def test_a_notebook_shows_what_print_does_in_tables(results: dict[str, Any], name: str) -> None:
    page = Page(results[name]._repr_html_())
    assert page.tables
    missing = set(re.findall(r"[\w.×%-]+", str(results[name]))) - set(re.findall(r"[\w.×%-]+", " ".join(page.words)))
    assert missing == set()
    assert all(len({len(row) for row in rows}) == 1 for rows in page.tables)


@pytest.mark.parametrize("name", BRIEF)
def test_a_notebook_loads_nothing_and_keeps_its_own_colours(results: dict[str, Any], name: str) -> None:
    source = results[name]._repr_html_()
    tables, _, plots = source.partition("<figure")
    assert {attribute for _, attribute, _ in Page(tables).attributes} == {"style"}
    assert bool(plots) == (name in DRAWN)
    assert not re.search(r"https?:|src=|<script|<style|var\(", plots)
    styles = " ".join(value for _, attribute, value in Page(source).attributes if attribute == "style")
    assert not re.search(r"import|background: #|color: (white|black)", styles)
    assert set(re.findall(r"url\((.)", source)) <= {"#"}


def test_cells_stand_in_the_columns_of_the_view(results: dict[str, Any]) -> None:
    rows = Page(results["Analysis"]._repr_html_()).tables[-1]
    assert rows[0][:3] == ["layer", "op", "shape"]
    assert [row[:3] for row in rows[1:]] == [
        ["first", "Gemm", "48×16"],
        ["second", "Gemm", "48×48"],
        ["third", "Gemm", "4×48"],
    ]


def test_names_are_text_and_no_markup() -> None:
    evil = "<script>alert('x')</script> & [bold]b[/bold] \"q\""
    source = Plan("svd", (Choice(evil, pair(3), evil),), target=evil)._repr_html_()
    assert "<script" not in source
    page = Page(source)
    assert page.tables[0][1][0] == evil
    assert " ".join(page.words).count(evil) == 4  # of the target, in the table, and a reason with its layer


def test_styles_become_weight_tone_and_colours_for_light_and_dark_pages() -> None:
    made = table(("name", "left"), ("n", "right"))
    add_row(made, "a", "1", style="dim")
    text = Text.assemble("plain ", ("both", "bold red"), ("\nnext", "italic"))
    source = as_html(Group(text, Text(), made, "[green]markup[/green]"))
    assert '<span style="font-weight: bold; color: #d9534f">both</span>' in source
    assert '<span style="font-style: italic"><br>next</span>' in source
    assert '<tr style="opacity: 0.65">' in source
    assert re.search(r'<td style="text-align: right;[^"]*white-space: pre;[^"]*">1</td>', source)
    assert '<span style="color: #3f9142">markup</span>' in source
    assert Page(source).words == ["plain", "both", "next", "name", "n", "a", "1", "markup"]


def test_what_is_no_text_and_no_table_is_shown_as_on_a_terminal() -> None:
    cell = Table.grid()
    cell.add_row(Padding("a <pad>", 1))
    for view in (Padding("a <pad>", 1), cell):
        source = as_html(view)
        assert "a &lt;pad&gt;" in source
        assert "<pre>" in source
        assert " ".join(Page(source).words) == as_text(view).strip()


def test_the_forms_are_what_the_results_show(results: dict[str, Any]) -> None:
    result = results["Result"]
    assert RENDERERS["text"](result) == str(result) == result.to_text()
    assert RENDERERS["text"](result, width=60, verbose=True) == result.to_text(width=60, verbose=True)
    assert RENDERERS["html"](result) == result._repr_html_()
    assert RENDERERS["json"](result) == result.to_json()


def test_who_shows_no_result_loads_no_tables() -> None:
    code = "import onnx_dalr, sys; [getattr(onnx_dalr, name) for name in onnx_dalr.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "onnx_dalr.results.result" in loaded
    assert not [name for name in loaded if name.startswith(("onnx_dalr.report", "rich"))]


def test_a_view_has_to_be_given() -> None:
    with pytest.raises(NotImplementedError, match="no view of Shown"):
        str(Shown())
    with pytest.raises(NotImplementedError):
        repr(Shown())
