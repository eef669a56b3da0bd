"""A weight in several structures, in each of which it is taken apart when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import Lock

from onnx_dalr.factorize.structures.base import Decomposition


class OnDemand(Mapping[str, Decomposition]):
    """Decompositions by the name of their structure: made once, when first asked for, from any thread.

    What they are made from is let go of once all are made. Which there are is known before any is.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Decomposition]]) -> None:
        """Takes what makes each."""
        self._names, self._lock = tuple(makers), Lock()
        self._makers, self._made = dict(makers), dict[str, Decomposition]()

    def __getitem__(self, name: str) -> Decomposition:
        with self._lock:
            if name in self._makers:
                self._made[name] = self._makers[name]()
                del self._makers[name]
            return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def made(self) -> frozenset[str]:
        """The names of those that somebody asked for."""
        return frozenset(self._made)
