"""Weights and multiply-adds: of a model as it stands, and of what a plan is to make of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from onnx import ModelProto

from onnx_dalr.candidate.forms import macs_of
from onnx_dalr.factorize import Form
from onnx_dalr.factorize.structures import slots_of
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.macs import MultiplyAdds
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.graph.storage.operators import FLOATING
from onnx_dalr.look.macs import as_declared


class Counts(NamedTuple):
    """What a model holds and does.

    Attributes:
        weights: Numbers in its constants of two axes and more: all but biases.
        macs: Multiply-adds for one sample.
    """

    weights: int
    macs: int


def count(proto: ModelProto) -> Counts:
    """Of a model as it stands.

    Raises:
        ValueError: Its multiply-adds do not follow from the sizes that it declares.
    """
    tensors = [tensor for tensor in proto.graph.initializer if tensor.data_type in FLOATING and len(tensor.dims) > 1]
    return Counts(sum(math.prod(tensor.dims) for tensor in tensors), known(proto).whole)


def planned(proto: ModelProto, forms: Mapping[str, Form]) -> Counts:
    """Of a model with its layers in these forms, by name; the values of its weights are not looked at."""
    weights, macs = count(proto)
    counted = known(proto)
    for layer in find(Model(proto))[0]:
        if layer.name in forms:
            form = forms[layer.name]
            weights += sum(slot.shape.params for slot in slots_of(layer.shape, form)) - layer.shape.params
            macs += round(macs_of(layer, form, counted) - macs_of(layer, Form(), counted))
    return Counts(weights, macs)


def known(proto: ModelProto) -> MultiplyAdds:
    """Multiply-adds node by node, and the sizes of all tensors.

    Raises:
        ValueError: They do not follow from the sizes that the model declares.
    """
    found = as_declared(Model(proto))
    if found is None or found.counted.unknown:
        raise ValueError("the model does not say how large a sample is")
    return found.counted
