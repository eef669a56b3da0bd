"""Statistics become Spectra: layers are taken apart, several at a time, in what is sure to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize import DENSE, Form, Method, Settings, Statistics, metric_shrinkage
from onnx_dalr.factorize.formats import FORMATS, Format
from onnx_dalr.factorize.joined.by_use import BY_USE
from onnx_dalr.factorize.joined.table import Table, Use
from onnx_dalr.factorize.rounding import Seen, losses
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures import Structure, taken_apart
from onnx_dalr.factorize.structures.whole import Whole
from onnx_dalr.graph.layers import Layer, matrix
from onnx_dalr.learn.trust import DEFAULT, trusts
from onnx_dalr.progress import FACTORIZING, numbered
from onnx_dalr.request.context import Context
from onnx_dalr.request.selection import formats_of
from onnx_dalr.session.session import PACKED_BELOW
from onnx_dalr.session.threads import blas_threads, side_by_side

HELD = 1 << 27
"""Bytes of statistics that are held on to for factors that may never be asked for."""

MOST_AT_A_TIME = 1 << 22
"""Numbers of the largest weight where several are taken apart side by side."""


def add_spectra(
    context: Context,
    layers: Sequence[Layer],
    statistics: Mapping[str, Statistics],
    into: dict[str, dict[str, Spectra]],
    *,
    part: tuple[int, int] = (1, 1),
    keep: bool = True,
    waits: bool = False,
) -> None:
    """Takes layers apart, several at a time, and adds their Spectra to those of others.

    Factors beside the default may never be asked for, and if so in one structure alone. They are made then, as long as
    no more statistics have to be held for them than `HELD`.

    Args:
        context: Of the run.
        layers: The layers.
        statistics: By layer name; layers without any are left out.
        into: Factors' name → layer name → Spectra.
        part: Which group of layers this is, and of how many.
        keep: Leave the statistics as they are; else one layer's at a time is let go.
        waits: Make nothing before it is asked for, the default neither, and hold all statistics until then.
    """
    present = [layer for layer in layers if layer.name in statistics]
    room = HELD

    def taken() -> Iterator[tuple[Layer, Statistics, bool]]:
        """One layer's statistics at a time, and whether they may be held on to."""
        nonlocal room
        for layer in present:
            held = statistics[layer.name]
            if not keep and isinstance(statistics, dict):
                del statistics[layer.name]
            needed = 0 if keep else Statistics.bytes_needed(held.m, held.n, held.needs, held.count, held.taps)
            room -= needed if (fits := needed <= room) else 0
            yield layer, held, fits

    def apart(one: tuple[Layer, Statistics, bool]) -> tuple[Layer, dict[str, Spectra]]:
        layer, held, fits = one
        sure = () if waits else (DEFAULT,) if fits else None
        return layer, _ways(context, layer, held, sure)

    threads = _threads(context, present)
    with (
        context.phase("factorize"),
        context.progress.stage(numbered(FACTORIZING, *part), len(present)) as advance,
        blas_threads(1 if threads > 1 else workers_for(context, present)),
    ):
        for layer, found in side_by_side(apart, taken(), threads):
            for name, spectra in found.items():
                into.setdefault(name, {})[layer.name] = spectra
            advance(1)


def make_ready(layers: Sequence[Layer], spectra: Sequence[Spectra], forms: Sequence[Form], threads: int) -> None:
    """Takes layers apart, side by side, in what these forms are going to ask of their spectra.

    Args:
        layers: The layers.
        spectra: Of each.
        forms: For each.
        threads: So many at a time; one where a layer is large, with as many threads of BLAS.
    """
    asked = [(one.by_structure, form.structure) for one, form in zip(spectra, forms, strict=True)]
    several = not are_large(layers)
    with blas_threads(1 if several else threads):
        wanted = (one for one in asked if one[1] in one[0])
        for _ in side_by_side(lambda one: one[0][one[1]], wanted, threads if several else 1):
            pass


def workers_for(context: Context, layers: Sequence[Layer]) -> int:
    """How many threads BLAS may take for layers: one unless they are large."""
    return context.options.runtime.workers if are_large(layers) else 1


