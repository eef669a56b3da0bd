"""Multiply-adds of a model: of every node that multiplies, from the sizes of what it reads and makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from onnx import NodeProto

from onnx_dalr.graph.handle import MAIN
from onnx_dalr.graph.index import STANDARD, attribute
from onnx_dalr.graph.inside import depends_on_feed
from onnx_dalr.graph.layers import node_name
from onnx_dalr.graph.shapes import Sizes, exactly
from onnx_dalr.graph.storage.model import Model

_DOMAINS = (*STANDARD, "com.microsoft")


@dataclass(frozen=True, eq=False)
class MultiplyAdds:
    """What a model multiplies and adds up on one feed.

    Additions alone (a bias, a residual) and products element by element are not counted: they are few beside these.

    Attributes:
        sizes: Of the tensors of the main graph.
        by_node: By the name of a node's first output: of the whole feed.
        samples: In the feed.
        missing: Tensors of the main graph whose sizes would have to be known for nodes that are not counted.
        unknown: Names of all nodes that multiply and are not counted, those inside bodies and functions among them.
    """

    sizes: Sizes
    by_node: Mapping[str, int]
    samples: int = 1
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def whole(self) -> int:
        """Of the model, for one sample."""
        return round(sum(self.by_node.values()) / self.samples)


def multiply_adds(model: Model, sizes: Sizes, samples: int = 1) -> MultiplyAdds:
    """Counts, node by node.

    What depends on nothing that is fed is not counted: runtimes compute it once, when they load the model.

    Args:
        model: Its weights are not read.
        sizes: Of the tensors of the main graph, as far as they are known.
        samples: In a feed of these sizes.
    """
    fed = depends_on_feed(model.proto)
    by_node: dict[str, int] = {}
    missing: dict[str, None] = {}
    unknown: list[str] = []
    for scope, index in model.index.items():
        for node in index.nodes:
            if node.domain not in _DOMAINS or node.op_type not in _COUNTED:
                continue
            if scope != MAIN:
                unknown.append(node_name(node))
                continue
            if not fed.intersection(node.output[:1]):
                continue
            try:
                by_node[node.output[0]] = _COUNTED[node.op_type](node, partial(exactly, sizes))
            except LookupError:
                unknown.append(node_name(node))
                names = (name for name in (*node.input, *node.output[:1]) if name and name in fed)
                missing |= {name: None for name in names if not _is_known(sizes, name)}
    return MultiplyAdds(sizes, by_node, samples, tuple(missing), tuple(unknown))


def _is_known(sizes: Sizes, name: str) -> bool:
    return name in sizes and None not in sizes[name]


Of = Callable[[str], tuple[int, ...]]
"""The size of a tensor by its name; raises LookupError where it is not known."""


def _kernel(node: NodeProto, of: Of, *, weight: int = 1) -> int:
    """Every output is a sum over the channels of its group and the taps."""
    return math.prod(of(node.output[0])) * math.prod(of(node.input[weight])[1:])


def _transposed_kernel(node: NodeProto, of: Of) -> int:
    """Every input goes to the outputs of its group, through all taps."""
    return math.prod(of(node.input[0])) * math.prod(of(node.input[1])[1:])


def _product(node: NodeProto, of: Of) -> int:
    """Every output is a sum over the inner axis."""
    inner = -2 if attribute(node, "transA", 0) else -1
    return math.prod(of(node.output[0])) * of(node.input[0])[inner]


def _of_blocks(node: NodeProto, of: Of) -> int:
    """The same, of a weight that is packed."""
    return math.prod(of(node.output[0])) * int(attribute(node, "K", 0))


def _recurrent(node: NodeProto, of: Of) -> int:
    """In every direction at every step: both weights."""
    steps = math.prod(of(node.input[0])[:2])
    return steps * (math.prod(of(node.input[1])) + math.prod(of(node.input[2])))


def _einsum(node: NodeProto, of: Of) -> int:
    """Every combination of its indices.

    Raises:
        LookupError: An ellipsis hides some, or the operands are not those it speaks of.
    """
    operands = attribute(node, "equation", b"").decode().replace(" ", "").partition("->")[0].split(",")
    shapes = [of(name) for name in node.input]
    if any("." in indices for indices in operands) or list(map(len, operands)) != list(map(len, shapes)):
        raise LookupError(operands)
    each = zip("".join(operands), (size for shape in shapes for size in shape), strict=True)
    return math.prod(dict(each).values())


def _not_known(node: NodeProto, of: Of) -> int:
    del of
    raise LookupError(node.op_type)


_COUNTED: Mapping[str, Callable[[NodeProto, Of], int]] = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "DeformConv"), _kernel),
    "QLinearConv": partial(_kernel, weight=3),
    "ConvTranspose": _transposed_kernel,
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul", "MatMulInteger"), _product),
    **dict.fromkeys(("QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _product),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _of_blocks),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Einsum": _einsum,
    **dict.fromkeys(("Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"), _not_known),
    "DynamicQuantizeLSTM": _not_known,
}
"""Operators that multiply, by how often; fused ones of which only ONNX Runtime knows what they do are not counted."""
