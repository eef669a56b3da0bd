"""Class folders: in which orders a trainer may have numbered them, and one numbering for several sets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from natsort import natsorted, ns
from numpy.typing import NDArray

from onnx_dalr.errors import InputError

_SHOWN = 4


@dataclass(frozen=True, eq=False)
class ClassOrder:
    """One way to number classes by their names. `str()` says it with an example.

    Attributes:
        name: What the order is called: "natural order".
        labels: int64 [classes]: the label of each class, by its label in natural order. They are distinct, and leave
            numbers out where the names are numbers with gaps.
        example: A few names in this order, where it differs from natural order.
    """

    name: str
    labels: NDArray[np.int64]
    example: str

    def __str__(self) -> str:
        return f"{self.name} ({self.example})"


def class_orders(names: Sequence[str], count: int | None = None) -> tuple[ClassOrder, ...]:
    """The orders in which a trainer may have numbered class folders, natural order first, none of them twice.

    Natural order is ours (2 before 10); torchvision and Keras sort names as text (10 before 2), other tools without
    regard to case; names that are or hold numbers may mean these.

    Args:
        names: The names in natural order, as `Samples.classes`.
        count: Number of classes of the model, where it is known to be more than the folders: a number in a name may
            go up to it.

    Returns:
        At least natural order.
    """
    orders = [_sorted("natural order", names, list(names))]
    sorts = (
        ("text order", sorted(names)),
        ("natural order, upper and lower case alike", natsorted(names, alg=ns.IGNORECASE)),
        ("text order, upper and lower case alike", sorted(names, key=lambda name: (name.casefold(), name))),
    )
    orders += [_sorted(called, names, order) for called, order in sorts]
    numbers = [re.search("[0-9]+", name) for name in names]
    found = [int(match[0]) for match in numbers if match]
    if found and len(set(found)) == len(names):
        for called, first in (("the numbers in the names", 0), ("the numbers in the names, from 1", 1)):
            if min(found) >= first and max(found) - first < max(count or 0, len(names)):
                orders.append(_numbered(called, names, [number - first for number in found]))
    distinct: list[ClassOrder] = []
    for order in orders:
        if not any(np.array_equal(order.labels, other.labels) for other in distinct):
            distinct.append(order)
    return tuple(distinct)


def _sorted(called: str, names: Sequence[str], order: Sequence[str]) -> ClassOrder:
    position = {name: label for label, name in enumerate(order)}
    # From the beginning, or from just before the first name that natural order has elsewhere.
    moved = next((i for i, (one, two) in enumerate(zip(names, order, strict=True)) if one != two), 0)
    start = 0 if moved < _SHOWN else min(moved - 1, len(order) - _SHOWN)
    shown = ", ".join(order[start : start + _SHOWN])
    example = f"{'…, ' if start else ''}{shown}{', …' if start + _SHOWN < len(order) else ''}"
    return ClassOrder(called, np.array([position[name] for name in names], dtype=np.int64), example)


def _numbered(called: str, names: Sequence[str], labels: list[int]) -> ClassOrder:
    moved = next((i for i, label in enumerate(labels) if label != i), 0)
    return ClassOrder(called, np.array(labels, dtype=np.int64), f"{names[moved]} is class {labels[moved]}")


def near_class(name: str, known: Sequence[str]) -> str | None:
    """The class that a name may have been meant to be, if one is near."""
    near = difflib.get_close_matches(name.casefold(), [other.casefold() for other in known], n=1)
    return next((other for other in known if near and other.casefold() == near[0]), None)


def match_classes(labels: NDArray[np.int64], names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Labels of class folders in the numbers that the folders of the same names have in another set.

    Names that differ in nothing but case are the same where only one name comes into question. Folders without
    samples are not looked at.

    Args:
        labels: int64 [n], an index into `names` for each sample of --eval.
        names: The class folders of --eval.
        known: The class folders of --calib.

    Returns:
        int64 [n], indices into `known`.

    Raises:
        InputError: The two have no class in common, or --eval has one that --calib lacks.
    """
    exact = {name: label for label, name in enumerate(known)}
    alike = {name.casefold(): label for label, name in enumerate(known)}
    if len(alike) < len(known):
        alike = {}
    found = {name: exact.get(name, alike.get(name.casefold())) for name in names}
    held = [names[label] for label in np.unique(labels)]
    lacking = [name for name in held if found[name] is None]
    if len(lacking) == len(held):
        raise InputError(
            f"the class folders of --calib ({_listed(known)}) and --eval ({_listed(held)}) have no name in common",
            "name them alike, or number the classes yourself: --labels FILE and --eval-labels FILE",
        )
    if lacking:
        near = near_class(lacking[0], known)
        raise InputError(
            f"--eval has the class folder '{lacking[0]}', which --calib has not",
            f"did you mean '{near}'? --calib has {_listed(known)}"
            if near
            else f"--calib has {_listed(known)}; an empty folder of that name there gives the class its number",
        )
    order = np.array([-1 if label is None else label for label in found.values()], dtype=np.int64)
    return order[labels]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
