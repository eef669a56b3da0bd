"""The parameters of a command, made from the table of options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

from onnx_dalr.request.option import REQUIRED, Option
from onnx_dalr.request.table import of_command


def takes_its_options(command: Callable[..., None]) -> Callable[..., None]:
    """A function with the rows of the command of its name as parameters, for typer to read; it is given them all."""
    parameters = [_parameter(option) for option in of_command(command.__name__).values()]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return command


def as_python(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the functions of Python take for what was typed after a command.

    Raises:
        InputError: An option cannot be read.
    """
    options = of_command(command)
    return {name: options[name].value(typed) for name, typed in given.items()}


def _parameter(option: Option) -> Parameter:
    kind: Any = list[option.parsed] if option.many else option.parsed  # type: ignore[name-defined]
    default = option.default
    if option.many and default is not REQUIRED:
        default = None
    if option.denies:
        default = False
    return Parameter(
        option.name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if default is REQUIRED else default,
        annotation=Annotated[kind | None if default is None else kind, _declared(option)],
    )


def _declared(option: Option) -> Any:
    """The row in typer's words."""
    if option.positional:
        return typer.Argument(
            metavar=option.metavar,
            help=option.help,
            readable=not option.is_model,
            show_default=False,
            autocompletion=_completion(option),
        )
    return typer.Option(
        *(option.flags or (option.flag,)),
        metavar=option.metavar,
        help=option.help,
        rich_help_panel=option.group or None,
        show_default=option.shows_default and option.default not in (None, REQUIRED),
        min=option.least,
        autocompletion=_completion(option),
    )


def _completion(option: Option) -> Callable[[str], list[str]]:
    """What is offered for a value of an option that has been typed in part.

    Nothing where there are no words for it: then the shell completes names of files, and does that best itself.
    """

    def offered(incomplete: str) -> list[str]:
        # 'GLOB=word' and 'word,word': it is the last word that is typed.
        start = max(incomplete.rfind("="), incomplete.rfind(",")) + 1 if option.many else 0
        before, typed = incomplete[:start], incomplete[start:]
        return [before + word for word in option.offered if word.startswith(typed)]

    return offered
