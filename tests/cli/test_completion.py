"""What the shells complete, by the protocol of their scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shellingham
from typer.testing import CliRunner

from onnx_dalr.cli.completion import mend_bash_words
from onnx_dalr.cli.main import app
from onnx_dalr.request.option import Option
from onnx_dalr.request.table import COMMANDS, OPTIONS, of_command
from tests.cli.conftest import Run
from tests.cli.test_processes import HEAVY
from tests.conftest import REPOSITORY

Asked = Callable[[str], list[str]]


def bash(words: list[str]) -> dict[str, str]:
    """What bash's script puts into the environment when the last of these words is completed."""
    given = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return {"_ONNX_DALR_COMPLETE": "complete_bash", **given}


@pytest.fixture
def asked() -> Asked:
    """What is offered for the last word of a line, as bash divides it."""

    def called(line: str) -> list[str]:
        environment = bash(line.replace("=", " = ").split(" "))
        mend_bash_words(environment)
        result = CliRunner().invoke(app, [], env=environment, prog_name="onnx-dalr")
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split()

    return called


def test_commands_and_their_options_are_completed(asked: Asked) -> None:
    assert sorted(asked("onnx-dalr ")) == sorted(COMMANDS)
    assert asked("onnx-dalr an") == ["analyze"]
    assert asked("onnx-dalr optimize in.onnx --max-") == ["--max-drop", "--max-error"]
    for name in COMMANDS:
        typed = [option.flag for option in of_command(name).values() if not option.positional]
        assert set(typed) <= {*asked(f"onnx-dalr {name} -"), *asked(f"onnx-dalr {name} --")}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.words], ids=lambda option: option.name)
def test_words_are_completed_and_they_are_all_there_are(asked: Asked, option: Option) -> None:
    assert option.offered == option.known_words()
    for name in option.commands:
        assert asked(f"onnx-dalr {name} {option.flag} ") == list(option.offered)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("onnx-dalr optimize --weights i", ["int8", "int4"]),
        ("onnx-dalr optimize --weights=i", ["int8", "int4"]),
        ("onnx-dalr optimize --weights=", ["keep", "float16", "int8", "int4", "auto"]),
        ("onnx-dalr optimize --weights embed*=i", ["int8", "int4"]),
        ("onnx-dalr optimize --weights embed*=", ["keep", "float16", "int8", "int4", "auto"]),
        ("onnx-dalr optimize in.onnx out.onnx --calib x --preset imagenet-", ["imagenet-inception"]),
        ("onnx-dalr analyze --structures out,tu", ["out,tucker"]),
    ],
)
def test_the_last_of_several_words_is_completed(asked: Asked, line: str, offered: list[str]) -> None:
    assert asked(line) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_in_quotes_the_pattern_before_a_word_stays(shell: str) -> None:
    environment = {
        "_ONNX_DALR_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "onnx-dalr optimize --weights 'embed*=int",
    }
    shown = CliRunner().invoke(app, [], env=environment, prog_name="onnx-dalr").stdout
    assert "embed*=int8" in shown
    assert "keep" not in shown


@pytest.mark.parametrize(
    "line",
    ["inspect mod", "optimize in.onnx ", "optimize in.onnx out.onnx --calib ", "check a.onnx ", "optimize --size 1"],
)
def test_where_there_are_no_words_nothing_is_offered_and_the_shell_completes_files(asked: Asked, line: str) -> None:
    assert asked(f"onnx-dalr {line}") == []


def test_words_of_other_shells_and_of_ordinary_runs_are_left_alone() -> None:
    for environment in ({}, bash(["onnx-dalr", "=", "x"]) | {"_ONNX_DALR_COMPLETE": "complete_zsh"}, bash(["="])):
        before = dict(environment)
        mend_bash_words(environment)
        assert environment == before


def test_completing_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from onnx_dalr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(*[name for name in {(*HEAVY, 'numpy')!r} if name in sys.modules], file=sys.stderr)\n"
    )
    environment = os.environ | bash(["onnx-dalr", "optimize", "--method", ""]) | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["dalr", "dalr-2017", "svd-bc", "svd"]
    assert done.stderr.strip() == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_the_script_for_bash_works_in_bash(tmp_path: Path) -> None:
    command = tmp_path / "onnx-dalr"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m onnx_dalr "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    typed = (
        'eval "$(onnx-dalr --show-completion)"\n'
        "COMP_WORDS=(onnx-dalr optimize --weights = in); COMP_CWORD=4\n"
        '_onnx_dalr_completion onnx-dalr; echo "${COMPREPLY[@]}"\n'
        "complete -p onnx-dalr; true\n"
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["int8 int4", "complete -o default -F _onnx_dalr_completion onnx-dalr"]
    assert done.stderr == ""


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_a_shell_that_nobody_knows_is_an_error_with_a_hint(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    def none() -> tuple[str, str]:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", none)
    done = run(option)
    assert (done.code, done.stdout) == (2, "")
    assert done.errors == ["error: which shell this is cannot be told"]
    assert done.hints == ["hint: run it from one of bash, zsh, fish, powershell, pwsh"]
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert run(option).errors == ["error: no completion for tcsh"]


def test_installing_writes_the_script_where_bash_looks(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))
    done = run("--install-completion")
    assert done.code == 0
    (written,) = (tmp_path / ".bash_completions").iterdir()
    assert str(written) in done.stdout
    assert "_ONNX_DALR_COMPLETE=complete_bash" in written.read_text(encoding="utf-8")
