"""The HTML report: one file that loads nothing, has all the facts, and is well made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import onnx_dalr
from onnx_dalr.choose.spectrum import Spectrum
from onnx_dalr.errors import InputError
from onnx_dalr.plan.choice import Point
from onnx_dalr.report.figures import output_score
from onnx_dalr.report.page.budgets import Used, budget_bars
from onnx_dalr.report.page.differences import tensor_errors
from onnx_dalr.report.page.layers import Bar, layer_bars
from onnx_dalr.report.page.pages import page
from onnx_dalr.report.page.plots import short, ticks_between
from onnx_dalr.report.page.search import Measured, Tried, quality_against_size
from onnx_dalr.results.result import Result
from tests.cli import tiny
from tests.report.made_results import CLASSIFIER

EVIL = "<script>alert('x')</script>&\"$q$\"\n\x1b[31m"
VOID = {"meta", "img", "br", "link"}


class Read(HTMLParser):
    """A page taken apart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[tuple[str, str]] = []  # (innermost tag, text)
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data.strip()))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(text for tag, text in self.text if tag not in ("style", "script"))


@pytest.fixture(scope="module")
def result() -> Result:
    spectrum = Spectrum("pair", ("1", "8", "64"), (0.01, 0.1, 0.8), (0.9, 0.4, 0.05))
    layers = tuple(replace(layer, spectrum=spectrum) for layer in CLASSIFIER.layers)
    return replace(
        CLASSIFIER,
        layers=layers,
        command="onnx-dalr optimize in.onnx out.onnx",
        versions={"numpy": "2.0"},
        pictures=(("a/1.png", b"\x89PNG\r\n"),),
        notes=("something to know",),
    )


@pytest.fixture(scope="module")
def pages(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "in.onnx").write_bytes(tiny.mlp().SerializeToString())
    small = onnx_dalr.optimize(folder / "in.onnx", folder / "out.onnx", calib=tiny.rows(), rank=["first=8"])
    compared = onnx_dalr.compare(folder / "in.onnx", folder / "out.onnx", data=tiny.rows(seed=3))
    both = [folder / "in.onnx", folder / "out.onnx"]
    held = onnx_dalr.check(both, max_size="13.5kB", max_growth="0%", baseline=folder / "out.onnx")
    with onnx_dalr.analyze(folder / "in.onnx", calib=tiny.rows(), method="svd") as analysis:
        plan = analysis.plan(params="80%")
        yield {
            "made": result.render("page"),
            "optimize": small.render("page"),
            "analyze": analysis.render("page", plan=plan, command="onnx-dalr analyze"),
            "analyze without a plan": analysis.render("page"),
            "check": held.render("page", command="onnx-dalr check"),
            "compare": compared.render("page"),
        }


NAMES = ("made", "check", "optimize", "analyze", "analyze without a plan", "compare")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_loads_nothing(pages: dict[str, str], name: str) -> None:
    found = Read(pages[name])
    for tag, attributes in found.tags:
        for attribute, value in attributes.items():
            if attribute in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value.startswith(("data:", "#")), (tag, attribute, value)
    assert not re.search(r"@import|url\((?!#)", pages[name])
    assert "default-src 'none'" in pages[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_be_read_by_a_screen_reader(pages: dict[str, str], name: str) -> None:
    found = Read(pages[name])
    assert found.of("html")[0]["lang"] == "en"
    assert found.of("meta")[1]["name"] == "viewport"
    assert len(found.of("h1")) == len(found.of("main")) == len(found.of("title")) == 1
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attributes["alt"] for attributes in found.of("img"))
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in found.of("svg"))
    assert all(attributes["scope"] == "col" for attributes in found.of("th"))
    regions = [attributes for attributes in found.of("div") if attributes.get("role") == "region"]
    assert len(regions) == len(found.of("table")) > 0
    assert all(attributes["aria-label"] and attributes["tabindex"] == "0" for attributes in regions)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_within_a_page_is_there_once(pages: dict[str, str], name: str) -> None:
    found = Read(pages[name])
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    pointed = re.findall(r'(?:href="#|url\(#)([^")]+)', pages[name])
    assert set(pointed) <= set(ids)


def test_notes_and_warnings_come_first(result: Result) -> None:
    assert result.quality is not None
    few = replace(result, quality=replace(result.quality, n=12))
    words = Read(few.render("page")).words
    warned, noted, size = (words.index(each) for each in ("few samples:", "something to know", "Size on disk"))
    assert warned < noted < size


