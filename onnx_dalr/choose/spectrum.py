"""What one layer loses at every size, to be looked at: a few points of its spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_dalr.candidate.forms import params_of
from onnx_dalr.factorize import KEPT, Form, Method
from onnx_dalr.factorize.spectra import Spectra
from onnx_dalr.factorize.structures import STRUCTURES
from onnx_dalr.graph.layers import Layer

_MOST = 33  # points: a line through them looks smooth


@dataclass(frozen=True)
class Spectrum:
    """What a layer's own output loses in one structure, from the fewest parameters to as many as it has.

    Attributes:
        structure: Of the forms.
        ranks: Of each point, in words: "64", "16x24".
        kept: Share of the layer's parameters.
        errors: √(E‖y−ŷ‖² / E‖y‖²) of y = W x to expect on unseen rows.
    """

    structure: str
    ranks: tuple[str, ...]
    kept: tuple[float, ...]
    errors: tuple[float, ...]


def spectrum_of(layer: Layer, spectra: Spectra, form: Form, method: Method) -> Spectrum | None:
    """A layer's spectrum in the structure of its form, or where that has none in the first that it could have.

    Args:
        layer: The layer.
        spectra: Of it.
        form: What it becomes.
        method: Of the factorization.

    Returns:
        At most 33 points, as far apart as logarithms of ranks; None where nothing is known of any rank.
    """
    first = layer.by_rank
    name = form.structure if form.structure in spectra.by_structure else first.name if first is not None else ""
    if name not in spectra.by_structure or name not in STRUCTURES:
        return None
    ranks = STRUCTURES[name].ranks(layer.shape, layer.params + 1)
    if not ranks:
        return None
    chosen = np.unique(np.geomspace(1, len(ranks), min(_MOST, len(ranks))).round().astype(int)) - 1
    forms = [Form(name, ranks[at], KEPT) for at in chosen]
    return Spectrum(
        name,
        tuple("x".join(map(str, one.rank)) for one in forms),
        tuple(params_of(layer, one, method) / layer.params for one in forms),
        tuple(spectra.expected_error(one) for one in forms),
    )
