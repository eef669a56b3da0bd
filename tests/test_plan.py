"""What was asked for: exactly one target, read from what people type."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.plan import Choice, Plan, RankRule, Target, make_target, matches
from onnx_dalr.units import Amount


@pytest.mark.parametrize(
    ("rank", "rules"),
    [
        (64, [("*", 64)]),
        ("64", [("*", 64)]),
        ("fc*=64", [("fc*", 64)]),
        ("a=b=64", [("a=b", 64)]),
        ("=x=3", [("=x", 3)]),
        (["64", "fc*=8"], [("*", 64), ("fc*", 8)]),
        ((64, "h[0]/fc=8"), [("*", 64), ("h[0]/fc", 8)]),
    ],
)
def test_a_rank_is_a_number_or_a_pattern_with_one_split_at_the_last_equals_sign(
    rank: Any, rules: list[tuple[str, int]]
) -> None:
    assert make_target(rank=rank).ranks == tuple(RankRule(*rule) for rule in rules)


@pytest.mark.parametrize("rank", [0, -1, "0", "fc=0", "fc=", "=64", "fc", "fc=1.5", 1.5, "", "64%", True, ["8", "x"]])
def test_what_is_no_rank_is_refused(rank: Any) -> None:
    with pytest.raises(InputError, match="is not a rank") as error:
        make_target(rank=rank)
    assert error.value.message.startswith("--rank ")
    assert "--rank 'GLOB=64'" in error.value.hint


def test_an_empty_list_of_ranks_is_no_target() -> None:
    assert make_target(rank=[]) == make_target()


def test_parameters_are_an_amount() -> None:
    assert make_target(params="40%") == Target(params=Amount(0.4, relative=True))
    assert make_target(params=5000).params == Amount(5000)


def test_a_drop_is_in_points() -> None:
    assert make_target(max_drop="2%").max_drop == make_target(max_drop=0.02).max_drop == 0.02


def test_a_drop_of_zero_is_a_target() -> None:
    assert make_target(max_drop=0) == Target(max_drop=0.0)


def test_without_a_target_at_most_one_point_may_be_lost() -> None:
    target = make_target()
    assert target == Target(max_drop=0.01, stated=False)
    assert str(target) == "max-drop 1% (default)"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank": 8, "params": "40%"}, "--rank and --params"),
        ({"params": "40%", "max_drop": "1%"}, "--params and --max-drop"),
        ({"rank": 8, "max_drop": 0}, "--rank and --max-drop"),
    ],
)
def test_two_targets_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"{named} are different targets"):
        make_target(**options)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (make_target(rank=[64, "fc*=8"]), "rank 64, fc*=8"),
        (make_target(params="40%"), "params 40%"),
        (make_target(max_drop="0.5%"), "max-drop 0.5%"),
    ],
)
def test_a_target_prints_as_it_was_asked_for(target: Target, text: str) -> None:
    assert str(target) == text


@pytest.mark.parametrize(
    ("pattern", "names", "found"),
    [
        ("*", ("anything",), True),
        ("fc?", ("fc1",), True),
        ("FC1", ("fc1",), False),
        ("h[0]/fc", ("h[0]/fc",), True),
        ("h[01]/fc", ("h0/fc",), True),
        ("h[0]/fc", ("h0/fc",), True),
        ("fc1", ("other", "fc1"), True),
        ("fc", ("fc1",), False),
        ("fc", (), False),
    ],
)
def test_a_pattern_is_a_glob_or_a_name_written_out(pattern: str, names: tuple[str, ...], found: bool) -> None:
    assert matches(pattern, names) is found


def test_the_compressed_layers_of_a_plan_are_those_with_a_rank() -> None:
    plan = Plan("dalr", (Choice("a", 4, "as asked"), Choice("b", None, "no --rank for it")))
    assert [choice.layer for choice in plan.compressed] == ["a"]
