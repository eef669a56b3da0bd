"""Form: what one weight becomes, a structure at its rank in a format. It is opaque to whoever chooses among them."""

from __future__ import annotations

import re
from typing import NamedTuple

DENSE = "dense"
PAIR = "pair"
KEPT = "keep"
_TEXT = re.compile(r"(?P<structure>[a-z][a-z0-9_-]*)(?: (?P<rank>\d+(?:x\d+)*))?(?: (?P<format>[a-z][a-z0-9/]*))?")

Rank = tuple[int, ...]
"""A number or, of a structure with several, one for each of its sides: (64,) or (16, 24)."""


class Form(NamedTuple):
    """A structure at its rank in a format: what a Plan names for each Layer. `str()` is how plans write it.

    A tuple, since search looks forms up by the ten thousand.

    Attributes:
        structure: Name of a `Structure`; "dense" is the weight in one piece.
        rank: Of that structure; empty where it has none.
        format: Name of a `Format`; "keep" is the element type the weight has.
    """

    structure: str = DENSE
    rank: Rank = ()
    format: str = KEPT

    @property
    def untouched(self) -> bool:
        """The weight stays in the file as it is."""
        return self.structure == DENSE and self.format == KEPT

    @property
    def brief(self) -> str:
        """For tables and notes: a pair is its rank, as nearly all are."""
        return str(self.rank[0]) if self.is_rank else str(self)

    @property
    def is_rank(self) -> bool:
        """Whether its rank says all: it is a pair in the element type the weight has."""
        return self.structure == PAIR and self.format == KEPT

    def __str__(self) -> str:
        rank = "x".join(map(str, self.rank))
        return " ".join(filter(None, (self.structure, rank, "" if self.format == KEPT else self.format)))


UNTOUCHED = Form()
"""The weight as it is."""


def parse_form(text: str) -> Form:
    """Reads what `str()` of a form gives: "dense", "pair 64", "tucker 16x24 int8". Names are not looked up.

    Raises:
        ValueError: It is no form.
    """
    found = _TEXT.fullmatch(text.strip())
    rank = tuple(map(int, found["rank"].split("x"))) if found and found["rank"] else ()
    if found is None or 0 in rank:
        raise ValueError(f"{text!r} is no form: a structure, its rank and a format, as in 'pair 64' or 'dense'")
    return Form(found["structure"], rank, found["format"] or KEPT)
