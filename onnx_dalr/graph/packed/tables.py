"""Tables whose rows are picked: picked first as they are stored, then unpacked (methods.md §9.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_dalr.graph.index import STANDARD, attribute
from onnx_dalr.graph.packed.desk import Chain, Desk

_BY_NUMBER = {"Cast", "Floor"}
_WITH_CONSTANT = {"Mul", "Div", "Sub"}


@dataclass(frozen=True)
class _Step:
    """A node of a chain as it is applied to rows.

    Attributes:
        op: Operator.
        operand: Name of its constant, empty where it has none.
        by_row: The constant has a part for every row, which is picked like the row.
        row: Of a Reshape: the shape of one row.
        attributes: Of the node.
    """

    op: str
    operand: str = ""
    by_row: bool = False
    row: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def pick_then_unpack(proto: ModelProto, tables: Mapping[str, int]) -> frozenset[str]:
    """Moves the Gathers of rows of tables in front of what unpacks these; the other tables stay as they are.

    Args:
        proto: Is changed.
        tables: Rows by the name of the tensor that holds the unpacked table.

    Returns:
        The tables that are done: all that read them are such Gathers, and every step may be applied to some rows alone.
    """
    desk, done = Desk(proto), set[str]()
    for table, rows in tables.items():
        chain, readers = desk.chain(table), desk.readers(table)
        if chain is None or not readers or not all(_picks_rows(node, table) for node in readers):
            continue
        steps = _by_rows(chain, rows)
        if steps is None:
            continue
        _store_by_rows(desk, chain.stored, rows)
        desk.replace(chain, ())
        for reader in readers:
            _move(desk, reader, chain.stored.name, steps)
        done.add(table)
    if done:
        desk.finish()
    return frozenset(done)


def _picks_rows(node: NodeProto, table: str) -> bool:
    is_gather = node.op_type == "Gather" and node.domain in STANDARD
    return is_gather and node.input[0] == table != node.input[1] and attribute(node, "axis", 0) == 0


def _by_rows(chain: Chain, rows: int) -> list[_Step] | None:
    """The steps for some rows alone, whose axes come before those of a row; None where one mixes rows."""
    shape, steps = _shape_by_rows(chain.stored.dims, rows), list[_Step]()
    if shape is None:
        return None
    for node, constant in zip(chain.nodes, chain.operands, strict=True):
        op, dims = node.op_type, () if constant is None else tuple(constant.dims)
        name = "" if constant is None else constant.name
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if op in _BY_NUMBER:
            steps.append(_Step(op, attributes=attributes))
        elif op in _WITH_CONSTANT and (len(dims) < len(shape) or dims[:1] == (rows,)):
            steps.append(_Step(op, name, by_row=len(dims) == len(shape)))
            shape = np.broadcast_shapes(shape, dims)
        elif op == "MatMul" and len(dims) == 2 and len(shape) > 2:
            steps.append(_Step(op, name))
            shape = (*shape[:-1], dims[1])
        elif op == "Reshape" and constant is not None and (target := _target(constant))[:1] == (rows,):
            steps.append(_Step(op, row=target[1:]))
            shape = target
        elif op == "Gather" and len(dims) == 1 and (axis := attributes.get("axis", 0)) > 0:
            steps.append(_Step(op, name, attributes={"axis": axis - len(shape)}))
            shape = (*shape[:axis], dims[0], *shape[axis + 1 :])
        else:
            return None
        if shape[0] != rows:
            return None
    return steps


def _shape_by_rows(dims: Sequence[int], rows: int) -> tuple[int, ...] | None:
    """A stored constant with its rows on axis 0: numbers that are packed one after the other may be cut into rows."""
    if dims[0] == rows:
        return tuple(dims)
    whole = len(dims) == 2 and dims[1] == 1 and dims[0] % rows == 0
    return (rows, dims[0] // rows, 1) if whole else None


def _target(constant: TensorProto) -> tuple[int, ...]:
    return tuple(map(int, numpy_helper.to_array(constant)))


def _store_by_rows(desk: Desk, stored: TensorProto, rows: int) -> None:
    shape = _shape_by_rows(stored.dims, rows)
    if shape is not None and shape != tuple(stored.dims):
        new = TensorProto()
        new.CopyFrom(stored)
        new.dims[:] = shape
        desk.restore(stored, new)


def _move(desk: Desk, gather: NodeProto, stored: str, steps: Sequence[_Step]) -> None:
    """Turns a Gather to the stored table, with the steps behind it; what the last makes has the name that it had."""
    base, ids, result = gather.name or gather.output[0], gather.input[1], gather.output[0]
    nodes = list(_nodes(desk, base, ids, steps))
    current = desk.names.new(f"{result}.dalr_picked")
    gather.input[0], gather.output[0] = stored, current
    for node in nodes:
        if not node.input[0]:
            node.input[0], current = current, node.output[0]
    next(node for node in reversed(nodes) if node.output[0] == current).output[0] = result
    desk.follow(gather, nodes)


def _nodes(desk: Desk, base: str, ids: str, steps: Sequence[_Step]) -> Iterator[NodeProto]:
    """The nodes behind a Gather; the first input of those in a line is left open."""

    def made(op: str, inputs: list[str], **attributes: Any) -> NodeProto:
        name = desk.names.new(f"{base}.dalr_{op.lower()}")
        return helper.make_node(op, inputs, [name], name=name, **attributes)

    shape = ""
    for step in steps:
        inputs = ["", step.operand] if step.operand else [""]
        if step.by_row:
            picked = made("Gather", [step.operand, ids], axis=0)
            yield picked
            inputs[1] = picked.output[0]
        if step.op == "Reshape":
            if not shape:
                counted = made("Shape", [ids])
                yield counted
                shape = counted.output[0]
            row = desk.constant(f"{base}.dalr_row", np.array(step.row, np.int64))
            joined = made("Concat", [shape, row], axis=0)
            yield joined
            inputs.append(joined.output[0])
        yield made(step.op, inputs, **step.attributes)
