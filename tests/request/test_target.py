"""What was asked for: one target, ranks pinned beside it, read from what people type."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.request.target import RankRule, Target, make_target, matches
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
        (["*=64", "head=keep"], [("*", 64), ("head", None)]),
        ("a=b=keep", [("a=b", None)]),
        ("keep=3", [("keep", 3)]),
    ],
)
def test_a_rank_is_a_number_or_a_pattern_with_one_split_at_the_last_equals_sign(
    rank: Any, rules: list[tuple[str, int | None]]
) -> None:
    assert make_target(rank=rank).ranks == tuple(RankRule(*rule) for rule in rules)


@pytest.mark.parametrize(
    "rank",
    [0, -1, "0", "fc=0", "fc=", "=64", "fc", "fc=1.5", 1.5, "", "64%", True, ["8", "x"], "keep", "=keep", "fc=Keep"],
)
def test_what_is_no_rank_is_refused(rank: Any) -> None:
    with pytest.raises(InputError, match="is not a rank") as error:
        make_target(rank=rank)
    assert error.value.message.startswith("--rank ")
    assert "--rank 'GLOB=64'" in error.value.hint


def test_an_empty_list_of_ranks_is_no_target() -> None:
    assert make_target(rank=[]) == make_target()


def test_parameters_and_sizes_are_amounts() -> None:
    assert make_target(params="40%") == Target("params", amount=Amount(0.4, relative=True))
    assert make_target(params=5000) == Target("params", amount=Amount(5000))
    assert make_target(size="25MB") == Target("size", amount=Amount(25e6))
    assert make_target(size=0.4) == Target("size", amount=Amount(0.4, relative=True))
    with pytest.raises(InputError, match="--params '6MB' is not an amount"):
        make_target(params="6MB")


def test_a_drop_is_in_points() -> None:
    assert make_target(max_drop="2%") == make_target(max_drop=0.02) == Target("max-drop", value=0.02)


def test_a_drop_of_zero_is_a_target() -> None:
    assert make_target(max_drop=0) == Target("max-drop", value=0.0)


def test_errors_and_energies_are_shares() -> None:
    assert make_target(max_error="0.02") == make_target(max_error="2%") == Target("max-error", value=0.02)
    assert make_target(energy=0.99) == make_target(energy="99%") == Target("energy", value=0.99)
    for option, value in (("max_error", 0), ("max_error", "1.5"), ("energy", 1), ("energy", "100%")):
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')} {value!r} is not"):
            make_target(**{option: value})


def test_without_a_target_at_most_one_point_may_be_lost() -> None:
    target = make_target()
    assert target == Target("max-drop", value=0.01, stated=False)
    assert str(target) == "max-drop 1% (default)"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank": 8, "params": "40%"}, "--params and --rank"),
        ({"params": "40%", "max_drop": "1%"}, "--params and --max-drop"),
        ({"rank": 8, "max_drop": 0}, "--max-drop and --rank"),
        ({"rank": ["fc=3", "*=8"], "energy": 0.9}, "--energy and --rank"),
        (
            {"size": "40%", "params": "40%", "max_error": 0.1, "energy": 0.9},
            "--size and --params and --max-error and --energy",
        ),
    ],
)
def test_two_targets_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named} are different targets"):
        make_target(**options)


def test_a_rank_for_all_beside_a_target_is_told_how_to_pin_single_layers() -> None:
    with pytest.raises(InputError) as error:
        make_target(rank=8, size="40%")
    assert error.value.hint == "give one of them; --rank 'GLOB=K' beside a target pins single layers"
    with pytest.raises(InputError) as error:
        make_target(params="40%", size="40%")
    assert error.value.hint == "give one of them"


@pytest.mark.parametrize(
    "options", [{"size": "40%"}, {"params": 1000}, {"max_drop": 0}, {"max_error": 0.1}, {"energy": 0.9}]
)
def test_ranks_by_pattern_beside_a_target_are_pins(options: dict[str, Any]) -> None:
    pins = (RankRule("head", None), RankRule("fc*", 8))
    target = make_target(rank=["head=keep", "fc*=8"], **options)
    assert target.ranks == pins
    assert target == Target(
        make_target(**options).name, pins, make_target(**options).amount, make_target(**options).value
    )


def test_multiples_and_the_least_rank_belong_to_every_target_but_a_rank() -> None:
    assert make_target(rank_multiple=8) == Target("max-drop", value=0.01, multiple=8, stated=False)
    assert make_target(size="40%", min_rank=4).least == 4
    for options in ({"rank_multiple": 8}, {"min_rank": 2}):
        with pytest.raises(InputError, match="mean nothing to --rank"):
            make_target(rank=64, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, -8])
def test_a_multiple_and_a_least_rank_are_at_least_one(number: int) -> None:
    with pytest.raises(InputError, match=f"--rank-multiple {number} must be at least 1"):
        make_target(rank_multiple=number)
    with pytest.raises(InputError, match=f"--min-rank {number} must be at least 1"):
        make_target(min_rank=number)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (make_target(rank=[64, "fc*=8"]), "rank 64, fc*=8"),
        (make_target(rank=["fc*=8", "head=keep"]), "rank fc*=8, head=keep"),
        (make_target(params="40%"), "params 40%"),
        (make_target(size="25MB"), "size 25,000,000"),
        (make_target(max_drop="0.5%"), "max-drop 0.5%"),
        (make_target(max_error="2%"), "max-error 0.02"),
        (make_target(energy=0.99), "energy 0.99"),
        (
            make_target(params="40%", rank="head=keep", rank_multiple=8, min_rank=16),
            "params 40%, rank head=keep, rank multiple 8, min rank 16",
        ),
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


def test_layers_that_are_only_kept_leave_the_default_target() -> None:
    target = make_target(rank="head*=keep")
    assert (target.name, target.value, target.stated) == ("max-drop", 0.01, False)
    assert [str(rule) for rule in target.ranks] == ["head*=keep"]
