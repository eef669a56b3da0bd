"""Messages name options as the command line writes them; to callers of the Python functions they speak Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from inspect import signature
from os import PathLike, fspath
from typing import Any, ParamSpec, TypeVar

from onnx_dalr.errors import DalrError
from onnx_dalr.progress import Progress, Silent
from onnx_dalr.request.option import Option
from onnx_dalr.request.table import COMMANDS, OPTIONS

P = ParamSpec("P")
T = TypeVar("T")

_PHRASES = {
    "make one: onnx-dalr analyze IN.onnx --calib PATH -o plan.json": (
        'make one: onnx_dalr.analyze(model, calib=…).plan().save("plan.json")'
    ),
    "--ops-library \"$(python -c 'import onnxruntime_extensions as e; print(e.get_library_path())')\"": (
        "ops_library=onnxruntime_extensions.get_library_path()"
    ),
}
"""What a shell does and Python does otherwise."""

_TOLD = ("notes", "reason", "why", "allowed", "key")
"""Fields of results that are sentences of ours."""

_MOST_TEXTS = 1000
"""Of a list that is given, so many may be patterns or paths; longer ones are samples."""

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?"
_OPTION = re.compile("--[a-z]")
_TOKEN = re.compile(
    rf"(?<!\w)(?:{_QUOTED})(?!\w)"  # a name: what is in it is no option
    r"|`onnx-dalr (?P<command>[a-z]+)`"
    r"|(?<![\w./\\=-])--(?P<option>[a-z][a-z0-9-]*)(?![\w/\\=]|\.\w)"
)
_VALUES: tuple[tuple[str, str | Callable[[str], str]], ...] = (
    (_QUOTED, r"\g<0>"),
    (r"\(\d+(?:, \d+)*\)", r"\g<0>"),
    (r"(\d+|H)x(\d+|W)", r"(\1, \2)"),
    (rf"{_NUMBER}/{_NUMBER}", r"\g<0>"),
    (r"\d{1,3}(?:,\d{3})+", lambda text: text.replace(",", "_")),
    (rf"{_NUMBER}|nan|-?inf", r"\g<0>"),
    (rf"{_NUMBER}(?:%|[kMG]?B|[kMG])|abs:{_NUMBER}", r'"\g<0>"'),
    (r"[A-Z]+(?:\.[a-z]+)?(?::[A-Z]+)?", "…"),  # PATH, FILE.png, FILE.py:FUNCTION
    (r"[\w-][\w./\\-]*\.py:\w+|[\w-]+\.[a-z]\w*", r'"\g<0>"'),
)
"""What may follow an option as its value, and how Python writes it. Anything else is the next word of the sentence."""


def in_python(text: str, given: tuple[str, ...] = ()) -> str:
    """A message with its options as Python's keyword arguments: `--max-drop 1%` is `max_drop="1%"`.

    Args:
        text: Of the package.
        given: What the caller gave, paths and patterns say: nothing in these is an option.
    """
    if "--" not in text and "onnx-dalr " not in text:
        return text
    for shell, python in _PHRASES.items():
        text = text.replace(shell, python)
    for own in sorted(filter(_OPTION.search, given), key=len, reverse=True):
        before, found, after = text.partition(own)
        if found:
            return in_python(before, given) + own + in_python(after, given)
    return "".join(_translated(text))


def _translated(text: str) -> Iterator[str]:
    known, at, with_value = _known(), 0, False
    while token := _TOKEN.search(text, at):
        between, word, end = text[at : token.start()], token[0], token.end()
        command, flag = token["command"], token["option"]
        if command in COMMANDS:
            word = f"`onnx_dalr.{command}`"
        value = None
        if flag in known:
            word, value, end = _keyword(flag, known[flag], text, end)
            if with_value and between == " ":
                between = ", "
        yield between + word
        at, with_value = end, value is not None
    yield text[at:]


def _known() -> dict[str | None, Option]:
    """The options that Python has a word for, by what may follow the dashes: the flag, and the name in Python."""
    return {
        word: option
        for option in OPTIONS
        if (option.functions or option.in_python) and not option.positional
        for word in (option.flag.removeprefix("--"), option.name.replace("_", "-"))
    }


def _keyword(flag: str, option: Option, text: str, end: int) -> tuple[str, str | None, int]:
    """The option with its value as Python writes it, the value, and where the text goes on."""
    name = option.name
    if option.in_python:
        return option.in_python, None, end
    if isinstance(option.default, bool):
        value = str(not flag.startswith("no-"))
        return f"{name}={value}", value, end
    if text[end : end + 1] == " ":
        for pattern, written in (*_VALUES, *_words(option)):
            found = re.compile(rf"(?:{pattern})(?![\w%/+-]|[.,:]\w)").match(text, end + 1)
            if found:
                value = written(found[0]) if callable(written) else found.expand(written)
                return f"{name}={value}", value, found.end()
    return name, None, end


def _words(option: Option) -> Iterator[tuple[str, Callable[[str], str]]]:
    """The words that an option takes by name, alone or one or the other of two, as what may follow it."""
    if words := option.known_words():
        one = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
        yield rf"(?:{one})(?: or (?:{one}))?", lambda text: re.sub(one, r'"\g<0>"', text)


def told_in_python(found: T, given: tuple[str, ...] = ()) -> T:
    """A result whose sentences speak Python, all through; itself where they do."""
    if not is_dataclass(found) or isinstance(found, type):
        return found
    changed: dict[str, Any] = {}
    for field in fields(found):
        value = getattr(found, field.name)
        told = _told(value, given) if field.name in _TOLD else _inside(value, given)
        if told is not value:
            changed[field.name] = told
    return replace(found, **changed) if changed else found


def _told(value: Any, given: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        told = in_python(value, given)
        return value if told == value else told
    return _each(value, lambda entry: _told(entry, given)) if isinstance(value, tuple) else value


def _inside(value: Any, given: tuple[str, ...]) -> Any:
    if isinstance(value, tuple):
        return _each(value, lambda entry: _inside(entry, given))
    return told_in_python(value, given)


def _each(value: Any, told: Callable[[Any], Any]) -> Any:
    """A tuple of what each entry becomes; itself where nothing changes."""
    made = tuple(map(told, value))
    return value if all(one is other for one, other in zip(made, value, strict=True)) else made


class InPython:
    """A Progress to whom all is said in Python."""

    def __init__(self, listener: Progress, given: tuple[str, ...] = ()) -> None:
        self._listener, self._given = listener, given

    def say(self, line: str) -> None:
        """Says it."""
        self._listener.say(in_python(line, self._given))

    def detail(self, line: str) -> None:
        """Says a detail, to whom listens to such."""
        if hasattr(self._listener, "detail"):
            self._listener.detail(in_python(line, self._given))

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Hands on what is expected, to whom listens to that."""
        if hasattr(self._listener, "expect"):
            self._listener.expect(seconds)

    def about(self, *texts: str) -> None:
        """Hands on what is going on, to whom listens to that."""
        if hasattr(self._listener, "about"):
            self._listener.about(*texts)

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Hands the stage on."""
        return self._listener.stage(name, total)

    def told(self, found: T) -> T:
        """A result in the same words."""
        return told_in_python(found, self._given)


def told_to(progress: Progress, found: T) -> T:
    """A result in the words of whom a run reports to."""
    return progress.told(found) if isinstance(progress, InPython) else found


def speaks_python(function: Callable[P, T]) -> Callable[P, T]:
    """A function as Python's users call it: what it says, returns and raises names options as Python does."""

    @wraps(function)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> T:
        given = tuple(_texts([*args, *kwargs.values()]))
        listener: Any = kwargs.get("progress")
        more: dict[str, Any] = {}
        if "progress" in signature(function).parameters:
            more["progress"] = InPython(listener if listener is not None else Silent(), given)
        call: Callable[..., T] = function
        try:
            return told_in_python(call(*args, **{**kwargs, **more}), given)
        except DalrError as error:
            told: BaseException | None = error
            while isinstance(told, DalrError):
                told.reword(in_python(told.message, given), in_python(told.hint, given))
                told = told.__cause__
            raise

    return spoken


def _texts(given: Any) -> Iterator[str]:
    """The texts and paths among what a caller gave."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, PathLike):
        yield str(fspath(given))
    elif isinstance(given, list | tuple):
        for entry in given[:_MOST_TEXTS]:
            yield from _texts(entry)
