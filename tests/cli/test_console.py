"""What a console cannot show, and one that is gone: plain characters, no crash, and no lost result."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.text import Text

import onnx_dalr
from onnx_dalr.cli import common
from onnx_dalr.cli.console import PLAIN, json_for, lasting_streams
from onnx_dalr.cli.main import app
from tests.cli.test_processes import COMMAND

Spoken = tuple[int, str, str]
ENCODINGS = ("ascii", "cp1252", "cp437", "cp932")
FOREIGN = "模型é-модель→∂😀"
posix = pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full of Linux")


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spoken]:
    """Runs the command in this process on streams of an encoding."""

    def spoken(encoding: str, *arguments: object) -> Spoken:
        buffers = io.BytesIO(), io.BytesIO()
        for name, buffer in zip(("stdout", "stderr"), buffers, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding))
        with pytest.raises(SystemExit) as ended, lasting_streams():
            app([str(argument) for argument in arguments])
        stdout, stderr = (buffer.getvalue().decode(encoding) for buffer in buffers)
        return int(ended.value.code or 0), stdout, stderr

    return spoken


@pytest.fixture
def foreign(bench: Path) -> Path:
    """A model whose name is in many scripts."""
    return shutil.copy(bench / "model.onnx", bench / f"{FOREIGN}.onnx")


def texts(tree: ast.Module) -> Iterator[str]:
    """Constants of a module that people may get to read: not its docstrings."""
    silent = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_every_character_of_our_own_messages_has_a_plain_form() -> None:
    root = Path(onnx_dalr.__file__).parent
    used = {char for file in root.rglob("*.py") for text in texts(ast.parse(file.read_text("utf-8"))) for char in text}
    used |= {char for file in root.glob("cli/*.py") for char in file.read_text("utf-8")}
    assert {char for char in used if not char.isascii() and not "\ud800" <= char <= "\udfff"} <= PLAIN.keys()
    assert all(plain.isascii() and plain for plain in PLAIN.values())


# What an encoding lacks.


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_run_ends_well_on_a_console_that_shows_no_arrow(
    bench: Path, foreign: Path, speak: Callable[..., Spoken], encoding: str
) -> None:
    code, stdout, stderr = speak(
        encoding, "optimize", foreign, f"out/{FOREIGN}.onnx", "--calib", "calib.npz", "--rank", 4, "--device", "cpu"
    )
    assert code == 0
    assert (bench / f"out/{FOREIGN}.onnx").exists()
    assert "running on CPU" in stderr
    assert "\\u2192" not in stdout + stderr  # what has a plain form is not written out
    if encoding == "ascii":
        assert " -> " in stdout
        assert "48x48" in stdout
        assert r"\u6a21\u578b\xe9-\u043c" in stdout
        assert r"->\u2202\U0001f600.onnx" in stdout


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_and_hints_name_the_file_whatever_its_script(
    bench: Path, speak: Callable[..., Spoken], encoding: str
) -> None:
    del bench
    code, stdout, stderr = speak(encoding, "inspect", f"{FOREIGN}.onnx")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 2
    assert stderr.startswith("error: no such model: ")
    assert r"\U0001f600.onnx" in stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", ["optimize", "inspect", "analyze", "apply", "compare", "check", None], ids=str)
def test_help_is_readable_everywhere(speak: Callable[..., Spoken], encoding: str, command: str | None) -> None:
    code, stdout, _ = speak(encoding, *filter(None, [command]), "--help")
    assert code == 0
    assert "Usage" in stdout
    assert "\\u" not in stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("command", ["inspect", "compare", "check", "optimize", "analyze"])
def test_json_on_standard_output_says_the_same_in_every_encoding(
    bench: Path, foreign: Path, speak: Callable[..., Spoken], encoding: str, command: str
) -> None:
    del bench
    data = ("--data", "calib.npz", "--device", "cpu", "-q")
    calib = ("--calib", "calib.npz", "--rank", 4, "--device", "cpu", "-q")
    more = {
        "inspect": (foreign, "--json", "-"),
        "compare": (foreign, foreign, *data, "--json", "-"),
        "check": (foreign, "--max-size", "1MB", "--json", "-"),
        "optimize": (foreign, "out/small.onnx", *calib, "--json", "-"),
        "analyze": (foreign, *calib, "-o", "-"),
    }
    code, stdout, _ = speak(encoding, command, *more[command])
    assert code == 0
    assert isinstance(json.loads(stdout), dict)
    assert encoding.startswith("utf-8") or stdout.isascii()
    if command == "inspect":
        assert Path(json.loads(stdout)["path"]).name == f"{FOREIGN}.onnx"


def test_json_for_a_stream_that_is_not_utf_8_is_escaped_and_else_left_alone() -> None:
    text = '{"name": "é→😀"}'
    assert json_for(io.TextIOWrapper(io.BytesIO(), encoding="utf8"), text) == text
    assert json_for(io.StringIO(), text) == text
    escaped = json_for(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), text)
    assert escaped == r'{"name": "\u00e9\u2192\ud83d\ude00"}'
    assert json.loads(escaped) == json.loads(text)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_no_text_is_shown_reported_and_refused_where_onnxruntime_would_need_it(
    bench: Path, speak: Callable[..., Spoken]
) -> None:
    odd = bench / os.fsdecode(b"odd\xff.onnx")
    shutil.copy("model.onnx", odd)
    code, stdout, _ = speak("utf-8", "inspect", odd, "--json", "report.json")
    assert code == 0
    assert r"odd\udcff.onnx" in stdout
    assert json.loads(Path("report.json").read_bytes())["path"] == str(odd)
    for names in ((odd, "out/small.onnx"), ("model.onnx", odd)):
        code, _, stderr = speak("utf-8", "optimize", *names, "--calib", "calib.npz", "--rank", 4, "--force")
        assert code == 2
        assert r"odd\udcff.onnx: its name is not UTF-8" in stderr
    assert list(Path("out").iterdir()) == []


def test_what_the_user_asked_python_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONIOENCODING=ascii:replace."""
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii", errors="replace"))
    with lasting_streams():
        print("→")
    assert buffer.getvalue() == b"?\n"


