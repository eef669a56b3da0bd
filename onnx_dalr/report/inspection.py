"""The table of `inspect`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from onnx_dalr.inspection import Inspection
from onnx_dalr.report.text import skipped_view, table
from onnx_dalr.units import format_bytes, format_count


def inspection_view(found: Inspection) -> Group:
    """Layers by size with their share of the file and break-even rank, then what is skipped and why."""
    eligible = sum(layer.share for layer in found.layers)
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in found.opsets.items())
    head = (
        f"{found.path or 'model'}: {format_bytes(found.bytes)}, {format_count(found.params)} parameters, "
        f"opset {opsets}; {len(found.layers)} layers are eligible, {100 * eligible:.1f} % of the file"
    )
    parts: list[RenderableType] = [Text(head)]
    if found.optimized is not None:
        parts.append(Text.assemble(("note: ", "yellow"), f"optimized before: {found.optimized}"))
    if found.layers:
        parts += [Text(), _layers(found)]
    if found.skipped:
        parts.append(Text())
        parts.append(skipped_view(found.skipped))
    return Group(*parts)


def _layers(found: Inspection) -> RenderableType:
    made = table(
        ("layer", "left"),
        ("op", "left"),
        ("shape", "right"),
        ("type", "left"),
        ("parameters", "right"),
        ("bytes", "right"),
        ("of file", "right"),
        ("break-even rank", "right"),
        ("weight", "left"),
    )
    for layer in found.layers:
        made.add_row(
            layer.name,
            layer.op if layer.uses == 1 else f"{layer.op} ×{layer.uses}",
            f"{layer.m}×{layer.n}",
            layer.dtype,
            format_count(layer.params),
            format_bytes(layer.bytes),
            f"{100 * layer.share:.1f} %",
            str(layer.break_even),
            "" if layer.weight == layer.name else layer.weight,
        )
    return made
