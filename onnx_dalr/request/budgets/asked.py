"""Which budgets are asked about, and for which models: those of the options, or those of the config."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.files import near_path, same_file
from onnx_dalr.request.budgets.budget import IN_CONFIG, Budget, read_budget
from onnx_dalr.request.budgets.config import OWN, find, load
from onnx_dalr.request.budgets.source import OPTIONS, Source
from onnx_dalr.request.options import PathLike, paths

_MOST_LOOKED_AT = 1000
"""Models among which one with a near name is looked for."""


@dataclass(frozen=True)
class Asked:
    """A budget and its models.

    Attributes:
        budget: It.
        models: Paths as they are shown, at least one.
    """

    budget: Budget
    models: tuple[Path, ...]


def asked(models: PathLike | Sequence[PathLike], config: PathLike | None, given: Mapping[str, Any]) -> list[Asked]:
    """What was asked for.

    Args:
        models: Paths or globs of them; none for all that the config names.
        config: The config file; None for the nearest.
        given: Every other option by its name in Python. Those that are as by default are not given.

    Raises:
        InputError: Nothing to check, a glob that matches nothing, or a budget that cannot be used.
    """
    named = named_models(models)
    limits = stated(given)
    if limits:
        return [_by_options(named, config, limits)]
    file = Path(config) if config is not None else find(Path())
    if file is None:
        hint = f"give a model and --max-size, --max-params or --baseline, or write budgets into an {OWN}"
        raise InputError("nothing to check", hint)
    return list(_by_config(file, named))


def stated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a budget among what is given, without those that are as by default."""
    found = {name: given[name] for name in IN_CONFIG if name in given and given[name] is not None}
    return {
        name: value for name, value in found.items() if OPTIONS[name].default is None or value != OPTIONS[name].default
    }


def named_models(given: PathLike | Sequence[PathLike]) -> list[Path]:
    """The models that are named, each once.

    Raises:
        InputError: A glob matches nothing.
    """
    return list(dict.fromkeys(_named(paths(given))))


def _by_options(models: list[Path], config: PathLike | None, given: Mapping[str, Any]) -> Asked:
    budget = read_budget(Source(), given)
    if config is not None:
        raise InputError(
            f"--config {config} means nothing beside {budget.source.word(next(iter(given)))}",
            "give limits as options, or in a config",
        )
    if not models:
        raise InputError("nothing to check: no model is named", "onnx-dalr check MODEL.onnx --max-size 25MB")
    return Asked(budget, tuple(models))


def _by_config(file: Path, named: list[Path]) -> Iterator[Asked]:
    config = load(file)
    covered = set[Path]()
    for budget in config.budgets:
        every = matching(budget)
        if named:
            every = [one for one in named if any(same_file(one, other) for other in every)]
            covered.update(every)
        if every:
            yield Asked(budget, tuple(every))
    for model in named:
        if not model.exists():
            raise InputError(f"no such model: {model}", "give the path of an .onnx file")
        if model not in covered:
            raise InputError(
                f"no budget of {file} is for {model}", "add a glob that matches it, or give a limit: --max-size 25MB"
            )


def matching(budget: Budget) -> list[Path]:
    """The models that the globs of a config match, each once; one that begins with ! takes models out again.

    Raises:
        InputError: A glob matches nothing, or nothing is left.
    """
    found: dict[Path, None] = {}
    for pattern in budget.models:
        matched = _matched(budget.source.folder, pattern.removeprefix("!"))
        if pattern.startswith("!"):
            for path in matched:
                found.pop(path, None)
        elif matched:
            found |= dict.fromkeys(matched)
        else:
            raise _matches_nothing(budget.source, pattern)
    if not found:
        raise budget.source.error("models leaves no model", "what begins with ! takes models out again")
    return list(found)


def _matched(folder: Path, pattern: str) -> list[Path]:
    names = glob.glob(pattern.replace("\\", "/"), root_dir=folder, recursive=True)  # noqa: PTH207 - takes any pattern
    return [near_path(folder / name) for name in sorted(names) if (folder / name).is_file()]


def _matches_nothing(source: Source, pattern: str) -> InputError:
    there = glob.iglob("**/*.onnx", root_dir=source.folder, recursive=True)  # noqa: PTH207 - as above
    names = [Path(name).as_posix() for name, _ in zip(there, range(_MOST_LOOKED_AT), strict=False)]
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    hint = f"there are, for example: {', '.join(near)}" if near else f"there is no .onnx file below {_shown(source)}"
    line = source.lines.get("models")
    return source.error(f"models {pattern!r} matches nothing", hint, at="models" if line else "")


def _shown(source: Source) -> str:
    return "this folder" if source.folder == Path() else str(source.folder)


def _named(given: list[Path]) -> Iterator[Path]:
    """The models that are named; globs that a shell has left (on Windows all do) are matched.

    Raises:
        InputError: A glob matches nothing.
    """
    for path in given:
        if path.exists() or not glob.has_magic(os.fspath(path)):
            yield path
            continue
        found = sorted(name for name in glob.glob(os.fspath(path), recursive=True) if Path(name).is_file())  # noqa: PTH207
        if not found:
            raise InputError(f"{path} matches nothing", "give the path of an .onnx file, or a glob of several")
        yield from map(Path, found)
