"""How weights may be taken apart: `--structures`, for all layers or for those that a pattern matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import PAIR
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.request.target import matches

AUTO = "auto"

SPATIAL = ("v", "h")
"""Structures that divide a kernel by its axes: LRDKT's, one kernel down and one across."""

TUCKER = ("tucker",)
"""Those that divide it by its channels on both sides."""

WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {AUTO: (), "spatial": (PAIR, *SPATIAL), **{name: (name,) for name in STRUCTURES}}
)
"""What can be asked for. A pair, which applies to no kernel but 1×1, is what matrices keep beside spatial ones."""


@dataclass(frozen=True)
class StructureRule:
    """Structures for the layers whose name, node name or weight name a pattern matches.

    Attributes:
        pattern: A glob; "*" for all.
        names: Of the structures that these layers may get; empty for any.
    """

    pattern: str
    names: tuple[str, ...] = ()


def read_structures(given: str | Iterable[str]) -> tuple[StructureRule, ...]:
    """Reads "spatial", "out,in" or "GLOB=v"; the names of all that stand for the same layers are taken together.

    Raises:
        InputError: It is none of these, or there is no such structure.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in (given,) if isinstance(given, str) else given:
        pattern, names = _read(text)
        both = (*found[pattern], *names) if found.get(pattern) and names else names
        found.pop(pattern, None)
        found[pattern] = tuple(dict.fromkeys(both))
    return tuple(StructureRule(pattern, names) for pattern, names in found.items())


def structures_for(names: Iterable[str], rules: Sequence[StructureRule]) -> tuple[str, ...]:
    """The structures of the last rule that matches one of a layer's names; empty for any."""
    known = tuple(names)
    found = [rule for rule in rules if matches(rule.pattern, known)]
    return found[-1].names if found else ()


def _read(text: str) -> tuple[str, tuple[str, ...]]:
    pattern, equals, listed = text.rpartition("=")
    words = [word.strip() for word in listed.split(",")]
    unknown = next((word for word in words if word not in WORDS and word not in STRUCTURES), None)
    if unknown is not None or (equals and not pattern):
        known = ", ".join(WORDS)
        said = f"--structures {text!r}: there is no structure {unknown!r}" if unknown else f"--structures {text!r}"
        raise InputError(said, f"write one of {known}, several with commas, or 'GLOB=out,in' for some layers")
    any_will_do = AUTO in words
    names = () if any_will_do else tuple(name for word in words for name in WORDS.get(word, (word,)))
    return (pattern if equals else "*"), names
