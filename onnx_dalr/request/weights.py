"""In which formats numbers may be stored: `--weights`, for all layers or for those that a pattern matches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import KEPT
from onnx_dalr.factorize.formats import FORMATS
from onnx_dalr.request.target import matches

RefitName = Literal["off", "auto"]
"""Whether layers are fitted again to what enters them once the layers before are compressed."""

MemoryName = Literal["keep", "small"]
"""What weights take while the model runs: what they took, as floats, or what they are stored in."""


@dataclass(frozen=True)
class WeightRule:
    """Formats for the layers whose name, node name or weight name a pattern matches.

    Attributes:
        pattern: A glob; "*" for all.
        formats: That the numbers of these layers may be stored in. Where "keep" is not among them, the first is what a
            layer that stays in one piece is stored in.
        alone: The one of them for targets to which bits are free, where nothing would weigh one against another.
    """

    pattern: str
    formats: tuple[str, ...] = (KEPT,)
    alone: str = KEPT


_INT4 = tuple(name for name in FORMATS if name.startswith("int4"))
WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    KEPT: ((KEPT,), KEPT),
    "float16": (("float16",), "float16"),
    "int8": (("int8/64", "int8"), "int8"),
    "int4": (_INT4, "int4/32"),
    "auto": ((KEPT, "float16", "int8/64", "int8", *_INT4), "int8"),
}
"""What can be asked for: the formats, and the one where bits are free."""


def read_rules(given: str | Iterable[str]) -> tuple[WeightRule, ...]:
    """Reads "int8" or "GLOB=int8", one or several; the last that matches a layer counts.

    Raises:
        InputError: It is neither, or there is no such format.
    """
    return tuple(map(_rule, (given,) if isinstance(given, str) else given))


def formats_for(names: Iterable[str], rules: Sequence[WeightRule], *, priced: bool = True) -> tuple[str, ...]:
    """The formats of the last rule that matches one of a layer's names; "keep" alone without any.

    Args:
        names: Of the layer.
        rules: All there are.
        priced: Something weighs formats against each other.
    """
    known = tuple(names)
    found = [rule for rule in rules if matches(rule.pattern, known)]
    if not found:
        return (KEPT,)
    return found[-1].formats if priced else (found[-1].alone,)


def only_keeps(rules: Sequence[WeightRule]) -> bool:
    """Whether nothing but "keep" is asked for: then nothing is new."""
    return all(rule.formats == (KEPT,) for rule in rules)


def _rule(text: str) -> WeightRule:
    pattern, found, word = text.rpartition("=")
    formats, alone = WORDS.get(word) or (((word,), word) if word in FORMATS else ((), ""))
    if (found and not pattern) or not formats:
        raise InputError(
            f"--weights {text!r} is no format", f"write one of {', '.join(WORDS)}, or 'GLOB=int8' for some layers"
        )
    return WeightRule(pattern if found else "*", formats, alone)
