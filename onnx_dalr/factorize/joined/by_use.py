"""A lookup table whose rows that the samples use most stay fine, and the others become coarse (methods.md §9.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Form
from onnx_dalr.factorize.formats import FORMATS, Decoding, Encoded
from onnx_dalr.factorize.shape import Shape

BY_USE = "by-use"
FINE = "int8"
"""The format of the rows that are used most."""

FEWEST_ROWS = 4096
"""Smaller tables have little to give, and those of positions are among them: what no sample reached is not rare."""

_COARSE = "int4"
_SHARES = (1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3)  # of the columns: below, half of the unseen rows are hardly themselves
_LEAST_FINE = 64


@dataclass(frozen=True)
class ByUse:
    """Ranks are (rows,) and (rows, r): so many rows are int8, the others in the format of the form, whole or A·B.

    "by-use 1024 int4/64" stores 1024 rows as int8 and the others as int4; "by-use 1024x64 int8" makes the others of two
    factors, A [rows, 64] in the format of the form and B [64, columns] in int8. Every row still has an answer.
    """

    name: str = BY_USE

    def forms(self, shape: Shape, formats: Sequence[str]) -> Iterator[Form]:
        """Rows in powers of two up to a quarter, ranks from a sixth of the columns up to two thirds."""
        if shape.kernel or shape.m < max(FEWEST_ROWS, 2 * shape.n):
            return
        rows = [1 << power for power in range(_LEAST_FINE.bit_length() - 1, (shape.m // 4).bit_length())]
        ranks = sorted({max(1, round(share * shape.n)) for share in _SHARES})
        for format in formats:
            if format.startswith(_COARSE):
                yield from (Form(BY_USE, (count,), format) for count in rows)
            if format == FINE or format.startswith(_COARSE):
                yield from (Form(BY_USE, (count, rank), format) for count in rows for rank in ranks)

    def fits(self, form: Form) -> bool:
        """One or two numbers."""
        return len(form.rank) in (1, 2) and (form.format == FINE or form.format.startswith(_COARSE))

    def params(self, shape: Shape, form: Form) -> int:
        """Of the fine rows and of the others or their factors; where each row is to be found is no number."""
        return sum(part.params for part, _ in _places(shape, form))

    def bytes(self, shape: Shape, form: Form, dtype: np.dtype[Any]) -> int:
        """Of these, and two or four a row that say where it is."""
        held = sum(FORMATS[format].bytes(part, dtype) for part, format in _places(shape, form))
        return held + shape.m * _numbers(shape.m).itemsize

    def empty(self, shape: Shape, form: Form, dtype: np.dtype[Any]) -> Encoded:
        """Zeros."""
        made = [FORMATS[format].encode(np.zeros(part.dims, np.float32), dtype) for part, format in _places(shape, form)]
        return joined(made, np.arange(shape.m), np.broadcast_to(np.float32(0), (shape.m, shape.n)))


def joined(made: Sequence[Encoded], order: NDArray[Any], values: NDArray[Any]) -> Encoded:
    """One table: Gather(Concat(fine, others), order).

    Args:
        made: The fine rows, and the others or their factors A and B.
        order: Where each row is to be found among the fine rows and, after them, the others, [rows].
        values: What they stand for, [rows, columns].
    """
    fine, *others = made
    coarse = others[0] if len(others) == 1 else product(*others)
    numbers = order.astype(_numbers(len(order)))
    cast = () if numbers.dtype == np.int32 else (Decoding("Cast", attributes={"to": "int32"}),)
    return Encoded(
        {},
        values,
        (
            Decoding("Concat", operand="_coarse", attributes={"axis": 0}),
            Decoding("Gather", operand="_order", attributes={"axis": 0}),
            Decoding("Cast", attributes={"to": None}),
        ),
        canonical=True,
        parts={"": _bare(fine), "_coarse": _bare(coarse), "_order": Encoded({"": numbers}, order, cast)},
    )


def product(A: Encoded, B: Encoded) -> Encoded:
    """A·B, made when the model is loaded."""
    values = np.broadcast_to(np.float32(0), (len(A.values), B.values.shape[1]))
    steps = (Decoding("MatMul", operand="_B"),)
    return Encoded({}, values, steps, canonical=True, parts={"": _bare(A), "_B": _bare(B)})


def _bare(part: Encoded) -> Encoded:
    """Without its values: of a part nobody reads them, and they are as large as the table."""
    return replace(part, values=np.broadcast_to(np.float32(0), part.values.shape))


def _places(shape: Shape, form: Form) -> Iterator[tuple[Shape, str]]:
    """Shape and format of what the table is made of."""
    fine, *rank = form.rank
    yield Shape(fine, shape.n), FINE
    if rank:
        yield Shape(shape.m - fine, rank[0]), form.format
        yield Shape(rank[0], shape.n), FINE
    else:
        yield Shape(shape.m - fine, shape.n), form.format


def _numbers(rows: int) -> np.dtype[Any]:
    """The smallest type that ONNX Runtime casts to numbers of rows."""
    return np.dtype(np.uint16 if rows <= 1 << 16 else np.int32)
