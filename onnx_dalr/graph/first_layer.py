"""What a network's first layer was made for: running statistics where there are any, else the size of its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.graph.storage.model import Model
from onnx_dalr.graph.surgeon import graph_of

_FAR = 8.0  # standard deviations that a first layer's answers lie from their running mean, on average
_NEAR = 0.1
_LARGE = 150.0  # times its bias: 0.5 to 50 where inputs are as they should be
_SMOOTH = {"Sub", "Div", "Mul", "Add", "Cast", "Identity", "Transpose", "Pad", "Reshape", "Unsqueeze", "Squeeze"}


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """Where to look, and what is to be seen there.

    Attributes:
        name: Of the node.
        tensor: What the layer answers.
        mean: Running mean by channel, of a BatchNormalization that follows it; else its bias.
        deviation: Running standard deviation by channel; None where there is only a bias.
    """

    name: str
    tensor: str
    mean: NDArray[Any]
    deviation: NDArray[Any] | None

    def off_by(self, values: Sequence[NDArray[Any]]) -> str | None:
        """What is wrong with the layer's answers, channels on axis 1; None for nothing."""
        rows = np.concatenate([np.moveaxis(y, 1, -1).reshape(-1, y.shape[1]) for y in values]).astype(np.float64)
        if rows.shape[1] != len(self.mean) or not np.isfinite(rows).all():
            return None
        if self.deviation is None:
            size, bias = float(np.sqrt(np.mean((rows - self.mean) ** 2))), float(np.sqrt(np.mean(self.mean**2)))
            if bias > 0 and size > _LARGE * bias:
                times = f"its answers are {size / bias:.0f} times its bias"
                return f"inputs look far too large for layer {self.name!r}: {times}"
            return None
        away = float(np.sqrt(np.mean(((rows - self.mean) / self.deviation) ** 2)))
        spread = float(np.sqrt(np.mean((rows.std(axis=0) / self.deviation) ** 2)))
        if away > _FAR:
            return (
                f"inputs are far outside of what layer {self.name!r} was trained on: its answers are {away:.1f} "
                "standard deviations from those of training, where 1 is usual"
            )
        if spread < _NEAR:
            return (
                f"inputs hardly vary for layer {self.name!r}: its answers have {100 * spread:.2g} % of the spread they "
                "had in training"
            )
        return None


def first_layer(model: Model) -> FirstLayer | None:
    """The first convolution behind the model's one input, with the statistics or the bias it was trained to have."""
    stored = {tensor.name for tensor in model.proto.graph.initializer}
    inputs = [value.name for value in model.proto.graph.input if value.name not in stored]
    if len(inputs) != 1:
        return None
    current = {inputs[0]}
    for node in graph_of(model.proto).nodes:
        if not any(tensor.name in current for tensor in node.inputs):
            continue
        if node.op in _SMOOTH:
            current.update(tensor.name for tensor in node.outputs)
        elif node.op == "Conv" and node.inputs[0].name in current:
            return _of(model, node)
        else:
            return None
    return None


def _of(model: Model, conv: Any) -> FirstLayer | None:
    """What is known of a convolution, as graphsurgeon sees it; values are read here, wherever they are stored."""
    made, readers = conv.outputs[0], conv.outputs[0].outputs
    name = conv.name or made.name
    if len(readers) == 1 and readers[0].op == "BatchNormalization":
        trained = [model.constants.get(tensor.name) for tensor in readers[0].inputs[3:5]]
        if None not in trained:
            mean, variance = (model.array(tensor).astype(np.float64) for tensor in trained if tensor is not None)
            return FirstLayer(name, made.name, mean, np.sqrt(np.maximum(variance, 1e-12)))
    bias = model.constants.get(conv.inputs[2].name) if len(conv.inputs) > 2 else None
    return None if bias is None else FirstLayer(name, made.name, model.array(bias).astype(np.float64), None)
