"""The config file of `check`: where it is, what it says, what is wrong with it. docs/check.md describes it."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from onnx_dalr.errors import InputError
from onnx_dalr.files import near_path
from onnx_dalr.request.budgets.budget import IN_CONFIG, Budget, read_budget
from onnx_dalr.request.budgets.lines import lines_of
from onnx_dalr.request.budgets.source import OPTIONS, Source, key_of, placed

OWN = "onnx-dalr.toml"
SHARED = "pyproject.toml"
TABLE = "onnx-dalr"
"""Of [tool.onnx-dalr], in a file that others share."""


@dataclass(frozen=True)
class Config:
    """What a config file says.

    Attributes:
        file: Its path, as it is shown.
        text: All of it.
        budgets: In the order of the file.
    """

    file: Path
    text: str
    budgets: tuple[Budget, ...]


def schema() -> dict[str, Any]:
    """What the schema file says: of what is in an onnx-dalr.toml, and in [tool.onnx-dalr] of a pyproject.toml."""
    found: dict[str, Any] = json.loads(
        files("onnx_dalr.request.budgets").joinpath("budgets.schema.json").read_text(encoding="utf-8")
    )
    return found


def find(start: Path) -> Path | None:
    """The nearest file with budgets, in a folder or one above it; None where there is none.

    Raises:
        InputError: A file on the way cannot be read, two of one folder have budgets, or the table is misspelt.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        own, shared = folder / OWN, folder / SHARED
        has_own = own.is_file()
        if shared.is_file() and _tool(near_path(shared)) is not None:
            if has_own:
                raise InputError(
                    f"both {near_path(own)} and {near_path(shared)} have budgets", "keep them in one of the two"
                )
            return near_path(shared)
        if has_own:
            return near_path(own)
    return None


def load(path: str | os.PathLike[str]) -> Config:
    """Reads a config file.

    Raises:
        InputError: It is none; the message names the file, the line and the key that is wrong.
    """
    file = Path(path)
    text = _read(file)
    facts: Any = _parsed(file, text)
    if file.name == SHARED:
        facts = _tool(file)
        if facts is None:
            raise InputError(f"{file} has no [tool.{TABLE}]", f"budgets are in [[tool.{TABLE}.budgets]] of it")
    lines = lines_of(text)
    _check(file, facts, lines)
    budgets = []
    for position, table in enumerate(facts["budgets"]):
        known = lines[position] if len(lines) == len(facts["budgets"]) else {}
        source = Source(file, file.parent, position, known)
        models = table["models"]
        given = {name: table[key] for name in IN_CONFIG if (key := key_of(OPTIONS[name])) in table}
        budgets.append(read_budget(source, given, (models,) if isinstance(models, str) else tuple(models)))
    return Config(file, text, tuple(budgets))


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"no such config: {file}", "give the path of a TOML file with budgets") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"cannot read {file}: {reason}", "a config is a TOML file") from error


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not TOML: {error}", 'texts are in quotes: max-size = "25MB"') from error


def _tool(file: Path) -> Any:
    """[tool.onnx-dalr] of a file that others share, or None."""
    tools = _parsed(file, _read(file)).get("tool")
    if not isinstance(tools, dict):
        return None
    if TABLE not in tools:
        for name in difflib.get_close_matches(TABLE, tools, n=1, cutoff=0.85):
            raise InputError(f"{file}: [tool.{name}] is not known", f"did you mean [tool.{TABLE}]?")
    return tools.get(TABLE)


def _check(file: Path, facts: Any, lines: list[dict[str, int]]) -> None:
    """Holds the facts against the schema; a name that is misspelt comes before what is missing for it.

    Raises:
        InputError: The first that is wrong.
    """
    for error in sorted(Draft202012Validator(schema()).iter_errors(facts), key=_order):
        message, hint, key = _worded(error)
        path = list(error.absolute_path)
        position = path[1] if len(path) > 1 and isinstance(path[1], int) else None
        if position is None:
            raise InputError(f"{file}: {message}", hint)
        known = lines[position] if len(lines) == len(facts["budgets"]) else {}
        raise InputError(f"{placed(file, known.get(key, known.get('')), position)}: {message}", hint)


def _order(error: ValidationError) -> tuple[bool, list[str]]:
    return error.validator != "additionalProperties", list(map(str, error.absolute_path))


def _worded(error: ValidationError) -> tuple[str, str, str]:
    """(what is wrong, what to do, the key it is about)."""
    held: Any = error.schema
    given: Any = error.instance
    if error.validator == "additionalProperties":
        return _unknown(given, held["properties"])
    if error.validator == "required":
        missing = next(name for name in held["required"] if name not in given)
        return f"{missing} is missing", _described(held["properties"][missing]), ""
    key = next((entry for entry in reversed(error.absolute_path) if isinstance(entry, str)), "")
    wrong = "is empty" if given in ("", [], {}) else f"{json.dumps(given, default=str)} is no value it can have"
    described = schema()["$defs"]["budget"]["properties"].get(key, held)
    return f"{key}: {wrong}" if key else wrong, _described(described), key


def _unknown(found: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, str, str]:
    """The same of a key that is none."""
    key = next(key for key in found if key not in known)
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"{key} is not known", f"did you mean {near[0]}?", key
    if "models" not in known and key in schema()["$defs"]["budget"]["properties"]:
        return f"{key} is in no budget", f"it belongs below a line [[budgets]], or [[tool.{TABLE}.budgets]]", key
    return f"{key} is not known", f"there are {', '.join(known)}", key


def _described(found: Any) -> str:
    """What the schema says of a value."""
    return str(found.get("description", "")) or "docs/check.md describes a config"