def test_a_page_has_the_facts_of_the_table(pages: dict[str, str]) -> None:
    words = re.sub(r"\s+", " ", Read(pages["made"]).words)
    for fact in (
        "20.1 MB → 3.52 MB", "5.7× smaller", "5,033,606 → 878,214", "98.81 % → 98.02 %", "lost 0.79 points",
        "1.94×", "max-drop 1% (default)", "onnx-dalr optimize in.onnx out.onnx", "numpy 2.0", "pair 7", "fit 336",
        "ranks by the own error of each layer", "3×3 convolution: only 1×1 is supported", "a/1.png",
    ):  # fmt: skip
        assert fact in words, fact
    assert len(Read(pages["made"]).of("img")) == 1


def test_every_point_that_was_tried_is_drawn_and_the_chosen_one_is_marked(pages: dict[str, str]) -> None:
    found = Read(pages["made"])
    rows = pages["made"].partition("All 3 models that were tried")[2].partition("</table>")[0]
    assert rows.count("<tr") == 4  # and the headings
    assert rows.count('class="strong"') == 1
    told = next(each["aria-label"] for each in found.of("svg") if "models that were tried" in each["aria-label"])
    assert told.startswith("2 models")  # the third gives NaN: it has no place in a plot
    assert "The chosen one: 3.52 MB, 0." in told


def test_what_could_be_tried_next_is_a_list_and_what_is_typed_looks_so(pages: dict[str, str]) -> None:
    steps = pages["optimize"].partition("What could be tried next")[2].partition("</ol>")[0]
    assert "<code>onnx_dalr.compare" in steps
    assert "`" not in steps


def test_models_that_were_tried_are_pointed_at_where_there_are_some(result: Result) -> None:
    assert "the 3 models tried" in result.render("text")
    assert "models tried" not in replace(result, curve=()).render("text")


def test_long_cells_have_room_to_be_read(result: Result) -> None:
    layers = tuple(replace(one, name="a/name/of/more/than/thirty/characters", reason="x" * 41) for one in result.layers)
    source = replace(result, layers=layers).render("page")
    assert '<td class="said"><code>a/name' in source
    assert f'<td class="said">{"x" * 41}' in source


def test_an_output_scores_as_the_table_says(pages: dict[str, str], result: Result) -> None:
    assert result.quality is not None
    source = replace(result, quality=replace(result.quality, outputs=result.quality.outputs * 2)).render("page")
    scores = {output_score(output) for output in result.quality.outputs}
    assert all(f"<td>{score}</td>" in source for score in scores)
    assert "1 − error" not in pages["compare"].partition("By output")[2].partition("</table>")[0]


def test_names_in_a_model_are_text_and_no_markup(result: Result) -> None:
    layers = (replace(result.layers[0], name=EVIL, reason=EVIL), *result.layers[1:])
    skipped = (replace(result.skipped[0], name=EVIL, reason=EVIL),)
    made = replace(result, layers=layers, skipped=skipped, notes=(EVIL,), command=EVIL, pictures=((EVIL, b"x"),))
    source = made.render("page")
    assert source.count("<script") == 1  # our own
    assert "alert" in Read(source).words
    assert "\x1b" not in source


def test_a_gate_says_first_whether_it_is_passed_and_what_is_over(pages: dict[str, str]) -> None:
    words = Read(pages["check"]).words
    assert words.index("failed") < words.index("over 2 of 4 budgets of 2 models") < words.index("All budgets")
    assert words.count("in.onnx, growth") == 2  # in the list of sections, and above its own
    assert "What grew" in words
    assert Read(pages["check"]).of("svg")[0]["aria-label"].startswith("Share of each budget that is used: ")


def test_what_is_not_known_is_left_out(result: Result) -> None:
    bare = replace(
        result, quality=None, latency=None, samples=None, curve=(), skipped=(), tuning=None, macs_before=None,
        layers=tuple(replace(layer, spectrum=None) for layer in result.layers), pictures=(), command="", versions={},
    )  # fmt: skip
    words = Read(bare.render("page")).words
    assert "not measured" in words
    for heading in ("Quality against size", "Spectra", "Skipped", "Samples", "Tuning", "Multiply-adds", "Speed"):
        assert heading not in words, heading


def test_a_model_that_is_not_finite_says_so_first(result: Result) -> None:
    assert result.quality is not None
    made = replace(result, quality=replace(result.quality, finite=False))
    words = Read(made.render("page")).words
    assert words.index("NaN or infinity") < words.index("Size on disk")


def test_the_same_result_makes_the_same_file(result: Result) -> None:
    assert result.render("page") == result.render("page")


def test_many_layers_are_all_in_the_table_and_the_largest_in_the_plots(result: Result) -> None:
    layers = tuple(replace(result.layers[0], name=f"block{at}/fc", bytes_before=10_000 + at) for at in range(80))
    source = replace(result, layers=layers).render("page")
    assert all(f"<code>block{at}/fc</code>" in source for at in range(80))
    assert "The 56 smaller ones are in the table." in source
    assert len(source) < 1_000_000


