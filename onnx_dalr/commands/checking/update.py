"""`check --update`: today's sizes and a margin become the limits of the config, whose comments and order stay."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from onnx_dalr.commands.checking.measured import Measured
from onnx_dalr.errors import InputError
from onnx_dalr.files import same_file, write_text
from onnx_dalr.request.budgets.asked import matching, named_models, stated
from onnx_dalr.request.budgets.budget import Budget
from onnx_dalr.request.budgets.config import OWN, SHARED, TABLE, Config, find, load
from onnx_dalr.request.budgets.source import OPTIONS
from onnx_dalr.units import Amount, parse_amount

MARGIN = "2%"

_MEASURED = {"size": "B", "params": "", "macs": ""}
"""What has a size today, and the unit its limit is written in."""

_DIGITS = 4
_HEAD = "Budgets of `onnx-dalr check`: --update writes today's sizes into them."


@dataclass(frozen=True)
class Change:
    """A limit that became another one.

    Attributes:
        models: The globs it is for.
        key: Of the config.
        before: As it was written, None where it is new.
        after: As it is written now.
    """

    models: tuple[str, ...]
    key: str
    before: str | None
    after: str

    def __str__(self) -> str:
        became = f"{self.before} → {self.after}" if self.before is not None else self.after
        return f"{', '.join(self.models)}: {self.key} {became}"


@dataclass(frozen=True)
class Updated:
    """What `update` did.

    Attributes:
        file: The config.
        changes: In its order; none where all was as it is.
    """

    file: Path
    changes: tuple[Change, ...]


def update(asked: Mapping[str, Any], margin: str | None) -> Updated:
    """Writes limits of size, parameters and multiply-adds into the config.

    A limit that is a share of a baseline, growth, and what models are run for stay as they are. Models that no budget
    is for get one; where there is no config it is made.

    Args:
        asked: What `check` takes: models, and the config or None for the nearest.
        margin: Added to today's sizes, MARGIN where left out.

    Raises:
        InputError: Limits are given beside it, there is nothing to write, or the config cannot be written.
    """
    more = parse_amount(MARGIN if margin is None else margin, "--margin", unit="B", zero=True)
    if not more.relative and more.value:
        raise InputError(f"--margin {margin} is no share", f"write --margin {MARGIN}")
    if limits := stated(asked):
        raise InputError(
            f"{OPTIONS[next(iter(limits))].flag} means nothing beside --update", "it is the config that is written"
        )
    models = named_models(asked["models"])
    found = asked["config"] or find(Path())
    file = Path(found or OWN)
    if found is None or not file.exists():
        if not models:
            raise InputError("nothing to write budgets for: no model is named", "onnx-dalr check MODEL.onnx --update")
        if file.name == SHARED:
            raise InputError(f"no such config: {file}", f"give --config {OWN}")
        return _write(file, _new_document(), None, models, more)
    config = load(file)
    return _write(file, tomlkit.parse(config.text), config, models, more)


def _new_document() -> tomlkit.TOMLDocument:
    made = tomlkit.document()
    made.add(tomlkit.comment(_HEAD))
    made.add(tomlkit.nl())
    made["budgets"] = tomlkit.aot()
    return made


def _write(
    file: Path, document: tomlkit.TOMLDocument, config: Config | None, models: list[Path], margin: Amount
) -> Updated:
    tables = _tables(file, document)
    changes: list[Change] = []
    covered: list[Path] = []
    for table, budget in zip(list(tables), config.budgets if config else (), strict=True):
        every = matching(budget)
        covered += every
        if not models or any(same_file(one, other) for one in models for other in every):
            changes += _changed(table, budget, every, margin)
    for model in models:
        if not any(same_file(model, other) for other in covered):
            table, made = _made(file, Measured(model), margin)
            _append(tables, table, new=config is None)
            changes += made
    if changes:
        text = tomlkit.dumps(document).rstrip() + "\n"
        write_text(file, _ends_as(config.text if config else "", text))
    return Updated(file, tuple(changes))


def _append(tables: AoT | Any, table: Table, *, new: bool) -> None:
    """Puts a table behind the others, an empty line between them, or into the list where they are in one."""
    if not isinstance(tables, AoT):
        inline = tomlkit.inline_table()
        inline.update(table.unwrap())
        tables.append(inline)
        return
    if not new:  # tomlkit parts the tables of a new file itself
        while not tables[-1].as_string().replace("\r\n", "\n").endswith("\n\n"):
            tables[-1].add(tomlkit.nl())
        table.add(tomlkit.nl())
    tables.append(table)


def _ends_as(old: str, text: str) -> str:
    """The text with the line ends of the old one."""
    plain = text.replace("\r\n", "\n")
    return plain.replace("\n", "\r\n") if "\r\n" in old else plain


def _tables(file: Path, document: tomlkit.TOMLDocument) -> AoT | Any:
    """The budgets of a document, to be changed in their place."""
    home: Any = document["tool"][TABLE] if file.name == SHARED else document
    return home["budgets"]


def _changed(table: Any, budget: Budget, models: list[Path], margin: Amount) -> Iterator[Change]:
    """Writes today's limits into a table, of several models the largest."""
    limits = [limit for limit in budget.limits if limit.budget in _MEASURED]
    absolute = [limit for limit in limits if isinstance(limit.amount, Amount) and not limit.amount.relative]
    if not absolute:
        return
    names = [limit.budget for limit in absolute]
    amounts = [_amounts(Measured(model), names) for model in models]
    for limit in absolute:
        old = table[limit.where.key]
        text = written(_with(max(each[limit.budget] for each in amounts), margin), _MEASURED[limit.budget])
        new: Any = text if isinstance(old, str) else parse_amount(text, "", unit="B", zero=True).of(0)
        if new != old:
            before = str(old)
            table[limit.where.key] = new
            yield Change(budget.models, limit.where.key, before, str(new))


def _amounts(model: Measured, names: Iterable[str]) -> dict[str, int]:
    """What a model has of each; it is not held any longer than that."""
    return {name: model.amount(name) for name in names}


def _made(file: Path, model: Measured, margin: Amount) -> tuple[Table, list[Change]]:
    """A new budget for a model."""
    place = Path(os.path.relpath(model.path, file.parent)).as_posix()
    table = tomlkit.table()
    table["models"] = glob.escape(place)
    changes = []
    for name, unit in _MEASURED.items():
        try:
            amount = model.amount(name)
        except InputError:  # multiply-adds that nobody knows need no limit
            continue
        if amount:
            table[f"max-{name}"] = written(_with(amount, margin), unit)
            changes.append(Change((place,), f"max-{name}", None, table[f"max-{name}"]))
    return table, changes


def _with(amount: int, margin: Amount) -> int:
    return amount + math.ceil(amount * margin.value - 1e-9)


def written(amount: int, unit: str) -> str:
    """An amount as a config writes it, rounded up to a few digits: 20.55MB."""
    step = 10 ** max(0, len(str(amount)) - _DIGITS)
    rounded = -(-amount // step) * step
    while True:
        factor, name = next(
            ((factor, name) for factor, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")) if rounded >= factor),
            (1, ""),
        )
        text = f"{rounded / factor:.{len(str(factor))}g}{name}{unit}" if factor > 1 else f"{rounded}{unit}"
        if parse_amount(text, "", unit=unit, zero=True).of(0) >= amount:
            return text
        rounded += step
