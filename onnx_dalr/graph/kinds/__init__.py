"""Layer kinds, one file each: a new kind is a file and a line in `KINDS`."""

from __future__ import annotations

from onnx import NodeProto

from onnx_dalr.graph.handle import Handle
from onnx_dalr.graph.index import GraphIndex
from onnx_dalr.graph.kinds.base import Kind, Link, Refused, Replacement, Use
from onnx_dalr.graph.kinds.conv import Conv
from onnx_dalr.graph.kinds.conv_transpose import ConvTranspose
from onnx_dalr.graph.kinds.gemm import Gemm
from onnx_dalr.graph.kinds.matmul import MatMul

__all__ = ["KINDS", "Kind", "Link", "Refused", "Replacement", "Use", "operators", "read"]

KINDS: tuple[Kind, ...] = (Gemm(), MatMul(), Conv(), ConvTranspose())


def operators() -> frozenset[str]:
    """The operators that some kind reads."""
    return frozenset(op for kind in KINDS for op in kind.ops)


def read(node: NodeProto, handle: Handle, index: GraphIndex) -> Use | Refused:
    """The node as a Use of the first kind that takes it, or why the first that knows its operator does not.

    Args:
        node: Its operator is one of `operators()`.
        handle: Where it is.
        index: Of the scope it is in.
    """
    found = [kind.read(node, handle, index) for kind in KINDS if node.op_type in kind.ops]
    return next((one for one in found if isinstance(one, Use)), found[0])
