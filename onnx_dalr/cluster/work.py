"""What a worker does: it opens the model and the samples once, and runs the shards it is given."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from onnx_dalr._version import __version__
from onnx_dalr.cluster.shards import Shard
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.learn.passes import Here, Looking
from onnx_dalr.learn.probes import ProbedPart, probe_part
from onnx_dalr.quality.task import Task
from onnx_dalr.samples import ImageSettings, Samples, open_samples
from onnx_dalr.samples.sets import SampleSet, fingerprint
from onnx_dalr.session.installed import onnxruntime
from onnx_dalr.session.session import Runtime

__all__ = ["CapturedPart", "ModelSource", "ProbedShard", "SampleSource", "Survey", "Worker", "survey"]

_FILE = "model.onnx"


@dataclass(frozen=True)
class ModelSource:
    """How a worker comes by the model.

    Attributes:
        path: Where it lies; None where it is sent.
        sent: The serialized model, where it is sent.
        content: Its content hash.
    """

    path: Path | None
    sent: bytes | None
    content: str

    def open(self, folder: Path) -> Model:
        """The model; what is sent is written into a folder first.

        Raises:
            InputError: It is not there, or it is another.
        """
        path = self.path
        if path is None:
            path = folder / _FILE
            path.write_bytes(self.sent or b"")
        model = load(path)
        if model.content_hash != self.content:
            raise InputError(f"a worker has another model as {path}", "let all of them see the same file")
        return model


@dataclass(frozen=True)
class SampleSource:
    """How a worker comes by the samples, where it opens them itself.

    Attributes:
        path: Where they lie.
        image: How pixels become numbers.
        ids: Fingerprint of their names.
    """

    path: Path
    image: ImageSettings
    ids: str

    def open(self, model: Model) -> Samples:
        """The samples.

        Raises:
            InputError: They are not there, or they are others.
        """
        samples = open_samples(self.path, input_specs(model.proto), image=self.image)
        if fingerprint(samples.ids) != self.ids:
            raise InputError(f"a worker finds other samples in {self.path}", "let all of them see the same folder")
        return samples


@dataclass(frozen=True)
class CapturedPart:
    """What a shard said of the layers; parts add up.

    Attributes:
        statistics: By name of the layers that a row reached.
        digests: Of the samples.
        provider: That ran them.
        notes: What a user should know.
    """

    statistics: dict[str, Statistics]
    digests: tuple[str, ...]
    provider: str
    notes: tuple[str, ...]

    def __add__(self, other: CapturedPart) -> CapturedPart:
        """Of both."""
        notes = dict.fromkeys((*self.notes, *other.notes))
        statistics = _sum(self.statistics, other.statistics)
        return CapturedPart(statistics, self.digests + other.digests, self.provider, tuple(notes))


@dataclass(frozen=True)
class ProbedShard:
    """What the probes of a shard said; parts add up.

    Attributes:
        statistics: By layer name, nothing but gradients.
        part: What came of it.
    """

    statistics: dict[str, Statistics]
    part: ProbedPart

    def __add__(self, other: ProbedShard) -> ProbedShard:
        """Of both."""
        return ProbedShard(_sum(self.statistics, other.statistics), self.part + other.part)


def _sum(one: Mapping[str, Statistics], other: Mapping[str, Statistics]) -> dict[str, Statistics]:
    both = {name: held + other[name] if name in other else held for name, held in one.items()}
    return both | {name: held for name, held in other.items() if name not in one}


class Worker:
    """A desk at which the shards of one run are worked on, one at a time, with all threads there are."""

    def __init__(self, model: ModelSource, samples: SampleSource | None, runtime: Runtime) -> None:
        """Opens nothing yet.

        Args:
            model: The original.
            samples: None where shards carry theirs.
            runtime: Where it runs, with as many threads as this worker may use.
        """
        self._model, self._samples, self._runtime = model, samples, runtime
        self._lock = Lock()
        self._opened: tuple[Here, Samples | None] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="onnx-dalr-")

    def capture(self, looking: Looking, shard: Shard) -> CapturedPart:
        """What the layers see of a shard.

        Raises:
            InputError: As `Passes.capture`.
        """
        with self._lock:
            here, part = self._open(shard)
            found = here.capture_part(looking, part, _nobody, (shard.first, shard.samples))
        learned = found.capture
        return CapturedPart(learned.statistics, found.digests, learned.provider, learned.notes)

    def probe(self, looking: Looking, task: Task, shard: Shard) -> ProbedShard:
        """What the outputs of layers do to the network on a shard.

        Raises:
            InputError: As `probe_part`.
        """
        with self._lock:
            here, part = self._open(shard)
            empty = {
                layer.name: Statistics(layer.sees.m, layer.sees.n, Need.METRIC, layer.sees.taps)
                for layer in looking.layers
            }
            done = probe_part(
                here.model,
                looking.layers,
                empty,
                part,
                task,
                device=here.runtime,
                mask_input=looking.mask_input,
            )
        return ProbedShard(empty, done)

    def close(self) -> None:
        """Lets go of everything."""
        if self._opened is not None and self._opened[1] is not None:
            self._opened[1].close()
        self._opened = None
        self._folder.cleanup()

    def _open(self, shard: Shard) -> tuple[Here, SampleSet]:
        if self._opened is None:
            model = self._model.open(Path(self._folder.name))
            samples = None if self._samples is None else self._samples.open(model)
            self._opened = Here(model, self._runtime), samples
        here, source = self._opened
        if isinstance(shard.carried, Path):
            with shard.carried.open("rb") as file:  # our own, of this run
                return here, shard.of(pickle.load(file))
        found = source if shard.carried is None else shard.carried
        assert found is not None
        return here, shard.of(found)


def _nobody(count: int) -> None:
    """Is told of samples where nobody listens."""


@dataclass(frozen=True)
class Survey:
    """What a worker says of itself before it is given work.

    Attributes:
        versions: Of what the numbers depend on.
        missing: Those of the paths that it does not see.
    """

    versions: dict[str, str]
    missing: tuple[str, ...]


def survey(paths: Sequence[tuple[str, int | None]]) -> Survey:
    """Looks around on a worker.

    Args:
        paths: Files with how many bytes they have, and folders with None.
    """
    versions = {"onnx-dalr": __version__, "onnxruntime": str(onnxruntime().__version__)}
    return Survey(versions, tuple(path for path, size in paths if not _is_seen(Path(path), size)))


def _is_seen(path: Path, size: int | None) -> bool:
    try:
        return path.is_dir() if size is None else path.stat().st_size == size
    except OSError:
        return False
