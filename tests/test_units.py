"""Amounts as people write them."""

from __future__ import annotations

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.units import (
    Amount,
    format_bytes,
    format_count,
    format_duration,
    format_names,
    format_share,
    parse_amount,
    parse_error,
    parse_points,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("6M", Amount(6e6)),
        ("6m", Amount(6e6)),
        ("1.5k", Amount(1500)),
        (".5G", Amount(5e8)),
        ("1e6", Amount(1e6)),
        (" 40 % ", Amount(0.4, relative=True)),
        ("250%", Amount(2.5, relative=True)),
        ("1234", Amount(1234)),
        (1234, Amount(1234)),
        (1e6, Amount(1e6)),
        (Amount(7), Amount(7)),
    ],
)
def test_amounts(text: str | float | Amount, amount: Amount) -> None:
    assert parse_amount(text, "--params") == amount


@pytest.mark.parametrize(("text", "count"), [("25MB", 25e6), ("25mb", 25e6), ("3kB", 3e3), ("7B", 7), ("2G", 2e9)])
def test_the_letter_b_may_follow_where_bytes_are_meant(text: str, count: float) -> None:
    assert parse_amount(text, "--max-size", unit="B") == Amount(count)


@pytest.mark.parametrize(
    "text", ["", "MB", "6MB", "-6M", "6T", "40%B", "six", "nan", "inf", "0", "0%", "1,000", "6 6", "--", -5, 0]
)
def test_what_is_no_amount_is_refused_by_the_options_name(text: str | float) -> None:
    with pytest.raises(InputError) as error:
        parse_amount(text, "--params")
    assert error.value.message.startswith("--params ")
    assert error.value.hint == "write 6M or 40%"
    assert error.value.exit_code == 2


def test_a_size_that_is_none_shows_how_a_size_is_written() -> None:
    with pytest.raises(InputError, match="write 25MB or 40%"):
        parse_amount("40%B", "--max-size", unit="B")


@pytest.mark.parametrize(
    ("amount", "absolute"),
    [(Amount(0.4, relative=True), 4000), (Amount(0.07, relative=True), 700), (Amount(0.3333, relative=True), 3333)],
)
def test_a_share_is_of_the_original_rounded_down(amount: Amount, absolute: int) -> None:
    assert amount.of(10_000) == absolute
    assert Amount(123.9).of(10_000) == 123


@pytest.mark.parametrize(("amount", "text"), [(Amount(0.4, relative=True), "40%"), (Amount(6e6), "6,000,000")])
def test_an_amount_prints_readably(amount: Amount, text: str) -> None:
    assert str(amount) == text


@pytest.mark.parametrize(
    ("text", "drop"), [("1%", 0.01), ("0.5%", 0.005), ("0%", 0.0), (" 2 % ", 0.02), (0.01, 0.01), (0, 0.0)]
)
def test_drops(text: str | float, drop: float) -> None:
    assert parse_points(text, "--max-drop") == pytest.approx(drop)


@pytest.mark.parametrize("text", ["1", "0.01", "one"])
def test_a_drop_in_text_needs_its_unit(text: str) -> None:
    with pytest.raises(InputError, match="lacks its unit") as error:
        parse_points(text, "--max-drop")
    assert error.value.message.startswith("--max-drop ")
    assert "--max-drop 1%" in error.value.hint


@pytest.mark.parametrize("text", ["-1%", "100%", "x%", "%", "nan%", 1, 1.5, -0.01, float("nan")])
def test_a_drop_is_from_0_to_100_points(text: str | float) -> None:
    with pytest.raises(InputError, match="is not a drop") as error:
        parse_points(text, "--max-drop")
    assert "--max-drop 1%" in error.value.hint


@pytest.mark.parametrize(
    ("text", "error"), [("0.02", 0.02), (0.02, 0.02), ("2%", 0.02), (" 2 % ", 0.02), ("1e-3", 0.001), (".5", 0.5)]
)
def test_errors(text: str | float, error: float) -> None:
    assert parse_error(text, "--max-error") == pytest.approx(error)


@pytest.mark.parametrize(("text", "share"), [("0.99", 0.99), (0.99, 0.99), ("99%", 0.99), ("99.5%", 0.995)])
def test_shares(text: str | float, share: float) -> None:
    assert parse_share(text, "--energy") == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    ["0", "1", "100%", "2", "-0.1", "0%", "two", "", "%", "nan", "inf", "5%%", 0, 1, -0.1, 2, float("nan"), True],
)
def test_an_error_and_a_share_lie_between_0_and_1(text: str | float) -> None:
    with pytest.raises(InputError) as error:
        parse_error(text, "--max-error")
    assert error.value.message == f"--max-error {text!r} is not an error between 0 and 1"
    assert error.value.hint == "write --max-error 0.02"
    with pytest.raises(InputError) as error:
        parse_share(text, "--energy")
    assert error.value.message == f"--energy {text!r} is not a share between 0 and 1"
    assert error.value.hint == "write --energy 0.99"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (3_731_234, "3.73 MB"),
        (12_345_678, "12.3 MB"),
        (528_000_000, "528 MB"),
        (2_400_000_000, "2.4 GB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_bytes_print_in_si_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (932_400, "932k"), (22_600_000, "22.6M"), (7.24e9, "7.24G")]
)
def test_counts_print_with_three_digits(count: float, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize("count", [999_400, 999_600, 999_999, 999_999_999, 1.234e12])
def test_no_figure_prints_with_an_exponent(count: float) -> None:
    assert "e" not in format_count(count)
    assert "e" not in format_bytes(count)


def test_shares_print_with_one_decimal() -> None:
    assert format_share(123, 1000) == "12.3 %"
    assert format_share(1, 0) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a few seconds"),
        (7, "a few seconds"),
        (8, "about 10 s"),
        (37, "about 40 s"),
        (94, "about 90 s"),
        (96, "about 2 min"),
        (340, "about 6 min"),
        (9.4 * 60, "about 9 min"),
        (11 * 60, "about 10 min"),
        (23 * 60, "about 25 min"),
        (94 * 60, "about 95 min"),
        (96 * 60, "about 2 h"),
        (20 * 3600, "about 20 h"),
    ],
)
def test_times_that_nobody_knows_exactly_print_so(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")],
)
def test_of_many_names_the_first_few(names: list[str], text: str) -> None:
    assert format_names(names) == text
