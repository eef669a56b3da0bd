"""Passes over the fit samples on Dask workers: cut into shards, run there, added up."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx_dalr._version import __version__
from onnx_dalr.cluster.connection import ClusterError, Connection, of_cluster, of_our_own
from onnx_dalr.cluster.shards import Carried, Shard, can_be_cut, cut
from onnx_dalr.cluster.work import CapturedPart, ModelSource, ProbedShard, SampleSource, survey
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Need, Statistics
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.capture import Capture, check_reached, needs_of
from onnx_dalr.learn.passes import Advance, Captured, Here, Looking, Passes, adopt_metric
from onnx_dalr.learn.probes import Probed, probed_among, without_metric
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import SampleSet, Sets, fingerprint
from onnx_dalr.session.memory import memory_limit

_SHARDS_A_WORKER = 2
"""So much is lost with a worker that dies: half of what it does; and one that is slow holds up no more."""

_MOST_SENT = 1 << 30
"""Bytes of a model that is sent to workers which do not see its file."""

Submitted = tuple[Callable[..., Any], tuple[Any, ...]]


@contextmanager
def passes_of(context: Context, sets: Sets | None) -> Iterator[Passes]:
    """Who runs the passes of a run: workers where they are asked for, this process elsewhere.

    Raises:
        ClusterError: The workers cannot be used.
        InputError: They are asked for twice.
    """
    workers, address = context.options.workers, context.options.cluster
    if workers is not None and address is not None:
        raise InputError("--workers and --cluster are both given", "leave one of them out")
    here = Here(context.original, context.options.runtime)
    if sets is None or sets.only_report or (workers is None and address is None):
        yield here
        return
    with of_our_own(workers) if workers is not None else of_cluster(str(address)) as connection:
        yield from _at_desks(context, sets, here, connection)


def _at_desks(context: Context, sets: Sets, here: Here, connection: Connection) -> Iterator[Passes]:
    from onnx_dalr.cluster.desk import Desk  # noqa: PLC0415 - it imports Dask, which need not be there

    model, samples = _sources(context, sets, connection)
    desk = Desk(f"onnx-dalr-{uuid.uuid4().hex}", model, samples, replace(here.runtime, threads=connection.threads))
    with connection.watched():
        connection.client.register_plugin(desk, name=desk.name)
    context.progress.say(f"the fit samples run on {connection.called}, now {connection.workers}")
    try:
        yield Cluster(here, connection, desk.name, carries=samples is None, typed=_typed(sets, samples))
    finally:
        with suppress(Exception):  # of a cluster that is lost
            connection.client.unregister_worker_plugin(desk.name)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Passes on workers.

    Attributes:
        here: What cannot be cut is run here.
        connection: To the workers.
        desk: Name of what stands on each of them.
        carries: Shards carry their samples.
        typed: (the path of the samples as workers have it, as the user has typed it).
    """

    here: Here
    connection: Connection
    desk: str
    carries: bool
    typed: tuple[str, str] | None

    def capture(self, looking: Looking, fit: SampleSet, advance: Advance) -> Captured:
        """Cut into shards. See `Passes`.

        Raises:
            ClusterError: The cluster is lost.
            InputError: As here; of several samples that cannot be read the first is named.
        """
        from onnx_dalr.cluster.desk import capture_shard  # noqa: PLC0415 - it imports Dask, which need not be there

        count = self._most_shards(looking)
        if count < 2 or not can_be_cut(fit):
            return self.here.capture(looking, fit, advance)
        found: CapturedPart = self._total((capture_shard, (self.desk, looking)), fit, count, advance)
        check_reached(looking.layers, found.statistics)
        return Captured(Capture(found.statistics, found.provider, found.notes), found.digests)

    def probe(
        self, looking: Looking, statistics: dict[str, Statistics], fit: SampleSet, task: Task, advance: Advance
    ) -> Probed:
        """Cut into shards. See `Passes`.

        Raises:
            ClusterError: The cluster is lost.
        """
        from onnx_dalr.cluster.desk import probe_shard  # noqa: PLC0415 - it imports Dask, which need not be there

        reached = [layer for layer in looking.layers if layer.name in statistics]
        few = probed_among(self.here.model, reached, statistics, fit)
        count = self._most_shards(looking)
        if count < 2 or not can_be_cut(few):
            return self.here.probe(looking, statistics, fit, task, advance)
        looking, task = replace(looking, layers=tuple(reached)), replace(task, score=None)
        try:
            found: ProbedShard = self._total((probe_shard, (self.desk, looking, task)), few, count, advance)
        except ClusterError:
            raise
        except InputError as error:
            return without_metric(error, statistics, reached)
        for layer in reached:
            if layer.name in found.part.lost:
                statistics[layer.name].forget_metric()
        adopt_metric(statistics, found.statistics, [layer for layer in reached if layer.name not in found.part.lost])
        return found.part.told(reached)

    def _total(self, work: Submitted, samples: SampleSet, count: int, advance: Advance) -> Any:
        shards = cut(samples, count)
        if self.carries:
            shards = [self._loaded(shard, samples, number) for number, shard in enumerate(shards)]
        try:
            return self.connection.total(*work, shards, advance)
        except ClusterError:
            raise
        except InputError as error:
            if self.typed is not None:
                error.reword(error.message.replace(*self.typed), error.hint.replace(*self.typed))
            raise

    def _loaded(self, shard: Shard, samples: SampleSet, number: int) -> Shard:
        """A shard with its samples: in a file where workers see it, else in the shard itself.

        Dask keeps a shard until its result is there: so it can be run again wherever the worker has died.
        """
        carried = Carried(samples.source, shard.indices)
        if self.connection.folder is None:
            return replace(shard, carried=carried)
        path = self.connection.folder / f"shard-{uuid.uuid4().hex}-{number}"
        with path.open("wb") as file:
            pickle.dump(carried, file, protocol=pickle.HIGHEST_PROTOCOL)
        return replace(shard, carried=path)

    def _most_shards(self, looking: Looking) -> int:
        """So many at a time that their statistics fit into memory where workers share ours."""
        workers = self.connection.workers
        if self.connection.threads is None:
            return _SHARDS_A_WORKER * workers
        held = 2 * sum(_bytes_of(layer, looking) for layer in looking.layers)  # what is added up, and to what
        room = memory_limit() // max(held, 1)
        return min(_SHARDS_A_WORKER * workers, room)


