"""LRDKT's other head, as a rewrite: the mean of the last feature map and one fully connected layer, for all of fc6–fc8.

What it makes remains to be tuned. Given samples, the new layer starts from the least-squares fit of the logits that it
replaces; without, from random weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from lrdkt_count import known
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.shapes import exactly
from onnx_dalr.session.session import open_session

_IN_A_HEAD = ("Gemm", "MatMul", "Add", "Relu", "Dropout", "Identity", "BatchNormalization")
_TO_ROWS = ("Flatten", "Reshape")
_BEHIND = ("Softmax", "LogSoftmax")
_RIDGE = 1e-3  # of the mean variance of a feature
_BATCH = 64


class NoHeadError(ValueError):
    """The model does not end in fully connected layers on a flattened map."""


class Head(NamedTuple):
    """Where the fully connected layers of a model are.

    Attributes:
        positions: Of their nodes, and of the one that flattens.
        map: The tensor that is flattened.
        logits: The tensor that the last of them makes.
    """

    positions: frozenset[int]
    map: str
    logits: str


def find_head(proto: ModelProto) -> Head:
    """The chain of layers between the last feature map and the logits of the first output.

    Raises:
        NoHeadError: There is none: something else than fully connected layers, biases, Relu, normalization and Dropout
            stands between the output, or the Softmax before it, and a Flatten or Reshape.
    """
    makers = {name: at for at, node in enumerate(proto.graph.node) for name in node.output}
    constants = {tensor.name for tensor in proto.graph.initializer}
    name, positions = proto.graph.output[0].name, set[int]()
    logits = name
    while name in makers:
        at = makers[name]
        node = proto.graph.node[at]
        data = next((entry for entry in node.input if entry not in constants), "")
        if not positions and node.op_type in _BEHIND:
            logits = data
        elif node.op_type in _TO_ROWS and positions:
            return Head(frozenset({*positions, at}), data, logits)
        elif node.op_type in _IN_A_HEAD:
            positions.add(at)
        else:
            raise NoHeadError(f"{node.op_type} {node.name!r} is no part of a head of fully connected layers")
        name = data
    raise NoHeadError("no Flatten or Reshape before the fully connected layers")


def with_pooled_head(proto: ModelProto, samples: NDArray[Any] | None = None, seed: int = 0) -> ModelProto:
    """The model with GlobalAveragePool → Flatten → Gemm in place of its fully connected layers.

    Args:
        proto: Of one input. Left as it is.
        samples: For the input, to fit the new layer to the old logits by. Without, its weights are normal with variance
            1/channels and its bias is zero.
        seed: Of these.

    Raises:
        NoHeadError: It has no head of fully connected layers.
        ValueError: It does not say how large a sample is.
    """
    head, sizes = find_head(proto), known(proto).sizes
    channels, classes = exactly(sizes, head.map)[1], exactly(sizes, head.logits)[-1]
    if samples is None:
        W = np.random.default_rng(seed).standard_normal((classes, channels), np.float32) / np.float32(channels**0.5)
        b = np.zeros(classes, np.float32)
    else:
        W, b = fitted(*_seen(proto, head, samples))
    nodes = [
        helper.make_node("GlobalAveragePool", [head.map], ["head.mean"], "head.pool"),
        helper.make_node("Flatten", ["head.mean"], ["head.features"], "head.flatten"),
        helper.make_node("Gemm", ["head.features", "head.weight", "head.bias"], [head.logits], "head.fc", transB=1),
    ]
    made = ModelProto()
    made.CopyFrom(proto)
    del made.graph.node[:], made.graph.initializer[:]
    for at, node in enumerate(proto.graph.node):
        if at == min(head.positions):
            made.graph.node.extend(nodes)
        if at not in head.positions:
            made.graph.node.append(node)
    read = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    made.graph.initializer.extend([numpy_helper.from_array(W, "head.weight"), numpy_helper.from_array(b, "head.bias")])
    inside = {name for at in head.positions for name in proto.graph.node[at].output} - {head.logits}
    told = [value for value in proto.graph.value_info if value.name not in inside]
    del made.graph.value_info[:]
    made.graph.value_info.extend(told)
    return made


def fitted(features: NDArray[Any], logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """W, [classes, channels], and b of the ridge regression of the logits on the features, in float32."""
    X, Y = features.astype(np.float64), logits.astype(np.float64)
    mean, target = X.mean(axis=0), Y.mean(axis=0)
    C = (X - mean).T @ (X - mean) / len(X)
    cross = (X - mean).T @ (Y - target) / len(X)
    W = np.linalg.solve(C + _RIDGE * np.trace(C) / len(C) * np.eye(len(C)), cross).T
    return W.astype(np.float32), (target - W @ mean).astype(np.float32)


def _seen(proto: ModelProto, head: Head, samples: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means of the feature map, and logits, of samples run through the original."""
    session = open_session(probe(proto, [head.map, head.logits]).SerializeToString(), "cpu")
    name = proto.graph.input[0].name
    runs = [session.run({name: samples[at : at + _BATCH]}) for at in range(0, len(samples), _BATCH)]
    features = np.concatenate([values.reshape(*values.shape[:2], -1).mean(axis=-1) for values, _ in runs])
    return features, np.concatenate([logits for _, logits in runs])
