"""In Python, messages name options as Python does; on the command line they stay what they are."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import onnx_dalr
from onnx_dalr import DalrError, InputError, Plan, Result, StatisticsSet, TargetError
from onnx_dalr.cli.main import app
from onnx_dalr.commands import optimize as pipeline
from onnx_dalr.plan.choice import Choice
from onnx_dalr.progress import Silent
from onnx_dalr.request.wording import in_python, told_in_python
from onnx_dalr.session.refusals import cannot_load
from tests.cli import tiny

PACKAGE = Path(onnx_dalr.__file__).parent
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])")
NO_OPTION_OF_OURS = {"force-reinstall", "no-dashboard"}  # pip's, Dask's
OF_THE_COMMAND_LINE = {
    "help",
    "version",
    "quiet",
    "top",
    "format",
    "update",
    "margin",
    "install-completion",
    "show-completion",
}


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        (
            "allow (--max-drop 1%), or leave --confidence out",
            'allow (max_drop="1%"), or leave confidence out',
        ),
        ("give --calib PATH, or --stats FILE", "give calib=…, or stats=…"),
        ("--no-metric means nothing to --method svd", 'metric=False means nothing to method="svd"'),
        ("give another name, or --force to replace it", "give another name, or force=True to replace it"),
        ("write --rank 64, or --rank 'GLOB=64' or 'GLOB=keep'", "write rank=64, or rank='GLOB=64' or 'GLOB=keep'"),
        ("excluded by --exclude 'h?0?*'", "excluded by exclude='h?0?*'"),
        ("use --method dalr-2017, or --method dalr.", 'use method="dalr-2017", or method="dalr".'),
        ("made for --method svd+dalr", "made for method svd+dalr"),
        ("choose --color rgb or bgr", 'choose color="rgb" or "bgr"'),
        ("--size 1,234,567 cannot be reached", "size=1_234_567 cannot be reached"),
        ("--max-drop 2.5%; --size 12MB; --params 6M", 'max_drop="2.5%"; size="12MB"; params="6M"'),
        ("write 1e-3 or --ridge abs:1000", 'write 1e-3 or ridge="abs:1000"'),
        ("(int8: --scale 1 --mean 128)", "(int8: scale=1, mean=128)"),
        ("--resize 28x28 --color gray", 'resize=(28, 28), color="gray"'),
        ("give --resize HxW with H·W = 784", "give resize=(H, W) with H·W = 784"),
        ("--resize (0, 5) is not a size", "resize=(0, 5) is not a size"),
        ("--crop center cuts it out", 'crop="center" cuts it out'),
        ("write --score file.py:function", 'write score="file.py:function"'),
        ("add --baseline base.onnx", 'add baseline="base.onnx"'),
        ("output 'y' loses most, --output NAME scores others", "output 'y' loses most, outputs=… scores others"),
        ("`onnx-dalr inspect` lists the layers", "`onnx_dalr.inspect` lists the layers"),
        ("--holdout nan is not a fraction", "holdout=nan is not a fraction"),
        ("--samples -3 leaves no samples", "samples=-3 leaves no samples"),
    ],
)
def test_an_option_becomes_a_keyword_argument(shell: str, python: str) -> None:
    assert in_python(shell) == python
    assert in_python(python) == python


@pytest.mark.parametrize(
    "text",
    [
        "no such file: /data/--rank/in.onnx",
        "no such file: data--rank.onnx",
        "the model has no input 'x --rank 3'",
        """layer "it's --exclude'd" is there twice""",
        "pip install --force-reinstall onnxruntime-gpu",
        "newer than this onnx-dalr reads",
        "--rank=3 is how another program writes it",
        "range -1 -- 1",
    ],
)
def test_nothing_else_is_translated(text: str) -> None:
    assert in_python(text) == text


def test_what_the_caller_gave_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a --rank 3 model.onnx"
    with pytest.raises(InputError) as caught:
        onnx_dalr.inspect(path)
    assert str(path) in caught.value.message
    with pytest.raises(InputError) as caught:
        onnx_dalr.optimize(tiny.mlp(), calib=tmp_path / "my --calib files", rank=4)
    assert str(tmp_path / "my --calib files") in caught.value.message


def sentences() -> Iterator[tuple[str, str]]:
    """(file, text) of every string of the package that is no docstring."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                yield file.relative_to(PACKAGE).as_posix(), node.value


