"""What a model has, worked out when a budget asks for it. Its weights are not read, and it is not run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onnx_dalr.errors import InputError
from onnx_dalr.graph.contents import Content, Contents, contents
from onnx_dalr.graph.layers import find, node_name
from onnx_dalr.graph.roles import role
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.look.macs import Declared, as_declared
from onnx_dalr.units import format_names

_FLOATS = ("float", "bfloat")


@dataclass(frozen=True)
class Part:
    """Something that takes a part of what a model has.

    Attributes:
        name: A layer, a tensor or a node.
        what: The operator, or what it is for.
        keys: What it may be found by in another model, the surest first.
        amount: How much.
    """

    name: str
    what: str
    keys: tuple[object, ...]
    amount: int


class Measured:
    """A model file and what it has: "size", "params" or "macs", and the parts of each."""

    def __init__(self, path: Path) -> None:
        """Loads it, without its external data.

        Raises:
            InputError: It is no model.
        """
        self.path = path
        self.model: Model = load(path)

    def amount(self, of: str) -> int:
        """How much it has.

        Raises:
            InputError: Its multiply-adds are not known.
        """
        amounts: Mapping[str, Callable[[], int]] = {
            "size": lambda: self.model.size,
            "params": lambda: self.model.params,
            "macs": lambda: self._counted.counted.whole,
        }
        return amounts[of]()

    @property
    def counted_as_one(self) -> tuple[str, ...]:
        """Axes that its file leaves open, of which multiply-adds are of one.

        Raises:
            InputError: They are not known.
        """
        return self._counted.open_axes

    def parts(self, of: str) -> list[Part]:
        """What has it."""
        if of == "macs":
            return list(self._nodes())
        return [part for part in (*self._tensors(of), *self._rest(of)) if part.amount]

    @cached_property
    def _counted(self) -> Declared:
        found = as_declared(self.model)
        if found is None:
            raise InputError(
                f"the multiply-adds of {self.path} are not known: the file leaves open how large an input is",
                "export it with fixed sizes (the axis of samples may be open), or leave its max-macs out",
            )
        if unknown := found.counted.unknown:
            raise InputError(
                f"the multiply-adds of {self.path} are not known: nothing says what {len(unknown)} of its nodes do "
                f"({format_names(unknown)})",
                "those inside loops, of unknown sizes or of fused operators are not counted: leave its max-macs out",
            )
        return found

    def _nodes(self) -> Iterator[Part]:
        named = {name: node for node in self.model.proto.graph.node for name in node.output[:1]}
        for made, amount in self._counted.counted.by_node.items():
            name = node_name(named[made])
            yield Part(name, named[made].op_type, (made, name), amount)

    def _tensors(self, of: str) -> Iterator[Part]:
        layers, skipped = find(self.model)
        by_weight = {layer.weight: layer for layer in layers}
        reasons = {(entry.op, entry.name): entry.reason for entry in skipped}
        for tensor in self._stock.tensors:
            found = role(tensor, by_weight, reasons)
            layer = by_weight.get(tensor.name) if found.weight and not tensor.where else None
            keys: list[object] = [(tensor.where, tensor.name)]
            keys += [(node_name(reader.node), reader.operand) for reader in tensor.readers[:1]]
            amount = tensor.bytes if of == "size" else _numbers(tensor)
            yield Part(layer.name if layer else tensor.name, found.kind, tuple(keys), amount)

    def _rest(self, of: str) -> Iterable[Part]:
        if of != "size":
            return ()
        stock = self._stock
        return (
            Part("nodes, names and metadata", "", ("other",), stock.other),
            Part("bytes of data files that belong to no tensor", "", ("unclaimed",), stock.unclaimed),
        )

    @cached_property
    def _stock(self) -> Contents:
        return contents(self.model)


def _numbers(tensor: Content) -> int:
    """The floats that a tensor is or stands for."""
    if tensor.packed is None and (tensor.aside or not tensor.dtype.startswith(_FLOATS)):
        return 0
    return math.prod(tensor.seen)
