"""A call as it can be made again: what was typed, or the same in Python."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from onnx_dalr.progress import Progress
from onnx_dalr.request.option import REQUIRED, Option
from onnx_dalr.request.table import of_command, of_function
from onnx_dalr.request.wording import InPython
from onnx_dalr.units import Amount

PACKAGE = "onnx_dalr."
"""What a call in Python begins with, and no line of a shell."""

_UNSAID = ("progress", "quiet", "verbose")
"""What changes nothing of what comes out."""

_LONGEST = 60  # characters of a value in Python


def as_typed(command: str, given: Mapping[str, Any]) -> str:
    """The line of a shell that asks a command for what was given, options with their defaults left out."""
    words = ["onnx-dalr", command]
    for name, option in of_command(command).items():
        if name in given and name not in _UNSAID and _is_said(option, given[name]):
            words += _words(option, given[name])
    return shlex.join(words)


def as_called(function: str, given: Mapping[str, Any]) -> str:
    """The call in Python, what has its default left out, and what is no text or number as `…`."""
    options = of_function(function)
    placed = [name for name, option in options.items() if option.positional or option.default is REQUIRED]
    positional = [_written(given[name]) for name in placed if given.get(name) is not None]
    named = [
        f"{name}={_written(given[name])}"
        for name, option in options.items()
        if name not in placed and name in given and name not in _UNSAID and _is_said(option, given[name])
    ]
    return f"{PACKAGE}{function}({', '.join((*positional, *named))})"


def _is_said(option: Option, value: Any) -> bool:
    if option.default is REQUIRED:
        return value is not None
    if value is None or (option.many and isinstance(value, list | tuple) and not value):
        return False
    return not (type(value) is type(option.default) and value == option.default)


def _words(option: Option, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield option.flag
        return
    for each in value if option.many and isinstance(value, list | tuple) else (value,):
        if not option.positional:
            yield option.flag
        yield _typed(option, each)


def _typed(option: Option, value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, Amount):
        return str(value).replace(",", "")
    if isinstance(value, list | tuple):  # a size is HxW, anything else numbers
        return ("x" if "HxW" in (option.metavar or "") else ",").join(map(str, value))
    return str(value)


def _written(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, str | bool | int | float | Amount):
        return repr(str(value) if isinstance(value, Amount) else value)
    if isinstance(value, list | tuple) and all(isinstance(one, str | int | float | os.PathLike) for one in value):
        text = f"[{', '.join(map(_written, value))}]"
        return text if len(text) <= _LONGEST else "[…]"
    return "…"


def said_as(command: str, given: Mapping[str, Any], progress: Progress | None) -> str:
    """A call in the words of whom a run reports to."""
    return (as_called if isinstance(progress, InPython) else as_typed)(command, given)
