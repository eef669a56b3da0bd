"""How many threads a run takes: the cores it may really use, and none that spins."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from numpy.typing import NDArray

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.request.options import make_options
from onnx_dalr.session import session as room
from onnx_dalr.session.session import Runtime, open_session
from onnx_dalr.session.threads import on_one_blas_thread, side_by_side, usable_cores
from tests.cli import tiny

# Cores


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which eight cores are allowed."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def grouped(root: Path, lines: str, **files: str) -> Path:
    """A system whose process is in these control groups; files by their path, with _ for / and three for a dot."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name.replace("___", ".").replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.usefixtures("eight")
def test_all_that_are_allowed_where_no_control_group_says_less(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8
    assert usable_cores(grouped(tmp_path, "0::/\n", cpu___max="max 100000\n")) == 8


def test_affinity_counts_and_not_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_where_the_system_has_no_affinity_the_machine_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("150000", 2), ("10000", 1), ("9900000", 8)])
def test_a_quota_of_version_two(tmp_path: Path, quota: str, cores: int) -> None:
    assert usable_cores(grouped(tmp_path, "0::/job\n", job__cpu___max=f"{quota} 100000\n")) == cores


@pytest.mark.usefixtures("eight")
def test_the_smallest_quota_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    files = {"a__b__cpu___max": "max 100000", "a__cpu___max": "300000 100000", "cpu___max": "400000 100000"}
    assert usable_cores(grouped(tmp_path, "0::/a/b\n", **files)) == 3


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", 8)])
def test_a_quota_of_version_one(tmp_path: Path, controllers: str, quota: str, cores: int) -> None:
    lines = f"9:name=systemd:/\n4:memory:/job\n2:cpuset:/\n1:{controllers}:/job\n0::/\n"
    files = {f"{controllers}__job__cpu___cfs_quota_us": quota, f"{controllers}__job__cpu___cfs_period_us": "100000"}
    assert usable_cores(grouped(tmp_path, lines, **files)) == cores


@pytest.mark.usefixtures("eight")
def test_in_a_container_whose_path_is_that_of_the_host_the_top_counts(tmp_path: Path) -> None:
    assert usable_cores(grouped(tmp_path, "0::/docker/4f1e\n", cpu___max="100000 100000\n")) == 1


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("text", ["", "nonsense", "x y", "100000 0", "\ufffd"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, text: str) -> None:
    assert usable_cores(grouped(tmp_path, f"0::/\n{text}\n", cpu___max=text)) == 8


# Who takes them


@pytest.mark.parametrize(("threads", "taken"), [(None, 5), (3, 3)])
def test_onnx_runtime_takes_what_was_asked_for_or_the_cores_there_are(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, taken: int
) -> None:
    monkeypatch.setattr(room, "usable_cores", lambda: 5)
    session = open_session(tiny.mlp().SerializeToString(), Runtime("cpu", threads=threads))
    options = session.raw.get_session_options()
    assert options.intra_op_num_threads == taken
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_the_option_reaches_the_sessions() -> None:
    assert make_options(threads=2).runtime.workers == 2
    assert make_options().runtime.workers == usable_cores()
    with pytest.raises(InputError, match="--threads 0 is less than one"):
        make_options(threads=0)


def blas() -> set[int]:
    return {each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"}


def test_blas_works_on_one_thread_while_we_run_and_on_as_many_as_before_afterwards() -> None:
    @on_one_blas_thread
    def within() -> set[int]:
        return blas()

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert within() == {1}
        assert blas() == {2}


def test_a_run_leaves_the_threads_of_its_caller_as_they_were() -> None:
    seen: list[set[int]] = []

    def score(outputs: dict[str, NDArray[Any]], labels: object) -> float:
        del labels
        seen.append(blas())
        return float(np.mean(outputs["y"]))

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        onnx_dalr.optimize(tiny.mlp(), calib=tiny.rows(40), rank=4, tune="off", threads=2, score=score)
        assert blas() == {2}
    assert seen
    assert set.union(*seen) == {1}


# Side by side


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_side_by_side_things_come_in_order(threads: int) -> None:
    assert list(side_by_side(lambda number: number**2, range(7), threads)) == [0, 1, 4, 9, 16, 25, 36]


def test_they_are_made_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert list(side_by_side(lambda number: both.wait() >= 0, range(4), 2)) == [True] * 4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_is_taken_than_is_made(threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    for made in side_by_side(lambda number: number, items(), threads):
        assert len(taken) <= made + 1 + threads


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_ends_it(threads: int) -> None:
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        return number

    made: Callable[[], list[int]] = lambda: list(side_by_side(fail, range(50), threads))  # noqa: E731
    with pytest.raises(ValueError, match="one"):
        made()
    assert len(begun) < 10