def test_the_streams_are_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with lasting_streams():
        print("inside")
    assert (sys.stdout, sys.stderr) == before
    print("outside")
    assert capsys.readouterr().out == "inside\noutside\n"


# A console that is gone.


def command(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*COMMAND, *map(str, arguments)], text=True, timeout=120, check=False, **{"stderr": subprocess.PIPE, **more}
    )


@pytest.fixture
def gone() -> Iterator[int]:
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


RUN = ("model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 4, "--device", "cpu")


@posix
@pytest.mark.parametrize("more", [(), ("--json", "-"), ("-q",)], ids=str)
def test_a_model_is_written_though_nobody_reads_the_report_or_the_progress(
    bench: Path, gone: int, more: tuple[str, ...]
) -> None:
    done = command("optimize", *RUN, *more, stdout=gone, stderr=gone)
    assert done.returncode == 0
    assert [entry.name for entry in (bench / "out").iterdir()] == ["small.onnx"]


@posix
def test_nobody_to_read_changes_no_exit_code(bench: Path, gone: int) -> None:
    del bench
    assert command("check", "model.onnx", "--max-size", "1kB", stdout=gone).returncode == 3
    assert command("inspect", "nothing.onnx", stderr=gone).returncode == 2
    assert command("optimize", "--help", stdout=gone).returncode == 0
    assert command("analyze", "model.onnx", *RUN[2:], "-o", "-", stdout=gone).returncode == 0


@posix
def test_streams_that_were_closed_from_the_start(bench: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&-', "sh", *COMMAND, "optimize", *map(str, RUN)], timeout=120, check=False
    )
    assert done.returncode == 0
    assert (bench / "out/small.onnx").exists()


@full
def test_a_report_that_cannot_be_printed_leaves_the_model_and_says_so(bench: Path) -> None:
    with Path("/dev/full").open("w") as disk:
        done = command("optimize", *RUN, "-q", stdout=disk)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "error: the report is not shown: cannot write to standard output: No space left on device",
        "hint: out/small.onnx is written all the same",
    ]
    assert (bench / "out/small.onnx").exists()


@full
@pytest.mark.parametrize(
    "arguments",
    [("inspect", "model.onnx"), ("inspect", "model.onnx", "--json", "-"), ("optimize", *RUN, "--dry-run"), ("--help",)],
    ids=lambda arguments: " ".join(map(str, arguments[::3])),
)
def test_where_the_report_is_all_there_is_it_is_an_error(bench: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as disk:
        done = command(*arguments, stdout=disk)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: cannot write to standard output: No space left on device"
    assert "Traceback" not in done.stderr
    assert list((bench / "out").iterdir()) == []


@pytest.mark.parametrize("trouble", [RuntimeError("a view broke"), KeyboardInterrupt()], ids=repr)
def test_no_report_of_a_written_file_is_a_failure(
    trouble: BaseException, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with common.reporting_on(tmp_path / "small.onnx"):
        raise trouble
    assert "small.onnx is written all the same" in capsys.readouterr().err
    with pytest.raises(type(trouble)), common.reporting_on(None, Path("-")):
        raise trouble


# Widths and terminals.


@pytest.mark.parametrize("width", ["0", "1", "3", "12"])
def test_no_width_is_too_narrow(bench: Path, width: str) -> None:
    del bench
    environment = {**os.environ, "COLUMNS": width}
    for arguments in (("optimize", "--help"), ("inspect", "model.onnx"), ("nonsense",)):
        done = command(*arguments, stdout=subprocess.PIPE, env=environment)
        assert done.returncode == (2 if arguments == ("nonsense",) else 0)
        assert "Traceback" not in done.stderr
        if width == "0":
            assert (done.stdout + done.stderr).strip()


@posix
@pytest.mark.parametrize(
    ("environment", "coloured", "controls"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
    ids=str,
)
def test_a_terminal_without_colours_gets_none(
    bench: Path, environment: dict[str, str], coloured: bool, controls: bool
) -> None:
    import pty

    del bench
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    running = subprocess.Popen(
        [*COMMAND, "optimize", *map(str, RUN)],
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert running.wait(timeout=60) == 0
    assert (b"\x1b[3" in shown) is coloured
    assert (b"\x1b" in shown) is controls
    assert b"\r\n\r\n\r\n" not in shown
    assert b"small.onnx" in shown


def test_lines_on_standard_output_are_broken_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    common.show_line(Text("long " * 60))
    assert capsys.readouterr().out.count("\n") == 1