def _bytes_of(layer: Layer, looking: Looking) -> int:
    needs = needs_of(layer, METHODS[looking.method], metric=looking.metric, rounded=layer.name in looking.rounded)
    sees = layer.sees
    return Statistics.bytes_needed(sees.m, sees.n, needs, sees.n if Need.ROWS in needs else 0, taps=sees.taps)


def _sources(context: Context, sets: Sets, connection: Connection) -> tuple[ModelSource, SampleSource | None]:
    """How the workers come by model and samples: by their paths where they see them, else these are sent.

    Raises:
        ClusterError: They are of another version, or do not see a model that is too large to be sent.
    """
    model, calib = context.original, sets.options.calib
    files = [] if model.path is None else [path.absolute() for path in (model.path, *model.data_files)]
    folder = Path(calib) if _is_path(calib) else None
    asked: list[tuple[str, int | None]] = [(str(path), path.stat().st_size) for path in files]
    if folder is not None:
        asked.append((str(folder.absolute()), None if folder.is_dir() else folder.stat().st_size))
    answers = connection.on_all(survey, asked)
    theirs = {answer.versions["onnx-dalr"] for answer in answers} - {__version__}
    if theirs:
        raise ClusterError(
            f"the workers of {connection.called} have onnx-dalr {', '.join(sorted(theirs))}, this is {__version__}",
            "install the same version where they run",
        )
    missing = {path for answer in answers for path in answer.missing}
    seen = files and not missing & {str(path) for path in files}
    source = ModelSource(files[0] if seen else None, None, model.content_hash)
    if not seen:
        source = replace(source, sent=_to_send(model, connection))
    if folder is None or str(folder.absolute()) in missing:
        return source, None
    path = folder if connection.folder is not None else folder.absolute()
    return source, SampleSource(path, sets.options.image, fingerprint(sets.fit.source.ids))


def _to_send(model: Model, connection: Connection) -> bytes:
    if model.has_external_data or model.proto.ByteSize() > _MOST_SENT:
        raise ClusterError(
            f"the workers of {connection.called} do not see {model.path}, and it is too large to be sent",
            "put it and its data on a disk that all of them share, under the same path",
        )
    return bytes(model.proto.SerializeToString())


def _typed(sets: Sets, samples: SampleSource | None) -> tuple[str, str] | None:
    if samples is None or str(samples.path) == str(sets.options.calib):
        return None
    return str(samples.path), str(sets.options.calib)


def _is_path(given: object) -> bool:
    return isinstance(given, str | Path)


__all__: Sequence[str] = ["Cluster", "passes_of"]