def are_large(layers: Sequence[Layer]) -> bool:
    """Whether one of them is so large that several threads are worth it for it alone."""
    return _largest(layers) > MOST_AT_A_TIME


def _largest(layers: Sequence[Layer]) -> int:
    return max((layer.m * layer.n for layer in layers if not layer.in_one_piece), default=0)


def _threads(context: Context, layers: Sequence[Layer]) -> int:
    """How many layers are taken apart at a time: one where they are large, since each takes several moments' room."""
    return 1 if are_large(layers) else context.options.runtime.workers


def _ways(context: Context, layer: Layer, held: Statistics, sure: tuple[str, ...] | None) -> dict[str, Spectra]:
    """A layer's spectra by the name of their factors; those that are sure to be asked for are made, all where None."""
    W = matrix(context.original, layer)
    formats = [FORMATS[name] for name in formats_of(layer, context.options.weights)]
    if layer.kind.picks:
        return {DEFAULT: _by_use(layer, W, held, formats)}
    seen = _seen(held, formats)
    rounded, apart = losses(formats, W.reshape(layer.shape.dims), layer.dtype, seen)
    seen = seen.compact() if seen is not None and W.dtype == np.float32 else seen
    if layer.in_one_piece:
        return {DEFAULT: Spectra({DENSE: Whole()}, rounded=rounded, seen=seen)}
    found = {}
    for name, settings in trusts(context, W, held).items():
        put = context.original.put_away if context.original.size >= PACKED_BELOW else None
        made = spectra_of(layer, W, held, context.options.method, settings, put)
        if sure is None or name in sure:
            for structure in made.by_structure:
                made.by_structure[structure]
        found[name] = replace(made, rounded=rounded, rounded_apart=apart, seen=seen)
    return found


def _by_use(layer: Layer, W: NDArray[Any], held: Statistics, formats: Sequence[Format]) -> Spectra:
    """Of a table of which it is known how often each of its rows is picked."""
    use = Use.of(held, metric_shrinkage(W.T, held) if held.metric_probes else 1.0)
    names = [format.name for format in formats]
    table = Table.of(W, use, joined_forms(layer, names), layer.dtype, formats)
    return Spectra({DENSE: Whole()}, table.by_format, joined={BY_USE: table})


def without_rows(context: Context, layers: Sequence[Layer]) -> dict[str, Spectra]:
    """Spectra of layers in one piece of whose rows nothing is known: they count by their weights."""
    found = {}
    for layer in layers:
        values = matrix(context.original, layer).reshape(layer.shape.dims)
        formats = (FORMATS[name] for name in formats_of(layer, context.options.weights))
        found[layer.name] = Spectra({DENSE: Whole()}, *losses(formats, values, layer.dtype, None))
    return found


def _seen(held: Statistics, formats: Sequence[Format]) -> Seen | None:
    """What enters a layer, where rounding reads that and it is known."""
    moment = held.moment if any(format.reads_moment for format in formats) else None
    return None if moment is None else Seen(moment, held.mean)


def _says_enough(structure: Structure, layer: Layer, held: Statistics, method: Method) -> bool:
    """Whether statistics are what a structure reads: all of it, or what it makes do with."""
    lighter = structure.lighter_needs(layer.shape, method)
    wanted = [structure.needs(layer.shape, method), *([] if lighter is None else [lighter])]
    return any(not need & ~held.needs for need in wanted)


def spectra_of(
    layer: Layer,
    W: NDArray[Any],
    held: Statistics,
    method: Method,
    settings: Callable[[], Settings],
    put: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> Spectra:
    """What a layer loses in every structure, as exactly as its weight is known: worked out when it is asked for.

    Args:
        layer: The layer.
        W: Its weight, [m, n].
        held: Its statistics.
        method: Of the factorization.
        settings: What makes those of the method.
        put: Puts what is large where it takes no memory.
    """
    structures = (one for one in layer.structures if _says_enough(one, layer, held, method))
    compact = W.dtype == np.float32
    return Spectra(taken_apart(structures, W, layer.shape, held, method, settings, compact=compact, put=put))


def joined_forms(layer: Layer, formats: Sequence[str]) -> list[Form]:
    """The forms of a layer in which it is stored in several ways at once."""
    return [form for joined in layer.joined for form in joined.forms(layer.shape, formats)]
