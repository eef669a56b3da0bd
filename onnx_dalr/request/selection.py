"""Which of the layers found take part: --include and --exclude, where a pattern that matches nothing is an error."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from onnx_dalr.errors import InputError
from onnx_dalr.graph.layers import Layer, Skipped
from onnx_dalr.request.structures import StructureRule, structures_for
from onnx_dalr.request.target import RankRule, Target, matches
from onnx_dalr.request.weights import WeightRule, formats_for


def select(
    layers: Sequence[Layer], skipped: Sequence[Skipped], include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[Layer], list[Skipped]]:
    """The layers that stay, and what is skipped now.

    Args:
        layers: All Layers of the model.
        skipped: Nodes that are none.
        include: Globs on layer, node or weight names; empty for all.
        exclude: Globs on layer, node or weight names, taken out again; empty for none.

    Raises:
        InputError: A pattern matches no Layer.
    """
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            check_pattern(option, pattern, layers, skipped)
    chosen: list[Layer] = []
    left: list[Skipped] = list(skipped)
    for layer in layers:
        by = next((pattern for pattern in exclude if matches(pattern, names_of(layer))), None)
        if by is not None:
            left.append(left_out(layer, f"excluded by --exclude {by!r}"))
        elif include and not any(matches(pattern, names_of(layer)) for pattern in include):
            left.append(left_out(layer, "not among --include"))
        else:
            chosen.append(layer)
    return chosen, left


def names_of(layer: Layer) -> tuple[str, ...]:
    """Every name a user may know a layer by."""
    return tuple(dict.fromkeys((layer.name, layer.weight, *filter(None, layer.nodes))))


def check_pattern(option: str, pattern: str, layers: Sequence[Layer], skipped: Sequence[Skipped]) -> None:
    """Refuses a pattern that matches no Layer.

    Raises:
        InputError: With the reason where it matches skipped nodes only, with near names where it matches nothing.
    """
    if any(matches(pattern, names_of(layer)) for layer in layers):
        return
    for node in skipped:
        if matches(pattern, (node.name, *filter(None, [node.weight]))):
            if option == "--exclude":
                return
            raise InputError(f"{option} {pattern!r} matches {node.name!r}, which is not eligible: {node.reason}")
    known = [name for layer in layers for name in names_of(layer)]
    near = difflib.get_close_matches(pattern.strip("*"), known, n=3, cutoff=0.4) or known[:3]
    hint = f"there are, for example: {', '.join(near)}" if near else "the model has no eligible layer"
    raise InputError(f"{option} {pattern!r} matches no layer", hint)


def check_ranks(target: Target, layers: Sequence[Layer], skipped: Sequence[Skipped]) -> None:
    """Refuses patterns of `--rank` that match no layer.

    Raises:
        InputError: One matches none.
    """
    for rule in target.ranks:
        if rule.pattern != "*":
            check_pattern("--rank", rule.pattern, layers, skipped)


def rule_for(layer: Layer, rules: Sequence[RankRule]) -> RankRule | None:
    """The last rule that matches a layer, None without one."""
    found = [rule for rule in rules if matches(rule.pattern, names_of(layer))]
    return found[-1] if found else None


def formats_of(layer: Layer, rules: Sequence[WeightRule], *, priced: bool = True) -> tuple[str, ...]:
    """The formats in which a layer's numbers may be stored, or the one of them where formats have no price."""
    return formats_for(names_of(layer), rules, priced=priced)


def taken_apart_as_asked(layer: Layer, rules: Sequence[StructureRule]) -> Layer:
    """The layer with the structures alone that it may get; in one piece where none of these applies to it."""
    names = structures_for(names_of(layer), rules)
    if not names or layer.in_one_piece:
        return layer
    asked = replace(layer, only=names)
    refused = f"--structures {','.join(names)}: none of these applies to it"
    return asked if asked.structures else replace(layer, why_whole=refused)


def left_out(layer: Layer, reason: str) -> Skipped:
    """The entry of a Layer that does not take part."""
    return Skipped(layer.name, layer.op, reason, layer.weight, (layer.m, layer.n))
