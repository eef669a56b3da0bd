"""Which layers take part: a pattern that matches nothing is an error, never silence."""

from __future__ import annotations

import onnx
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.graph.layers import Layer, Skipped, find
from onnx_dalr.graph.storage.model import load
from onnx_dalr.request.selection import check_pattern, names_of, rule_for, select
from onnx_dalr.request.target import RankRule

ONES = ", ".join(["1"] * 36)
TEXT = f"""
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 6] x) => (float[N, 6] y)
<float[6, 6] "h.weight" = {{{ONES}}}, float[6, 6] "w[0]" = {{{ONES}}}, float[6, 6] shared = {{{ONES}}},
 float[6, 1] small = {{1, 1, 1, 1, 1, 1}}>
{{
  [encoder_fc] a = MatMul(x, "h.weight")
  ["h[0]/fc"] b = MatMul(a, "w[0]")
  [first] c = MatMul(b, shared)
  [second] d = MatMul(c, shared)
  [head] e = MatMul(d, small)
  y = Add(d, e)
}}
"""


@pytest.fixture(scope="module")
def found() -> tuple[list[Layer], list[Skipped]]:
    model = onnx.parser.parse_model(TEXT)
    onnx.checker.check_model(model, full_check=True)
    return find(load(model))


def chosen(
    found: tuple[list[Layer], list[Skipped]], include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> list[str]:
    return [layer.name for layer in select(*found, include, exclude)[0]]


Found = tuple[list[Layer], list[Skipped]]


def test_without_patterns_every_layer_takes_part(found: Found) -> None:
    assert chosen(found) == ["encoder_fc", "h[0]/fc", "first"]


def test_a_layer_goes_by_its_name_its_weight_and_all_its_nodes(found: Found) -> None:
    assert names_of(found[0][2]) == ("first", "shared", "second")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("encoder*", ["encoder_fc"]),
        ("h.weight", ["encoder_fc"]),
        ("second", ["first"]),
        ("shared", ["first"]),
        ("h[0]/fc", ["h[0]/fc"]),
        ("w[0]", ["h[0]/fc"]),
        ("*fc", ["encoder_fc", "h[0]/fc"]),
        ("*", ["encoder_fc", "h[0]/fc", "first"]),
    ],
)
def test_include_takes_layers_by_node_and_weight_names(found: Found, pattern: str, names: list[str]) -> None:
    assert chosen(found, include=(pattern,)) == names
    assert chosen(found, exclude=(pattern,)) == [name for name in chosen(found) if name not in names]


def test_exclude_takes_out_of_include(found: Found) -> None:
    assert chosen(found, include=("*fc",), exclude=("h[0]/fc",)) == ["encoder_fc"]


def test_several_patterns_add_up(found: Found) -> None:
    assert chosen(found, include=("first", "encoder_fc")) == ["encoder_fc", "first"]


def test_what_is_left_out_says_by_which_option(found: Found) -> None:
    _, skipped = select(*found, ["*fc"], ["h?0?*", "w[0]"])
    reasons = {entry.name: entry.reason for entry in skipped}
    assert reasons.pop("head").startswith("too small to gain")
    assert reasons == {"h[0]/fc": "excluded by --exclude 'h?0?*'", "first": "not among --include"}


@pytest.mark.parametrize("option", ["--include", "--exclude", "--rank"])
def test_a_pattern_that_matches_nothing_names_near_ones(found: Found, option: str) -> None:
    with pytest.raises(InputError) as error:
        check_pattern(option, "encoder_fx", *found)
    assert error.value.message == f"{option} 'encoder_fx' matches no layer"
    assert "encoder_fc" in error.value.hint


def test_a_pattern_like_nothing_names_some_layers_all_the_same(found: Found) -> None:
    with pytest.raises(InputError, match="there are, for example: encoder_fc"):
        check_pattern("--include", "zzzzzzzz*", *found)


def test_a_pattern_that_matches_nothing_among_no_layers_does_not_promise_examples() -> None:
    with pytest.raises(InputError, match="matches no layer") as error:
        check_pattern("--include", "fc", [], [])
    assert not error.value.hint.endswith(": ")


@pytest.mark.parametrize("pattern", ["head", "small", "hea?"])
def test_including_only_a_skipped_node_gives_its_reason(found: Found, pattern: str) -> None:
    with pytest.raises(InputError, match=r"'head', which is not eligible: too small to gain at any rank \(1×6\)"):
        select(*found, [pattern], [])


def test_excluding_a_skipped_node_is_no_mistake(found: Found) -> None:
    assert len(chosen(found, exclude=("head",))) == 3


def test_the_last_rank_rule_that_matches_counts(found: Found) -> None:
    encoder, bracketed, shared = found[0]
    rules = [RankRule("*", 4), RankRule("h[0]/fc", 2), RankRule("second", 3), RankRule("sh*", None)]
    assert [rule_for(layer, rules) for layer in (encoder, bracketed, shared)] == [rules[0], rules[1], rules[3]]
    assert rule_for(encoder, [RankRule("other", 4)]) is None
    assert rule_for(encoder, []) is None
