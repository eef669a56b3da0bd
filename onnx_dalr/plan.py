"""What was asked for and what was decided: Target and Plan."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnx_dalr.errors import InputError
from onnx_dalr.units import Amount, parse_amount, parse_points

DEFAULT_DROP = 0.01


@dataclass(frozen=True)
class RankRule:
    """A rank for the layers whose name, node name or weight name a pattern matches."""

    pattern: str
    rank: int

    def __str__(self) -> str:
        return str(self.rank) if self.pattern == "*" else f"{self.pattern}={self.rank}"


@dataclass(frozen=True)
class Target:
    """What the user asked for: exactly one of the three is set.

    Attributes:
        ranks: Ranks by pattern; the last match counts, layers without one stay dense.
        params: Floating constants of the whole model.
        max_drop: Score that may be lost on the select samples, as a fraction: 0.01 is one point.
        stated: The user gave it; else it is the default.
    """

    ranks: tuple[RankRule, ...] = ()
    params: Amount | None = None
    max_drop: float | None = None
    stated: bool = True

    def __str__(self) -> str:
        if self.ranks:
            return "rank " + ", ".join(map(str, self.ranks))
        if self.params is not None:
            return f"params {self.params}"
        return f"max-drop {100 * (self.max_drop or 0):g}%" + ("" if self.stated else " (default)")


@dataclass(frozen=True)
class Choice:
    """The decision for one Layer.

    Attributes:
        layer: Its name.
        rank: The rank, or None to keep it dense.
        reason: Why, in plain words.
    """

    layer: str
    rank: int | None
    reason: str


@dataclass(frozen=True)
class Plan:
    """The decisions for all Layers of a model, in graph order.

    Attributes:
        method: Name of the factorization.
        choices: One per Layer.
        evaluations: How often a candidate model was scored on the select samples to get here.
        passes: Forward passes over a few select samples to measure the sensitivity of the layers.
    """

    method: str
    choices: tuple[Choice, ...]
    evaluations: int = 0
    passes: int = 0

    @property
    def compressed(self) -> tuple[Choice, ...]:
        """The layers that get a rank."""
        return tuple(choice for choice in self.choices if choice.rank is not None)


def make_target(
    rank: int | str | tuple[int | str, ...] | list[int | str] | None = None,
    params: str | float | None = None,
    max_drop: str | float | None = None,
) -> Target:
    """The one target among the options; at most one point of drop where there is none.

    Raises:
        InputError: More than one is given, or it cannot be read.
    """
    if isinstance(rank, tuple | list) and not rank:
        rank = None
    given = [
        name for name, value in (("--rank", rank), ("--params", params), ("--max-drop", max_drop)) if value is not None
    ]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are different targets", "give one of them")
    if rank is not None:
        rules = rank if isinstance(rank, tuple | list) else (rank,)
        return Target(ranks=tuple(_rule(rule) for rule in rules))
    if params is not None:
        return Target(params=parse_amount(params, "--params"))
    if max_drop is not None:
        return Target(max_drop=parse_points(max_drop, "--max-drop"))
    return Target(max_drop=DEFAULT_DROP, stated=False)


def _rule(text: int | str) -> RankRule:
    """Reads 64, "64" or "GLOB=64", split at the last "="."""
    pattern, found, number = str(text).rpartition("=")
    try:
        rank = int(number)
    except ValueError:
        rank = 0
    if rank < 1 or (found and not pattern):
        raise InputError(f"--rank {text!r} is not a rank", "write --rank 64, or --rank 'GLOB=64' for some layers")
    return RankRule(pattern if found else "*", rank)


def matches(pattern: str, names: tuple[str, ...]) -> bool:
    """Whether a glob, or a name written out, means one of the names."""
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
