"""Dask, as a run uses it: workers of its own or those of a cluster, shards sent to them, and their sum."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr.cluster.shards import Shard
from onnx_dalr.errors import InputError, first_line

_CONNECTING = 15.0
"""Seconds after which nobody answers."""

_STARTING = 180.0
"""Seconds in which workers of our own have to be there: on a busy machine Python takes long to start."""

_ENDING = 10.0


class ClusterError(InputError):
    """The cluster cannot be used: it is not there, it is lost, or its workers die."""


@dataclass(frozen=True, eq=False)
class Connection:
    """Workers that are there.

    Attributes:
        client: Of Dask.
        called: What messages call them.
        folder: Where files for the workers can lie, which see the same disk; None where that is not known.
        threads: That each of them may use; None for as many as Dask gives it.
    """

    client: Any
    called: str
    folder: Path | None
    threads: int | None

    @property
    def workers(self) -> int:
        """How many there are now."""
        with self.watched():
            return len(self.client.nthreads())

    def on_all(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a function says on every worker.

        Raises:
            ClusterError: It cannot be run there: onnx-dalr is missing, say.
        """
        with self.watched():
            try:
                return list(self.client.run(function, *arguments).values())
            except ImportError as error:
                raise ClusterError(
                    f"the workers of {self.called} cannot work for us: {first_line(error)}",
                    "install onnx-dalr[dask], the version that is here, where they run",
                ) from error

    def total(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        shards: Sequence[Shard],
        told: Callable[[int], None],
    ) -> Any:
        """The sum of what a function says of every shard, added up as a tree, neighbours first.

        A shard whose worker dies is run again on another: what counts is the one result that the sum is made of.

        Args:
            function: (*arguments, shard) → something that adds up.
            arguments: Of all shards.
            shards: At least one.
            told: Of samples done.

        Raises:
            ClusterError: The cluster is lost, or a shard kills every worker that it is given to.
            Exception: What the function raises; of several shards what the first of them raises.
        """
        with self.watched():
            futures = [self.client.submit(function, *arguments, shard, pure=False) for shard in shards]
            total = self._tree(futures)
            try:
                self._await(futures, shards, told)
                return total.result()
            except BaseException:  # an interrupt too
                with suppress(Exception):  # of a cluster that is lost
                    self.client.cancel([*futures, total])
                raise

    def _tree(self, futures: Sequence[Any]) -> Any:
        level = list(futures)
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            odd = level[len(level) // 2 * 2 :]
            level = [self.client.submit(_plus, one, other, pure=False) for one, other in pairs] + odd
        return level[0]

    def _await(self, futures: list[Any], shards: Sequence[Shard], told: Callable[[int], None]) -> None:
        """Waits for every shard, or for the first that fails and those before it, which may fail too."""
        completed: Any = _distributed().as_completed
        numbers = {future.key: number for number, future in enumerate(futures)}
        done: set[int] = set()
        failed: dict[int, BaseException] = {}
        for future in completed(futures, loop=self.client.loop):
            number = numbers[future.key]
            if future.status == "cancelled":
                raise self._lost("it is gone")
            if future.status == "error":
                failed[number] = future.exception()
            done.add(number)
            told(len(shards[number]))
            if failed and done >= set(range(min(failed))):
                raise failed[min(failed)]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What Dask raises in the block becomes one line."""
        from distributed import CancelledError, KilledWorker  # noqa: PLC0415 - heavy: only where there are workers
        from distributed.comm.core import CommClosedError  # noqa: PLC0415

        try:
            yield
        except KilledWorker as error:
            raise ClusterError(
                f"the workers of {self.called} die over the same samples, again and again",
                "do they have memory enough? fewer workers, or a smaller --batch-size, take less",
            ) from error
        except (CommClosedError, CancelledError, TimeoutError, ConnectionError) as error:
            raise self._lost(first_line(error)) from error

    def _lost(self, why: str) -> ClusterError:
        return ClusterError(
            f"the scheduler of {self.called} is lost: {why}",
            "start it again, and the run; with --work-dir it goes on from what was done",
        )


def _plus(one: Any, other: Any) -> Any:
    return one + other


@contextmanager
def of_our_own(count: int) -> Iterator[Connection]:
    """So many worker processes on this machine, while the block runs. They share its cores.

    They are programs of their own, not copies of this one: a script that calls us is not run again by them.

    Raises:
        ClusterError: They do not start.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        distributed = _distributed()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnx-dalr-")))
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=0, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
            )
        )
        log = folder / "workers.log"
        process = _started(cluster.scheduler_address, count, folder, log)
        stack.callback(_ended, process)
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False, timeout=_CONNECTING))
        _await_workers(client, count, process, log)
        # Before the processes are ended: told to go, they leave nothing behind.
        stack.callback(_shut_down, client)
        yield Connection(client, f"{count} {'workers' if count > 1 else 'worker'} here", folder, _threads(count))


@contextmanager
def of_cluster(address: str) -> Iterator[Connection]:
    """The workers of a cluster that is there, while the block runs.

    Raises:
        ClusterError: Nobody answers, or it has no workers.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        distributed = _distributed()
        try:
            client = stack.enter_context(distributed.Client(address, set_as_default=False, timeout=_CONNECTING))
            client.wait_for_workers(1, timeout=_CONNECTING)
        except (OSError, ValueError, TimeoutError, RuntimeError, ImportError) as error:
            raise ClusterError(
                f"--cluster {address} cannot be used: {first_line(error)}",
                "give the address that its scheduler prints, tcp://HOST:8786 say; it needs at least one worker",
            ) from error
        yield Connection(client, f"--cluster {address}", None, None)


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - heavy, and another package
    except ImportError as error:
        raise ClusterError("--workers and --cluster need Dask", "pip install 'onnx-dalr[dask]'") from error
    return distributed


def _threads(count: int) -> int:
    return max(1, cores() // count)


def cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _started(address: str, count: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The program that looks after the workers, and starts those again that die."""
    options = {"nworkers": count, "nthreads": 1, "memory-limit": 0, "local-directory": folder, "death-timeout": 60}
    words = ["--no-dashboard", *(f"--{name}={value}" for name, value in options.items())]
    # They import what a script here imports, a module that reads its images say.
    paths = os.pathsep.join(path or os.curdir for path in sys.path)
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # what a terminal interrupts is the run, which ends them
        )


def _await_workers(client: Any, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _STARTING
    while len(client.nthreads()) < count:
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace").strip().splitlines()
            raise ClusterError(f"--workers {count} do not start: {said[-1] if said else 'nothing is said'}")
        time.sleep(0.05)


def _shut_down(client: Any) -> None:
    with suppress(Exception):  # of a cluster that is lost
        client.shutdown()


def _ended(process: subprocess.Popen[bytes]) -> None:
    for end in (process.poll, process.terminate, process.kill):  # they were told to go: most have
        end()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
            return


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask says nothing meanwhile: what goes wrong we say."""
    _distributed()  # which gives its loggers levels of their own
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
