"""The nodes of an ONNX graph as PyTorch calls, for tools/benchmark_step.py: the operators that its models have.

What does not depend on the tuned tensors, sizes among it, is computed once, as somebody who writes the model by hand
would have it in the code. A product and the bias that is added to it are one `linear`, and the five nodes of an exact
GELU are one `gelu`, as they are in the libraries that models come from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from benchmark_step_cases import StepCase
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor

from onnx_dalr.tune.adam import Tensors

Attributes = dict[str, Any]
Op = Callable[..., Tensor]
_ROOT_OF_TWO = 2.0**0.5


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    before, after = _pads(a)
    if before != after:
        x, before = F.pad(x, [each for pair in zip(before[::-1], after[::-1], strict=True) for each in pair]), [0, 0]
    ones = [1] * len(before)
    return F.conv2d(x, weight, bias, a.get("strides", ones), before, a.get("dilations", ones), a.get("group", 1))


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    before, after = _pads(a)
    if before != after:
        raise NotImplementedError("a MaxPool with other pads behind than before")
    return F.max_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), before)


def _pads(a: Attributes) -> tuple[list[int], list[int]]:
    pads = list(a.get("pads", [0, 0, 0, 0]))
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    del a
    return x.reshape([x.shape[at] if size == 0 else size for at, size in enumerate(shape.tolist())])


def _summed(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = axes.tolist() if axes is not None else a.get("axes")
    return x.sum(along, keepdim=bool(a.get("keepdims", 1)))


def _norm_two(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = axes.tolist() if axes is not None else a.get("axes")
    return torch.linalg.vector_norm(x, 2, along, keepdim=bool(a.get("keepdims", 1)))


def _normalized(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift, a.get("epsilon", 1e-5))


def _unsqueezed(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    for axis in sorted(axes.tolist() if axes is not None else a["axes"]):
        x = x.unsqueeze(axis)
    return x


OPS: dict[str, Op] = {
    "Add": lambda a, x, y: x + y,
    "Clip": lambda a, x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Constant": lambda a: _tensor(numpy_helper.to_array(a["value"])),
    "Conv": _conv,
    "Div": lambda a, x, y: x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc"),
    "Erf": lambda a, x: torch.erf(x),
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[: a.get("axis", 1)])), -1),
    "Gather": lambda a, x, at: x.index_select(a.get("axis", 0), at.reshape(-1)).reshape(_gathered(a, x, at)),
    "Gelu": lambda a, x: F.gelu(x),
    "LayerNormalization": _normalized,
    "Linear": lambda a, x, weight, bias: F.linear(x, weight.t(), bias),
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda a, x, y: x * y,
    "ReduceL2": _norm_two,
    "ReduceSum": _summed,
    "Relu": lambda a, x: torch.relu(x),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueezed,
}


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values))


def _gathered(a: Attributes, x: Tensor, at: Tensor) -> list[int]:
    axis = a.get("axis", 0)
    return [*x.shape[:axis], *at.shape, *x.shape[axis + 1 :]]


VERSION = torch.__version__


@dataclass(frozen=True, eq=False)
class Call:
    """One call.

    Attributes:
        op: Name in `OPS`.
        inputs: Names of what it reads, None where one is left out.
        output: Name of what it makes.
        attributes: Of the node.
    """

    op: str
    inputs: tuple[str | None, ...]
    output: str
    attributes: Attributes


class TorchModel:
    """A model whose tuned tensors are parameters, on one batch."""

    def __init__(self, proto: ModelProto, tuned: Mapping[str, NDArray[np.float32]], feed: Mapping[str, Any]) -> None:
        """Computes once all that the tuned tensors have no part in.

        Raises:
            NotImplementedError: The model has an operator that is not among `OPS`.
        """
        self.parameters = {name: torch.nn.Parameter(_tensor(values)) for name, values in tuned.items()}
        self._fixed = {name: _tensor(values) for name, values in feed.items()}
        self._fixed |= {
            tensor.name: _tensor(numpy_helper.to_array(tensor))
            for tensor in proto.graph.initializer
            if tensor.name not in tuned
        }
        calls = list(_calls(proto.graph.node))
        with torch.no_grad():
            found = self._run(calls, {**self._fixed, **self.parameters})
        live = set(tuned)
        for call in calls:
            if call.op != "Shape" and not live.isdisjoint(call.inputs):
                live.add(call.output)
            else:
                self._fixed[call.output] = found[call.output]
        bias = {name for name, value in {**found, **self.parameters, **self._fixed}.items() if value.ndim == 1}
        self._calls = fused([call for call in calls if call.output in live], bias, self._fixed)

    def __call__(self, name: str) -> Tensor:
        """A tensor of the model."""
        return self._run(self._calls, {**self._fixed, **self.parameters})[name]

    @staticmethod
    def _run(calls: Sequence[Call], held: dict[str, Tensor]) -> dict[str, Tensor]:
        for call in calls:
            operands = [None if name is None else held[name] for name in call.inputs]
            held[call.output] = OPS[call.op](call.attributes, *operands)
        return held


def _calls(nodes: Sequence[NodeProto]) -> Iterator[Call]:
    for node in nodes:
        if node.op_type not in OPS or len(node.output) != 1:
            raise NotImplementedError(f"{node.op_type}: {node.name}")
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        yield Call(node.op_type, tuple(name or None for name in node.input), node.output[0], attributes)


def fused(calls: Sequence[Call], rows: Collection[str], fixed: Mapping[str, Tensor]) -> list[Call]:
    """The calls with MatMul and Add as one, and with the nodes of GELU as one, where nobody else reads between.

    Args:
        calls: In order of computation.
        rows: Tensors of one axis, which a bias is.
        fixed: Values that are known.
    """
    makers = {call.output: call for call in calls}
    readers: dict[str, int] = {}
    for call in calls:
        for name in call.inputs:
            if name is not None:
                readers[name] = readers.get(name, 0) + 1

    def number(name: str | None) -> float | None:
        value = None if name is None else fixed.get(name)
        return float(value) if value is not None and value.numel() == 1 and value.is_floating_point() else None

    def alone(name: str | None, op: str) -> Call | None:
        """What makes a tensor that is read once."""
        call = None if name is None else makers.get(name)
        return call if call is not None and call.op == op and readers[call.output] == 1 else None

    def split(call: Call, value: float) -> str | None:
        """The operand beside a number."""
        for one, other in (call.inputs, call.inputs[::-1]):
            known = number(other)
            if known is not None and abs(known - value) < 1e-5 * value:
                return one
        return None

    def whole_gelu(call: Call) -> str | None:
        """x, where the call is the last of x·(1 + erf(x/√2))·½."""
        product = alone(split(call, 0.5), "Mul") if call.op == "Mul" else None
        for x, sides in () if product is None else ((product.inputs[0], product.inputs[1]), product.inputs[::-1]):
            one = alone(sides, "Add")
            erf = alone(split(one, 1.0), "Erf") if one is not None else None
            inside = alone(erf.inputs[0], "Div") if erf is not None else None
            if inside is not None and split(inside, _ROOT_OF_TWO) == x:
                return x
        return None

    made: dict[str, Call] = {}
    for call in calls:
        if call.op == "Add":
            for product, bias in (call.inputs, call.inputs[::-1]):
                matmul = alone(product, "MatMul")
                if matmul is not None and bias in rows:
                    made[call.output] = Call("Linear", (*matmul.inputs, bias), call.output, {})
                    break
        x = whole_gelu(call)
        if x is not None:
            made[call.output] = Call("Gelu", (x,), call.output, {})
    kept, waiting = set[str](), [call.output for call in calls if call.output not in readers]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in kept:
            kept.add(name)
            waiting += [each for each in made.get(name, makers[name]).inputs if each is not None]
    return [made.get(call.output, call) for call in calls if call.output in kept]


class TorchSteps:
    """Steps as PyTorch makes them."""

    def __init__(self, case: StepCase, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = TorchModel(case.student, case.start, case.feed)
        self._output, self._is_classes = case.output, case.classes
        self._target = _tensor(case.target)
        self._log_p = torch.log_softmax(self._target, -1)
        self._adam = torch.optim.Adam(self._model.parameters.values(), lr=1e-5)

    def found(self) -> tuple[NDArray[np.float32], Tensors]:
        """(the output, gradient by tensor)."""
        y = self._backward()
        return y.detach().numpy(), {
            name: np.zeros(tuple(one.shape), np.float32) if one.grad is None else one.grad.numpy().copy()
            for name, one in self._model.parameters.items()
        }

    def step(self) -> None:
        """One step."""
        self._backward()
        self._adam.step()

    def _backward(self) -> Tensor:
        self._adam.zero_grad(set_to_none=True)
        y = self._model(self._output)
        if self._is_classes:
            loss = F.kl_div(torch.log_softmax(y, -1), self._log_p, reduction="batchmean", log_target=True)
        else:
            loss = (1 - F.cosine_similarity(y, self._target, dim=-1)).mean()
        loss.backward()
        return y
