"""Which line of a TOML file a table or a key stands in: its parsers do not say."""

from __future__ import annotations

import re

_TABLE = re.compile(r"^\s*\[\[\s*(?:[\w\"'-]+\s*\.\s*)*[\"']?budgets[\"']?\s*\]\]")
_HEADER = re.compile(r"^\s*\[[\w\s.\"'\[-]+\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*[\"']?(?P<key>[\w-]+)[\"']?\s*=")


def lines_of(text: str) -> list[dict[str, int]]:
    """For every `[[budgets]]` of a text, in its order, the line of every key, and of the table under "".

    It goes by the looks of a line: a budget that is written in another way has no entry. Lines count from 1.
    """
    found: list[dict[str, int]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if _TABLE.match(line):
            found.append({"": number})
            inside = True
        elif _HEADER.match(line):
            inside = False
        elif inside and (key := _KEY.match(line)):
            found[-1].setdefault(key["key"], number)
    return found
