"""The words of this room: what a model wants (InputSpec), what it is fed (Batch), where it comes from (Samples)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError

Array = NDArray[Any]
Batch = dict[str, Array]
"""Model input name → array, ready for the model."""

CLASS_FOLDERS = "class folders"
"""Where labels come from that are the sub-folders of a folder of images."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a model as its file declares it.

    Attributes:
        name: Input name.
        shape: One entry per axis: a positive int where fixed, None where free. None as a whole when the
            model does not declare even the rank.
        dtype: Element type the model wants.
        axes: What the file calls each axis, None where it has no name; empty where it names none. A hint and no more:
            two inputs that differ in it alone are equal.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]
    axes: tuple[str | None, ...] = field(default=(), compare=False)

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The shape when every axis is fixed (a scalar's is empty), else None."""
        if self.shape is None:
            return None
        axes = tuple(axis for axis in self.shape if axis is not None)
        return axes if len(axes) == len(self.shape) else None

    def __str__(self) -> str:
        axes = "…" if self.shape is None else ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"'{self.name}' {self.dtype.name} [{axes}]"


class Samples(ABC):
    """A finite, indexable collection of samples; nothing is read before `read` asks for it.

    A *sample* is one row of axis 0 of the model's inputs, or, where `complete` is true, one complete
    feed (a model with state, or with a fixed batch that was recorded as a whole).

    Attributes:
        specs: The model inputs these samples feed.
        ids: One name per sample, unique and stable between runs ("0-bird/000.png", "calib.npz[17]").
        labels: int64 [len(self)], the class of each sample, or [len(self), …], classes of its tokens or pixels; −100
            where there is none. None when the samples carry none.
        labels_from: Where they come from, as messages call it: "class folders", "--labels"; None without.
        classes: Class names by index where known (the sub-folders of an image folder; "" where a number has none), else
            empty.
        complete: Each sample is a complete feed: never joined with others into one batch, and split in
            contiguous blocks since neighbours are steps of one recording.
        repeated: Names of the inputs that go whole with every sample and have no row per sample.
        description: One line for the report: what was read and how many.
        notes: What a user should know of how they are read, before the work; one sentence each.
        settings: Preprocessing that will be applied, as "name: value" facts for report and JSON; empty for arrays.
    """

    specs: Sequence[InputSpec]
    ids: Sequence[str]
    labels: NDArray[np.int64] | None = None
    labels_from: str | None = None
    classes: Sequence[str] = ()
    complete: bool = False
    repeated: frozenset[str] = frozenset()
    description: str = ""
    notes: Sequence[str] = ()
    settings: dict[str, str] = {}  # noqa: RUF012 - replaced, never mutated
    _opened_by: Samples | None = None  # kept alive: temporary files go with the object that made them

    def __len__(self) -> int:
        return len(self.ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most sources hold nothing open
        """Lets go of what the source holds open; reading afterwards is a mistake."""

    def with_labels(self, labels: NDArray[np.int64] | None, classes: Sequence[str] = ()) -> Self:
        """A copy under other labels that reads from what this one holds open: closing one closes both.

        Args:
            labels: int64 [n] or [n, …], a class by index; None for no labels.
            classes: Class names by index, where they are known.
        """
        made = copy(self)
        made.labels, made.classes, made._opened_by = labels, classes, self
        made.labels_from = None if labels is None else self.labels_from
        return made

    def relabelled(self, order: NDArray[np.int64]) -> Self:
        """A copy with labels [n] by another order of their classes: label i becomes `order[i]`."""
        if self.labels is None:
            return self
        classes = [""] * (int(order.max()) + 1)
        for name, label in zip(self.classes, order, strict=bool(self.classes)):
            classes[label] = name
        return self.with_labels(order[self.labels], classes if self.classes else ())

    @property
    def fixed_batch(self) -> int | None:
        """How many samples every batch must hold because the model fixes axis 0; None where any number will do."""
        if self.complete:
            return None
        batched = [spec.shape for spec in self.specs if spec.shape and spec.name not in self.repeated]
        return max((shape[0] for shape in batched if shape[0] is not None), default=None)

    @abstractmethod
    def read(self, index: int) -> Batch:
        """Returns sample `index` as a feed of one: axis 0 of every array has length 1, or the complete feed.

        Repeated inputs come whole.

        Raises:
            InputError: The sample cannot be decoded, or holds NaN or infinity; names the sample.
        """

    def batches(self, indices: Sequence[int] | NDArray[np.int64], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yields (indices of the samples in it, feed) in the order of `indices`.

        At most `size` samples are joined along axis 0, and only consecutive ones whose arrays agree in every
        other axis. Complete feeds come one by one. Repeated inputs are not joined; samples whose repeated
        inputs differ come in different batches.

        A model that fixes axis 0 at b is given b samples at a time whatever `size` says; samples that do not
        fill a last batch of b are left out, which the yielded indices show.

        Raises:
            InputError: A sample cannot be read, or the model takes b at a time and no b samples go together.
        """
        fixed = self.fixed_batch
        size = 1 if self.complete else fixed or max(size, 1)
        group: list[int] = []
        feeds: list[Batch] = []
        yielded = False
        for index in map(int, indices):
            feed = self.read(index)
            if feeds and not self._joinable(feeds[0], feed):
                if fixed is None:
                    yield group, self._join(feeds)
                group, feeds = [], []
            group.append(index)
            feeds.append(feed)
            if len(group) == size:
                yield group, self._join(feeds)
                yielded = True
                group, feeds = [], []
        if group and fixed is None:
            yield group, self._join(feeds)
        elif len(indices) and fixed is not None and not yielded:
            raise self.too_few(len(indices))

    def too_few(self, count: int) -> InputError:
        """The error of a set of `count` samples that cannot fill one batch of a model with a fixed axis 0."""
        return InputError(
            f"the model takes {self.fixed_batch} samples at a time and this set has {count} that go together",
            "give more samples, so that what is held out fills a batch too, or --holdout 0, or complete feeds: arrays "
            "with one axis more than the model's inputs",
        )

    def _joinable(self, first: Batch, other: Batch) -> bool:
        """Whether two feeds of one can be rows of one batch."""
        return all(
            np.array_equal(first[name], other[name])
            if name in self.repeated
            else first[name].shape[1:] == other[name].shape[1:]
            for name in first
        )

    def _join(self, feeds: Sequence[Batch]) -> Batch:
        """Feeds of one → one batch, along axis 0."""
        if len(feeds) == 1:
            return feeds[0]
        return {
            name: array if name in self.repeated else np.concatenate([feed[name] for feed in feeds])
            for name, array in feeds[0].items()
        }


def digest(batch: Batch) -> str:
    """Fingerprint of a feed's content: names, element types, shapes and values, whatever the order of names.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).
    """
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(batch):
        array = batch[name]
        hasher.update(repr((name, array.dtype.name, array.shape)).encode())
        # The bytes of an array of text are addresses: what it says is taken instead.
        hasher.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    return hasher.hexdigest()
