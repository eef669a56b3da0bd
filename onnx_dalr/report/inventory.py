"""Parts of the view of `inspect`: what an earlier run made, operators, formats, data files, weights that are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.report.names import middle, shortened
from onnx_dalr.report.parts import add_row, fitting_table, some, table
from onnx_dalr.results.inspect import Inspection
from onnx_dalr.results.inventory import FormatFacts, Made, MadeLayer, OperatorFacts
from onnx_dalr.units import format_bytes, format_count, format_share

_WORTH_A_ROW = 0.001  # of the file
_OPERATORS, _FILES = 8, 5  # rows, where not all are asked for
_LEAST_SAID = 30  # characters of a column of words
_LEAST_NAME, _LONGEST_OP = 12, 32
_NAMED = 4


def stored_as(format: str, *grains: str) -> str:
    """A format with how many numbers share a scale: "int4 in blocks of 32", "int8, a scale a channel"."""
    said = " / ".join(filter(None, grains))
    return f"{format}{' ' if said.startswith('in ') else ', '}{said}" if said else format


def inventory(found: Inspection, width: int, top: int | None, words: Callable[[str], str]) -> Iterator[RenderableType]:
    """The bytes by operator, by format and by data file, and what is stored once for several nodes.

    Args:
        found: What there is to show.
        width: Characters a line has.
        top: None for everything.
        words: What a sentence with options in it becomes.
    """
    if found.operators:
        yield Text()
        yield from _operators(found, width, top)
    if found.formats:
        yield Text()
        yield _formats(found, width)
    if found.files:
        yield Text()
        yield from _files(found, width, top, words)
    if found.tied:
        yield Text()
        yield _tied(found)


# What an earlier run made.


def made_before(
    found: Inspection, width: int, top: int | None, words: Callable[[str], str]
) -> Iterator[RenderableType]:
    """The plan that a model of ours was made by: every layer that changed, in the form it has now."""
    if found.optimized is None:
        return
    if found.made is None:
        yield Text.assemble(("note: ", "yellow"), one_line(f"optimized before: {found.optimized}"))
        return
    made = found.made
    yield Text.assemble(("made by ", "bold"), one_line(_made(made, found)))
    layers = list(made.layers)[:top]
    if not layers:
        return
    columns = [("layer", "left"), ("form", "left"), ("parameters", "right"), ("kept", "right"), ("bytes", "right")]
    rows = [(_made_cells(layer), "") for layer in layers]
    taken = sum(
        max(cell_len(cells[at]) for cells, _ in [*rows, ([name for name, _ in columns], "")]) for at in range(1, 5)
    )
    names = shortened([one_line(layer.name) for layer in layers], max(width - taken - 8, _LEAST_NAME))
    rows = [((name, *cells[1:]), style) for name, (cells, style) in zip(names, rows, strict=True)]
    yield Text()
    yield fitting_table(columns, rows, width, spare=("kept", "bytes"))
    if left := len(made.layers) - len(layers):
        yield Text(words(f"and {left} more: --all shows {'them' if left > 1 else 'it'}"), style="dim")


def _made(made: Made, found: Inspection) -> str:
    said = f"onnx-dalr {made.version}, method {made.method}"
    if made.original_bytes:
        times = f", {made.original_bytes / found.bytes:.1f}× smaller" if found.bytes else ""
        said += f", of {format_bytes(made.original_bytes)}{times}"
    if made.tuned is not None:
        said += ", and tuned" if made.tuned else ", not tuned"
    said += f"; samples {made.calibration}" if made.calibration else ""
    return said + ("; it was not the first time" if made.again else "")


def _made_cells(layer: MadeLayer) -> tuple[str, ...]:
    before, now = layer.numbers_before, layer.numbers
    known = before is not None and now is not None
    return (
        layer.name,
        layer.form,
        f"{format_count(before)} → {format_count(now)}" if before and now else format_count(now) if now else "",
        format_share(now or 0, before or 0) if known else "",
        format_bytes(layer.bytes) if layer.bytes else "",
    )


# By operator and format.


def _operators(found: Inspection, width: int, top: int | None) -> Iterable[RenderableType]:
    """What holds bytes, or is not what an exporter writes; the others in one row."""
    entries = found.operators
    worth = [entry for entry in entries if entry.share >= _WORTH_A_ROW or entry.says]
    shown = list(entries) if top is None else worth[:_OPERATORS]
    if len(shown) == len(entries) - 1:  # a row for one is no shorter than its name
        shown = list(entries)
    names = [middle(one_line(_operator(entry)), _LONGEST_OP) for entry in shown]
    rows = [
        (name, str(entry.nodes), *_size(entry.bytes, found), one_line(entry.says or ""))
        for name, entry in zip(names, shown, strict=True)
    ]
    if others := [entry for entry in entries if entry not in shown]:
        held = sum(entry.bytes for entry in others)
        named = some([_operator(entry) for entry in others], _NAMED)
        rows.append(
            (
                f"{len(others)} {'others' if rows else 'operators'}",
                str(sum(entry.nodes for entry in others)),
                *_size(held, found),
                named,
            )
        )
    headings = ["by operator", "nodes", "bytes", "of file", "what it is"]
    taken = sum(max(cell_len(row[at]) for row in (*rows, headings)) + 2 for at in range(4))
    beside = width - taken >= _LEAST_SAID
    columns = range(5 if beside and any(row[4] for row in rows) else 4)
    made = table(*((headings[at], "left" if at in (0, 4) else "right") for at in columns))
    made.columns[0].no_wrap = True
    for row in rows:
        add_row(made, *(row[at] for at in columns))
    yield made
    if not beside:
        for name, entry in zip(names, shown, strict=True):
            if entry.says:
                yield Text.assemble((f"{name} ", "bold"), one_line(entry.says))


def _operator(entry: OperatorFacts) -> str:
    """Its name, with the domain where that is not one that everybody knows."""
    if not entry.op:
        return "read by no node"
    known = not entry.domain or entry.domain.startswith("com.microsoft")
    return entry.op if known else f"{entry.domain}.{entry.op}"


def _size(count: int, found: Inspection) -> tuple[str, str]:
    return (format_bytes(count), format_share(count, found.bytes)) if count else ("", "")


def _formats(found: Inspection, width: int) -> RenderableType:
    """What numbers are stored as, and what one takes with its part of a scale; shapes and indices in one row."""
    columns = [("by format", "left"), ("tensors", "right"), ("numbers", "right"), ("bits each", "right")]
    columns += [("bytes", "right"), ("of file", "right")]
    scales = any(entry.grains for entry in found.formats)
    columns += [("scales", "left")] if scales else []
    plain = [entry for entry in found.formats if not entry.is_of_floats and entry.share < _WORTH_A_ROW]
    rows = [_format_cells(entry.format, [entry], found) for entry in found.formats if entry not in plain]
    rows += [_format_cells(", ".join(entry.format for entry in plain), plain, found)] if plain else []
    made = [(cells[: len(columns)], "") for cells in rows]
    return fitting_table(columns, made, width, spare=("tensors", "numbers"))


def _format_cells(name: str, entries: Sequence[FormatFacts], found: Inspection) -> tuple[str, ...]:
    held = sum(entry.bytes for entry in entries)
    return (
        name,
        str(sum(entry.tensors for entry in entries)),
        format_count(sum(entry.numbers for entry in entries)),
        f"{entries[0].bits:.3g}" if entries[0].is_of_floats else "",
        format_bytes(held),
        format_share(held, found.bytes),
        ", ".join(dict.fromkeys(grain for entry in entries for grain in entry.grains)),
    )


# External data, and what is shared.


def _files(found: Inspection, width: int, top: int | None, words: Callable[[str], str]) -> Iterable[RenderableType]:
    """Where external data lies; what of it belongs to no tensor, where anything does."""
    shown = found.files if top is None else found.files[:_FILES]
    columns = [("data file", "left"), ("tensors", "right"), ("bytes", "right")]
    columns += [("of no tensor", "right")] if found.unclaimed_bytes else []
    rows = []
    for file in shown:
        rest = format_bytes(file.unclaimed) if file.unclaimed else ""
        cells = (one_line(file.name), str(file.tensors), format_bytes(file.bytes), rest)
        rows.append((cells[: len(columns)], ""))
    yield fitting_table(columns, rows, width)
    if left := found.files[len(shown) :]:
        size = format_bytes(sum(file.bytes for file in left))
        yield Text(words(f"and {len(left)} more, {size}: --all shows {'them' if len(left) > 1 else 'it'}"), style="dim")


def _tied(found: Inspection) -> Text:
    """Weights that several nodes use."""
    tied = found.tied
    uses = sum(tensor.uses for tensor in tied)
    size = format_bytes(sum(tensor.bytes for tensor in tied))
    what = f"{len(tied)} weights, {size}, are" if len(tied) > 1 else f"1 weight, {size}, is"
    names = [f"{tensor.layer or tensor.name} ×{tensor.uses}" for tensor in tied]
    return Text.assemble(
        ("tied ", "bold"), f"{what} used by {uses} nodes, stored and counted once ", (f"({some(names)})", "dim")
    )
