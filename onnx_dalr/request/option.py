"""One option: a row of the table from which the command line, the Python signatures and the docs come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

from onnx_dalr.units import Amount

REQUIRED: Final = ...
"""The default of what has to be given."""

TARGET = "Target (one of; default: --max-drop 1%)"
LAYERS = "Layers and method"
SAMPLES = "Samples"
IMAGES = "Images"
OUTPUT = "Output"
GROUPS = (TARGET, LAYERS, SAMPLES, IMAGES, OUTPUT)
"""The headings under which options are listed."""

SHARED = "Shared"
"""Among the functions: the TypedDict of what `optimize`, `analyze` and `apply` have in common."""

PLAN = "Analysis.plan"
"""Among the functions: the method."""

Parsed = type[str | int | float | bool | Path]

RUNS = ("optimize", "analyze", "apply")
"""The commands that learn from samples."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What one option is called, takes and means, in Python and on the command line.

    Attributes:
        name: In Python.
        type: In Python, as the signatures write it; "" where no function takes it.
        default: In Python; REQUIRED where it has to be given.
        text: In docstrings and docs.
        functions: Python functions that take it, SHARED and PLAN among them.
        help: On the command line.
        commands: Commands that take it.
        group: One of GROUPS; "" for arguments, and for options that stand under no heading.
        parsed: The type of its word, or words, on the command line.
        many: May be given more than once.
        metavar: What stands for its value in the help; None for the name of its type.
        flags: How the command line writes it where that is not `--name`; one that begins with "no-" means False.
        positional: It is an argument, known by its place.
        is_model: A model to read, about which we have more to say than the parser.
        shows_default: The help tells the default, where there is one.
        least: The smallest number the parser takes.
        words: The words it takes by name: themselves, or "module:NAME" of their table or Literal.
        completes: Where it is a table, the same words: a shell completes them without loading it.
        limit: Of a target or a budget: (what was typed, flag) → an amount of what models cost, or a number.
        read: (flag, word) → its value, where that is more than the word.
        in_python: How messages in Python name an option that no function takes.
    """

    name: str
    type: str = ""
    default: Any = None
    text: str = ""
    functions: tuple[str, ...] = ()
    help: str = ""
    commands: tuple[str, ...] = ()
    group: str = ""
    parsed: Parsed = str
    many: bool = False
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    positional: bool = False
    is_model: bool = False
    shows_default: bool = True
    least: int | None = None
    words: str | tuple[str, ...] = ()
    completes: tuple[str, ...] = ()
    limit: Callable[[Any, str], Amount | float] | None = None
    read: Callable[[str, str], Any] | None = None
    in_python: str = ""

    @property
    def flag(self) -> str:
        """How the command line writes it."""
        return self.flags[0] if self.flags else f"--{self.name.replace('_', '-')}"

    @property
    def denies(self) -> bool:
        """Whether giving it on the command line means False."""
        return self.flag.removeprefix("--").startswith("no-")

    def value(self, typed: Any) -> Any:
        """What Python takes for what the parser made of the command line.

        Raises:
            InputError: It cannot be read.
        """
        if self.many:
            return typed or self.default
        if self.denies:
            return not typed
        return typed if self.read is None or typed is None else self.read(self.flag, typed)

    @property
    def offered(self) -> tuple[str, ...]:
        """The words that a shell completes. Nothing is loaded for them: it asks at every press of a key."""
        return self.completes if isinstance(self.words, str) else self.words

    def known_words(self) -> tuple[str, ...]:
        """The words that it takes by name. Their tables are heavy: they are imported when they are asked for."""
        if not isinstance(self.words, str):
            return self.words
        module, _, name = self.words.partition(":")
        found: Iterable[str] = getattr(import_module(module), name)
        return get_args(found) or tuple(found)
