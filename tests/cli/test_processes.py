"""The installed command in a process of its own: streams, exit codes, signals, imports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnx_dalr import __version__

COMMAND = (sys.executable, "-c", "from onnx_dalr.cli.main import main; main()")
HEAVY = ("onnxruntime", "scipy", "onnx", "onnx_graphsurgeon", "PIL")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def onnx_dalr(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def test_the_console_script_is_installed_and_tells_its_version() -> None:
    script = Path(sys.executable).with_name("onnx-dalr")
    if not script.exists():
        pytest.skip("not installed beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "onnx-dalr 0.1.0", "")


def test_the_version_comes_with_those_it_stands_on() -> None:
    done = onnx_dalr("--version")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == f"onnx-dalr {__version__}"
    assert [line.split()[0] for line in rest] == [
        "Python",
        "platform",
        "onnx",
        "onnxruntime",
        "runs",
        "numpy",
        "BLAS",
        "scipy",
    ]
    assert all(len(line) <= 80 for line in rest)


def test_a_run_prints_the_report_on_stdout_and_the_rest_on_stderr(demo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    done = onnx_dalr("optimize", demo / "digits-target.onnx", small, "--calib", demo / "digits/calib", "--rank", 8)
    assert done.returncode == 0
    assert done.stdout.startswith("written")
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.startswith("samples: calib: 462 images in 4 classes\n")
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.onnx"]


def test_lines_of_the_report_have_no_trailing_blanks(demo: Path) -> None:
    done = onnx_dalr("inspect", demo / "digits-target.onnx")
    assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []


@posix
@pytest.mark.parametrize("term", ["dumb", "xterm"])
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_report_fits_the_terminal_dumb_or_not(demo: Path, term: str, columns: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [*COMMAND, "inspect", str(demo / "digits-target.onnx")]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**environment, "TERM": term}, **streams) as process:
        os.close(theirs)
        printed = b""
        while part := _read(ours):
            printed += part
    os.close(ours)
    assert process.returncode == 0
    assert (b"\x1b[1m" in printed) == (term == "xterm")
    lines = re.sub("\x1b\\[[0-9;]*m", "", printed.decode()).splitlines()[
        1:
    ]  # after the path, which is as long as it is
    assert max(map(len, lines)) <= columns
    (row,) = [line.split() for line in lines if line.startswith("fc6")]
    assert row[-7:] == ["1.05", "MB", "48.2", "%", "rank", "≤", "255"]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way of saying that the other end is closed
        return b""


def test_a_long_line_is_not_broken_where_there_is_no_terminal(demo: Path, tmp_path: Path) -> None:
    """A line of the gate is one line for grep, however long the path."""
    model = tmp_path / ("long" * 30 + ".onnx")
    model.write_bytes((demo / "digits-target.onnx").read_bytes())
    done = onnx_dalr("check", model, "--max-size", "25MB")
    assert len(done.stdout.splitlines()) == 1


def test_a_user_error_is_two_lines_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    done = onnx_dalr("optimize", tmp_path / "a.onnx", tmp_path / "b.onnx", "--calib", tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: no such model: {tmp_path}/a.onnx",
        "hint: give the path of an .onnx file",
    ]


def test_a_budget_that_is_missed_is_exit_three(demo: Path) -> None:
    done = onnx_dalr("check", demo / "digits-target.onnx", "--max-size", "1kB")
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("arguments", [(), ("optimize",), ("inspect",), ("check",)], ids=" ".join)
def test_help_is_quick_because_nothing_heavy_is_imported(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "from onnx_dalr.cli.main import app\n"
        f"try: app({[*arguments, '--help']!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == ""


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = f"import sys, onnx_dalr; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_a_run_loads_no_more_of_scipy_than_it_needs() -> None:
    """All of its statistics, or of its optimizers, takes as long to load as everything else together."""
    unwanted = ("scipy.stats", "scipy.optimize", "PIL", "rich", "jinja2", "matplotlib", "dask")
    script = f"import sys, onnx_dalr.commands.optimize; print(*[name for name in {unwanted!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""


@posix
@pytest.mark.parametrize("command", ["inspect", "optimize"])
def test_a_reader_that_goes_away_is_no_error(demo: Path, tmp_path: Path, command: str) -> None:
    """`onnx-dalr … | head -1`: the pipe closes early, and a model that was written is a success."""
    model, small = demo / "digits-target.onnx", tmp_path / "small.onnx"
    more = [small, "--calib", demo / "digits/calib", "--rank", "8"] if command == "optimize" else []
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, command, model, *more], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0
    assert command == "inspect" or small.exists()


@posix
def test_a_disk_that_is_full_in_the_middle_of_the_file_leaves_nothing(demo: Path, tmp_path: Path) -> None:
    import resource

    small = tmp_path / "small.onnx"
    done = subprocess.run(
        [*COMMAND, "optimize", demo / "digits-target.onnx", small, "--calib", demo / "digits/calib", "--rank", "8"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
from onnx_dalr.commands import learning
from onnx_dalr.write import produce as outcome
from onnx_dalr.cli.main import main

def slow(*arguments, **options):
    print("now", file=sys.stderr, flush=True)
    time.sleep(60)

step = sys.argv.pop(1)
module = {"learn": learning, "verify": outcome}[step]
assert hasattr(module, step)
setattr(module, step, slow)
main()
"""