def test_every_option_that_a_message_names_is_known() -> None:
    unknown = set()
    for file, text in sentences():
        for option in OPTION.findall(text):
            if option not in NO_OPTION_OF_OURS | OF_THE_COMMAND_LINE and f"--{option}" in in_python(f"--{option}"):
                unknown.add((file, option))
    assert unknown == set()


def test_every_option_of_the_command_line_has_its_name_in_python() -> None:
    from typer.main import get_command

    commands: Any = get_command(app)
    options = {
        name.removeprefix("--")
        for command in commands.commands.values()
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--")
    }
    assert {"max-drop", "no-metric", "save-stats", "max-growth", "data"} <= options
    assert {option for option in options if in_python(f"--{option}").startswith("--")} <= OF_THE_COMMAND_LINE


def test_commands_that_a_shell_runs_have_their_own_words_in_python(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Plan.load(tmp_path / "none.json")
    assert caught.value.hint == 'make one: onnx_dalr.analyze(model, calib=…).plan().save("plan.json")'
    reason = "Fatal error: ai.onnx.contrib:BertTokenizer(-1) is not a registered function/op"
    hint = cannot_load("m.onnx", reason, ()).hint
    assert in_python(hint).endswith(": ops_library=onnxruntime_extensions.get_library_path()")


@contextmanager
def complaint() -> Iterator[list[str]]:
    """Message and hint of the error in the block."""
    said: list[str] = []
    with pytest.raises(DalrError) as caught:
        yield said
    said += [caught.value.message, caught.value.hint]
    assert str(caught.value) == f"{said[0]} ({said[1]})"
    assert "--" not in str(caught.value)


def test_errors_of_functions_and_methods_speak_python(tmp_path: Path) -> None:
    model, samples = tiny.mlp(), tiny.rows()
    with complaint() as said:
        onnx_dalr.optimize(model, calib=samples, size="40%", params="40%")
    assert said == ["size and params are different targets", "give one of them"]
    with complaint() as said:
        onnx_dalr.analyze(model)
    assert said[1] == "give calib=…, or stats=…"
    with complaint() as said:
        onnx_dalr.apply(model, Plan("svd", (Choice("first", 3, ""),)), method="svd-bc", calib=samples)
    assert said[1] == "leave method out"
    with complaint() as said:
        onnx_dalr.check(tmp_path / "a.onnx")
    assert said[1].startswith("give a model and max_size, max_params or baseline, ")
    with complaint() as said:
        onnx_dalr.compare(model, model, data=samples, task="guess")
    assert said[0] == "task='guess' is not known"
    with complaint() as said:
        StatisticsSet.load(tmp_path / "none.npz")
    assert said[1] == "stats takes what save_stats wrote"
    with onnx_dalr.analyze(model, calib=samples, method="svd") as analysis:
        with complaint() as said:
            analysis.plan(rank="fc9=3")
        assert said[0] == "rank='fc9' matches no layer"
        with complaint() as said:
            analysis.plan(rank=3).apply(model, stats=tmp_path / "none.npz")
        assert said[1] == "stats takes what save_stats wrote"


def test_an_error_keeps_its_class_and_what_caused_it() -> None:
    with pytest.raises(TargetError) as caught:
        onnx_dalr.optimize(tiny.mlp(), calib=tiny.rows(), params="1%")
    assert re.fullmatch(r"the closest is params=\d+; .*; best_effort=True writes it", caught.value.hint)
    with pytest.raises(InputError) as missing:
        Plan.load("none.json")
    assert isinstance(missing.value.__cause__, FileNotFoundError)


def test_called_where_the_command_line_calls_them_they_speak_its_language() -> None:
    with pytest.raises(InputError) as caught:
        pipeline.optimize(tiny.mlp())
    assert caught.value.hint == "give --calib PATH, or --stats FILE"
    told = pipeline.optimize(tiny.mlp(), calib=tiny.rows(), rank="first=8", exclude="third")
    assert {entry.reason for entry in told.skipped} == {"excluded by --exclude 'third'"}


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_results_the_files_beside_them_and_progress_speak_python(tmp_path: Path) -> None:
    heard = Heard()
    result = onnx_dalr.optimize(
        tiny.mlp(),
        tmp_path / "out.onnx",
        calib=tiny.rows(),
        rank="first=8",
        exclude="third",
        json=tmp_path / "report.json",
        save_plan=tmp_path / "plan.json",
        progress=heard,
    )
    assert {entry.reason for entry in result.skipped} == {"excluded by exclude='third'"}
    assert [layer.reason for layer in result.layers] == ["as asked", "no rank for it"]
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == result.to_json()
    assert [choice.reason for choice in Plan.load(tmp_path / "plan.json").choices] == ["as asked", "no rank for it"]
    shown = str(result), result.to_text(verbose=True), result.to_json(), result._repr_html_(), *heard.lines
    assert [text for text in shown if OPTION.search(text)] == []
    assert "; to_text(verbose=True) shows the " in str(result)
    assert any(line.startswith("samples: ") for line in heard.lines)


def test_budgets_and_what_an_analysis_leaves_out_speak_python(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(tiny.mlp().SerializeToString())
    result = onnx_dalr.check(tmp_path / "m.onnx", max_size="1MB", max_params="1k")
    assert [line.allowed for line in result.lines] == ['max_size="1MB"', 'max_params="1k"']
    assert [str(line.where) for line in result.lines] == ["max_size", "max_params"]
    with onnx_dalr.analyze(tiny.mlp(), calib=tiny.rows(), include="first", method="svd") as analysis:
        assert {entry.reason for entry in analysis.skipped} == {"not among include"}


def test_a_sentence_may_be_missing() -> None:
    found = onnx_dalr.inspect(tiny.mlp())
    assert None in {tensor.reason for tensor in found.tensors}


def test_an_inspection_says_how_to_see_more_of_it() -> None:
    found = onnx_dalr.inspect(tiny.mlp())
    more = [line for line in found.to_text(top=1).splitlines() if " shows them" in line]
    assert len(more) == 1
    assert more[0].endswith(": to_text(top=None) shows them")
    assert " shows them" not in found.to_text(top=None)
    assert found.to_text() == str(found)


def test_a_result_that_says_nothing_of_options_is_the_same_object() -> None:
    plan = Plan("svd", (Choice("--rank", 3, "as asked"),))
    assert told_in_python(plan) is plan
    assert told_in_python(Plan("svd", (Choice("a", 3, "no --rank"),))).choices[0] == Choice("a", 3, "no rank")


@pytest.mark.parametrize("name", onnx_dalr.FUNCTIONS)
def test_the_functions_stay_what_they_are(name: str) -> None:
    function: Callable[..., Any] = getattr(onnx_dalr, name)
    assert function is getattr(onnx_dalr, name)
    assert (function.__name__, function.__module__) == (name, "onnx_dalr")
    assert "Raises:" in (function.__doc__ or "")
    assert pickle.loads(pickle.dumps(function)) is function


def test_help_shows_the_options_and_their_defaults() -> None:
    import inspect

    assert inspect.signature(onnx_dalr.optimize) == inspect.signature(pipeline.optimize)
    assert inspect.signature(onnx_dalr.optimize).return_annotation == Result.__name__
