"""The order of rooms and the walls of CONTRIBUTING.md, held up by reading the code."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_dalr

ROOT = Path(onnx_dalr.__file__).resolve().parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
MOST_LINES = 400
ONNX = {"onnx", "onnx_graphsurgeon"}
RUNTIMES = {"onnxruntime", *ONNX}


def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def imports(file: str) -> set[str]:
    """Full names of everything a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(file: str) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def ours(file: str) -> set[str]:
    """What a file imports of onnx_dalr, without that prefix."""
    return {name.removeprefix("onnx_dalr.") for name in imports(file) if name.startswith("onnx_dalr.")}


def room(name: str) -> str:
    """The room a file or module is in; "ground" for the files that lie in none."""
    first = name.replace("/", ".").partition(".")[0]
    return first if first in ORDER else "ground"


def in_rooms(*names: str) -> list[str]:
    return [file for file in FILES if room(file) in names]


def arrows() -> dict[str, set[str]]:
    """File → the files it imports, wherever in it."""
    files = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
    found: dict[str, set[str]] = {}
    for file in FILES:
        names = {name if name in files else name.rpartition(".")[0] for name in ours(file)}
        found[file] = {files[name] for name in names if name in files} - {file}
    return found


# The order of the rooms: the way of the data, read from the bottom.

ORDER = (
    "ground",  # errors, progress, units, files, how results are shown
    "factorize",
    "samples",
    "graph",
    "gradient",
    "session",
    "quality",
    "request",
    "look",
    "learn",
    "cluster",
    "candidate",
    "plan",
    "choose",
    "tune",
    "ahead",
    "results",
    "write",
    "report",
    "commands",
    "cli",
)
FACES = {"__init__.py", "__main__.py"}
"""They hand on what the rooms have, and are above all of them."""


def test_every_room_is_in_the_order_and_every_room_of_the_order_is_there() -> None:
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} == set(ORDER) - {"ground"}


@pytest.mark.parametrize("file", [file for file in FILES if file not in FACES])
def test_a_room_imports_only_what_is_below_it(file: str) -> None:
    above = {name for name in ours(file) if ORDER.index(room(name)) > ORDER.index(room(file))}
    assert above == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    """Taking away what imports nothing that is left takes away everything."""
    left = {file: names - FACES for file, names in arrows().items() if file not in FACES}
    while free := [file for file, names in left.items() if not names & left.keys()]:
        for file in free:
            del left[file]
    assert left == {}


LATE = {
    "cli": 23,  # what a command needs, when it runs: `--help` is there at once
    "cluster": 6,  # Dask
    "commands": 2,  # Pillow
    "ground": 2,  # how files are locked, which is named by the system
    "plan": 2,  # jsonschema
    "quality": 1,  # SciPy's optimizers
    "report": 6,  # Matplotlib and Jinja, where a page or a notebook is made
    "samples": 5,  # Pillow
    "session": 1,  # ONNX Runtime
    "write": 1,  # Pillow
}
"""Imports inside functions, by room: only for what takes long to load, and each says so."""


