"""How many threads a run takes: as many as there are cores that it may really use, none of which spins.

Two threads of BLAS on a busy machine spin while they wait for each other: an eigendecomposition takes tens of times the
CPU time that it takes on one. So BLAS works on one thread while we run, and what can go on side by side does so in
threads of our own, which sleep while they wait.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_PROBE, _TIMES, _CLEARLY = 512, 5, 1.2
_ROOT = Path("/")
_MOUNTED = Path("sys/fs/cgroup")


def usable_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use, at least one: by its affinity, and by the CPU quota of its control groups.

    A quota of one and a half cores is two: a thread that has to wait at times beats half a core that nobody uses.

    Args:
        root: Where `proc` and `sys` lie.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on this system
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(-int(-quota // 1) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each control group around this process may take; nothing where there is no limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "-", "")
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        mounts = [controllers, "cpu"] if names else ["", "unified"]
        for mount in dict.fromkeys(mounts):
            top = root / _MOUNTED / mount
            group = top / path.lstrip("/")
            # In a container the path may be that of the host, of which there is nothing here but the top.
            for folder in (group, *group.parents):
                if not folder.is_relative_to(top):
                    break
                quota = _quota_v1(folder) if names else _quota_v2(folder)
                if quota is not None:
                    yield quota


def _quota_v2(folder: Path) -> float | None:
    """Of `cpu.max`: "max 100000", or microseconds of time in a period of as many."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _share(quota, period)


def _quota_v1(folder: Path) -> float | None:
    """Of two files; a quota of -1 is none."""
    return _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float | None:
    try:
        found = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return None
    return found if found > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def on_one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """A function during which BLAS works on one thread; after it, on as many as before."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@contextmanager
def blas_threads(most: int) -> Iterator[None]:
    """BLAS on many threads, where these are faster just now: of large products they are, on a machine that is quiet.

    On a busy one they wait for each other, spinning. Which it is, a few small products tell.

    Args:
        most: Threads to take.
    """
    count = most if most > 1 and _gains(most) else 1
    with threadpool_limits(count, user_api="blas"):
        yield


def _gains(threads: int) -> bool:
    """Whether products are clearly faster on many threads than on one, by the median of a few in turn."""
    square = np.ones((_PROBE, _PROBE), np.float32)
    seconds: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(_TIMES):
        for count, found in seconds.items():
            with threadpool_limits(count, user_api="blas"):
                started = time.perf_counter()
                square @ square
                found.append(time.perf_counter() - started)
    one, many = (statistics.median(found) for found in seconds.values())
    return many * _CLEARLY < one


def side_by_side(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What a function makes of each item, in order: so many at a time, and no more made than are being waited for.

    An item is taken when a thread is free for it, so that what it holds is not in memory before. The first error that
    is met is raised, and what is not begun then is not begun.

    Args:
        function: Called in threads; it has to let go of the interpreter's lock to gain by that, as NumPy does.
        items: What it is called with.
        threads: How many; one is without any.
    """
    if threads < 2:
        yield from map(function, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(threads, "onnx-dalr") as pool:
        begun: list[Future[R]] = [pool.submit(function, item) for item in islice(waiting, threads)]
        try:
            while begun:
                made = begun.pop(0).result()
                begun += [pool.submit(function, item) for item in islice(waiting, 1)]
                yield made
                del made
        finally:
            for one in begun:
                one.cancel()
