"""Families of allocations: kernels in one kind of structure alone, or without the first of them.

Each is what the metric would choose where it chooses among less. It under-predicts what early convolutions do, whose
errors are alike at neighbouring positions, and different structures not by the same factor (methods.md §6.7): which
family does best is for the select samples to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.factorize.joined import JOINED
from onnx_dalr.graph.layers import Layer
from onnx_dalr.request.structures import SPATIAL, TUCKER

SPATIAL_ONLY = "kernels by their axes alone"
TUCKER_ONLY = "kernels by their channels alone"
WITHOUT_FIRST = "the first convolution as it was"

_ALONE = {SPATIAL_ONLY: frozenset(SPATIAL), TUCKER_ONLY: frozenset(TUCKER)}

MOST = len(_ALONE) + 1
"""Of them."""


def most_families(layers: Sequence[Layer]) -> int:
    """How many there are at most: none where no weight can be taken apart in more than one way."""
    return MOST if any(len(layer.structures) > 1 for layer in layers) else 0


def families(space: SearchSpace) -> dict[str, SearchSpace]:
    """The space with less to choose from, by name: for each family that is another than all there is.

    Layers that have one structure keep it, those that have none of a family's keep theirs.
    """
    known = {layer.name: _structures(space, at) for at, layer in enumerate(space.layers)}
    several = [name for name, structures in known.items() if len(structures) > 1]
    found: dict[str, SearchSpace] = {}
    for name, alone in _ALONE.items():
        only = {layer: known[layer] & alone for layer in several if known[layer] & alone}
        if any(structures != known[layer] for layer, structures in only.items()):
            found[name] = replace(space, only=only)
    if several and sum(map(bool, known.values())) > 1:
        found[WITHOUT_FIRST] = replace(space, only={several[0]: frozenset()})
    return found


def _structures(space: SearchSpace, at: int) -> frozenset[str]:
    """In which a layer may get a rank."""
    return frozenset(form.structure for form in space.menus[at] if form.rank and form.structure not in JOINED)
