"""Whether and for how long a candidate learns from the original: `--tune`, `--tune-time`."""

from __future__ import annotations

import math
import re
from typing import Literal

from onnx_dalr.errors import InputError

TuneName = Literal["off", "auto"]
"""Whether numbers are tuned to the original's answers; beside them a number of steps."""

MOST_STEPS = 1_000_000
_TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|sec|m|min|h)?")
_SECONDS = {None: 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def read_tune(given: str | int) -> TuneName | int:
    """Reads "off", "auto" or a number of steps.

    Raises:
        InputError: It is none of them.
    """
    if given in ("off", "auto"):
        return given  # type: ignore[return-value]
    text = str(given)
    if isinstance(given, bool) or not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_STEPS:
        raise InputError(f"--tune {given!r} is not known", f"auto, off, or a number of steps, 1 to {MOST_STEPS:,}")
    return int(text)


def read_time(given: str | float | None) -> float | None:
    """Reads "10m", "90s", "1h" or seconds; None for no limit of its own.

    Raises:
        InputError: It is no time.
    """
    if given is None:
        return None
    found = _TIME.fullmatch(str(given).strip()) if not isinstance(given, bool) else None
    seconds = float(found["number"]) * _SECONDS[found["unit"]] if found else math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"--tune-time {given!r} is no time", "write 10m, 90s, 1h or a number of seconds")
    return seconds
