"""Which layers can be refitted together: front to back, in few passes over the samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import ModelProto

from onnx_dalr.factorize.refit import PairedSums, least_rows
from onnx_dalr.gradient.order import in_order
from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.layers import Layer
from onnx_dalr.graph.probe import names_read

MOST_PASSES = 8
"""Over the fit samples, where memory takes the sums: of a deeper model, layers that follow each other share one."""


_FEWEST_SAMPLES = 512
_ENOUGH = 10  # times the rows without which nothing is refitted: more say nothing new


def enough_samples(layers: Iterable[Layer], rows: Mapping[str, float], fit: int) -> int:
    """How many of so many fit samples have rows enough for all of the layers; `rows` are those of a sample, by name."""
    wanted = (_ENOUGH * least_rows(layer.n) / rows[layer.name] for layer in layers)
    return min(max(math.ceil(max(wanted, default=0)), _FEWEST_SAMPLES), fit)


def depths(proto: ModelProto, layers: Sequence[Layer], changed: Iterable[Layer]) -> dict[str, int]:
    """By layer name: how many changed layers lie before it, one after the other; with none its inputs are the same.

    Args:
        proto: The model.
        layers: The layers to look at, in its main graph.
        changed: Layers that are replaced; those inside functions are taken to be nowhere.
    """
    nodes = proto.graph.node
    uses = [use.node for layer in changed for use in layer.uses if use.node.scope.function is None]
    outputs = {output for node in uses for output in nodes[node.within(MAIN)].output}
    found: dict[str, int] = {}
    for node in in_order(proto):
        before = max((found.get(name, 0) for name in names_read(node)), default=0)
        found.update(dict.fromkeys(node.output, before + any(name in outputs for name in node.output)))
    return {layer.name: max(found.get(use.data, 0) for use in layer.uses) for layer in layers}


def fronts(
    layers: Sequence[Layer], depth: Mapping[str, int], limit: int, passes: int = MOST_PASSES
) -> list[list[Layer]]:
    """The layers in groups, those with fewer changed ones before them first; each takes one pass over the samples.

    Layers of one depth do not see each other and belong together. Where there are more depths than passes, neighbours
    share a group: the later of them see the earlier compressed, but not refitted yet.

    Args:
        layers: The layers.
        depth: By their names.
        limit: Bytes that the sums of a group may hold: where it is too little, there are more groups.
        passes: Groups there may be, where memory takes them.
    """
    levels = sorted({depth[layer.name] for layer in layers})
    groups: list[list[Layer]] = []
    for together in np.array_split(levels, min(passes, len(levels))) if levels else []:
        groups.append([])
        held = 0
        for layer in sorted((one for one in layers if depth[one.name] in together), key=lambda one: depth[one.name]):
            needed = 2 * PairedSums.bytes_needed(layer.m, layer.n)  # of fit and of select samples
            if groups[-1] and held + needed > limit:
                groups.append([])
                held = 0
            groups[-1].append(layer)
            held += needed
    return groups
