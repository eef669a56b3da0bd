"""Views as Markdown: every reader of it shows what the view says, whatever names hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from onnx_dalr.commands.inspect import inspect
from onnx_dalr.errors import one_line
from onnx_dalr.report.markdown import as_markdown
from onnx_dalr.report.parts import add_row, facts_table, table
from onnx_dalr.shown import Shown
from tests.graph.helpers import model
from tests.report.made_results import CLASSIFIER, COMPARED, DETECTOR, PLAN

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def read(markdown: str) -> list[str]:
    """The texts of paragraphs and cells, as they are shown."""
    inline = [token for token in READER.parse(markdown) if token.type == "inline"]
    return ["".join(map(shown, token.children or ())) for token in inline]


def shown(token: Token) -> str:
    if token.type in ("text", "text_special"):
        return token.content
    if token.type == "html_inline":
        return "\n" if token.content == "<br>" else ""
    assert token.type in ("strong_open", "strong_close", "softbreak", "hardbreak"), token
    return "\n" if token.type.endswith("break") else ""


def kinds(markdown: str) -> list[str]:
    return [token.type for token in READER.parse(markdown)]


def plain(text: str) -> str:
    """As a page shows it: blanks at the ends go, and several are one."""
    return " ".join(one_line(text).split())


TEXTS = st.text(st.sampled_from(list("ab1 _*`|<>&\\[]()#+-=.!~$@:{}\n\t\x1b模é")), max_size=24)


@given(TEXTS)
@example("a_b __c__ _d_ ***")
@example("| a | b |\n|---|---|")
@example("<script>alert(1)</script> &amp; [x](http://y) ![z](w)")
@example("1. one\n- two\n# three\n> four\n===\n    five\n```\nsix")
@example("@everyone #12 :tada: $x$ ~~y~~")
def test_a_line_is_shown_as_it_is(text: str) -> None:
    markdown = as_markdown(Text(one_line(text)))
    assert [plain(each) for each in read(markdown)] == ([plain(text)] if plain(text) else [])
    assert set(kinds(markdown)) <= {"paragraph_open", "inline", "paragraph_close"}


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_a_cell_is_shown_as_it_is(rows: list[tuple[str, str]]) -> None:
    made = table(("name", "left"), ("number", "right"))
    for row in rows:
        add_row(made, *row, style="bold")
    found = [plain(each) for each in read(as_markdown(made))]
    assert found == ["name", "number", *(plain(cell) for row in rows for cell in row)]


def test_numbers_stay_on_the_right_and_a_table_without_head_has_an_empty_one() -> None:
    made = table(("name", "left"), ("bytes", "right"))
    add_row(made, "a|b", "1 kB")
    assert as_markdown(made) == "| name | bytes |\n| --- | ---: |\n| a\\|b | 1 kB |\n"
    facts = facts_table([("size", "1 kB → 2 kB")])
    assert as_markdown(facts) == "|  |  |\n| --- | --- |\n| **size** | 1 kB → 2 kB |\n"


def test_what_is_bold_is_bold_and_colours_are_not_there() -> None:
    line = Text.assemble(("why ", "bold"), "so ", ("(faint)", "dim"), (" *", "bold red"))
    assert as_markdown(line) == "**why** so (faint) **\\***\n"
    assert as_markdown(Text("all of it", style="bold red")) == "**all of it**\n"
    assert as_markdown(Text("   ")) == "\n"


def test_lines_that_follow_each_other_are_lines_of_a_paragraph() -> None:
    view = Group(Text("one"), Text("two\nthree"), Text(), facts_table([("a", "b")]), "[bold]four[/bold] [dim]x[/dim]")
    assert as_markdown(view).split("\n\n") == [
        "one\\\ntwo\\\nthree",
        "|  |  |\n| --- | --- |\n| **a** | b |",
        "**four** x\n",
    ]


def test_a_cell_has_one_line_of_source_and_may_hold_anything_that_rich_shows() -> None:
    made = Table("head")
    made.add_row(Text("one\ntwo"))
    made.add_row(facts_table([("a", "b")]))
    assert as_markdown(made).splitlines()[2:] == ["| one<br>two |", "| a  b |"]


def test_what_is_neither_text_nor_table_stands_between_fences() -> None:
    found = as_markdown(Group(Text("before"), Panel(Text("```"), width=20)))
    assert found.startswith("before\n\n````text\n╭")
    assert found.endswith("╯\n````\n")


def test_names_speak_to_nobody() -> None:
    found = as_markdown(Text("@someone fixes #12, :tada: a@b"))
    assert not re.search(r"@someone|#12|:tada:", found)
    assert read(found) == ["@someone fixes #12, :tada: a@b"]


def test_names_are_read_as_they_are_written_where_nothing_makes_marks_of_them() -> None:
    name = "/model/encoder.layer_0/dense_1/MatMul_output_0 (a-b) 3.5 {x}"
    assert as_markdown(Text(name)) == f"{name}\n"


@pytest.mark.parametrize("result", [CLASSIFIER, DETECTOR, COMPARED, PLAN], ids=lambda result: type(result).__name__)
def test_every_result_is_tables_and_paragraphs_that_say_what_its_text_says(result: Shown) -> None:
    markdown = result.render("markdown")
    assert {"table_open", "paragraph_open"} <= set(kinds(markdown))
    assert not {"html_block", "heading_open", "bullet_list_open", "fence", "code_block"} & set(kinds(markdown))
    said = set(re.findall(r"[\w.]+", " ".join(read(markdown))))
    assert set(re.findall(r"[\w.]+", result.render("text", width=400))) <= said


def test_an_inspection_of_hostile_names_is_one_table_after_the_other() -> None:
    proto = model("g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, W) }", W=(64, 64))
    odd = "a|b `c` <img src=x> [d](e)\n| f | @g #1\x1b[2J"
    proto.graph.initializer[0].name = proto.graph.node[0].input[1] = odd
    proto.graph.node[0].name = odd
    found = inspect(proto).render("markdown")
    assert plain(odd) in [plain(each) for each in read(found)]
    assert "\x1b" not in found
