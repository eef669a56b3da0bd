"""How long models take beside each other: all in turn, round after round, so that other work hurts all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.base import Batch
from onnx_dalr.session.installed import onnxruntime
from onnx_dalr.session.session import CPU, Runtime, open_session

FEWEST, MOST = 5, 25
"""Rounds."""

_BURST = 2e-4  # seconds that one measurement lasts at least
_NO_MATTER = ("device", "ops_libraries")  # the provider says more, and no layer kind is an operator of a library


@dataclass(frozen=True, eq=False)
class Runnable:
    """A model and what it is run on.

    Attributes:
        model: A path, or a serialized model.
        feed: By the names of its inputs.
    """

    model: Path | bytes
    feed: Batch


class Watch(Protocol):
    """Measures time."""

    def __call__(self, models: Sequence[Runnable], runtime: Runtime, seconds: float) -> NDArray[np.float64]:
        """Seconds of one run, [rounds, models]: about so many of them in all."""
        ...


class _Runner:
    """A model in a session, with its data in place."""

    def __init__(self, one: Runnable, runtime: Runtime) -> None:
        session = open_session(one.model, runtime)
        self._raw, self._feed, self._ends = session.raw, session.fed(one.feed), None
        if all(kind.startswith("tensor(") and kind != "tensor(string)" for _, _, kind, _ in session.signature):
            self._ends = session.raw.io_binding()
            for name, array in self._feed.items():
                self._ends.bind_cpu_input(name, np.ascontiguousarray(array))
            for name in session.outputs:
                self._ends.bind_output(name)
        self.repeats = 1
        self.seconds()
        self.once = min(self.seconds() for _ in range(2))

    def last(self, seconds: float) -> None:
        """Takes so long from now on, as far as whole runs do."""
        self.repeats = max(1, round(seconds / max(self.once, 1e-9)))

    def seconds(self) -> float:
        """Of one run, as the mean of a burst."""
        start = time.perf_counter()
        for _ in range(self.repeats):
            if self._ends is None:  # text, or a sequence: there is no binding it
                self._raw.run(None, self._feed)
            else:
                self._raw.run_with_iobinding(self._ends)
        return (time.perf_counter() - start) / self.repeats


def in_turn(models: Sequence[Runnable], runtime: Runtime, seconds: float) -> NDArray[np.float64]:
    """Runs them all, each round another first: `FEWEST` to `MOST` rounds, in about so many seconds.

    A short run is repeated until it lasts as long as the longest, where there is time for that: on a busy machine a
    long run is always interrupted, and a short one hardly ever.
    """
    runners = [_Runner(one, runtime) for one in models]
    longest = min(max(runner.once for runner in runners), seconds / (FEWEST * len(runners)))
    for runner in runners:
        runner.last(max(longest, _BURST))
    rounds: list[list[float]] = []
    deadline = time.perf_counter() + seconds
    while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() < deadline):
        first = len(rounds)
        found = {at % len(runners): runners[at % len(runners)].seconds() for at in range(first, first + len(runners))}
        rounds.append([found[at] for at in range(len(runners))])
    return np.array(rounds)


def machine(runtime: Runtime, model: bytes) -> dict[str, Any] | None:
    """What times depend on, beside what is run; None where more counts than can be told: on a GPU.

    Args:
        runtime: How models are run.
        model: Any, to see on what.
    """
    ort, provider = onnxruntime(), open_session(model, runtime).provider
    if provider != CPU:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    how = {field.name: str(getattr(runtime, field.name)) for field in fields(runtime) if field.name not in _NO_MATTER}
    return {"onnxruntime": ort.__version__, "provider": provider, "cpu": _cpu(), "cores": cores, **how}


def _cpu() -> str:
    """The CPU by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
