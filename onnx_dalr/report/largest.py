"""The largest tensors of a model, a row each: what uses them, and what can be done for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import RenderableType

from onnx_dalr.errors import one_line
from onnx_dalr.graph.roles import in_short
from onnx_dalr.report.inventory import stored_as
from onnx_dalr.report.names import cut, middle, shortened
from onnx_dalr.report.parts import add_row, table
from onnx_dalr.results.inspect import Inspection, LayerFacts, StructureFacts, TensorFacts
from onnx_dalr.units import format_bytes, format_share

_LEAST_NAME, _LEAST_WHAT = 14, 10  # characters below which other columns go first
_LONGEST_OP = 16
_WIDE = 160  # characters of a line, in which operators are written out


def largest(found: Inspection, shown: Sequence[TensorFacts], width: int) -> RenderableType:
    """A table of these tensors in the width there is: columns that others imply go first, then names are shortened.

    Args:
        found: What they are of.
        shown: Those to show.
        width: Characters a line has.
    """
    layers = {layer.name: layer for layer in found.layers}
    matrices = {layer.name: (layer.m, layer.n) for layer in found.layers}
    columns = {
        "largest": [_name(tensor) for tensor in shown],
        "op": [_op(tensor, 3 * _LONGEST_OP if width >= _WIDE else _LONGEST_OP) for tensor in shown],
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
    columns["what"] = _in_full(columns["what"], shown, layers, room - needed["largest"])
    needed["what"] = max(map(cell_len, columns["what"]))
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


def _op(tensor: TensorFacts, longest: int) -> str:
    """The operators that read it, and how many nodes where that are more."""
    ops = middle(one_line(" + ".join(tensor.ops)), longest)
    return f"{ops} ×{tensor.uses}" if tensor.uses > len(tensor.ops) else ops


def _what(tensor: TensorFacts) -> str:
    """What can be done for it, or why nothing can, in a few words."""
    if tensor.layer:
        return f"rank ≤ {tensor.break_even}"
    if tensor.kind.endswith("embedding"):
        return "embedding"
    if tensor.format and tensor.reason:
        return f"{_table(tensor)}{tensor.format}"
    return one_line(in_short(tensor.reason)) if tensor.reason else tensor.kind


def _in_full(
    what: Sequence[str], shown: Sequence[TensorFacts], layers: Mapping[str, LayerFacts], room: int
) -> list[str]:
    """The same in more words where there is room for them: of all layers or of none, so that they can be compared."""
    ways = [layers[tensor.layer].structures if tensor.layer else () for tensor in shown]
    for said in (_every_way, _first_way):
        made = [said(each) or text for each, text in zip(ways, what, strict=True)]
        if max(map(cell_len, made)) <= room:
            break
    else:
        made = list(what)
    words = map(_in_words, shown)
    return [more if more and cell_len(more) <= room else text for text, more in zip(made, words, strict=True)]


def _in_words(tensor: TensorFacts) -> str:
    """How a weight is stored, or what the operator is that uses it, where its name does not say so."""
    if tensor.layer or not tensor.reason or tensor.kind.endswith("embedding"):
        return ""
    if tensor.format:
        return f"{_table(tensor)}{stored_as(tensor.format, tensor.grain)}"
    return one_line(tensor.says or "")


def _table(tensor: TensorFacts) -> str:
    return "embedding, " if tensor.kind.startswith("embedding") else ""


def _every_way(structures: Sequence[StructureFacts]) -> str:
    """All, those of one rank together; nothing where a rank is all there is to choose."""
    paying = [structure for structure in structures if structure.largest]
    if len(paying) < 2:
        return ""
    by_rank: dict[str, list[str]] = {}
    for structure in paying:
        by_rank.setdefault("×".join(map(str, structure.largest)), []).append(structure.name)
    return ", ".join(f"{'/'.join(names)} ≤ {rank}" for rank, names in by_rank.items())


def _first_way(structures: Sequence[StructureFacts]) -> str:
    """The one that a rank alone means, and how many others there are."""
    paying = [structure for structure in structures if structure.largest]
    if len(paying) < 2:
        return ""
    first = paying[0]
    return f"{first.name} ≤ {first.largest[0]}, {len(paying) - 1} more"
