"""Runs on Dask workers, which are processes: the same plan, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import onnx_dalr
from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.cluster import connection
from onnx_dalr.cluster.connection import ClusterError, Connection, of_our_own
from onnx_dalr.errors import InputError
from onnx_dalr.progress import Silent
from tests.cli import tiny

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'onnx-dalr[dask]'")

SLOW = """
import os, time, pathlib
import numpy as np

HERE = pathlib.Path(__file__).parent

def rows(image):
    time.sleep(0.05)
    if (HERE / "armed").exists():
        own = HERE / f"pid.{os.getpid()}"  # several workers may be here at a time
        own.write_text(str(os.getpid()))
        os.replace(own, HERE / "pid")
    return np.asarray(image, np.float32).reshape(-1)[:16] / 255
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Connection]:
    with of_our_own(2) as found:
        yield found


@pytest.fixture(scope="module")
def address(own: Connection) -> str:
    return str(own.client.scheduler.address)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny.mlp((16, 64, 64, 4)), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty images of 4 x 4 pixels, whose reading takes a while."""
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 255, (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path / "images"


def analyzed(model: Any, calib: Any, **options: Any) -> Analysis:
    return onnx_dalr.analyze(model, calib=calib, batch_size=4, holdout=0.25, device="cpu", **options)


def assert_same(one: Analysis, other: Analysis) -> None:
    """Sums of the same rows, none of them missing and none of them twice, and the same plan."""
    assert one.stats.samples == other.stats.samples
    assert one.stats.layers.keys() == other.stats.layers.keys()
    for name, held in one.stats.layers.items():
        theirs = other.stats.layers[name]
        assert (held.count, held.metric_probes) == (theirs.count, theirs.metric_probes)
        np.testing.assert_allclose(held.total, theirs.total, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(held.output_metric, theirs.output_metric, rtol=1e-3, atol=1e-6)
    assert [each.form for each in one.plan(params="50%").choices] == [
        each.form for each in other.plan(params="50%").choices
    ]


def test_workers_of_our_own_make_the_plan_of_one_process() -> None:
    """Samples that are in memory, and a model too: both go through files that are gone afterwards."""
    alone = analyzed(tiny.mlp((16, 64, 64, 4)), tiny.rows(80))
    assert_same(alone, analyzed(tiny.mlp((16, 64, 64, 4)), tiny.rows(80), workers=2))


@pytest.mark.parametrize("given", ["paths", "memory"])
def test_workers_of_a_cluster_make_it_too(address: str, model: Path, tmp_path: Path, given: str) -> None:
    np.savez(tmp_path / "calib.npz", x=tiny.rows(80))
    calib = tmp_path / "calib.npz" if given == "paths" else [{"x": row} for row in tiny.rows(80)]
    one = model if given == "paths" else onnx.load(model)
    assert_same(analyzed(one, calib), analyzed(one, calib, cluster=address))


def test_a_model_with_external_data_is_read_where_it_lies(address: str, tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(tiny.mlp((16, 64, 64, 4)), path, save_as_external_data=True, location="big.data", size_threshold=0)
    assert_same(analyzed(path, tiny.rows(80)), analyzed(path, tiny.rows(80), cluster=address))


def test_few_samples_are_run_here(address: str) -> None:
    assert_same(analyzed(tiny.mlp(), tiny.rows(6)), analyzed(tiny.mlp(), tiny.rows(6), cluster=address))


@contextmanager
def once_there(path: Path, act: Callable[[int], None]) -> Iterator[None]:
    """Does something to the process whose number is written to a path, as soon as it is there."""

    def wait() -> None:
        while not (path.exists() or over.is_set()):
            time.sleep(0.005)
        if path.exists():
            act(int(path.read_text()))

    over = Event()
    waiting = Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()


class Arming(Silent):
    """Arms what is to happen when the layers are about to be captured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def say(self, line: str) -> None:
        if line.startswith("the fit samples run on"):
            (self._folder / "armed").touch()


def test_of_a_worker_that_is_killed_nothing_is_lost_and_nothing_counted_twice(
    address: str, model: Path, images: Path, tmp_path: Path
) -> None:
    """It has read some samples of its shard: another worker reads them all again."""
    killed = []

    def kill(pid: int) -> None:
        (tmp_path / "armed").unlink()
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    how = {"preprocess": f"{tmp_path / 'slow.py'}:rows"}
    with once_there(tmp_path / "pid", kill):
        found = analyzed(model, images, cluster=address, progress=Arming(tmp_path), **how)
    assert killed
    assert_same(analyzed(model, images, **how), found)


def test_a_broken_image_is_named_as_one_process_names_it(
    address: str, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them, wherever the shards are in their work; and by the path that the user gave."""
    monkeypatch.chdir(images.parent)
    how = {"preprocess": "slow.py:rows"}
    fit = analyzed(model, "images", **how).sets
    assert fit is not None
    names = [fit.fit.ids[place] for place in (4, -1)]
    for name in names:
        path = images / name
        path.write_bytes(path.read_bytes()[:45])
    said = []
    for options in ({}, {"cluster": address}):
        with pytest.raises(InputError) as caught:
            analyzed(model, "images", **how, **options)
        assert not isinstance(caught.value, ClusterError)
        assert caught.value.exit_code == 2
        said.append((caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    assert names[0] in said[0][0]


@contextmanager
def programs(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [
        subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in commands
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_scheduler_that_is_lost_ends_the_run_with_one_line(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    monkeypatch.setattr(connection, "_CONNECTING", 3.0)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard", "--no-show"]
    worker = ["distributed.cli.dask_worker", address, "--no-nanny", "--nthreads=1", "--no-dashboard"]
    how = {"preprocess": f"{tmp_path / 'slow.py'}:rows", "progress": Arming(tmp_path)}
    with programs(scheduler, worker) as (boss, _):
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        with once_there(tmp_path / "pid", lambda pid: boss.kill()), pytest.raises(ClusterError) as caught:
            analyzed(model, images, cluster=address, **how)
    assert caught.value.exit_code == 2
    assert f"the scheduler of cluster {address} is lost" in caught.value.message


def test_where_nobody_answers_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECTING", 0.5)
    with pytest.raises(ClusterError, match="cannot be used"):
        analyzed(tiny.mlp(), tiny.rows(), cluster=f"tcp://127.0.0.1:{free_port()}")


def test_workers_and_a_cluster_are_one_too_many() -> None:
    with pytest.raises(InputError, match="both given"):
        analyzed(tiny.mlp(), tiny.rows(), workers=2, cluster="tcp://127.0.0.1:1")


@pytest.mark.parametrize("workers", [0, -1])
def test_without_a_worker_nothing_runs(workers: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        analyzed(tiny.mlp(), tiny.rows(), workers=workers)


def test_without_dask_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="need Dask") as caught:
        analyzed(tiny.mlp(), tiny.rows(), workers=2)
    assert "onnx-dalr[dask]" in caught.value.hint
