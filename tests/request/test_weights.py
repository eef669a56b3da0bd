"""In which formats numbers may be stored: what is asked for, and what it means for a layer."""

from __future__ import annotations

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.request.weights import formats_for, only_keeps, read_rules

BLOCKS = ("int4/32", "int4/64", "int4/128")


@pytest.mark.parametrize(
    ("word", "formats", "alone"),
    [
        ("keep", ("keep",), "keep"),
        ("float16", ("float16",), "float16"),
        ("int8", ("int8/64", "int8"), "int8"),
        ("int4", BLOCKS, "int4/32"),
        ("int4/64", ("int4/64",), "int4/64"),
        ("auto", ("keep", "float16", "int8/64", "int8", *BLOCKS), "int8"),
    ],
)
def test_a_word_is_formats_and_the_one_where_bits_are_free(word: str, formats: tuple[str, ...], alone: str) -> None:
    rules = read_rules(word)
    assert formats_for(("fc",), rules) == formats
    assert formats_for(("fc",), rules, priced=False) == (alone,)
    assert set(formats) <= set(FORMATS)


def test_the_last_rule_that_matches_counts_and_without_one_numbers_are_kept() -> None:
    rules = read_rules(["fc*=int8", "fc2=keep"])
    assert formats_for(("fc1",), rules) == ("int8/64", "int8")
    assert formats_for(("fc2", "W2"), rules) == ("keep",)
    assert formats_for(("conv",), rules) == ("keep",)
    assert formats_for(("conv", "fc_of_it"), rules) == ("int8/64", "int8")


def test_a_pattern_may_have_an_equals_sign() -> None:
    assert formats_for(("a=b",), read_rules("a=b=int8")) == ("int8/64", "int8")


@pytest.mark.parametrize("given", ["int3", "", "=int8", "fc=", "fc=half", "INT8"])
def test_what_is_no_format_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="is no format") as found:
        read_rules(given)
    assert "keep, float16, int8, int4, auto" in str(found.value.hint)


def test_nothing_is_new_where_all_is_kept() -> None:
    assert only_keeps(read_rules("keep"))
    assert only_keeps(read_rules(["keep", "fc=keep"]))
    assert only_keeps(())
    assert not only_keeps(read_rules(["keep", "fc=int8"]))
