"""What some samples taught about a model's layers, to apply plans with, to save and to add up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.factorize.statistics import SPARED
from onnx_dalr.files import staged
from onnx_dalr.learn.lazy_layers import LazyLayers, StatisticsFacts
from onnx_dalr.learn.statistics_file import read_statistics, write_statistics
from onnx_dalr.request.wording import speaks_python
from onnx_dalr.shown import Shown

METRIC_TASK = "task of the metric"
"""What the gradients of statistics are of, among their settings."""


@dataclass(frozen=True, eq=False, repr=False)
class StatisticsSet(Shown):
    """What some samples taught about a model's layers.

    Attributes:
        model: Content hash of the model.
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
        return load_statistics(Path(path))

    @speaks_python
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the set as `.npz`, for `stats` of `optimize`, `apply` and `Plan.apply`; in place of an older file.

        Args:
            path: Where to.

        Raises:
            InputError: It cannot be written.
        """
        save_statistics(self, Path(path))

    def facts(self, name: str) -> StatisticsFacts:
        """Shape, needs and rows of a layer, without reading its sums."""
        if isinstance(self.layers, LazyLayers):
            return self.layers.facts[name]
        held = self.layers[name]
        return StatisticsFacts(held.m, held.n, held.needs, held.count, held.taps)

    def restricted(self, needs: Mapping[str, Need]) -> StatisticsSet:
        """The set with no more than these sums, for the layers named here alone; each must keep all but SPARED ones."""
        facts = {name: self.facts(name) for name in needs if name in self.layers}
        kept = {name: needs[name] & (fact.needs | ~SPARED) for name, fact in facts.items()}
        facts = {name: replace(fact, needs=kept[name]) for name, fact in facts.items()}
        return replace(self, layers=LazyLayers(facts, lambda name: self.layers[name].restricted(kept[name])))


def load_statistics(path: Path) -> StatisticsSet:
    """Opens a file of `save_statistics`. Its header is read now, each layer's sums when they are asked for.

    Raises:
        InputError: No such file, not ours, damaged, or written by a newer version; on access to a layer too.
    """
    return StatisticsSet(**read_statistics(path))


def save_statistics(held: StatisticsSet, path: Path) -> None:
    """Writes a set as `.npz`, in one step and in place of an older file.

    Raises:
        InputError: It cannot be written, or a layer of a set that lies in a file cannot be read.
    """
    with staged(path) as written:
        write_set(held, written)


def write_set(held: StatisticsSet, path: Path) -> None:
    """Writes a set to a path that nobody reads yet; layers that no row reached are left out.

    Raises:
        InputError: A layer of a set that lies in a file cannot be read.
        OSError: It cannot be written.
    """
    write_statistics(path, vars(held), {name: held.facts(name) for name in held.layers if held.facts(name).rows})