def test_imports_inside_functions_are_for_start_up_time_and_counted() -> None:
    found: Counter[str] = Counter()
    for file in FILES:
        inner = [
            node
            for function in ast.walk(tree(file))
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        found[room(file)] += len({node.lineno for node in inner}) if file not in FACES else 0
    assert {name: count for name, count in found.items() if count} == LATE


def test_two_files_find_something_by_its_name() -> None:
    """Arrows that are not drawn: a result is shown by the room of views, above it; words that options take lie in
    rooms that are heavy to load."""
    named = [file for file in FILES if "import_module" in (ROOT / file).read_text(encoding="utf-8")]
    assert named == ["__init__.py", "request/option.py", "shown.py"]


# What a room may know.


@pytest.mark.parametrize("file", [*in_rooms("factorize"), "choose/allocate.py"])
def test_factorize_and_allocation_are_arrays_in_arrays_out(file: str) -> None:
    assert not packages(file) & RUNTIMES
    assert {room(name) for name in ours(file)} <= {"factorize"}


WRITERS_OF_LOSSES = {"tune/step.py", "tune/suffix.py", "tune/tensors.py"}
"""They write the loss as nodes, cut students and teachers to where they differ, and store what was learned."""


@pytest.mark.parametrize(
    "file", [file for file in FILES if room(file) not in ("graph", "gradient") and file not in WRITERS_OF_LOSSES]
)
def test_only_the_rooms_of_graphs_import_onnx(file: str) -> None:
    types = {"onnx.ModelProto"}
    assert {name for name in imports(file) if name.split(".")[0] in ONNX} <= types
    assert not any(isinstance(node, ast.Import) and node.names[0].name in ONNX for node in ast.walk(tree(file)))


@pytest.mark.parametrize("file", [file for file in FILES if room(file) != "cli" and file not in FACES])
def test_only_the_command_line_parses_options(file: str) -> None:
    assert "typer" not in packages(file)


@pytest.mark.parametrize("file", in_rooms("samples"))
def test_samples_know_no_onnx(file: str) -> None:
    assert not packages(file) & RUNTIMES


OPERATORS = ("graph/kinds/", "graph/packed/", "gradient/rules/", "graph/roles.py", "graph/first_layer.py")
"""What is about operators: layer kinds, what unpacks weights, rules of gradients, what a tensor is for, what the pixels
meet first."""


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(OPERATORS)])
def test_only_a_layer_kind_asks_what_operator_it_is(file: str) -> None:
    compared = [
        side.value
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant)
    ]
    assert not {"Conv", "Gemm", "MatMul"} & set(filter(lambda value: isinstance(value, str), compared))


@pytest.mark.parametrize("file", [file for file in FILES if room(file) in ("graph", "cli")])
def test_graph_and_cli_do_no_linear_algebra(file: str) -> None:
    assert "scipy" not in packages(file)
    calls = {node.attr for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)}
    assert not calls & {"linalg", "svd", "eigh", "dot", "einsum"}
    assert not any(isinstance(node, ast.MatMult) for node in ast.walk(tree(file)))


@pytest.mark.parametrize("file", [file for file in FILES if room(file) in ("cli",)])
def test_commands_import_what_is_heavy_only_when_they_run(file: str) -> None:
    light = {"ground", "cli"}
    top = {
        node.module.removeprefix("onnx_dalr.")
        for node in tree(file).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("onnx_dalr.")
    }
    assert {name for name in top if room(name) not in light} <= {"request.option", "request.table"}


@pytest.mark.parametrize("file", FILES)
def test_files_can_be_read_in_one_sitting(file: str) -> None:
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes without an underscore, methods of such classes too; what overrides a base is its doc."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("file", FILES)
def test_everything_public_says_what_it_does(file: str) -> None:
    module = tree(file)
    silent = [name for name, node in public(module.body) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert silent == []
    assert ast.get_docstring(module)


@pytest.mark.parametrize("file", FILES)
def test_results_are_frozen(file: str) -> None:
    """Every public dataclass is frozen."""
    loose = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            made = [ast.unparse(decorator) for decorator in node.decorator_list]
            loose += [node.name for text in made if "dataclass" in text and "frozen=True" not in text]
    assert loose == []


@pytest.mark.parametrize("file", FILES)
def test_no_module_keeps_state_that_changes(file: str) -> None:
    walked = list(ast.walk(tree(file)))
    assert not any(isinstance(node, ast.Global) for node in walked)
    cached = [node for node in walked if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    marks = {ast.unparse(mark).split("(")[0] for node in cached for mark in node.decorator_list}
    assert not marks & {"cache", "lru_cache", "functools.cache", "functools.lru_cache"}


def test_every_public_name_can_be_imported() -> None:
    assert sorted(onnx_dalr.__all__) == list(onnx_dalr.__all__)
    for name in onnx_dalr.__all__:
        assert getattr(onnx_dalr, name) is not None, name
    assert dir(onnx_dalr) == sorted(onnx_dalr.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'compress'"):
        _ = onnx_dalr.compress


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()


@pytest.mark.parametrize(
    ("error", "code"),
    [("InputError", 2), ("TargetError", 3), ("VerificationError", 4), ("NothingToGainError", 5)],
)
def test_every_error_has_the_exit_code_of_the_contract(error: str, code: int) -> None:
    kind = getattr(onnx_dalr, error)
    assert issubclass(kind, onnx_dalr.DalrError)
    assert kind.exit_code == code
    assert str(kind("what is wrong", "what to do")) == "what is wrong (what to do)"
