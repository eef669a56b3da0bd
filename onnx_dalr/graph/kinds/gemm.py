"""Gemm: Y = alpha·A'·B' + beta·C with constant B, any transA and transB, any C."""

from __future__ import annotations

from onnx import NodeProto

from onnx_dalr.graph.index import GraphIndex, attribute
from onnx_dalr.graph.kinds.use import Refused, Replacement, Use, constant_matrix, one_row, right_operand

OPS = ("Gemm",)
operand = right_operand


def read(node: NodeProto, position: int, index: GraphIndex) -> Use | Refused:
    """Takes a Gemm as a Use, or says why it is none."""
    weight = constant_matrix(node, index)
    if isinstance(weight, Refused):
        return weight
    stored_as_W = bool(attribute(node, "transB", 0)) != weight.transposed
    m = weight.tensor.dims[0] if stored_as_W else weight.tensor.dims[1]
    beta = float(attribute(node, "beta", 1.0))
    name = node.input[2] if len(node.input) > 2 and beta != 0 else ""
    bias = index.constant(name) if name else None
    if bias is not None and len(bias.dims) > 2:
        return Refused(f"its bias has {len(bias.dims)} axes, which only some runtimes read")
    row = bias is not None and one_row(bias, m)
    return Use(
        op=node.op_type,
        node=position,
        node_name=node.name,
        data=node.input[0],
        feature_axis=0 if attribute(node, "transA", 0) else -1,
        weight=weight.name,
        path=weight.path,
        cast_to=weight.cast_to,
        stored_as_W=stored_as_W,
        scale=float(attribute(node, "alpha", 1.0)),
        output=node.output[0],
        bias=name if row else None,
        bias_scale=beta,
        loose_bias=name if name and not row else None,
    )


def rewrite(use: Use, node: NodeProto, new: Replacement) -> list[NodeProto]:
    """The nodes in place of a Gemm: MatMul, MatMul and an Add for every bias that is not zero.

    transA on the data becomes a Transpose before. A bias that is not constant, or not one row, is scaled by beta
    and added by itself.
    """
    nodes, data = [], use.data
    if use.feature_axis == 0:
        data = new.tensor("transposed")
        nodes.append(new.node(node, "transpose", "Transpose", [use.data], data, perm=[1, 0]))
    nodes.append(new.node(node, "B", "MatMul", [data, new.B], new.latent))
    nodes.append(new.node(node, "A", "MatMul", [new.latent, new.A], use.output))
    if new.bias is not None:
        _append_add(nodes, new.node(node, "bias", "Add", [new.tensor("product"), new.bias], use.output))
    if use.loose_bias is not None:
        loose = use.loose_bias
        if use.bias_scale != 1:
            loose = new.tensor("scaled_bias")
            nodes.insert(0, new.node(node, "beta", "Mul", [use.loose_bias, new.scalar("beta", use.bias_scale)], loose))
        _append_add(nodes, new.node(node, "loose_bias", "Add", [new.tensor("sum"), loose], use.output))
    return nodes


def _append_add(nodes: list[NodeProto], add: NodeProto) -> None:
    """Puts an Add at the end of the chain: what the last node made goes into it."""
    nodes[-1].output[0] = add.input[0]
    nodes.append(add)
