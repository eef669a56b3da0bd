"""What some samples taught about a model's layers: does it fit a run, and the sum of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from operator import add, and_
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import Method, Need, Statistics
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.request.wording import speaks_python
from onnx_dalr.shown import Shown

if TYPE_CHECKING:
    import os

    from rich.console import RenderableType

METRIC_TASK = "task of the metric"
"""What the gradients of statistics are of, among their settings."""

_AGAIN = "write it again with --save-stats"
_NEEDED_BY = {
    "output_total": Need.OUTPUT,
    "output": Need.OUTPUT,
    "input": Need.INPUT | Need.ROWS,
    "sketch": Need.SKETCH,
    "rows": Need.ROWS,
    "metric": Need.METRIC,
    "metric_rows": Need.METRIC,
    "metric_probes": Need.METRIC,
    "metric_power": Need.METRIC,
    "metric_spread": Need.METRIC,
}


@dataclass(frozen=True)
class LayerFacts:
    """What is known of a layer's statistics before they are read.

    Attributes:
        m: Outputs of the layer.
        n: Inputs of the layer.
        needs: The sums that are kept.
        rows: Rows that entered.
    """

    m: int
    n: int
    needs: Need
    rows: int


class LazyLayers(Mapping[str, Statistics]):
    """Statistics by layer name, made when they are asked for and not kept: one layer's at a time is in memory.

    Attributes:
        facts: By layer name.
    """

    def __init__(self, facts: Mapping[str, LayerFacts], make: Callable[[str], Statistics]) -> None:
        self.facts = dict(facts)
        self._make = make

    def __getitem__(self, name: str) -> Statistics:
        if name not in self.facts:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self.facts

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


@dataclass(frozen=True, eq=False, repr=False)
class StatisticsSet(Shown):
    """What some samples taught about a model's layers.

    Attributes:
        model: `model_hash` of the model.
        method: The method whose needs were kept; several, joined by "+", after a merge.
        settings: The options that matter to what was captured, name → value.
        version: Of onnx-dalr.
        samples: Digests of the fit samples.
        layers: Statistics by layer name; of a set from a file, read at each access.
        notes: What a user should know.
    """

    model: str
    method: str
    settings: dict[str, str]
    version: str
    samples: frozenset[str]
    layers: Mapping[str, Statistics]
    notes: tuple[str, ...] = ()

    def _view(self, width: int) -> RenderableType:
        from onnx_dalr.report.statistics import statistics_view  # noqa: PLC0415 - reads this module

        return statistics_view(self, width)

    def _brief(self) -> str:
        return f"{self.method}: {len(self.layers)} layers of model {self.model[:8]} from {len(self.samples)} samples"

    @staticmethod
    @speaks_python
    def load(path: str | os.PathLike[str]) -> StatisticsSet:
        """Opens a file of statistics; the sums of a layer are read when they are asked for.

        Args:
            path: Of a file written by `save`, or by `save_stats` of `optimize`.

        Returns:
            The set, to apply plans with.

        Raises:
            InputError: No such file, not ours, damaged, or written by a newer version.
        """
        from onnx_dalr.learn.statistics_file import load_statistics  # noqa: PLC0415 - reads this module

        return load_statistics(Path(path))

    @speaks_python
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the set as `.npz`, for `stats` of `optimize`, `apply` and `Plan.apply`; in place of an older file.

        Args:
            path: Where to.

        Raises:
            InputError: It cannot be written.
        """
        from onnx_dalr.learn.statistics_file import save_statistics  # noqa: PLC0415 - reads this module

        save_statistics(self, Path(path))

    def facts(self, name: str) -> LayerFacts:
        """Shape, needs and rows of a layer, without reading its sums."""
        if isinstance(self.layers, LazyLayers):
            return self.layers.facts[name]
        held = self.layers[name]
        return LayerFacts(held.m, held.n, held.needs, held.count)

    def restricted(self, needs: Mapping[str, Need]) -> StatisticsSet:
        """The set with no more than these sums, for the layers named here alone; each must keep all but METRIC."""
        facts = {name: self.facts(name) for name in needs if name in self.layers}
        kept = {name: needs[name] & (fact.needs | ~Need.METRIC) for name, fact in facts.items()}
        facts = {name: replace(fact, needs=kept[name]) for name, fact in facts.items()}
        return replace(self, layers=LazyLayers(facts, lambda name: restricted(self.layers[name], kept[name])))


def restricted(stats: Statistics, needs: Need) -> Statistics:
    """The same statistics with no more than these sums.

    Raises:
        ValueError: They do not keep all of them.
    """
    if needs == stats.needs:
        return stats
    if needs not in stats.needs:
        raise ValueError(f"statistics of {stats.needs} do not hold {needs}")
    kept = {
        name: array for name, array in stats.to_arrays().items() if name not in _NEEDED_BY or _NEEDED_BY[name] & needs
    }
    blank = {name: array for name, array in Statistics(1, 1, Need.NONE).to_arrays().items() if name in _NEEDED_BY}
    return Statistics.from_arrays(blank | kept | {"needs": np.array(needs.value, np.int64)})


def model_hash(model: Model) -> str:
    """What ties statistics and plans to a model: `Model.content_hash`."""
    return model.content_hash


