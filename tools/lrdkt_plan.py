"""Plans as LRDKT makes them: separable convolutions and thin pairs by a truncated SVD of the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lrdkt_count import known, planned
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr import Plan
from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.factorize import PAIR, Form
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.plan.choice import Choice

SEPARABLE = "v"
_STEPS = 40  # of a bisection


def forms_of(proto: ModelProto, ranks: Mapping[str, int]) -> dict[str, Form]:
    """Ranks by layer as forms: `v` of a convolution, `pair` of a fully connected layer."""
    kinds = {node.name: SEPARABLE if node.op_type == "Conv" else PAIR for node in proto.graph.node}
    return {name: Form(kinds[name], (rank,)) for name, rank in ranks.items()}


def plan(proto: ModelProto, forms: Mapping[str, Form], target: str = "the published ranks") -> Plan:
    """The forms as a Plan for this model."""
    choices = tuple(Choice(name, form, f"{target}, by SVD of the weights") for name, form in forms.items())
    made = Plan("svd", choices, target=target)
    return made.finished(load(proto).content_hash, {}, onnx_dalr.__version__)


def by_energy(proto: ModelProto, limit: int) -> dict[str, Form]:
    """LRDKT's ranks for all convolutions: the smallest that keep more than one share of Σσ².

    The share is the largest whose model has at most `limit` multiply-adds.
    """
    kept = {layer.name: _kept(proto, layer) for layer in convolutions(proto)}

    def at(share: float) -> dict[str, Form]:
        ranks = {name: int(np.searchsorted(sums, share, side="right")) + 1 for name, sums in kept.items()}
        return {name: Form(SEPARABLE, (min(rank, len(kept[name])),)) for name, rank in ranks.items()}

    return _largest(proto, limit, at)


def by_ratio(proto: ModelProto, limit: int) -> dict[str, Form]:
    """One share of the rank at which a convolution would have as many multiply-adds as before, in all of them."""
    counted = known(proto)
    even = {
        layer.name: macs_of(layer, Form(), counted) / macs_of(layer, Form(SEPARABLE, (1,)), counted)
        for layer in convolutions(proto)
    }

    def at(share: float) -> dict[str, Form]:
        return {name: Form(SEPARABLE, (max(1, int(share * rank)),)) for name, rank in even.items()}

    return _largest(proto, limit, at)


def _largest(proto: ModelProto, limit: int, forms: Callable[[float], dict[str, Form]]) -> dict[str, Form]:
    """The forms of the largest share, from 0 to 1, whose model has at most so many multiply-adds."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if planned(proto, forms(middle)).macs <= limit else (low, middle)
    return forms(low)


def convolutions(proto: ModelProto) -> list[Layer]:
    """The layers that are 2-D convolutions of several taps on both axes."""
    return [layer for layer in find(Model(proto))[0] if len(layer.shape.kernel) == 2 and min(layer.shape.kernel) > 1]


def _kept(proto: ModelProto, layer: Layer) -> NDArray[Any]:
    """Share of Σσ² of the kernel, unfolded to [C·kh, N·kw], that every rank from 1 on keeps."""
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == layer.weight]
    W = numpy_helper.to_array(tensor)
    N, C, kh, kw = W.shape
    sigma = np.linalg.svd(W.transpose(1, 2, 0, 3).reshape(C * kh, N * kw), compute_uv=False)
    return np.cumsum(sigma**2) / np.sum(sigma**2)
