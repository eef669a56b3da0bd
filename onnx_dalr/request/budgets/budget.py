"""A budget: limits for some models, and what is needed to measure these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.request.budgets.source import OPTIONS, Source, Where, key_of
from onnx_dalr.request.rows.budgets import LIMITS as ROWS
from onnx_dalr.request.table import of_function
from onnx_dalr.units import Amount

LIMITS = {option.name: option for option in ROWS}
"""Every limit by its name in Python."""

ON_SAMPLES = frozenset(of_function("check").keys() & of_function("compare").keys() - {"progress"})
"""What says which samples, and how they are run and scored, by its name in Python."""

LATENCY = "latency-ratio"
QUALITY = ("drop", "error")
RUNNING = (*QUALITY, LATENCY)
"""Limits that models are run for."""

IN_CONFIG = (*LIMITS, "baseline", "reference", *(name for name in OPTIONS if name in ON_SAMPLES))
"""What a table of budgets may hold beside its models, by its name in Python."""


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        budget: What is limited: "size", "params", "macs", "growth", "drop", "error" or "latency-ratio".
        amount: How much: of the first four a number or a share of the baseline's.
        said: As it was given.
        where: What to change to change it.
    """

    budget: str
    amount: Amount | float
    said: str
    where: Where

    @property
    def needs_baseline(self) -> bool:
        """Whether it means nothing without one."""
        relative = isinstance(self.amount, Amount) and self.amount.relative
        return relative or self.budget in ("growth", LATENCY)


@dataclass(frozen=True)
class Budget:
    """Limits for some models.

    Attributes:
        source: Where it is said.
        models: Globs, relative to the folder of the config; empty for options, which name their models.
        limits: What the models are held to, one at least.
        baseline: A model to compare sizes and latency with, or a folder of them.
        reference: One to compare outputs with, or a folder of them.
        on_samples: Options of `compare` by their name in Python, the samples as `data` among them.
    """

    source: Source
    models: tuple[str, ...]
    limits: tuple[Limit, ...]
    baseline: Path | None
    reference: Path | None
    on_samples: Mapping[str, Any]


def read_budget(source: Source, given: Mapping[str, Any], models: tuple[str, ...] = ()) -> Budget:
    """A budget of what was given.

    Args:
        source: Where.
        given: By the names of Python, without what is not given.
        models: The globs of a config.

    Raises:
        InputError: There is no limit, one cannot be read, or what it needs or what needs it is missing.
    """
    limits = [_limit(source, name, given[name]) for name in LIMITS if name in given]
    baseline, reference = (source.path(given[name]) if name in given else None for name in ("baseline", "reference"))
    measured = any(limit.needs_baseline or limit.budget in QUALITY for limit in limits)
    if source.file is None and baseline is not None and not measured:
        limits.append(_no_growth(source))
    _check_whole(source, limits, given)
    on_samples = {name: _value(source, name, given[name]) for name in ON_SAMPLES if name in given}
    return Budget(source, models, tuple(limits), baseline, reference or baseline, on_samples)


def _limit(source: Source, name: str, value: Any) -> Limit:
    read = LIMITS[name].limit
    assert read is not None
    try:
        amount = read(value, source.word(name))
    except InputError as error:
        raise source.error(error.message, error.hint, at=name) from error
    budget = key_of(LIMITS[name]).removeprefix("max-")
    return Limit(budget, amount, source.said(name, value), source.where(name))


def _no_growth(source: Source) -> Limit:
    """What a baseline alone asks for."""
    return Limit("growth", Amount(0), "no growth", source.where("max_growth"))


def _check_whole(source: Source, limits: list[Limit], given: Mapping[str, Any]) -> None:
    if not limits:
        what = "--max-size, --max-params or --baseline" if source.file is None else "max-size, max-params or another"
        raise source.error("nothing to check: there is no limit", f"give {what}")
    for limit in limits:
        name = f"max_{limit.budget.replace('-', '_')}"
        if limit.needs_baseline and "baseline" not in given:
            why = {"growth": "needs something to grow from", LATENCY: "needs a model to be compared with"}
            alone = f"{limit.said} is a share of a baseline, and there is none"
            said = f"{source.word(name)} {why[limit.budget]}" if limit.budget in why else alone
            raise source.error(said, source.add("baseline", "base.onnx"), at=name)
        if limit.budget in QUALITY and not {"baseline", "reference"} & given.keys():
            said = f"{source.word(name)} needs a model whose outputs are the right ones"
            raise source.error(said, source.add("reference", "original.onnx"), at=name)
        if limit.budget in RUNNING and "data" not in given:
            raise source.error(f"{source.word(name)} needs samples to run on", source.add("data", "PATH"), at=name)
    if not any(limit.budget in RUNNING for limit in limits):
        idle = [name for name in (*OPTIONS,) if name in given and (name in ON_SAMPLES or name == "reference")]
        for name in idle:
            raise source.error(
                f"{source.word(name)} means nothing here: no limit needs the models to be run",
                f"{source.add('max_drop', '1%')}, or leave it out",
                at=name,
            )


def _value(source: Source, name: str, value: Any) -> Any:
    """What `compare` takes for it: the command line has read its words already, a config's are read here."""
    if source.file is None:
        return value
    option = OPTIONS[name]
    if option.many:
        each = [value] if isinstance(value, str) else value
        return [source.path(entry) for entry in each] if option.parsed is Path else each
    if option.parsed is Path:
        return source.path(value)
    if name in ("preprocess", "score"):
        file, colon, function = value.rpartition(":")
        return f"{source.path(file)}{colon}{function}" if colon else value
    if isinstance(value, str) and option.read is not None:
        return option.read(source.word(name), value)
    return tuple(value) if isinstance(value, list) else value