def check_fits(
    stats: StatisticsSet,
    path: str,
    *,
    model: str,
    method: Method,
    settings: Mapping[str, str],
    layers: Sequence[Layer],
    needs: Callable[[Layer], Need] | None = None,
    complete: bool = True,
) -> None:
    """Checks that a run may use a set as if it had captured it itself; layers the run does not name may be in it.

    METRIC is never missing: a layer whose gradients found no room, no path or no finite value goes without a metric in
    the run that captures it, and so it does in those that read what was kept.

    Args:
        stats: The set.
        path: What to call it.
        model: `model_hash` of the run's model.
        method: Of the run.
        settings: Of the run, as in StatisticsSet.
        layers: Of the run.
        needs: Layer → the sums the run reads; those of the method where left out.
        complete: Every layer must be in it; of one shard of several, some may be missing.

    Raises:
        InputError: It does not fit, and why.
    """
    if stats.model != model:
        raise InputError(
            f"{path} belongs to another model: it is of {stats.model[:8]}, this is {model[:8]}",
            "give the model it was made from, or calibrate this one",
        )
    _check_settings(path, stats.settings, "this run", settings)
    for layer in layers:
        if layer.name not in stats.layers:
            if complete:
                hint = f"--exclude {layer.name!r}, or calibrate again with it and with samples that reach it"
                raise InputError(f"{path} knows nothing of layer {layer.name!r}", hint)
            continue
        known = stats.facts(layer.name)
        if (known.m, known.n) != (layer.m, layer.n):
            raise InputError(
                f"{path} has layer {layer.name!r} as {known.m}x{known.n}, the model as {layer.m}x{layer.n}", _AGAIN
            )
        wanted = method.needs(layer.m, layer.n) if needs is None else needs(layer)
        missing = [need.name.lower() for need in wanted & ~known.needs & ~Need.METRIC if need.name]
        if missing:
            raise InputError(
                f"{path} was made for --method {stats.method} and keeps no {' and '.join(missing)} sums of layer "
                f"{layer.name!r}, which --method {method.name} reads here",
                f"calibrate again with --method {method.name}",
            )


def merged(parts: Sequence[tuple[str, StatisticsSet]]) -> tuple[StatisticsSet, tuple[str, ...]]:
    """The sum of several sets of one model; nothing is read until a layer of the sum is asked for.

    Where parts keep different sums of a layer, the sum keeps what all of them have.

    Args:
        parts: (what to call it, set), at least one.

    Returns:
        The sum, whose notes are those of the parts, and what is to be said about the merge.

    Raises:
        InputError: Two hold the same samples, or are of different models, settings or layer shapes.
    """
    notes = tuple(note for one, other in combinations(parts, 2) for note in _compared(*one, *other))
    first = parts[0][1]
    sets = [part for _, part in parts]
    names = dict.fromkeys(name for part in sets for name in part.layers)
    holders = {name: [part for part in sets if name in part.layers] for name in names}
    facts = {name: _sum_of_facts([part.facts(name) for part in held]) for name, held in holders.items()}

    def make(name: str) -> Statistics:
        return reduce(add, (restricted(part.layers[name], facts[name].needs) for part in holders[name]))

    total = StatisticsSet(
        model=first.model,
        method="+".join(dict.fromkeys(part.method for part in sets)),
        settings=first.settings,
        version=__version__ if len(sets) > 1 else first.version,
        samples=frozenset().union(*(part.samples for part in sets)),
        layers=LazyLayers(facts, make),
        notes=tuple(dict.fromkeys(note for part in sets for note in part.notes)),
    )
    return total, notes


def _sum_of_facts(facts: Sequence[LayerFacts]) -> LayerFacts:
    return replace(facts[0], needs=reduce(and_, (fact.needs for fact in facts)), rows=sum(fact.rows for fact in facts))


def _compared(one: str, mine: StatisticsSet, other: str, theirs: StatisticsSet) -> Iterator[str]:
    """What is to be said of two parts of a sum.

    Raises:
        InputError: They do not belong into one.
    """
    if mine.model != theirs.model:
        raise InputError(
            f"{one} and {other} are of different models: {mine.model[:8]} and {theirs.model[:8]}",
            "only statistics of one model add up",
        )
    _check_settings(one, mine.settings, other, theirs.settings)
    both = mine.layers.keys() & theirs.layers.keys()
    for name in sorted(both):
        a, b = mine.facts(name), theirs.facts(name)
        if (a.m, a.n) != (b.m, b.n):
            raise InputError(f"layer {name!r} is {a.m}x{a.n} in {one} and {b.m}x{b.n} in {other}", _AGAIN)
    twice = len(mine.samples & theirs.samples) if both else 0
    if twice and mine.samples == theirs.samples:
        raise InputError(f"{one} and {other} hold the same samples", "give each file once")
    if twice:
        yield (
            f"{twice} samples are in both {one} and {other}: they count twice"
            if twice > 1
            else f"1 sample is in both {one} and {other}: it counts twice"
        )


def _check_settings(one: str, settings: Mapping[str, str], other: str, others: Mapping[str, str]) -> None:
    for name in sorted({*settings, *others}):
        mine, theirs = settings.get(name), others.get(name)
        if mine != theirs:
            alike = "say what the outputs are in both runs, with --task or --output"
            raise InputError(
                f"{one} has {_value(name, mine)}, {other} has {_value(name, theirs)}",
                alike if name == METRIC_TASK else "calibrate both in the same way",
            )


def _value(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name} {value}"