def test_a_page_is_written_beside_the_model_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(tiny.mlp().SerializeToString())
    given: dict[str, Any] = {"calib": tiny.rows(), "rank": "first=8"}
    made = onnx_dalr.optimize(tmp_path / "in.onnx", tmp_path / "a.onnx", report=tmp_path / "a.html", **given)
    source = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert source == made.render("page")
    assert "onnx_dalr.optimize(" in Read(source).words
    with pytest.raises(InputError, match="report"):
        onnx_dalr.optimize(tmp_path / "in.onnx", tmp_path / "b.onnx", report=tmp_path / "in.onnx", **given)
    assert not (tmp_path / "b.onnx").exists()


def test_any_result_with_a_page_can_be_saved_as_one(result: Result, tmp_path: Path) -> None:
    result.save_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == result.render("page")


def test_a_result_without_a_page_says_so() -> None:
    with pytest.raises(NotImplementedError, match="no page of int"):
        page(3)


def test_the_axis_of_losses_shows_what_is_allowed_beside_what_is_far_off() -> None:
    tried = [Tried(1000, 0.5, True), Tried(500, 60.0), Tried(2000, 0.0)]
    plot = quality_against_size(tried, 4000, "points lost", 1.0, Measured(1010, 0.8, -0.1, 1.9))
    assert plot is not None
    assert ">points lost<" in plot.wide.replace("\n", "")
    assert plot.wide != plot.narrow
    assert "The file, on the report samples: 1.01 kB, 0.8." in plot.told
    assert quality_against_size([Tried(1, float("inf"))], 2, "error", None) is None


def test_the_axis_of_losses_has_ticks_on_both_sides_of_nothing_lost() -> None:
    plot = quality_against_size([Tried(1000, 0.0, True), Tried(500, 60.0)], 4000, "lost", 1.0, Measured(9, 0, -12, 12))
    assert plot is not None
    drawn = plot.wide.replace("\n", "")
    assert all(f">{tick}<" in drawn for tick in ("−10", "−1", "0", "1", "10"))
    assert ">100<" not in drawn


def test_errors_within_a_power_of_ten_have_ticks_too() -> None:
    plot = tensor_errors([("a", 0.23), ("b", 0.58), ("c", 0.31)], "a")
    assert plot is not None
    assert all(f">{tick}<" in plot.wide.replace("\n", "") for tick in ("0.2", "0.5"))
    assert tensor_errors([("a", 0.0), ("b", 0.0)], None) is not None


def test_names_on_a_narrow_axis_still_tell_apart() -> None:
    names = ["models/detector/face.onnx: size", "models/detector/lips.onnx: size"]
    plot = budget_bars([Used(name, 4.0 * at, at == 0) for at, name in enumerate(names)])
    assert plot is not None
    assert "Bars end at 300 %" in plot.caption
    narrow = plot.narrow.replace("\n", "")
    assert "face" in narrow
    assert "lips" in narrow
    layers = layer_bars([Bar(f"/encoder/layer.{at}/attention/self/query/MatMul", 10, 5, "both", "3") for at in (0, 1)])
    assert layers is not None
    assert all(f"layer.{at}" in layers.narrow for at in (0, 1))


def test_bars_of_nothing_are_no_plot() -> None:
    assert layer_bars([]) is None
    assert layer_bars([Bar("$x_{1}$", 10, 5, "both", "pair 3 int8")]) is not None


@pytest.mark.parametrize(
    ("low", "high", "count"), [(1.0, 1000.0, 4), (30_000.0, 4e6, 7), (5.0, 5.0, 3), (0.02, 0.9, 3), (1.0, 1e12, 4)]
)
def test_ticks_are_few_round_and_within(low: float, high: float, count: int) -> None:
    found = ticks_between(low, high, count)
    assert 1 <= len(found) <= count
    assert all(low <= value <= high for value in found)


def test_a_long_name_keeps_both_ends() -> None:
    assert short("a" * 10 + "middle" + "b" * 10, 12) == "aaaaa…bbbbbb"
    assert short("brief", 12) == "brief"


def test_a_point_without_a_plan_of_ours_is_not_taken_for_a_tolerance(result: Result) -> None:
    curve = (Point("as asked", 10, 1000, 0.0, 0.1, 0.1, chosen=True),)
    source = replace(result, curve=curve, target="rank 8").render("page")
    assert ">allowed<" not in source.replace("\n", "")
    assert ">allowed<" in replace(result, curve=curve).render("page").replace("\n", "")
