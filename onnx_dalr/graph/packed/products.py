"""Products with a weight that DequantizeLinear unpacks: runtimes make one operator of both (methods.md §9.5)."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_dalr.graph.index import STANDARD
from onnx_dalr.graph.packed.desk import Chain, Desk
from onnx_dalr.graph.storage.external import is_external

_OF_INT4 = ("Cast", "Div", "Floor", "MatMul", "Sub", "Reshape", "Mul")
_AFTER_INT4 = {"Reshape", "Gather", "Transpose", "Cast"}
_PER_AXIS, _IN_BLOCKS = 13, 21
_SMALLEST_BLOCK = 16
_INT4_FROM_IR = 10
_FLOAT = 4  # bytes


class _Numbers(NamedTuple):
    """What a chain stands for, as DequantizeLinear has it.

    Attributes:
        q: [n, m].
        scale: [m], or [blocks, m].
        attributes: Of the node.
    """

    q: TensorProto
    scale: NDArray[Any]
    attributes: dict[str, Any]


def dequantize(proto: ModelProto, constants: Collection[str], apart: Collection[str] = ()) -> frozenset[str]:
    """Writes DequantizeLinear in place of the nodes that unpack the right operand of a MatMul.

    Where the operator set of the model has it for the format, the numbers are computed with in float32, and no other
    node reads them: two products never share a weight that is unpacked in them.

    Args:
        proto: Is changed.
        constants: Names of stored numbers: only these are looked at.
        apart: Those among them whose bias is subtracted, with its sign changed: ONNX Runtime first makes a Gemm of a
            MatMul and an Add and may join that with what follows, and then it is too late for the weight.

    Returns:
        Those of them that a DequantizeLinear reads now.
    """
    desk, done = Desk(proto), set[str]()
    for node in proto.graph.node:
        if node.op_type != "MatMul" or node.domain not in STANDARD or desk.readers(node.input[1]) != [node]:
            continue
        chain = desk.chain(node.input[1])
        if chain is None or chain.stored.name not in constants:
            continue
        numbers = _numbers(chain, desk.opset, proto.ir_version)
        scale = chain.operands[chain.ops.index("Mul")] if "Mul" in chain.ops else None
        if numbers is None or scale is None:
            continue
        stored, output = chain.stored, chain.nodes[-1].output[0]
        desk.restore(stored, numbers.q)
        desk.restore(scale, numpy_helper.from_array(np.ascontiguousarray(numbers.scale)))
        name = desk.names.new(f"{stored.name}_dequantizelinear")
        inputs = [stored.name, scale.name]
        desk.replace(chain, [helper.make_node("DequantizeLinear", inputs, [output], name=name, **numbers.attributes)])
        if stored.name in apart:
            _subtract(desk, node.output[0])
        done.add(stored.name)
    if done:
        desk.finish()
    return frozenset(done)


def left_over(path: Path) -> frozenset[str]:
    """Names of the constants that a model in a file still unpacks with DequantizeLinear."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return frozenset(node.input[0] for node in nodes if node.op_type == "DequantizeLinear")


def sizes_as_floats(proto: ModelProto) -> dict[str, int]:
    """Bytes of the floats that packed numbers stand for, by the name of the constant that holds them."""
    whole = {TensorProto.INT8: 1, TensorProto.UINT8: 2}  # numbers an element
    return {
        tensor.name: _FLOAT * whole[tensor.data_type] * int(math.prod(tensor.dims))
        for tensor in proto.graph.initializer
        if tensor.data_type in whole
    }


def _subtract(desk: Desk, product: str) -> None:
    """Turns the Add of a constant that is all that reads a product into a Sub."""
    readers = desk.readers(product)
    if readers is None or [node.op_type for node in readers] != ["Add"] or readers[0].domain not in STANDARD:
        return
    (add,) = readers
    name = add.input[1] if add.input[0] == product else add.input[0]
    bias = desk.initializer(name)
    if bias is None or bias.data_type != TensorProto.FLOAT or is_external(bias):
        return
    negative = -numpy_helper.to_array(bias)
    if desk.readers(name) == [add]:
        desk.restore(bias, numpy_helper.from_array(negative))
    else:
        name = desk.constant(f"{name}_negative", negative)
    add.op_type, add.input[:] = "Sub", [product, name]


def _numbers(chain: Chain, opset: int, ir_version: int) -> _Numbers | None:
    if chain.ops == ("Cast", "Mul") and opset >= _PER_AXIS:
        return _int8(chain)
    is_int4 = chain.ops[: len(_OF_INT4)] == _OF_INT4 and set(chain.ops[len(_OF_INT4) :]) <= _AFTER_INT4
    if is_int4 and opset >= _IN_BLOCKS and ir_version >= _INT4_FROM_IR:
        return _int4(chain)
    return None


def _int8(chain: Chain) -> _Numbers | None:
    scale = chain.operands[1]
    assert scale is not None
    per_output = len(chain.stored.dims) == 2 and list(scale.dims) == [1, chain.stored.dims[1]]
    if chain.stored.data_type != TensorProto.INT8 or scale.data_type != TensorProto.FLOAT or not per_output:
        return None
    same = TensorProto()
    same.CopyFrom(chain.stored)
    return _Numbers(same, numpy_helper.to_array(scale)[0], {"axis": 1})


def _int4(chain: Chain) -> _Numbers | None:
    """Two numbers a byte along the outputs, in blocks of inputs; None where these have a size that runtimes refuse."""
    constants = [None if tensor is None else numpy_helper.to_array(tensor) for tensor in chain.operands]
    after = dict(zip(chain.ops[len(_OF_INT4) :], constants[len(_OF_INT4) :], strict=True))
    middle, shape, scale, inputs = (*constants[4:7], after.get("Gather"))
    if middle is None or shape is None or scale is None or scale.dtype != np.float32:
        return None
    if chain.ops[-1] != "Transpose" or "Cast" in after:
        return None
    m, *blocked = map(int, shape)
    count, size = (1, blocked[0]) if len(blocked) == 1 else blocked
    n = count * size if inputs is None else len(inputs)
    if size < _SMALLEST_BLOCK or size & (size - 1) or -(-n // size) != count:
        return None
    pairs = numpy_helper.to_array(chain.stored)
    numbers = np.stack([pairs % 16, pairs // 16], axis=-1).reshape(m, count * size)[:, :n].astype(np.int8)
    numbers -= middle.astype(np.int8)
    packed = TensorProto(dims=(n, m), data_type=TensorProto.INT4, raw_data=_packed(numbers.T))
    return _Numbers(packed, scale.reshape(m, count).T, {"axis": 0, "block_size": size})


def _packed(numbers: NDArray[np.int8]) -> bytes:
    """Four bits each, the first of two in the lower half of a byte."""
    halves = np.ascontiguousarray(numbers).reshape(-1).astype(np.uint8) & 15
    if len(halves) % 2:
        halves = np.append(halves, np.uint8(0))
    return bytes(halves[::2] | halves[1::2] << 4)
