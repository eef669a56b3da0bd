"""Names and reasons in a column that is narrower than they are: shortened so that they still tell apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

_ENDING = re.compile(r"(/[A-Z][A-Za-z]*(_\d+)?|\.weight)$")
"""What exporters end the names of nodes and weights in."""

_PARTS = re.compile(r"(?<=[/.:])")


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names in at most so many characters that still tell them apart; as they are, to be folded, where nothing does.

    What goes first is what most long names begin with, then what they end in for their kind, then the middle, each only
    where a name is too long with it, and "…" stands for it. Where that is not enough, what any two begin with goes.
    """
    long = [name for name in names if cell_len(name) > width]
    for starts in ([_stem(long, width)], [], _shared(long)):
        for share in (0.5, 0.7, 0.3):
            made = [_shorter(name, width, starts, share) for name in names]
            if len(set(made)) == len(set(names)):
                return made
    return list(names)


def _stem(names: Sequence[str], width: int) -> str:
    """What most of the names begin with, up to a separator: no more of it than has to go, if that is enough."""
    parts = [_PARTS.split(name) for name in names]
    counted = Counter("".join(each[:count]) for each in parts for count in range(1, len(each)))
    longest = max((start for start, count in counted.items() if 2 * count > max(len(names), 2)), key=len, default="")
    stems = sorted((start for start in counted if longest.startswith(start) and len(start) > 1), key=len)
    for stem in stems:
        if all(cell_len(name) - cell_len(stem) < width for name in names if name.startswith(longest)):
            return stem
    return longest


def _shared(names: Sequence[str]) -> list[str]:
    """What any two of the names begin with, up to a separator, the longest first."""
    parts = [_PARTS.split(name) for name in dict.fromkeys(names)]
    counted = Counter("".join(each[:count]) for each in parts for count in range(1, len(each)))
    return sorted((start for start, count in counted.items() if count > 1), key=len, reverse=True)


def _shorter(name: str, width: int, starts: Iterable[str], share: float) -> str:
    start = next((start for start in starts if len(start) > 1 and name.startswith(start)), "")
    if cell_len(name) > width and start:
        name = f"…{name[len(start) :]}"
    if cell_len(name) > width:
        name = _ENDING.sub("…", name)
    return middle(name, width, share)


def middle(text: str, width: int, share: float = 0.5) -> str:
    """Text in at most so many characters of the terminal, its middle left out.

    Args:
        text: Of one line.
        width: Characters.
        share: How much of them goes to what it begins with.
    """
    if cell_len(text) <= width:
        return text
    tail = cut(text[::-1], int((1 - share) * width) + 1)[:-1][::-1]
    return cut(text, width - cell_len(tail)) + tail


def cut(text: str, width: int) -> str:
    """Text in at most so many characters, its end left out."""
    if cell_len(text) <= width:
        return text
    kept = text
    while kept and cell_len(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept}…"
