"""What two models differ in, looked at closely: the samples one loses most on, the tensors that drift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnx_dalr.quality.drift import Drift, TensorDrift
from onnx_dalr.report.parts import facts_table, fitting_table, some
from onnx_dalr.results.compare import ModelComparison

_FEW = 5
"""Tensors that are listed where nobody asks for all."""


def worst_table(found: ModelComparison, width: int) -> Table:
    """One line a sample: what A says of it, what B says, what is right, what that loses."""
    worst = found.worst
    columns = [("worst samples", "left")]
    cells = [[one.id] for one in worst]
    ties = len({one.loss for one in worst}) < len(worst)
    several = sum(output.counts for output in found.quality.outputs) > 1
    for heading, side, wanted, said in (
        ("output", "left", several, [one.output for one in worst]),
        ("A says", "left", any(one.a for one in worst), [one.a or "" for one in worst]),
        ("B says", "left", any(one.b for one in worst), [one.b or "" for one in worst]),
        ("label", "left", any(one.label for one in worst), [one.label or "" for one in worst]),
        ("lost", "right", True, [f"{one.loss:.3g}" for one in worst]),
        ("moved", "right", ties, [f"{one.distortion:.2g}" for one in worst]),
    ):
        if wanted:
            columns.append((heading, side))
            for row, cell in zip(cells, said, strict=True):
                row.append(cell)
    rows = [(row, "" if one.finite else "bold red") for row, one in zip(cells, worst, strict=True)]
    return fitting_table(columns, rows, width, spare=("moved", "output"))


def drift_parts(drift: Drift, width: int, *, verbose: bool = False) -> Iterable[RenderableType]:
    """Where the two begin to differ, and the tensors about there; all of them where asked for."""
    yield facts_table(drift_facts(drift))
    shown = drift.tensors if verbose else _about(drift)
    if shown:
        yield Text()
        yield _tensors(drift, shown, width)


def drift_facts(drift: Drift) -> Iterable[tuple[str, str]]:
    """(name, what there is to say): where they begin to differ, where most, and what was looked at."""
    if not drift.tensors:
        yield "drift", f"cannot be told: {drift.note}"
        return
    first, jump = drift.first, drift.jump
    agree, one = (
        (f"agree to {_error(drift.before)}", f"error {_error(drift.before)}")
        if drift.before
        else ("are the same", "the same")
    )
    if first is None:
        yield "drift", f"no tensor drifts: all {agree}"
    else:
        error = f"error {_error(first.error)}" if first.finite else "B gives NaN or infinity"
        number = drift.tensors.index(first)
        before = "no tensor is before it"
        if number:
            before = f"{number:,} tensors before it {agree}" if number > 1 else f"the tensor before it: {one}"
        yield "drift", f"begins at {first.name!r}, made by {_maker(first)}: {error}; {before}"
        if jump is not None and jump != first:
            yield "jump", f"largest at {jump.name!r}, made by {_maker(jump)}: {_change(jump)}"
    matched = (
        f"{len(drift.tensors):,} tensors of the same name, of {drift.computed_a:,} in A, {drift.computed_b:,} in B"
    )
    yield "looked at", f"{matched}, on {drift.samples} samples"
    if drift.reshaped:
        yield "other shapes", some(drift.reshaped)
    if drift.note:
        yield "left out", f"some tensors: {drift.note}"


def _change(tensor: TensorDrift) -> str:
    return f"error {_error(tensor.entering)} → {_error(tensor.error)}"


def _maker(tensor: TensorDrift) -> str:
    ops = tensor.op if tensor.op == tensor.op_b else f"{tensor.op} in A, {tensor.op_b} in B"
    return f"{tensor.node} ({ops})"


def _about(drift: Drift) -> Sequence[TensorDrift]:
    """The last that agrees, the first that does not, those after it with the largest jumps, the last of all."""
    if drift.first is None:
        return ()
    at = drift.tensors.index(drift.first)
    jumps = sorted(drift.tensors[at + 1 :], key=lambda tensor: -tensor.jump)[: _FEW - 3]
    chosen = {id(tensor) for tensor in (*drift.tensors[max(at - 1, 0) : at + 1], *jumps, drift.tensors[-1])}
    return [tensor for tensor in drift.tensors if id(tensor) in chosen]


def _tensors(drift: Drift, shown: Sequence[TensorDrift], width: int) -> Table:
    columns = [("tensor", "left"), ("shape", "left"), ("made by", "left"), ("enters", "right"), ("error", "right")]
    rows = []
    for tensor in shown:
        made = tensor.op if tensor.op == tensor.op_b else f"{tensor.op} | {tensor.op_b}"
        mark = " (first)" if tensor is drift.first else ""
        cells = (
            tensor.name + mark,
            "×".join(map(str, tensor.shape)),
            made,
            _error(tensor.entering),
            _error(tensor.error),
        )
        rows.append((cells, "bold red" if not tensor.finite else ""))
    return fitting_table(columns, rows, width, spare=("shape", "enters", "made by"))


def _error(value: float) -> str:
    if not value:
        return "0"
    return f"{value:.1e}" if value < 0.001 else f"{value:.4f}" if math.isfinite(value) else "NaN"
