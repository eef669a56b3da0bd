"""The table of options is what the public signatures, their docstrings, the command line and the docs say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from options_page import PAGE, page

import onnx_dalr
from onnx_dalr.cli.main import app
from onnx_dalr.commands import analyze, apply, check, compare, optimize
from onnx_dalr.commands import inspect as inspecting
from onnx_dalr.request.option import GROUPS, PLAN, REQUIRED, SHARED, Option
from onnx_dalr.request.options import Shared, make_options, take
from onnx_dalr.request.table import COMMANDS, OPTIONS, of_command, of_function
from onnx_dalr.request.target import LIMITS, is_asked_for, make_target
from onnx_dalr.samples import ImageSettings
from onnx_dalr.samples.options import SampleOptions
from tests.test_public_api import section

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "optimize": optimize.optimize,
    "analyze": analyze.analyze,
    "apply": apply.apply,
    "compare": compare.compare,
    "check": check.check,
    "inspect": inspecting.inspect,
    PLAN: onnx_dalr.Analysis.plan,
}
TAKERS: dict[str, Callable[..., Any]] = {
    "make_options": make_options,
    "ImageSettings": ImageSettings,
    "SampleOptions": SampleOptions,
}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Those with a name of their own."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def default(parameter: inspect.Parameter) -> Any:
    return REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default


def test_every_function_of_the_table_is_held_against_it() -> None:
    assert {function for option in OPTIONS for function in option.functions} == {*FUNCTIONS, SHARED}
    assert set(COMMANDS) == set(onnx_dalr.FUNCTIONS) == {*FUNCTIONS} - {PLAN}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_signature_is_what_the_table_says(name: str) -> None:
    options, found = of_function(name), parameters(FUNCTIONS[name])
    assert {each: parameter.annotation for each, parameter in found.items()} == {
        each: option.type for each, option in options.items()
    }
    assert {each: default(parameter) for each, parameter in found.items()} == {
        each: option.default for each, option in options.items()
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_says_what_the_table_says(name: str) -> None:
    said = section(inspect.getdoc(FUNCTIONS[name]) or "", "Args")
    said.pop("options", None)
    assert said == {each: option.text for each, option in of_function(name).items()}


def test_what_three_functions_share_is_what_the_table_says() -> None:
    hints = {name: hint.__forward_arg__ for name, hint in Shared.__annotations__.items()}
    assert hints == {name: option.type for name, option in of_function(SHARED).items()}
    every = of_function("optimize")
    assert all(every[name] is option for name, option in of_function(SHARED).items())


def test_what_is_shared_is_taken_by_one_each_with_the_default_of_the_table() -> None:
    taken = [(name, parameter) for taker in TAKERS.values() for name, parameter in parameters(taker).items()]
    apart = [(name, parameter) for name, parameter in taken if name not in ("calib", "image")]
    options = of_function(SHARED)
    assert sorted(name for name, _ in apart) == sorted(options)
    assert {name: default(parameter) for name, parameter in apart} == {
        name: option.default for name, option in options.items()
    }


def test_a_target_is_made_of_the_options_that_plan_a_model() -> None:
    options = of_function(PLAN)
    limits = {name.replace("-", "_") for name in LIMITS}
    assert {name: default(parameter) for name, parameter in parameters(make_target).items()} == {
        name: option.default for name, option in options.items() if name not in limits
    }
    assert limits <= options.keys()
    assert all(options[name].default is None for name in limits)
    given = {name: option.default for name, option in options.items()}
    asked = {name for name in given if is_asked_for(given | {name: 2})}
    assert asked == {name for name, option in options.items() if option.text.startswith("Target: ")} | {
        "rank_multiple",
        "min_rank",
    }


def test_what_is_taken_is_gone() -> None:
    given = {"seed": 1, "color": "rgb", "rest": 2}
    assert take(given, ["seed", "samples"]) == {"seed": 1}
    assert take(given, ImageSettings) == {"color": "rgb"}
    assert given == {"rest": 2}


def commands() -> Iterator[tuple[str, Any]]:
    from typer.main import get_command

    made: Any = get_command(app)
    yield from made.commands.items()


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda each: each if isinstance(each, str) else "")
def test_a_command_has_the_options_of_the_table_in_their_order(name: str, command: Any) -> None:
    options = list(of_command(name).values())
    assert [parameter.name for parameter in command.params if parameter.name != "help"] == [
        option.name for option in options
    ]
    for parameter, option in zip(command.params, options, strict=False):
        if not option.positional:
            assert option.flag in parameter.opts
            assert parameter.help == option.help
            assert parameter.rich_help_panel == (option.group or None)


def test_left_out_an_option_is_its_default_in_python() -> None:
    for option in OPTIONS:
        typed: Any = None if option.many else False if option.denies else option.default
        assert option.value(typed) == option.default, option.name


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.words], ids=lambda option: option.name)
def test_words_are_those_that_the_table_of_them_has(option: Option) -> None:
    words = option.known_words()
    assert words
    assert all(isinstance(word, str) for word in words)
    assert option.default is None or option.default in words
    if not option.help.startswith(("Cut", "imagenet")):
        assert all(word in option.help for word in words)


def test_rows_are_whole() -> None:
    for option in OPTIONS:
        assert option.functions or option.commands, option.name
        assert bool(option.functions) == bool(option.type) == bool(option.text), option.name
        assert bool(option.commands) == bool(option.help), option.name
        assert option.group in ("", *GROUPS)
    for name in (*COMMANDS, *FUNCTIONS, SHARED):
        named = [option.name for option in OPTIONS if name in option.functions]
        typed = [option.name for option in OPTIONS if name in option.commands]
        assert len(named) == len(set(named))
        assert len(typed) == len(set(typed))


def test_types_of_the_table_mean_something() -> None:
    for name, function in FUNCTIONS.items():
        known = {**vars(typing), **getattr(inspect.unwrap(function), "__globals__", {})}
        for option in of_function(name).values():
            eval(option.type, known)  # a name that is misspelt is a NameError


def test_the_page_of_options_is_written_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tools/options_page.py writes it"
