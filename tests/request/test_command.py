"""A call as it can be made again: on the command line, and in Python."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import onnx_dalr
from onnx_dalr.cli.main import app
from onnx_dalr.cli.parameters import as_python
from onnx_dalr.request.command import as_called, as_typed, said_as
from onnx_dalr.request.option import REQUIRED
from onnx_dalr.request.table import of_command
from tests.cli import tiny


def defaults(command: str, **given: Any) -> dict[str, Any]:
    return {name: None if one.default is REQUIRED else one.default for name, one in of_command(command).items()} | given


def test_what_is_the_default_is_not_said() -> None:
    given = defaults("optimize", model=Path("in.onnx"), output=Path("out.onnx"), calib=Path("images"))
    assert as_typed("optimize", given) == "onnx-dalr optimize in.onnx out.onnx --calib images"


def test_names_with_spaces_are_quoted_and_options_given_often_are_said_often() -> None:
    given = defaults(
        "optimize", model=Path("my model.onnx"), output=Path("o.onnx"), rank=["a*=8", "b=keep"], metric=False
    )
    words = shlex.split(as_typed("optimize", given))
    assert words[:4] == ["onnx-dalr", "optimize", "my model.onnx", "o.onnx"]
    assert words[words.index("--rank") :][:4] == ["--rank", "a*=8", "--rank", "b=keep"]
    assert "--no-metric" in words


@pytest.mark.parametrize(
    "line",
    [
        "optimize in.onnx out.onnx --calib images --size 40% --mean .485,.456 --std 1/255 --resize 224x192 --force",
        "optimize in.onnx out.onnx --calib s.npz --max-drop 1% --crop 0.875 --weights auto --no-metric --seed 3",
        "optimize in.onnx out.onnx --calib s.npz --rank 8 --exclude a --exclude b --report r.html --samples 10",
        "compare a.onnx b.onnx --data images --worst 3 --no-drift --batch-size 4",
        "check a.onnx b.onnx --max-size 25MB --baseline c.onnx --max-growth 2%",
        "analyze in.onnx --calib images --params 6M -o plan.json",
    ],
)
def test_what_is_said_is_read_as_the_same_again(line: str) -> None:
    """Typed again, the words of a command give the functions what the first words gave them."""
    command, *words = shlex.split(line)
    first = parsed(command, words)
    said = shlex.split(as_typed(command, first))
    assert said[:2] == ["onnx-dalr", command]
    assert parsed(command, said[2:]) == first


def parsed(command: str, words: list[str]) -> dict[str, Any]:
    """What a function of Python is given for words of the command line."""
    commands: Any = get_command(app)
    given = commands.commands[command].make_context(command, words).params
    return as_python(command, {name: value for name, value in given.items() if name in of_command(command)})


def test_python_names_what_it_was_given_and_not_arrays() -> None:
    given = {
        "model": Path("in.onnx"),
        "output": None,
        "calib": np.zeros(3),
        "max_drop": 0.01,
        "rank": ["a=8"],
        "seed": 0,
    }
    assert as_called("optimize", given) == "onnx_dalr.optimize('in.onnx', calib=…, max_drop=0.01, rank=['a=8'])"


def test_results_say_which_call_made_them(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(tiny.mlp().SerializeToString())
    made = onnx_dalr.optimize(
        tmp_path / "in.onnx", calib=tiny.rows(), rank="first=8", save_plan=tmp_path / "plan.json", tune="off"
    )
    path = str(tmp_path / "in.onnx")
    assert made.command == (
        f"onnx_dalr.optimize({path!r}, calib=…, rank='first=8', tune='off', save_plan={str(tmp_path / 'plan.json')!r})"
    )
    applied = onnx_dalr.apply(tmp_path / "in.onnx", tmp_path / "plan.json", calib=tiny.rows())
    assert applied.command.startswith(f"onnx_dalr.apply({path!r}, {str(tmp_path / 'plan.json')!r}, calib=…")
    assert {"onnx-dalr", "numpy", "onnxruntime"} <= applied.versions.keys()
    with pytest.raises(TypeError, match="colour"):
        onnx_dalr.apply(tmp_path / "in.onnx", tmp_path / "plan.json", calib=tiny.rows(), colour="rgb")  # type: ignore[call-arg]


def test_a_call_without_a_listener_in_python_is_a_line_of_a_shell() -> None:
    assert said_as("compare", {"a": Path("a.onnx"), "b": Path("b.onnx"), "data": Path("d")}, None) == (
        "onnx-dalr compare a.onnx b.onnx --data d"
    )
