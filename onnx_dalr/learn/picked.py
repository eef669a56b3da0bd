"""What is picked from tables that are stored by use, on samples that their use was not learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx_dalr.factorize import Form
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.joined.by_use import BY_USE, FINE
from onnx_dalr.factorize.joined.table import Table
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.learn import Learned
from onnx_dalr.request.context import Context
from onnx_dalr.samples.sets import Sets


def notes_of_use(
    context: Context, layers: Sequence[Layer], forms: Sequence[Form], learned: Learned, sets: Sets | None
) -> Iterator[str]:
    """Which rows of a table stay fine, and how much of what select samples pick is of the others.

    Where there are none, that is what the fit samples let expect.
    """
    chosen = {layer: form for layer, form in zip(layers, forms, strict=True) if form.structure == BY_USE}
    counted = {}
    if chosen and sets is not None and len(sets.select):
        feeds = (batch for _, batch in sets.select)
        found = capture(
            context.original,
            list(chosen),
            context.options.method,
            feeds,
            device=context.options.runtime,
            mask_input=sets.mask_input,
        )
        counted = found.statistics
    for layer, form in chosen.items():
        table = learned.of(layer.name).joined[BY_USE]
        assert isinstance(table, Table)
        yield _note(layer, form, table, counted[layer.name].total if layer.name in counted else None)


def _note(layer: Layer, form: Form, table: Table, counts: Float64 | None) -> str:
    use, (fine, *rank) = table.use, form.rank
    others = use.order[fine:]
    if counts is None:
        share, of = use.outside(fine), "of what is to be expected"
    else:
        share, of = float(counts[others].sum() / counts.sum()), "of what the select samples pick"
    there = f"all {use.seen:,}" if fine >= use.seen else f"{fine:,} of {use.seen:,}"
    what = f"of rank {rank[0]} in {form.format}" if rank else f"{form.format}"
    return (
        f"{layer.name!r}: of its {layer.m:,} rows, {fine:,} stay {FINE}, {there} that the samples have among them; "
        f"the others, {100 * share:.2g} % {of}, become {what}"
    )
