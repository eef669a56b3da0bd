"""What one weight becomes, as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import UNTOUCHED, Form, parse_form

FORMS = st.builds(
    Form,
    st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    st.lists(st.integers(1, 10**6), max_size=3).map(tuple),
    st.from_regex(r"[a-z][a-z0-9/]{0,9}", fullmatch=True),
)


@given(FORMS)
def test_what_a_form_is_written_as_is_read_back_as_that_form(form: Form) -> None:
    assert parse_form(str(form)) == form
    assert parse_form(f"  {form}\n") == form


@pytest.mark.parametrize(
    ("form", "text", "brief"),
    [
        (UNTOUCHED, "dense", "dense"),
        (Form("dense", (), "int8"), "dense int8", "dense int8"),
        (Form("pair", (64,)), "pair 64", "64"),
        (Form("pair", (64,), "int4/32"), "pair 64 int4/32", "pair 64 int4/32"),
        (Form("tucker", (16, 24)), "tucker 16x24", "tucker 16x24"),
        (Form("tucker", (16, 24), "float16"), "tucker 16x24 float16", "tucker 16x24 float16"),
    ],
)
def test_plans_write_it_in_full_and_tables_in_brief(form: Form, text: str, brief: str) -> None:
    assert (str(form), form.brief) == (text, brief)
    assert parse_form(text) == form


def test_a_format_that_keeps_is_not_written_and_may_be_read() -> None:
    assert parse_form("pair 3 keep") == Form("pair", (3,))
    assert parse_form("dense keep") == UNTOUCHED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64",
        "Pair 64",
        "pair 0",
        "pair 4x0",
        "pair 4x",
        "pair -3",
        "pair 1.5",
        "pair 64 8bit",
        "pair 64 INT8",
        "pair 64 int8 more",
        "pair  64",
        "pair=64",
        "pair\n64",
    ],
)
def test_what_is_no_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no form") as error:
        parse_form(text)
    assert repr(text) in str(error.value)
    assert "'pair 64'" in str(error.value)


@given(FORMS)
def test_a_form_is_untouched_where_neither_structure_nor_format_changes_anything(form: Form) -> None:
    assert form.untouched == (form.structure == "dense" and form.format == "keep")
    assert UNTOUCHED.untouched