@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["learn", "verify"])
def test_a_signal_in_the_middle_is_exit_130_and_leaves_nothing(
    demo: Path, tmp_path: Path, step: str, sent: signal.Signals
) -> None:
    small = tmp_path / "small.onnx"
    arguments = ["optimize", demo / "digits-target.onnx", small, "--calib", demo / "digits/calib", "--rank", "8", "-q"]
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, step, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert running.stderr.readline() == "now\n"
    assert step != "verify" or list(tmp_path.iterdir())
    started = time.perf_counter()
    running.send_signal(sent)
    stdout, stderr = running.communicate(timeout=30)
    assert time.perf_counter() - started < 10
    assert running.returncode == 130
    assert stderr.splitlines() == ["error: interrupted: nothing was written"]
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize(
    ("module", "step", "phase"),
    [
        ("learn.passes", "capture", "capturing"),
        ("choose.scoring", "evaluate", "scoring"),
        ("write.verify", "evaluate", "verifying"),
    ],
)
def test_an_interrupt_leaves_the_terminal_as_it_was(
    demo: Path, tmp_path: Path, module: str, step: str, phase: str
) -> None:
    """In the middle of a phase, while its line is on the screen."""
    import pty

    ours, theirs = pty.openpty()
    slow = SLOW.replace('{"learn": learning, "verify": outcome}[step]', f"__import__('onnx_dalr.{module}').{module}")
    small = tmp_path / "small.onnx"
    arguments = ["optimize", demo / "digits-target.onnx", small, "--calib", demo / "digits/calib", "--max-drop", "90%"]
    running = subprocess.Popen(
        [sys.executable, "-c", slow, step, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "60", "LINES": "20"},
    )
    os.close(theirs)
    shown = b""
    while b"now" not in shown:
        shown += os.read(ours, 1 << 16)
    assert phase in shown.decode().split("\x1b[?25l")[-1]
    running.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while more := os.read(ours, 1 << 16):
            shown += more
    os.close(ours)
    assert running.wait(timeout=30) == 130
    left = shown.decode().replace("\r\n", "\n")
    assert left.count("\x1b[?25l") == left.count("\x1b[?25h")
    *_, last = left.split("\r\x1b[1A\x1b[2K")
    assert re.sub(r"\x1b\[[0-9;]*m", "", last) == "error: interrupted: nothing was written\n"
    assert list(tmp_path.iterdir()) == []
