"""Statistics by layer that are read or added up when somebody asks for them, and what is known before that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from onnx_dalr.factorize import Need, Statistics


@dataclass(frozen=True)
class StatisticsFacts:
    """What is known of a layer's statistics before they are read.

    Attributes:
        m: Outputs of the layer.
        n: Inputs of the layer.
        needs: The sums that are kept.
        rows: Rows that entered.
        taps: Positions that a kernel sees at once.
    """

    m: int
    n: int
    needs: Need
    rows: int
    taps: int = 1


class LazyLayers(Mapping[str, Statistics]):
    """Statistics by layer name, made when they are asked for and not kept: one layer's at a time is in memory.

    Attributes:
        facts: By layer name.
    """

    def __init__(self, facts: Mapping[str, StatisticsFacts], make: Callable[[str], Statistics]) -> None:
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
