"""Passes whose statistics are kept in a folder: a run that was killed goes on from those that are there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_dalr._version import __version__
from onnx_dalr.factorize import METHODS, Need, Statistics
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.capture import Capture, needs_of
from onnx_dalr.learn.passes import Advance, Captured, Looking, Passes, adopt_metric
from onnx_dalr.learn.probes import Probed
from onnx_dalr.learn.statistics_set import StatisticsSet, load_statistics, write_set
from onnx_dalr.quality.task import Task
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import SampleSet, fed
from onnx_dalr.work_dir import WorkDir, key_of

_KIND = "statistics"
_SUFFIX = ".npz"


class Kept:
    """Passes that are run where their statistics are not in the folder, and put there.

    A file is named by all that its sums depend on, but for the values of the samples: these are read, which is little
    beside running them, and held against the digests that are in it.
    """

    def __init__(self, context: Context, work: WorkDir, inner: Passes) -> None:
        """Takes the run, its folder, and who runs what is not there."""
        self._context, self._work, self._inner = context, work, inner
        self._digests: tuple[str, ...] | None = None

    def capture(self, looking: Looking, fit: SampleSet, advance: Advance) -> Captured:
        """From the folder, or run. See `Passes`."""
        key = self._key("capture", looking, fit)
        held = self._read("capture", key, fit, advance)
        if held is not None:
            provider, digests = held.settings["provider"], self._digests or ()
            return Captured(Capture(dict(held.layers), provider, held.notes), digests)
        start = time.perf_counter()
        found = self._inner.capture(looking, fit, advance)
        self._digests = found.digests
        captured = found.capture
        facts = {"provider": captured.provider}
        self._write(key, looking, captured.statistics, captured.notes, facts, start)
        return found

    def probe(
        self, looking: Looking, statistics: dict[str, Statistics], fit: SampleSet, task: Task, advance: Advance
    ) -> Probed:
        """From the folder, or run. See `Passes`."""
        key = self._key(
            "probe", looking, fit, [(one.name, one.position, one.measure, one.padded) for one in task.seeded]
        )
        held = self._read("metric", key, fit, lambda count: None)
        reached = [layer for layer in looking.layers if layer.name in statistics]
        if held is not None and {layer.name for layer in reached} <= held.layers.keys():
            adopt_metric(statistics, held.layers, reached)
            return Probed(int(held.settings["probed"]), int(held.settings["passes"]), held.notes)
        start = time.perf_counter()
        found = self._inner.probe(looking, statistics, fit, task, advance)
        metrics = {layer.name: statistics[layer.name].restricted(Need.METRIC) for layer in reached}
        facts = {"probed": str(found.samples), "passes": str(found.passes)}
        self._write(key, looking, metrics, found.notes, facts, start)
        return found

    def _key(self, what: str, looking: Looking, fit: SampleSet, *more: object) -> str:
        """Of everything that the sums depend on, but for the values of the samples."""
        options, model = self._context.options, self._context.original
        runtime = options.runtime
        layers = [
            (layer.name, layer.weight, *layer.shape.dims, _needs(layer, looking).value) for layer in looking.layers
        ]
        samples = [fit.indices, fit.ids, fit.batch_size, fit.positions, fit.source.complete]
        return key_of(
            what,
            __version__,
            model.content_hash,
            looking.method,
            looking.metric,
            looking.mask_input,
            layers,
            samples,
            dict(fit.source.settings),
            runtime.device,
            list(runtime.ops_libraries),
            more,
        )

    def _read(self, phase: str, key: str, fit: SampleSet, advance: Advance) -> StatisticsSet | None:
        def reader(path: Path) -> StatisticsSet:
            found = load_statistics(path)
            if found.settings.get("key") != key or found.model != self._context.original.content_hash:
                raise ValueError("it is another's")
            if found.samples != frozenset(self._known(fit, advance)):
                raise ValueError("the samples have changed since")
            whole = StatisticsSet(**vars(found) | {"layers": {name: found.layers[name] for name in found.layers}})
            float(whole.settings["seconds"]), int(whole.settings.get("passes", 0))
            return whole

        held: StatisticsSet | None = self._work.read(_KIND, key, _SUFFIX, reader)
        if held is not None:
            # The time it took then: tuning takes as long as what is before it.
            seconds = self._context.seconds
            seconds[phase] = seconds.get(phase, 0.0) + float(held.settings["seconds"])
            if self._work.taken[_KIND] == 1:
                self._context.notes.append(f"{self._work}: statistics that were captured before are taken from there")
        return held

    def _known(self, fit: SampleSet, advance: Advance) -> Sequence[str]:
        """Digests of the samples, for which they are read once."""
        if self._digests is None:
            digests: list[str] = []
            for _ in fed(fit, advance, digests):
                pass
            self._digests = tuple(digests)
        return self._digests

    def _write(
        self,
        key: str,
        looking: Looking,
        statistics: Mapping[str, Statistics],
        notes: Sequence[str],
        facts: dict[str, str],
        start: float,
    ) -> None:
        assert self._digests is not None
        held = StatisticsSet(
            model=self._context.original.content_hash,
            method=looking.method,
            settings=facts | {"key": key, "seconds": repr(time.perf_counter() - start)},
            version=__version__,
            samples=frozenset(self._digests),
            layers=statistics,
            notes=tuple(notes),
        )
        self._work.write(_KIND, key, _SUFFIX, lambda path: write_set(held, path))


def _needs(layer: Layer, looking: Looking) -> Need:
    return needs_of(layer, METHODS[looking.method], metric=looking.metric, rounded=layer.name in looking.rounded)
