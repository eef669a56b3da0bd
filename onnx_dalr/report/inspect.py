"""The view of `inspect`: what there is by kind, and the largest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.report.inventory import inventory, made_before
from onnx_dalr.report.largest import largest
from onnx_dalr.report.names import middle
from onnx_dalr.report.parts import add_row, skipped_view, table
from onnx_dalr.results.inspect import Inspection, KindFacts, is_small
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_bytes, format_count, format_share

TOP = 20
"""Tensors that are shown where nobody says how many."""

_LEAST_REASON = 20
_LONGEST_KIND = 28


def inspection_view(
    found: Inspection, width: int = PLAIN_WIDTH, *, top: int | None = TOP, words: Callable[[str], str] = str
) -> Group:
    """What the model is, what ranks can do for it, its bytes by kind, and the largest tensors.

    Args:
        found: What there is to show.
        width: Characters a line has.
        top: So many tensors; None for all but the small constants.
        words: What a sentence with options in it becomes; left as it is, it names them as the command line does.
    """
    lines = (_head(found), str(found.reachable), *_bits(found))
    parts: list[RenderableType] = [Text(_broken(words(line), width)) for line in lines]
    parts += made_before(found, width, top, words)
    parts += [Text(), *_kinds(found, width)]
    parts += inventory(found, width, top, words)
    tensors = [tensor for tensor in found.tensors if not is_small(tensor, found.bytes)]
    shown = tensors[:top]
    if shown:
        parts += [Text(), largest(found, shown, width)]
    if left := tensors[len(shown) :]:
        count = sum(tensor.bytes for tensor in left)
        said = f"and {len(left)} more, {format_bytes(count)} ({format_share(count, found.bytes)}): --all shows them"
        parts.append(Text(words(said), style="dim"))
    if silent := _without_bytes(found):
        parts += [Text(), skipped_view(silent)]
    return Group(*parts)


def _head(found: Inspection) -> str:
    used = {entry.domain for entry in found.operators}
    opsets = [
        f"{domain or 'onnx'} {version}" for domain, version in found.opsets.items() if not domain or domain in used
    ]
    beside = f" with {len(found.files)} data file{'s' if len(found.files) > 1 else ''}" if found.files else ""
    as_one = f" ({' = '.join((*found.counted_as_one, '1'))})" if found.counted_as_one else ""
    macs = f"{format_count(found.macs)} multiply-adds{as_one}, " if found.macs else ""
    return one_line(
        f"{found.path or 'model'}: {format_bytes(found.bytes)}{beside}, {format_count(found.params)} parameters, "
        f"{macs}opset {', '.join(opsets)}"
    )


def _bits(found: Inspection) -> Iterable[str]:
    """What fewer bits reach, where that is anything."""
    bits = found.fewer_bits
    if bits is not None and bits.in_int8 < found.bytes:
        reached = f"{format_bytes(bits.bytes)} of {format_bytes(found.bytes)} ({100 * bits.bytes / found.bytes:.0f} %)"
        count = f"{bits.weights} weight{'s' if bits.weights > 1 else ''}"
        then = f"--weights int8 makes about {format_bytes(bits.in_int8)} of the file"
        yield f"fewer bits: {reached} in {count}; {then}"


def _broken(line: str, width: int) -> str:
    """A line that is too long, broken where it pauses."""
    pause = next((pause for pause in ("; ", ": ") if pause in line), "")
    if cell_len(line) <= width or not pause:
        return line
    first, _, rest = line.rpartition(pause)
    return f"{first}{pause.rstrip()}\n{rest}"


# By kind.


def _kinds(found: Inspection, width: int) -> Iterable[RenderableType]:
    """The bytes of the file by what they are, and why not where it is a weight; below it where the line is short.

    Beside them the share of the multiply-adds, where these are known.
    """
    remarks = f"{format_bytes(found.remark_bytes)} of it doc strings and metadata"
    worth_saying = 2 * found.remark_bytes > found.other_bytes
    rows = [_kind_cells(kind, found) for kind in found.kinds]
    rows.append(_cells("graph, names and metadata", found.other_bytes, found, remarks if worth_saying else ""))
    if found.unclaimed_bytes:
        rows.append(_cells("of no tensor, in data files", found.unclaimed_bytes, found))
    headings = ["where the bytes are", "count", "bytes", "of file", "of macs", "why not"]
    columns = [at for at in range(5) if found.macs or headings[at] != "of macs"]
    taken = sum(max(cell_len(row[at]) for row in (*rows, headings)) + 2 for at in columns)
    beside = width - taken >= _LEAST_REASON and any(row[-1] for row in rows)
    columns += [5] if beside else []
    made = table(*((headings[at], "left" if at in (0, 5) else "right") for at in columns))
    made.columns[0].no_wrap = True
    for row in rows:
        add_row(made, *(row[at] for at in columns))
    yield made
    if not beside:
        for reason in dict.fromkeys(filter(None, (kind.reason for kind in found.kinds))):
            kinds = ", ".join(dict.fromkeys(kind.kind for kind in found.kinds if kind.reason == reason))
            yield Text.assemble(("why not ", "bold"), one_line(f"{kinds}: {reason}"))
        if worth_saying:
            yield Text.assemble(("graph ", "bold"), remarks)


def _kind_cells(kind: KindFacts, found: Inspection) -> tuple[str, ...]:
    """A row of what is stored; of nodes that multiply by nothing stored there are no bytes."""
    name = middle(one_line(f"eligible {kind.kind}" if kind.eligible else kind.kind), _LONGEST_KIND)
    size = (format_bytes(kind.bytes), format_share(kind.bytes, found.bytes)) if kind.bytes else ("", "")
    macs = format_share(kind.macs, found.macs) if kind.macs and found.macs else ""
    return name, str(kind.count), *size, macs, kind.reason or ""


def _cells(name: str, size: int, found: Inspection, more: str = "") -> tuple[str, ...]:
    """A row of what is no tensor."""
    return name, "", format_bytes(size), format_share(size, found.bytes), "", more


def _without_bytes(found: Inspection) -> list[Skipped]:
    """Skipped nodes whose reason no tensor shows: both operands are computed, or the weight counts as another's."""
    told = {(tensor.op, tensor.node, tensor.reason) for tensor in found.tensors}
    return [entry for entry in found.skipped if (entry.op, entry.name, entry.reason) not in told]
