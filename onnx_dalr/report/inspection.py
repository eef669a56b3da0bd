"""The table of `inspect`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.errors import one_line
from onnx_dalr.inspection import Inspection
from onnx_dalr.report.text import add_row, skipped_view, table
from onnx_dalr.units import format_bytes, format_count

NARROW = 100


def inspection_view(found: Inspection, *, narrow: bool = False) -> Group:
    """Layers by size with their share of the file and break-even rank, then what is skipped and why.

    Args:
        found: What there is to show.
        narrow: Leave out what the other columns imply, for fewer than `NARROW` characters a line.
    """
    eligible = sum(layer.share for layer in found.layers)
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in found.opsets.items())
    head = (
        f"{one_line(str(found.path or 'model'))}: {format_bytes(found.bytes)}, "
        f"{format_count(found.params)} parameters, opset {opsets}; "
        f"{len(found.layers)} layers are eligible, {100 * eligible:.1f} % of the file"
    )
    parts: list[RenderableType] = [Text(head)]
    if found.optimized is not None:
        parts.append(Text.assemble(("note: ", "yellow"), f"optimized before: {one_line(found.optimized)}"))
    if found.layers:
        parts += [Text(), _layers(found, narrow)]
    if found.skipped:
        parts.append(Text())
        parts.append(skipped_view(found.skipped))
    return Group(*parts)


def _layers(found: Inspection, narrow: bool) -> RenderableType:
    columns = [("layer", "left"), ("op", "left"), ("shape", "right"), ("type", "left"), ("parameters", "right")]
    columns += [("bytes", "right"), ("of file", "right"), ("break-even rank", "right"), ("weight", "left")]
    implied = {"op", "type", "parameters", "weight"} if narrow else set()
    made = table(*(column for column in columns if column[0] not in implied))
    for layer in found.layers:
        cells = {
            "layer": layer.name,
            "op": layer.op if layer.uses == 1 else f"{layer.op} ×{layer.uses}",
            "shape": f"{layer.m}×{layer.n}",
            "type": layer.dtype,
            "parameters": format_count(layer.params),
            "bytes": format_bytes(layer.bytes),
            "of file": f"{100 * layer.share:.1f} %",
            "break-even rank": str(layer.break_even),
            "weight": "" if layer.weight == layer.name else layer.weight,
        }
        add_row(made, *(text for heading, text in cells.items() if heading not in implied))
    return made
