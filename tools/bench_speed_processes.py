"""A command in a process of its own: what it costs, or why it failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 200  # characters of an error that a table shows
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Linux counts in the peak of a process what the one that starts it holds just then: so a small one does. It also says
# which CPUs may be used, as not every library asks for a number of threads.
_LAUNCHER = """
import json, os, subprocess, sys, time
report, threads, *command = sys.argv[1:]
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads):])
start = time.perf_counter()
process = subprocess.Popen(command)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
process.returncode = os.waitstatus_to_exitcode(status)
with open(report, "w") as file:
    cpu = usage.ru_utime + usage.ru_stime
    json.dump([process.returncode, cpu, wall, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)], file)
"""


@dataclass(frozen=True)
class Used:
    """What a process used, its own children among it.

    Attributes:
        cpu: Seconds that CPUs worked for it, user and system.
        wall: Seconds that passed.
        peak: Most bytes that were resident.
        said: Its standard output.
        error: Why it failed, in one line; empty where it did not.
    """

    cpu: float
    wall: float
    peak: int
    said: str
    error: str = ""


def run(command: Sequence[str], threads: int, limit: float) -> Used:
    """Runs a command to its end, or until `limit` seconds have passed.

    Args:
        command: The program and what it is told.
        threads: Of the libraries for linear algebra; where there are more CPUs, it may use only so many.
        limit: Seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, errors, report = (Path(folder) / name for name in ("out", "errors", "report"))
        with out.open("w") as said, errors.open("w") as complained:
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", _LAUNCHER, str(report), str(threads), *command],
                stdout=said,
                stderr=complained,
                env=environment(threads),
                start_new_session=True,
            )
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Used(0.0, limit, 0, "", f"stopped after {limit:.0f} s")
            except KeyboardInterrupt:  # it is in a session of its own, and hears nothing of it
                os.killpg(process.pid, signal.SIGKILL)
                raise
        said_text, complained_text = (file.read_text(encoding="utf-8", errors="replace") for file in (out, errors))
        if not report.exists():  # there is no such program
            return Used(0.0, 0.0, 0, said_text, why(process.returncode, complained_text))
        code, cpu, wall, peak = json.loads(report.read_text(encoding="utf-8"))
    error = why(code, complained_text or said_text) if code else ""
    return Used(cpu, wall, peak, said_text, error)


def environment(threads: int) -> dict[str, str]:
    """Of a child: as many threads, and the code that this tool is of."""
    here = Path(__file__).resolve().parent
    paths = [str(here.parent), str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    set_here = {"PYTHONPATH": os.pathsep.join(paths), "TERM": "dumb", "PYTHONUTF8": "1"}
    return os.environ | set_here | dict.fromkeys(_VARIABLES, str(threads))


def why(code: int, complained: str) -> str:
    """The last line of what a process complained, or what ended it."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [" ".join(line.split()) for line in complained.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "Error" in line or "error" in line), lines[-1] if lines else "")
    text = f"exit code {code}: {last}" if last else f"exit code {code}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def free_memory() -> int:
    """Bytes that could be had without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return 0


def load() -> float:
    """Processes that ran or waited for a CPU, in the mean of the last minute."""
    return os.getloadavg()[0]
