"""What a lookup table loses by use: from how often its rows are picked and what its columns do to the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import KEPT, Form
from onnx_dalr.factorize.formats import FORMATS, Encoded, Format, rounding
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.joined.by_use import FINE, joined
from onnx_dalr.factorize.linalg import eigenvectors, roots
from onnx_dalr.factorize.statistics import Statistics

_LEAST_UNSEEN = 0.01  # of what is picked: so much of it is taken to be rows that the samples do not have
_LEAST_SHRINKAGE = 0.3  # rows that no gradient is of may mean something in any direction
_ANYWHERE = 0.1  # of that: any row, wherever it is
_NEIGHBOURS = 64  # a window is this part of all rows
_ROWS = 8192  # taken to double precision at a time
_SHOWN = 2048  # rows by which it is found out what a format leaves of factors


@dataclass(frozen=True, eq=False)
class Use:
    """How a table is used.

    Attributes:
        shares: Of all that is picked, by row, [m], also of rows that the samples do not have.
        order: The rows, those that are picked most first, [m].
        seen: How many of them the samples have.
        columns: What the squared size of a row counts, [n, n]: the metric at what is picked, of mean diagonal 1.
    """

    shares: Float64
    order: NDArray[np.intp]
    seen: int
    columns: Float64

    @classmethod
    def of(cls, held: Statistics, shrinkage: float) -> Use:
        """From the statistics of what was picked.

        What the samples do not have is picked as often as rows that they have once (Good and Turing). Vocabularies are
        often sorted by frequency: the more of the rows around it they have, the likelier such a row is.

        Args:
            held: With a row of a single 1 for every pick; their gradients weigh the columns where there are any.
            shrinkage: Share of the identity in the metric at least.
        """
        counts = held.total
        new = max(float((counts == 1).sum() / held.count), _LEAST_UNSEEN)
        columns = np.eye(held.m)
        if held.metric_probes and held.metric_trace > 0:
            s = max(shrinkage, _LEAST_SHRINKAGE)
            columns = (1 - s) * held.output_metric / (held.metric_trace / held.m) + s * columns
        around = _around(counts > 0)
        likely = np.where(counts > 0, 0.0, (1 - _ANYWHERE) * around + _ANYWHERE * around.mean())
        shares = counts / held.count
        if likely.any():
            shares = (1 - new) * shares + new * likely / likely.sum()
        return cls(shares, np.lexsort((-likely, -counts)), int((counts > 0).sum()), columns)

    def classes(self, fine: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The numbers of the rows that stay fine, and of the others, each in the table's order."""
        return np.sort(self.order[:fine]), np.sort(self.order[fine:])

    def outside(self, fine: int) -> float:
        """The share of what is picked that is of the other rows."""
        return float(self.shares[self.order[fine:]].sum())


