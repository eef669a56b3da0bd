"""What was asked for: one Target, the ranks pinned beside it, and what every rank has to keep to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.factorize.form import Form
from onnx_dalr.request.rows.target import TARGET as ROWS
from onnx_dalr.units import Amount, parse_share

DEFAULT_DROP = 0.01
KEEP = "keep"

RANK = "rank"
"""Name of the target that is ranks alone."""

LIMITS = {option.flag.removeprefix("--"): option.limit for option in ROWS if option.limit is not None}
"""Every other target by its name, and how it is read."""

MEASURED = ("max-drop", "max-error")
"""Targets, by name, that models are scored for."""

_IN_BYTES = ("size", *MEASURED)


@dataclass(frozen=True)
class RankRule:
    """A rank for the layers whose name, node name or weight name a pattern matches; None leaves them as they are."""

    pattern: str
    rank: int | None

    def __str__(self) -> str:
        rank = KEEP if self.rank is None else str(self.rank)
        return rank if self.pattern == "*" else f"{self.pattern}={rank}"


@dataclass(frozen=True)
class Target:
    """What the user asked for.

    Attributes:
        name: "rank" or one of `LIMITS`.
        ranks: Ranks by pattern, the last match counts. Of the target "rank" they are all there is, and layers without
            one stay as they are; beside another target they pin these layers, and the target decides the rest.
        amount: Of targets that limit a cost.
        value: Of the others: of "max-drop" 0.01 is one point.
        multiple: Ranks the target decides are multiples of it.
        least: And at least this.
        stated: The user gave it; else it is the default.
        confidence: A tolerance is to hold with it, 0.95 say; None for the figure on the samples alone.
        best_effort: Where it cannot be met, the closest there is will do.
    """

    name: str
    ranks: tuple[RankRule, ...] = ()
    amount: Amount | None = None
    value: float = 0.0
    multiple: int = 1
    least: int = 1
    stated: bool = True
    confidence: float | None = None
    best_effort: bool = False

    @property
    def prices_formats(self) -> bool:
        """Whether fewer bits bring it nearer: it counts bytes, or what is left of them."""
        return self.name in _IN_BYTES

    def allows(self, form: Form) -> bool:
        """Whether a form has a rank that may be chosen."""
        return all(rank >= self.least and rank % self.multiple == 0 for rank in form.rank)

    def __str__(self) -> str:
        pins = ", ".join(map(str, self.ranks))
        if self.name == RANK:
            return f"rank {pins}"
        shown = f"{100 * self.value:g}%" if self.name == "max-drop" else f"{self.value:g}"
        parts = [f"{self.name} {shown if self.amount is None else self.amount}" + ("" if self.stated else " (default)")]
        parts += [f"confidence {100 * self.confidence:g}%"] if self.confidence is not None else []
        parts += [f"rank {pins}"] if pins else []
        parts += [f"rank multiple {self.multiple}"] if self.multiple > 1 else []
        parts += [f"min rank {self.least}"] if self.least > 1 else []
        return ", ".join(parts)


def make_target(
    *,
    rank: int | str | Sequence[int | str] | None = None,
    rank_multiple: int = 1,
    min_rank: int = 1,
    confidence: str | float | None = None,
    best_effort: bool = False,
    **limits: str | float | None,
) -> Target:
    """The one target among the options; at most one point of drop where there is none.

    Args:
        rank: A rank for every layer, or by pattern.
        rank_multiple: Of which the ranks that are chosen are multiples.
        min_rank: And that they are not below.
        confidence: With which a tolerance is to hold.
        best_effort: The closest will do.
        limits: By the names of `LIMITS`, as Python writes them.

    Raises:
        InputError: More than one is given, or it cannot be read.
        TypeError: A limit that does not exist.
    """
    several = rank if isinstance(rank, Sequence) and not isinstance(rank, str) else () if rank is None else (rank,)
    rules = tuple(map(_rule, several))
    for option, number in (("--rank-multiple", rank_multiple), ("--min-rank", min_rank)):
        if number < 1:
            raise InputError(f"{option} {number} must be at least 1", "leave it out for any rank")
    if unknown := limits.keys() - {name.replace("-", "_") for name in LIMITS}:
        raise TypeError(f"there is no target {min(unknown)!r}")
    asked = {name: value for name in LIMITS if (value := limits.get(name.replace("-", "_"))) is not None}
    everywhere = any(rule.pattern == "*" for rule in rules)
    if len(asked) > 1 or (asked and everywhere):
        names = [f"--{name}" for name in asked] + ["--rank"] * everywhere
        hint = "give one of them" + ("; --rank 'GLOB=K' beside a target pins single layers" if everywhere else "")
        raise InputError(f"{' and '.join(names)} are different targets", hint)
    sure = None if confidence is None else parse_share(confidence, "--confidence")
    ranks_alone = not asked and any(rule.rank is not None for rule in rules)
    if sure is not None and (ranks_alone or not asked.keys() <= set(MEASURED)):
        raise InputError(
            "--confidence means nothing to this target", "it belongs to --max-drop and --max-error, which are measured"
        )
    if ranks_alone:
        if rank_multiple > 1 or min_rank > 1:
            raise InputError("--rank-multiple and --min-rank mean nothing to --rank", "name the ranks you want")
        return Target(RANK, rules)
    (name, text), *_ = asked.items() or [("max-drop", DEFAULT_DROP)]
    limit = LIMITS[name](text, f"--{name}")
    return Target(
        name,
        rules,
        amount=limit if isinstance(limit, Amount) else None,
        value=0.0 if isinstance(limit, Amount) else limit,
        multiple=rank_multiple,
        least=min_rank,
        stated=bool(asked),
        confidence=sure,
        best_effort=best_effort,
    )


def is_asked_for(given: Mapping[str, Any]) -> bool:
    """Whether among the arguments of `make_target` there is a target, or something that its ranks keep to."""
    names = (name.replace("-", "_") for name in (RANK, *LIMITS))
    return any(given[name] is not None for name in names) or given["rank_multiple"] > 1 or given["min_rank"] > 1


def _rule(text: int | str) -> RankRule:
    """Reads 64, "64", "GLOB=64" or "GLOB=keep", split at the last "="."""
    pattern, found, number = str(text).rpartition("=")
    if found and pattern and number == KEEP:
        return RankRule(pattern, None)
    try:
        rank = int(number)
    except ValueError:
        rank = 0
    if rank < 1 or (found and not pattern):
        raise InputError(
            f"--rank {text!r} is not a rank", "write --rank 64, or --rank 'GLOB=64' or 'GLOB=keep' for some layers"
        )
    return RankRule(pattern if found else "*", rank)


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether a glob, or a name written out, means one of the names."""
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
