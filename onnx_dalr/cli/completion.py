"""Completion by the shell: the script for it, and the words as it hands them over.

What is completed lies in the parameters of the commands. Where nothing is offered the shell completes names of files.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import shellingham
import typer
from typer.completion import get_completion_inspect_parameters

from onnx_dalr.cli.common import exit_codes
from onnx_dalr.errors import InputError

_INSTALL, _SHOW = (parameter.default for parameter in get_completion_inspect_parameters())
"""Typer's own two options; asking for them makes its shells known."""

_VARIABLE = "_ONNX_DALR_COMPLETE"
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def install(context: typer.Context, parameter: Any, asked: bool) -> None:
    """Writes the script for the user's shell where that looks for it, and ends the program.

    Raises:
        InputError: Nobody knows which shell it is.
    """
    if asked and not context.resilient_parsing:
        with exit_codes():
            _check_shell()
            _INSTALL.callback(context, parameter, asked)


def show(context: typer.Context, parameter: Any, asked: bool) -> None:
    """Prints the script for the user's shell, and ends the program.

    Raises:
        InputError: Nobody knows which shell it is.
    """
    if asked and not context.resilient_parsing:
        with exit_codes():
            _check_shell()
            _SHOW.callback(context, parameter, asked)


def _check_shell() -> None:
    try:
        shell, _ = shellingham.detect_shell()
    except shellingham.ShellDetectionFailure:
        shell = ""
    if shell not in _SHELLS:
        raise InputError(
            f"no completion for {shell}" if shell else "which shell this is cannot be told",
            f"run it from one of {', '.join(_SHELLS)}",
        )


def mend_bash_words(environment: MutableMapping[str, str]) -> None:
    """Puts together what bash takes apart: it gives --weights=in as three words, and 'embed*=in' too.

    What is left out stands before the word that is completed, so the answer has to be of that word alone, as it is.
    """
    if environment.get(_VARIABLE) != "complete_bash":
        return
    words, at = environment.get("COMP_WORDS", "").split("\n"), int(environment.get("COMP_CWORD", "0"))
    equals = at if words[at : at + 1] == ["="] else at - 1
    if equals < 1 or words[equals : equals + 1] != ["="]:
        return
    first = equals if words[equals - 1].startswith("-") else equals - 1
    typed = words[at] if at > equals and at < len(words) else ""
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join([*words[:first], typed]), str(first)
