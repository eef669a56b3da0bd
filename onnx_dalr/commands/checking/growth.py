"""What made a model larger than another one, matched by name; what is largest in it where there is no other."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_dalr.commands.checking.measured import Measured, Part
from onnx_dalr.results.check import Contributor

MOST = 10
"""Contributors that are kept."""


def contributors(of: str, model: Measured, baseline: Measured | None) -> tuple[Contributor, ...]:
    """The largest, the first first; where not all are told, the last is everything else.

    Args:
        of: "size", "params" or "macs".
        model: The one that has too much.
        baseline: What it is compared with. Where nothing grew against it, or it is None: what is largest.
    """
    parts = model.parts(of)
    if baseline is not None:
        others = baseline.parts(of)
        if found := _grown(parts, others):
            return found
    largest = sorted(parts, key=lambda part: -part.amount)
    made = [Contributor(part.name, part.what, None, part.amount) for part in largest[:MOST]]
    if rest := sum(part.amount for part in largest[MOST:]):
        made.append(Contributor(f"{len(largest) - MOST} more", "", None, rest))
    return tuple(made)


def _grown(parts: Sequence[Part], others: Sequence[Part]) -> tuple[Contributor, ...]:
    """What grew; what shrank or went is in the rest, so that all adds up."""
    pairs = _paired(parts, others)
    every = [
        Contributor(part.name, part.what, pairs[at].amount if at in pairs else 0, part.amount)
        for at, part in enumerate(parts)
    ]
    grown = sorted((one for one in every if one.grown > 0), key=lambda one: -one.grown)[:MOST]
    if not grown:
        return ()
    before = sum(part.amount for part in others) - sum(one.before or 0 for one in grown)
    after = sum(part.amount for part in parts) - sum(one.after for one in grown)
    rest = [Contributor("everything else", "", before, after)] if before != after else []
    return (*grown, *rest)


def _paired(parts: Sequence[Part], others: Sequence[Part]) -> dict[int, Part]:
    """By place among the parts the same part of the other model, each once: first by name, then by who reads it."""
    found: dict[int, Part] = {}
    taken = set[int]()
    for rank in range(max((len(part.keys) for part in parts), default=0)):
        left = {part.keys[rank]: at for at, part in enumerate(others) if at not in taken and rank < len(part.keys)}
        for at, part in enumerate(parts):
            if at not in found and rank < len(part.keys) and part.keys[rank] in left:
                other = left.pop(part.keys[rank])
                taken.add(other)
                found[at] = others[other]
    return found
