"""What `import onnx_dalr` gives says what it takes, what comes out and what can go wrong; its types come with it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_dalr
from onnx_dalr.results.result import LayerResult
from tests.conftest import REPOSITORY

FUNCTIONS = [name for name in onnx_dalr.__all__ if inspect.isfunction(getattr(onnx_dalr, name))]
CLASSES = [name for name in onnx_dalr.__all__ if inspect.isclass(getattr(onnx_dalr, name))]


def section(doc: str, name: str) -> dict[str, str]:
    """The entries of a section of a docstring; of one that is a sentence, the sentence under ""."""
    found = re.search(rf"^{name}:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    entries: dict[str, str] = {}
    last = ""
    for line in found[1].splitlines() if found else ():
        entry = re.match(r"    (\w+): +(\S.*)", line)
        if entry:
            last = entry[1]
        entries[last] = f"{entries.get(last, '')} {entry[2] if entry else line.strip()}".strip()
    return entries


def doc_of(thing: Any) -> str:
    doc = inspect.getdoc(thing)
    assert doc, f"{thing} has no docstring"
    return doc


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    for name, made in vars(cls).items():
        if not name.startswith("_") and not isinstance(made, property):
            function = made.__func__ if isinstance(made, staticmethod | classmethod) else made
            if inspect.isfunction(function):
                yield f"{cls.__name__}.{name}", function


METHODS = dict(method for name in CLASSES for method in methods(getattr(onnx_dalr, name)))
FOR_USERS = {"Analysis.plan", "Plan.apply", "Plan.load", "Plan.save", "StatisticsSet.load", "StatisticsSet.save"}


def test_functions_and_classes_are_all_there_is_beside_the_version() -> None:
    assert set(FUNCTIONS) == {*onnx_dalr.FUNCTIONS, "tune"}  # which the command line has within `optimize`
    assert set(onnx_dalr.__all__) == {*FUNCTIONS, *CLASSES, "__version__"}
    assert set(METHODS) >= FOR_USERS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_documents_every_argument_its_result_and_its_errors(name: str) -> None:
    function = getattr(onnx_dalr, name)
    doc = doc_of(function)
    assert list(section(doc, "Args")) == parameters(function)
    assert section(doc, "Returns")
    raised = section(doc, "Raises")
    assert raised
    assert all(issubclass(getattr(onnx_dalr, error), onnx_dalr.DalrError) for error in raised)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_takes_something_says_what(name: str) -> None:
    function = METHODS[name]
    doc, taken = doc_of(function), parameters(function)
    documented = section(doc, "Args")
    if name in FOR_USERS or documented:
        assert list(documented) == taken
        assert section(doc, "Raises") or name not in FOR_USERS
        returns = inspect.signature(function).return_annotation not in ("None", None)
        assert bool(section(doc, "Returns")) == returns


def dataclasses_in(hint: Any, seen: set[type]) -> None:
    """The dataclasses that a user can reach from a type by its fields."""
    for inside in typing.get_args(hint):
        dataclasses_in(inside, seen)
    if inspect.isclass(hint) and dataclasses.is_dataclass(hint) and hint not in seen:
        seen.add(hint)
        for inside in typing.get_type_hints(hint).values():
            dataclasses_in(inside, seen)


def public_dataclasses() -> list[type]:
    seen: set[type] = set()
    for name in CLASSES:
        dataclasses_in(getattr(onnx_dalr, name), seen)
    return sorted(seen, key=lambda made: (made.__module__, made.__name__))


def test_dataclasses_are_found_by_the_fields_of_results() -> None:
    assert {onnx_dalr.Result, onnx_dalr.Plan, LayerResult} <= set(public_dataclasses())


@pytest.mark.parametrize("made", public_dataclasses(), ids=lambda made: made.__name__)
def test_a_public_dataclass_documents_its_attributes(made: type) -> None:
    fields = [field.name for field in dataclasses.fields(made)]  # type: ignore[arg-type]
    documented = section(doc_of(made), "Attributes")
    assert sorted(documented) == sorted(fields)
    assert all(documented.values())


@pytest.mark.parametrize("name", ["Analysis", "DalrError"])
def test_other_classes_document_theirs_too(name: str) -> None:
    assert section(doc_of(getattr(onnx_dalr, name)), "Attributes")


def test_the_wheel_says_that_it_is_typed_and_holds_the_schema() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed: pip install hatchling")
    packed = {
        Path(file.distribution_path).as_posix() for file in wheel.WheelBuilder(str(REPOSITORY)).recurse_included_files()
    }
    schemas = {"onnx_dalr/plan/plan.schema.json", "onnx_dalr/request/budgets/budgets.schema.json"}
    assert {"onnx_dalr/py.typed", "onnx_dalr/request/wording.py", *schemas} <= packed
