"""What stands on the Dask workers: the desk of a run, and the tasks that go to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distributed import WorkerPlugin, get_worker
from threadpoolctl import threadpool_limits

from onnx_dalr.cluster.shards import Shard
from onnx_dalr.cluster.work import CapturedPart, ModelSource, ProbedShard, SampleSource, Worker
from onnx_dalr.learn.passes import Looking
from onnx_dalr.quality.task import Task
from onnx_dalr.session.session import Runtime


class Desk(WorkerPlugin):
    """The desk of one run. Dask sets it up on every worker, on those too that come later or come back."""

    def __init__(self, name: str, model: ModelSource, samples: SampleSource | None, runtime: Runtime) -> None:
        """Takes what to tell desks apart by, and what `Worker` takes; threads that are left open are those of Dask."""
        self.name = name
        self._model, self._samples, self._runtime = model, samples, runtime
        self.worker: Worker | None = None
        self.threads = 1

    def setup(self, worker: Any) -> None:
        """Opens nothing yet: that is the work of the first shard, where errors have somebody to go to."""
        self.threads = self._runtime.threads or worker.state.nthreads
        runtime = replace(self._runtime, threads=self.threads)
        self.worker = Worker(self._model, self._samples, runtime)

    def teardown(self, worker: Any) -> None:
        """Lets go of everything."""
        del worker
        if self.worker is not None:
            self.worker.close()


def capture_shard(desk: str, looking: Looking, shard: Shard) -> CapturedPart:
    """On a worker: `Worker.capture`."""
    found = _at(desk)
    assert found.worker is not None
    with threadpool_limits(found.threads, user_api="blas"):
        return found.worker.capture(looking, shard)


def probe_shard(desk: str, looking: Looking, task: Task, shard: Shard) -> ProbedShard:
    """On a worker: `Worker.probe`."""
    found = _at(desk)
    assert found.worker is not None
    with threadpool_limits(found.threads, user_api="blas"):
        return found.worker.probe(looking, task, shard)


def _at(name: str) -> Desk:
    desk = get_worker().plugins[name]
    assert isinstance(desk, Desk)
    return desk
