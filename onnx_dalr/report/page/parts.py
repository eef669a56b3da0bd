"""What a page is made of. Who builds one says what there is to show; the template alone knows how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """What a reader has to know before the figures.

    Attributes:
        text: A sentence.
        kind: "note", or "warning" for what may make the figures worthless.
    """

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Card:
    """One of the few figures that a report begins with.

    Attributes:
        name: What it is of.
        value: The figure.
        more: What there is to say of it: before and after, the interval.
        share: What is left of what was, as a fraction; drawn as a bar. None for none.
        bad: It is not as it should be.
    """

    name: str
    value: str
    more: str = ""
    share: float | None = None
    bad: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot as SVG, in two shapes of which one is shown, by the width there is.

    Attributes:
        title: Above it.
        told: What it shows, for those who do not see it.
        wide: For screens and paper.
        narrow: For phones.
        caption: How to read it.
    """

    title: str
    told: str
    wide: str
    narrow: str
    caption: str = ""


@dataclass(frozen=True)
class Facts:
    """Names, and what there is to say of each.

    Attributes:
        rows: (name, what is said).
        title: Above it; "" for none.
    """

    rows: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Steps:
    """Sentences with a number each.

    Attributes:
        title: Above them.
        items: In their order; what is between backticks is typed.
    """

    title: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        sort: What it is sorted by; the text where left out.
        code: It is a name in the model, an option or the like.
        mark: A colour's name of the legend, shown as a small square beside it; "" for none.
    """

    text: str
    sort: float | None = None
    code: bool = False
    mark: str = ""


@dataclass(frozen=True)
class DataTable:
    """A table whose columns can be sorted.

    Attributes:
        title: Above it, and its name for screen readers.
        columns: (heading, it holds numbers).
        rows: A cell for every column.
        strong: Which rows are marked, by their number.
        faint: Which rows matter less.
        folded: It is shown when asked for.
        caption: What there is to say of it.
    """

    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()
    faint: frozenset[int] = frozenset()
    folded: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A small picture.

    Attributes:
        name: Below it.
        png: The file's bytes.
        more: A second line.
    """

    name: str
    png: bytes = field(repr=False)
    more: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side.

    Attributes:
        title: Above them.
        pictures: In the order in which they are shown.
        caption: What they are.
    """

    title: str
    pictures: tuple[Picture, ...]
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Text to be copied.

    Attributes:
        title: Above it.
        text: As it is typed.
    """

    title: str
    text: str


Part = Plot | Facts | Steps | DataTable | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading and what is below it.

    Attributes:
        title: The heading.
        parts: In the order in which they are shown.
        lead: A sentence in front of them.
    """

    title: str
    parts: Sequence[Part]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: What it is of.
        line: The result in one line.
        cards: The few figures that matter most.
        notes: In front of everything.
        sections: The rest; those without parts are left out.
        passed: Of a gate: whether it is passed; None where it is no gate.
        foot: What made it.
    """

    title: str
    line: str
    sections: Sequence[Section]
    cards: Sequence[Card] = ()
    notes: Sequence[Note] = ()
    passed: bool | None = None
    foot: str = ""
