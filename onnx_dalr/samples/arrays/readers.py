"""Samples from what can be read only once: any iterable of dicts or arrays, or a CalibrationDataReader."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.samples.arrays.alignment import (
    check_axes,
    check_batch_axis,
    excess_axes,
    ignored_note,
    listing,
    spare_names,
)
from onnx_dalr.samples.arrays.dtypes import to_model_dtype
from onnx_dalr.samples.arrays.pairs import Integers, as_pair, joined_labels
from onnx_dalr.samples.arrays.stored import as_array
from onnx_dalr.samples.base import Array, Batch, InputSpec, Samples

_TWO_WAYS = (
    "yield dicts of input name → array, each with the rank of its input (a feed), or each with one axis less (a sample)"
)


@runtime_checkable
class DataReader(Protocol):
    """What onnxruntime calls a CalibrationDataReader, known by what it does."""

    def get_next(self) -> Mapping[str, object] | None:
        """Returns the next feed, or None at the end."""


@dataclass(frozen=True)
class _Block:
    """Where an array lies in the temporary file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Reading:
    """How an item is read: as one sample without axis 0, or as a feed."""

    one_sample: bool
    repeated: frozenset[str]


class StreamSamples(Samples):
    """The items of an iterable, read once and spooled to a temporary file.

    An item is a feed whose arrays have the rank of their inputs, or a sample whose arrays have one axis less. Feeds
    are taken apart into rows when every input's axis 0 is free and the arrays of each feed agree in its length; else
    each is one complete feed. Memory does not grow with the arrays; the file goes with this object.

    Of pairs (x, y), as training loaders yield them, y is labels. Keys of dicts beside the inputs are passed over. Both
    are noted.
    """

    def __init__(self, items: Iterable[object], specs: Sequence[InputSpec], name: str = "iterable") -> None:
        """Reads all items, to the end.

        Args:
            items: Dicts of input name → array, or arrays for a model with one input; tensors that numpy can read too;
                or pairs of one of these and integers.
            specs: The model's inputs.
            name: What the samples are called in messages and the report.

        Raises:
            InputError: No items; an item that does not fit the model or the items before it; NaN or infinity; no room
                for the temporary file.
        """
        self.specs = specs
        self._by_name = {spec.name: spec for spec in specs}
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="onnx-dalr-")  # noqa: SIM115 - closed with the object
        self._finalizer = weakref.finalize(self, self._file.close)
        self._feeds: list[dict[str, _Block]] = []
        self._given: list[Integers] = []  # the labels of each item
        self._spare: dict[str, None] = {}  # keys that are passed over, in their order
        try:
            reading = self._spool(items, name)
            lengths = [self._row_count(feed) for feed in self._feeds]
            self.complete = not reading.one_sample and None in lengths
            if self._given:
                whole = self.complete or reading.one_sample
                self.labels = joined_labels(self._given, None if whole else [count or 1 for count in lengths], name)
        except BaseException:
            self.close()
            raise
        self.repeated = reading.repeated
        self._rows = [
            (feed, row) for feed, count in enumerate(lengths) for row in range(1 if self.complete else count or 1)
        ]
        self.ids = [f"sample {index}" for index in range(len(self._rows))]
        self.description = f"{name}: {len(self._rows)} {'complete feeds' if self.complete else 'samples'}"
        self.notes = [ignored_note(self._spare)] if self._spare else []
        if self.labels is not None:
            self.labels_from = f"the pairs of the {name}"
            self.notes.append(f"the {name} gives pairs: the second of each is taken as labels")

    def close(self) -> None:
        """Deletes the temporary file."""
        self._finalizer()

    def read(self, index: int) -> Batch:
        """Returns sample `index`: arrays of axis-0 length 1, or the complete feed."""
        feed, row = self._rows[index]
        return {
            name: self._load(name, block, None if self.complete or name in self.repeated else row)
            for name, block in self._feeds[feed].items()
        }

    def _spool(self, items: Iterable[object], name: str) -> _Reading:
        """Checks and writes every item; returns how all of them are read."""
        reading: _Reading | None = None
        for number, item in enumerate(items):
            where = f"item {number} of the {name}"
            fed, labels = as_pair(item, self.specs, where)
            arrays = self._arrays(fed, where)
            if labels is not None:
                self._given.append(labels.copy())  # loaders may fill the same array again
            if len(self._given) not in (0, number + 1):
                raise InputError(f"{where}: some items come with labels and some without", _TWO_WAYS)
            this = self._reading(arrays, where)
            if reading is None:
                reading = this
                if reading.one_sample:
                    check_batch_axis(self.specs, reading.repeated, where)
            elif reading != this:
                raise InputError(f"{where}: it differs in form from the items before it", _TWO_WAYS)
            feed = {}
            for spec in self.specs:
                array = arrays[spec.name]
                if reading.one_sample and spec.name not in reading.repeated:
                    array = np.asarray(array)[None]
                check_axes(array.shape, spec, f"{where}: '{spec.name}'", skip=1 if reading.one_sample else 0)
                if array.ndim and len(array) == 0 and not reading.one_sample:
                    raise InputError(f"{where}: '{spec.name}' is empty", "leave empty feeds out")
                feed[spec.name] = self._write(to_model_dtype(array, spec, where))
            self._feeds.append(feed)
        if reading is None:
            raise InputError(f"the {name} gave no samples", "is it used up already? give a fresh one")
        return reading

    def _arrays(self, item: object, where: str) -> dict[str, Array]:
        """An item as input name → array."""
        if isinstance(item, Mapping):
            self._spare |= dict.fromkeys(spare_names(item, self.specs, where))
            return {spec.name: as_array(item[spec.name], f"{where}: '{spec.name}'") for spec in self.specs}
        if isinstance(item, list | tuple) and any(isinstance(x, Mapping) or hasattr(x, "__array__") for x in item):
            raise InputError(
                f"{where} is a {type(item).__name__} of {len(item)} arrays: which inputs they are for is not known",
                f"yield dicts with the model's inputs {listing(self.specs)}, or pairs of these and integer labels",
            )
        if len(self.specs) != 1:
            raise InputError(
                f"{where} is one array, the model has {len(self.specs)} inputs: {listing(self.specs)}", _TWO_WAYS
            )
        return {self.specs[0].name: as_array(item, where)}

    def _reading(self, arrays: Mapping[str, Array], where: str) -> _Reading:
        """Whether the item is a feed or one sample."""
        shapes = {name: [array.shape] for name, array in arrays.items()}
        excess, exact = excess_axes(shapes, self.specs, where, _TWO_WAYS)
        if excess == -1:
            return _Reading(True, exact)
        if excess not in (None, 0):
            spec = next(spec for spec in self.specs if spec.name not in exact and spec.shape is not None)
            raise InputError(
                f"{where}: an array of shape {list(shapes[spec.name][0])} does not fit the model's input {spec}",
                _TWO_WAYS,
            )
        return _Reading(False, frozenset())

    def _row_count(self, feed: Mapping[str, _Block]) -> int | None:
        """The samples a feed can be taken apart into; None if it has to stay whole."""
        free = all(spec.shape is None or spec.shape[:1] == (None,) for spec in self.specs)
        lengths = {block.shape[:1] for block in feed.values()}
        if not free or len(lengths) != 1 or () in lengths:
            return None
        return next(iter(lengths))[0]

    def _write(self, array: Array) -> _Block:
        """Appends an array to the temporary file; text is written as fixed-width characters."""
        plain = array.astype(np.str_) if array.dtype.kind == "O" else array
        try:
            offset = self._file.tell()
            self._file.write(plain.tobytes())
        except OSError as error:
            raise InputError(
                f"the samples cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}",
                "make room there, or set TMPDIR to a folder with more",
            ) from error
        return _Block(offset, plain.shape, plain.dtype)

    def _load(self, name: str, block: _Block, row: int | None) -> Array:
        """Reads an array, or one row of it with axis 0 of length 1."""
        shape, offset = block.shape, block.offset
        if row is not None:
            shape = (1, *shape[1:])
            offset += row * int(np.prod(shape, dtype=np.int64)) * block.dtype.itemsize
        count = int(np.prod(shape, dtype=np.int64))
        self._file.seek(offset)
        content = self._file.read(count * block.dtype.itemsize)
        return np.frombuffer(content, dtype=block.dtype, count=count).reshape(shape).astype(self._by_name[name].dtype)


def from_reader(reader: DataReader, specs: Sequence[InputSpec]) -> StreamSamples:
    """Samples of a CalibrationDataReader; the reader is used up.

    Raises:
        InputError: As `StreamSamples`.
    """
    feeds: Iterator[object] = iter(reader.get_next, None)
    return StreamSamples(feeds, specs, "calibration data reader")
