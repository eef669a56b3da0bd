"""The view of `inspect`: what there is by kind, and the largest of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.graph.layers import Skipped
from onnx_dalr.graph.roles import in_short
from onnx_dalr.report.names import cut, middle, shortened
from onnx_dalr.report.parts import add_row, skipped_view, table
from onnx_dalr.results.inspect import Inspection, KindFacts, TensorFacts, is_small
from onnx_dalr.shown import PLAIN_WIDTH
from onnx_dalr.units import format_bytes, format_count, format_share

TOP = 20
"""Tensors that are shown where nobody says how many."""

_LEAST_NAME, _LEAST_WHAT = 14, 10  # characters below which other columns go first
_LEAST_REASON = 20
_LONGEST_OP = 16
_LONGEST_KIND = 28
_SHOWN_RANKS = 8


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
    parts: list[RenderableType] = [Text(_broken(line, width)) for line in (_head(found), str(found.reachable))]
    if found.optimized is not None:
        parts.append(Text.assemble(("note: ", "yellow"), _optimized(found.optimized, top)))
    parts += [Text(), *_kinds(found, width)]
    tensors = [tensor for tensor in found.tensors if not is_small(tensor, found.bytes)]
    shown = tensors[:top]
    if shown:
        parts += [Text(), _tensors(found, shown, width)]
    if left := tensors[len(shown) :]:
        count = sum(tensor.bytes for tensor in left)
        said = f"and {len(left)} more, {format_bytes(count)} ({format_share(count, found.bytes)}): --all shows them"
        parts.append(Text(words(said), style="dim"))
    if silent := _without_bytes(found):
        parts += [Text(), skipped_view(silent)]
    return Group(*parts)


def _head(found: Inspection) -> str:
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in found.opsets.items())
    files = {tensor.file for tensor in found.tensors if tensor.file}
    beside = f" with {len(files)} data file{'s' if len(files) > 1 else ''}" if files else ""
    as_one = f" ({' = '.join((*found.counted_as_one, '1'))})" if found.counted_as_one else ""
    macs = f"{format_count(found.macs)} multiply-adds{as_one}, " if found.macs else ""
    return one_line(
        f"{found.path or 'model'}: {format_bytes(found.bytes)}{beside}, {format_count(found.params)} parameters, "
        f"{macs}opset {opsets}"
    )


def _broken(line: str, width: int) -> str:
    """A line that is too long, broken where it pauses."""
    pause = next((pause for pause in ("; ", ": ") if pause in line), "")
    if cell_len(line) <= width or not pause:
        return line
    first, _, rest = line.rpartition(pause)
    return f"{first}{pause.rstrip()}\n{rest}"


def _optimized(note: str, top: int | None) -> str:
    """What an earlier run wrote, in words; as it is where it is not as we write it."""
    try:
        facts = json.loads(note)
        plain = not any(isinstance(form, str) for form in facts["ranks"].values())
        ranks = [f"{layer} {_form(form, plain=plain)}" for layer, form in facts["ranks"].items()]
        what = "ranks" if plain else "layers"
        said = f"optimized before by onnx-dalr {facts['version']}, method {facts['method']}, {what} "
    except (ValueError, TypeError, KeyError, AttributeError):
        return one_line(f"optimized before: {note}")
    shown = ranks if top is None else ranks[:_SHOWN_RANKS]
    more = f" and {len(ranks) - len(shown)} more" if len(ranks) > len(shown) else ""
    again = "; it was not the first time" if "before" in facts else ""
    return one_line(said + ", ".join(shown) + more + again)


def _form(noted: int | str, *, plain: bool) -> str:
    """A form as it is noted: a rank says that it is one, beside other forms."""
    return str(noted) if plain or isinstance(noted, str) else f"rank {noted}"


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


# The largest.


def _tensors(found: Inspection, shown: Sequence[TensorFacts], width: int) -> RenderableType:
    matrices = {layer.name: (layer.m, layer.n) for layer in found.layers}
    columns = {
        "largest": [_name(tensor) for tensor in shown],
        "op": [_op(tensor) for tensor in shown],
        "shape": ["×".join(map(str, matrices.get(tensor.layer or "", tensor.shape))) for tensor in shown],
        "type": [tensor.dtype for tensor in shown],
        "bytes": [format_bytes(tensor.bytes) for tensor in shown],
        "of file": [format_share(tensor.bytes, found.bytes) for tensor in shown],
        "what": [_what(tensor) for tensor in shown],
    }
    needed = {heading: max(map(cell_len, (heading, *cells))) for heading, cells in columns.items()}
    for spare in ("type", "op", "shape", "of file"):
        least = needed["largest"] + needed["what"]
        if spare != "type":
            least = min(_LEAST_NAME, needed["largest"]) + min(_LEAST_WHAT, needed["what"])
        if _room(needed, width) >= least:
            break
        del needed[spare]
        if spare == "op":
            columns["what"] = [f"×{one.uses} {_what(one)}" if one.uses > 1 else _what(one) for one in shown]
            needed["what"] = max(map(cell_len, columns["what"]))
    room = max(_room(needed, width), 2)
    ranks = max((cell_len(columns["what"][at]) for at, tensor in enumerate(shown) if tensor.layer), default=0)
    what = min(needed["what"], max(_LEAST_WHAT, ranks, room - needed["largest"], room // 3), room - 1)
    name = min(needed["largest"], room - what)
    columns["largest"] = shortened(columns["largest"], name)
    columns["what"] = [cut(text, what) for text in columns["what"]]
    right = {"shape", "bytes", "of file"}
    made = table(*((heading, "right" if heading in right else "left") for heading in columns if heading in needed))
    made.columns[0].width = name
    for at, tensor in enumerate(shown):
        add_row(
            made,
            *(cells[at] for heading, cells in columns.items() if heading in needed),
            style="" if tensor.layer else "dim",
        )
    return made


def _room(needed: dict[str, int], width: int) -> int:
    """Characters that are left for names and what they are."""
    return (
        width
        - sum(count for heading, count in needed.items() if heading not in ("largest", "what"))
        - 2 * (len(needed) - 1)
    )


def _name(tensor: TensorFacts) -> str:
    """What `--rank` and reports know it by: a layer's name, the node's where the weight's says little, the tensor's."""
    if tensor.layer:
        return one_line(tensor.layer)
    return one_line(tensor.node if tensor.name.startswith("onnx::") and tensor.node else tensor.name)


def _op(tensor: TensorFacts) -> str:
    """The operators that read it, and how many nodes where that are more."""
    ops = middle(one_line(" + ".join(tensor.ops)), _LONGEST_OP)
    return f"{ops} ×{tensor.uses}" if tensor.uses > len(tensor.ops) else ops


def _what(tensor: TensorFacts) -> str:
    if tensor.layer:
        return f"rank ≤ {tensor.break_even}"
    if tensor.kind.endswith("embedding"):
        return "embedding"
    if tensor.format and tensor.reason:
        return tensor.kind
    return one_line(in_short(tensor.reason)) if tensor.reason else tensor.kind


def _without_bytes(found: Inspection) -> list[Skipped]:
    """Skipped nodes whose reason no tensor shows: both operands are computed, or the weight counts as another's."""
    told = {(tensor.op, tensor.node, tensor.reason) for tensor in found.tensors}
    return [entry for entry in found.skipped if (entry.op, entry.name, entry.reason) not in told]
