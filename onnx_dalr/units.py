"""Amounts as people write them, read and printed: 12MB, 6M, 40%, 1%."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_dalr.errors import InputError

_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_AMOUNT = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(%|[kmg]?)(b?)\s*$", re.IGNORECASE)

_TIME = re.compile(r"^\s*[0-9.e+-]+\s*(?:[nuµm]?s|min|sec)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Amount:
    """A number of parameters or bytes, or a share of the original's.

    Attributes:
        value: The number, or the share (0.4 for 40 %).
        relative: It is a share.
    """

    value: float
    relative: bool = False

    def of(self, original: int) -> int:
        """The absolute amount, rounded down; 1.001 kB are 1001 bytes, though not in floating point."""
        if self.relative:
            return int(self.value * original + 1e-9)
        nearest = round(self.value)
        return nearest if math.isclose(self.value, nearest, rel_tol=1e-12) else int(self.value)

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.relative else f"{self.value:,.0f}"


def parse_amount(text: str | float | Amount, option: str, *, unit: str = "", zero: bool = False) -> Amount:
    """Reads "6M", "40%", "25MB" (with unit "B") or a plain number.

    Args:
        text: As typed; a number is taken as it is, below 1 as a share; an Amount is handed on.
        option: Named in the error.
        unit: "B" where bytes are meant and the letter may follow.
        zero: Nothing at all is an amount too.

    Raises:
        InputError: It is none of these, or not positive.
    """
    if isinstance(text, Amount):
        return text
    if not isinstance(text, str):
        if 0 < text < 1:
            return Amount(float(text), relative=True)
        text = repr(float(text))
    found = _AMOUNT.match(text)
    example = "25MB or 40%" if unit else "6M or 40%"
    if not found or (found[3] and (not unit or found[2] == "%")):
        raise InputError(f"{option} {text!r} is not an amount", f"write {example}")
    value = float(found[1])
    if not math.isfinite(value * _FACTORS.get(found[2].lower(), 1)):
        raise InputError(f"{option} {text!r} is not a finite amount", f"write {example}")
    if value < 0 or (value == 0 and not zero):
        raise InputError(f"{option} {text!r} must be more than zero", f"write {example}")
    if found[2] == "%":
        return Amount(value / 100, relative=True)
    if 0 < value * _FACTORS[found[2].lower()] < 1:
        raise InputError(
            f"{option} {text!r} is less than one", f"a share has a percent sign: {option} {100 * value:g}%"
        )
    return Amount(value * _FACTORS[found[2].lower()])


def parse_part_of_time(text: str | float | Amount, option: str) -> Amount:
    """Reads a share of a time: "50%" and 0.5 are the same.

    Raises:
        InputError: It is an absolute time, or not a number between 0 and 1.
    """
    if isinstance(text, Amount):
        return text
    if isinstance(text, str) and _TIME.match(text):
        raise InputError(
            f"{option} {text!r} is an absolute time, which differs from machine to machine, and from minute to minute",
            f"write a share of what the original takes: {option} 50%",
        )
    return Amount(_fraction(text, option, "a share", "50%"), relative=True)


def parse_points(text: str | float, option: str) -> float:
    """Reads a drop: "1%" and 0.01 are both one percentage point.

    Raises:
        InputError: It is not a number from 0 to 100 %.
    """
    try:
        value = float(text) if not isinstance(text, str) else float(text.strip().rstrip("%")) / 100
    except ValueError:
        value = -1.0
    if isinstance(text, str) and not text.strip().endswith("%"):
        raise InputError(f"{option} {text!r} lacks its unit", f"percentage points: {option} 1%")
    if not 0 <= value < 1:
        raise InputError(f"{option} {text!r} is not a drop", f"percentage points from 0% to 100%: {option} 1%")
    return value


def parse_error(text: str | float, option: str, *, zero: bool = False) -> float:
    """Reads an error: "0.02", 0.02 and "2%" are the same.

    Args:
        text: As typed.
        option: Named in the error.
        zero: No error at all is one too.

    Raises:
        InputError: It is not a positive number below 1.
    """
    return _fraction(text, option, "an error", "0.02", zero=zero)


def parse_ratio(text: str | float, option: str) -> float:
    """Reads how many times as much: "1.1", 1.1 and "110%" are the same.

    Raises:
        InputError: It is not a positive number.
    """
    value = _number(text)
    if not 0 < value < math.inf:
        raise InputError(f"{option} {text!r} is not a ratio", f"how many times the baseline's: {option} 1.1")
    return value


def parse_share(text: str | float, option: str) -> float:
    """Reads a share: "0.99", 0.99 and "99%" are the same.

    Raises:
        InputError: It is not a positive number below 1.
    """
    return _fraction(text, option, "a share", "0.99")


def _fraction(text: str | float, option: str, what: str, example: str, *, zero: bool = False) -> float:
    value = _number(text)
    if not (0 < value < 1 or (zero and value == 0)):
        raise InputError(f"{option} {text!r} is not {what} between 0 and 1", f"write {option} {example}")
    return value


def _number(text: str | float) -> float:
    """A number, or one in percent; −1 for what is none."""
    try:
        percent = isinstance(text, str) and text.strip().endswith("%")
        return float(str(text).strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        return -1.0


def format_bytes(count: float) -> str:
    """SI units with three significant digits: 3.73 MB."""
    for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= factor:
            return f"{count / factor:.3g} {name}" if abs(count) < 999.5 * factor else f"{count / factor:.0f} {name}"
    return f"{count:.0f} B"


def format_change(before: int, after: int, more: str = "") -> str:
    """Two sizes and what is left of the first: 3.73 MB → 932 kB (25.0 %)."""
    return f"{format_bytes(before)} → {format_bytes(after)} ({format_share(after, before)}{more})"


def format_count(count: float) -> str:
    """With three significant digits: 932k, 22.6M."""
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor:
            return f"{count / factor:.3g}{name}" if abs(count) < 999.5 * factor else f"{count / factor:.0f}{name}"
    return f"{count:.0f}"


def format_duration(seconds: float) -> str:
    """A time that nobody knows exactly: a few seconds, about 40 s, about 6 min, about 2 h."""
    if seconds < 7.5:
        return "a few seconds"
    if seconds < 95:
        return f"about {10 * max(1, round(seconds / 10))} s"
    minutes = seconds / 60
    if minutes < 95:
        step = 1 if minutes < 9.5 else 5
        return f"about {step * round(minutes / step)} min"
    hours = minutes / 60
    return f"about {hours:.0f} h"


def format_share(part: float, whole: float) -> str:
    """A share with one decimal: 12.3 %."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def format_names(names: Sequence[str], shown: int = 3) -> str:
    """The first few of several names, and how many more there are: a, b, c and 4 more."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
