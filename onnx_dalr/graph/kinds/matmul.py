"""MatMul with a constant matrix on the right and, where it follows at once, the Add that carries its bias."""

from __future__ import annotations

from onnx import NodeProto

from onnx_dalr.graph.index import GraphIndex
from onnx_dalr.graph.kinds.use import Refused, Replacement, Use, constant_matrix, one_row, right_operand

OPS = ("MatMul",)
operand = right_operand


def read(node: NodeProto, position: int, index: GraphIndex) -> Use | Refused:
    """Takes a MatMul as a Use, or says why it is none."""
    weight = constant_matrix(node, index)
    if isinstance(weight, Refused):
        return weight
    add, bias = _bias(node, weight.tensor.dims[0 if weight.transposed else 1], index)
    return Use(
        op=node.op_type,
        node=position,
        node_name=node.name,
        data=node.input[0],
        feature_axis=-1,
        weight=weight.name,
        path=weight.path,
        cast_to=weight.cast_to,
        stored_as_W=weight.transposed,
        scale=1.0,
        output=node.output[0],
        bias=bias,
        add=add,
    )


def _bias(node: NodeProto, m: int, index: GraphIndex) -> tuple[int | None, str | None]:
    """(position of the Add, its constant) where one follows at once and nothing else reads the MatMul's output."""
    readers = index.readers(node.output[0])
    if len(readers) != 1 or readers[0] is None or node.output[0] in index.outputs:
        return None, None
    add = index.nodes[readers[0]]
    if add.op_type != "Add" or add.domain not in ("", "ai.onnx") or len(set(add.input)) != 2:
        return None, None
    other = add.input[1] if add.input[0] == node.output[0] else add.input[0]
    constant = index.constant(other)
    if constant is None or not one_row(constant, m):
        return None, None
    return readers[0], other


def rewrite(use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
    """The nodes in place of a MatMul: MatMul, MatMul and, where no Add carries the new bias already, an Add."""
    product = use.output if use.add is not None or new.bias is None else new.tensor("product")
    nodes = [
        new.node(node, "B", "MatMul", [use.data, new.B], new.latent),
        new.node(node, "A", "MatMul", [new.latent, new.A], product),
    ]
    if product != use.output and new.bias is not None:
        nodes.append(new.node(node, "bias", "Add", [product, new.bias], use.output))
    return nodes
