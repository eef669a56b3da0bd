"""A model with sums behind it, run batch by batch: a batch enters them as a whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.gradient import sizes_on
from onnx_dalr.graph.moments import Held, Rows, Sums
from onnx_dalr.graph.shapes import Sizes
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.piles import Values, is_safe
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.held import Holding
from onnx_dalr.session.session import CUDA, Device, open_session, runs_on_cuda, runtime_of


class Behind:
    """A session of the model with its sums.

    Attributes:
        failed: It could not run a batch, for want of memory say, and had better be let go of.
    """

    def __init__(
        self, model: Model, sums: Sums, others: Sequence[str], device: Device, *, prepack: bool = True
    ) -> None:
        """Makes it.

        Args:
            model: The one that the sums' was made from.
            sums: All of them.
            others: Tensors that are asked for beside them.
            device: Where to run.
            prepack: As for `open_session`.

        Raises:
            InputError: As `open_session`.
        """
        self.sums = sums
        self._model, self._others = model, others
        made, folder = model.in_memory(sums.made(others))
        self._holding = Holding(open_session(made, device, folder, prepack=prepack, exact=True), sums.held)
        self._sizes: dict[tuple[Any, ...], Sizes] = {}
        self.failed = False

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._holding.session.provider

    def sizes(self, batch: Batch) -> Sizes:
        """Those of the model's tensors on a batch, as far as they can be told before it is run."""
        shapes = {name: array.shape for name, array in batch.items()}
        key = tuple(sorted(shapes.items()))
        if key not in self._sizes:
            self._sizes[key] = sizes_on(self._model.proto, shapes)
        return self._sizes[key]

    def run(
        self, batch: Batch, rows: Iterable[Rows], sizes: Mapping[str, Sequence[int]]
    ) -> tuple[Values, dict[str, tuple[int, ...]]] | None:
        """(what it tells of a batch, the sizes of the tensors that are summed up), and goes on with its sums.

        None, and nothing has happened, where the rows of the batch have to be looked at.

        Args:
            batch: With all that says which rows count.
            rows: Those that count; of others it is of no matter what they hold.
            sizes: By tensor, that which this is made for.
        """
        rows, shapes = list(rows), self.sums.shapes
        told = [name for each in rows for name in each.told]
        names = list(dict.fromkeys([*self._others, *shapes.values(), *told]))
        try:
            found, held = self._holding.run(batch, names)
        except InputError:  # where it is for the samples, they will be refused
            self.failed = True
            return None
        values = dict(zip(names, found, strict=True))
        actual = {tensor: tuple(map(int, values[name])) for tensor, name in shapes.items()}
        if any(actual[tensor] != tuple(size) for tensor, size in sizes.items()):
            return None
        if not all(is_safe(each, values) for each in rows):
            return None
        self._holding.keep(held)
        return values, actual

    def value(self, held: Held) -> NDArray[np.float64]:
        """A sum as it is now."""
        return self._holding.value(held)


class _Runs(Protocol):
    @property
    def provider(self) -> str: ...


Made = TypeVar("Made", bound=_Runs)


def where_it_runs(device: Device, make: Callable[[], Made]) -> Made | None:
    """What sums up where the model runs, where that is CUDA or is asked for; None also where it cannot be opened.

    Raises:
        InputError: CUDA was asked for and does not work.
    """
    asked = runtime_of(device).sums_there
    if asked is False or not (asked or runs_on_cuda(device)):
        return None
    try:
        made = make()
    except InputError:  # the same model without sums may be loaded, or says why not
        return None
    return made if asked or made.provider == CUDA else None


def mask_of(shape: tuple[int, ...], reader: RowReader) -> NDArray[np.bool_]:
    """Which rows of these axes count, [p, 1]."""
    real, _ = reader.real(shape)
    return np.ones((math.prod(shape), 1), bool) if real is None else real[:, None]


def known(size: Sequence[int | None] | None) -> tuple[int, ...] | None:
    """A size of which all is known."""
    found = tuple(length for length in size or (None,) if length is not None)
    return found if size is not None and len(found) == len(size) else None


def without(axis: int, size: Sequence[Any]) -> tuple[int, ...]:
    """The axes that tell rows apart, of a tensor of this size."""
    left = list(map(int, size))
    del left[axis]
    return tuple(left)
