"""Where a model is halfway: tensors that stay what they are while layers behind them change, kept for those."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.gradient.crossing import needed
from onnx_dalr.graph.probe import probe
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.session import Session
from onnx_dalr.tune.suffix import behind

MOST_KEPT = 1 << 27
"""Bytes of tensors that are kept of one model."""

Values = dict[str, NDArray[Any]]
Opener = Callable[[ModelProto], Session]
"""Loads a part of a model."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Tensors of one model, by the samples of the batch they are of.

    Attributes:
        names: Of the tensors.
        by_batch: Numbers of the samples → values.
    """

    names: frozenset[str] = frozenset()
    by_batch: dict[tuple[int, ...], Values] = field(default_factory=dict)


class Halfway:
    """Runs a model up to some tensors, from what was kept of an earlier run where that is all there is to know."""

    def __init__(
        self, proto: ModelProto, tensors: Sequence[str], crossing: Collection[str], kept: Kept, opener: Opener
    ) -> None:
        """Opens nothing yet.

        Args:
            proto: The model.
            tensors: To be computed, made by nodes of it.
            crossing: To be kept for the next, `crossing`.
            kept: Of an earlier run, still true.
            opener: Loads parts of the model.
        """
        self._proto, self._tensors, self._open = proto, list(tensors), opener
        self._outputs = list(dict.fromkeys([*tensors, *crossing]))
        self._ahead = [name for name in self._outputs if name not in kept.names]
        self._kept = kept
        self._fed = needed(proto, self._ahead, kept.names)
        self._goes_on = bool(kept.names & {*self._fed, *self._outputs})
        self._onward: Session | None = None
        self._whole: Session | None = None
        self._next: Kept | None = Kept(frozenset(crossing))
        self._held = 0

    def run(self, batch: Batch, indices: Sequence[int]) -> Values:
        """The tensors, by name.

        Args:
            batch: What the model is fed.
            indices: Numbers of its samples.

        Raises:
            InputError: ONNX Runtime cannot run it.
        """
        key = tuple(indices)
        known = self._kept.by_batch.get(key) if self._goes_on else None
        found = None if known is None else self._from(known, batch)
        if found is None:
            if self._whole is None:
                self._whole = self._open(probe(self._proto, self._outputs))
            found = dict(zip(self._outputs, self._whole.run(batch, self._outputs), strict=True))
        self._keep(key, found)
        return {name: found[name] for name in self._tensors}

    def done(self) -> Kept:
        """What is kept now: of this run if there was room for it, else what there was."""
        return self._kept if self._next is None else self._next

    def _from(self, known: Values, batch: Batch) -> Values | None:
        """From what was kept; None where ONNX Runtime does not take that part of the model by itself."""
        if not self._ahead:
            return known
        try:
            if self._onward is None:
                self._onward = self._open(behind(self._proto, self._fed, self._ahead))
            feed = {name: known[name] if name in known else batch[name] for name in self._fed}
            return known | dict(zip(self._ahead, self._onward.run(feed, self._ahead), strict=True))
        except InputError:
            self._goes_on = False
            return None

    def _keep(self, key: tuple[int, ...], found: Values) -> None:
        if self._next is None:
            return
        kept = {name: found[name] for name in self._next.names}
        whole = all(isinstance(value, np.ndarray) for value in kept.values())  # not a sequence, or nothing
        self._held += sum(array.nbytes for array in kept.values()) if whole else MOST_KEPT + 1
        self._next.by_batch[key] = kept
        if self._held > MOST_KEPT:
            self._next = None
