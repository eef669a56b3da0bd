"""Samples set apart of those to fit on: they choose nothing and teach nothing, and so can prove what tuning gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_dalr.samples.sets import Sets

_SHARE, _LEAST, _MOST = 0.2, 50, 512
_LARGEST_SHARE = 0.25  # of the fit samples, where there are few


def with_proof(sets: Sets) -> Sets:
    """Sets with proof samples: 15 % of the fit samples, at least 50, at most a quarter of them, or 512.

    Drawn by the seed of the split; of the steps of a recording the last ones.
    """
    fit = sets.fit
    count = min(max(round(_SHARE * len(fit)), _LEAST), int(_LARGEST_SHARE * len(fit)), _MOST)
    if fit.source.fixed_batch is not None:  # what does not fill a batch would be left out
        count -= count % fit.source.fixed_batch
    if count < 2:
        return sets
    if fit.source.complete:
        chosen = np.arange(len(fit) - count, len(fit))
    else:
        random = np.random.Generator(np.random.PCG64([sets.options.seed, 1]))
        chosen = np.sort(random.permutation(len(fit))[:count])
    taken = np.zeros(len(fit), bool)
    taken[chosen] = True
    return replace(
        sets,
        fit=replace(fit, indices=fit.indices[~taken]),
        proof=replace(fit, indices=fit.indices[taken]),
    )