@dataclass(frozen=True, eq=False)
class Table:
    """What a table loses in forms by use, as a share of what it makes of the rows that are picked.

    Attributes:
        use: Of it.
        by_format: By format: the share that rounding the whole table to it leaves behind.
        kept: By form with a rank: the share that is lost.
    """

    use: Use
    by_format: Mapping[str, float]
    kept: Mapping[Form, float]

    @classmethod
    def of(
        cls, W: NDArray[Any], use: Use, forms: Sequence[Form], dtype: np.dtype[Any], formats: Sequence[Format] = ()
    ) -> Table:
        """From the table, [m, n].

        Args:
            W: The table.
            use: Of it.
            forms: All forms that anybody will ask for.
            dtype: Element type it has.
            formats: In which all of it may be stored.
        """
        kinds = {format.name: format for format in (FORMATS[FINE], *formats) if format.name != KEPT}
        some = np.ascontiguousarray(W[np.sort(use.order[:: max(1, len(W) // _SHOWN)])])
        by_format = {name: rounding(format.encode(some, dtype), some) for name, format in kinds.items()}
        return cls(use, by_format, dict(_losses(W, use, forms, by_format, dtype)))

    def share(self, form: Form) -> float:
        """What is left out of the other rows, and what rounding leaves of them and of the fine ones."""
        return self.kept[form]

    def landmarks(self, forms: Sequence[Form]) -> Sequence[Form]:
        """Hardly more rows fine than the samples have: the others by the smallest, middle, largest rank, and whole."""
        counts = sorted({form.rank[0] for form in forms})
        count = next((count for count in counts if count >= self.use.seen), counts[-1])
        there = [form for form in forms if form.rank[0] == count and form.format == forms[-1].format]
        ranked, whole = [form for form in there if len(form.rank) > 1], [form for form in there if len(form.rank) == 1]
        return [*dict.fromkeys(ranked[at * (len(ranked) - 1) // 2] for at in range(3) if ranked), *whole]

    def encoded(self, W: NDArray[Any], form: Form, dtype: np.dtype[Any]) -> Encoded:
        """The classes of rows, each as it is stored, and where each row is to be found."""
        fine, others = self.use.classes(form.rank[0])
        made = [FORMATS[FINE].encode(W[fine], dtype)]
        if len(form.rank) == 1:
            made.append(FORMATS[form.format].encode(W[others], dtype))
            coarse = made[-1].values
        else:
            A, B = self._factors(W, others, form.rank[1])
            made += [FORMATS[form.format].encode(A, dtype), FORMATS[FINE].encode(B, dtype)]
            coarse = made[1].values @ made[2].values
        order = np.empty(len(W), np.int64)
        order[fine], order[others] = np.arange(len(fine)), len(fine) + np.arange(len(others))
        return joined(made, order, np.concatenate([made[0].values, coarse])[order])

    def _factors(self, W: NDArray[Any], others: NDArray[np.intp], rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """A and B with the least Σ share ‖row − row of A·B‖² in the metric of the columns.

        With that metric L Lᵀ and Q the eigenvectors of Lᵀ (Σ share · row rowᵀ) L, A = W L Q and B = Qᵀ L⁻¹.
        """
        root, dual = roots(self.use.columns)
        _, Q = _directions(_moment(W, others, self.use), root)
        return W[others] @ (root @ Q[:, :rank]).astype(W.dtype), (Q[:, :rank].T @ dual.T).astype(W.dtype)


def _losses(
    W: NDArray[Any], use: Use, forms: Sequence[Form], by_format: Mapping[str, float], dtype: np.dtype[Any]
) -> Iterator[tuple[Form, float]]:
    root = roots(use.columns)[0]
    by_count: dict[int, list[Form]] = {}
    for form in forms:
        by_count.setdefault(form.rank[0], []).append(form)
    everything = _moment(W, np.arange(len(W)), use)
    whole = float(np.sum(everything * use.columns)) or 1.0
    rounded: dict[tuple[int, str], float] = {}
    for count, several in by_count.items():
        left = everything - _moment(W, use.order[:count], use)
        power = max(float(np.sum(left * use.columns)), 0.0)
        fine = by_format[FINE] * max(whole - power, 0.0)
        values, Q = _directions(left, root) if any(len(form.rank) > 1 for form in several) else (np.zeros(0), root)
        for form in several:
            if len(form.rank) == 1:
                yield form, (fine + by_format[form.format] * power) / whole
                continue
            rank = form.rank[1]
            kept = float(values[:rank].sum())
            if (rank, form.format) not in rounded:
                some = use.order[count :: max(1, len(W) // _SHOWN)]
                A = W[some] @ (root @ Q[:, :rank]).astype(W.dtype)
                rounded[rank, form.format] = rounding(FORMATS[form.format].encode(A, dtype), A)
            yield form, (fine + max(power - kept, 0.0) + rounded[rank, form.format] * kept) / whole


def _around(seen: NDArray[np.bool_]) -> Float64:
    """How many of the rows around each are seen: the mean of a window, taken twice."""
    found, half = seen.astype(np.float64), max(1, len(seen) // (2 * _NEIGHBOURS))
    for _ in range(2):
        total = np.concatenate([[0.0], np.cumsum(np.pad(found, half, mode="edge"))])
        found = (total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)
    return found


def _moment(W: NDArray[Any], rows: NDArray[np.intp], use: Use) -> Float64:
    """Σ share · row rowᵀ, [n, n]."""
    total = np.zeros((W.shape[1], W.shape[1]))
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        part = W[some].astype(np.float64) * np.sqrt(use.shares[some])[:, None]
        total += part.T @ part
    return total


def _directions(moment: Float64, root: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues, largest first, and eigenvectors of Lᵀ M L."""
    values, Q = eigenvectors(root.T @ moment @ root)
    return np.maximum(values, 0.0), Q
