"""Random models for tools/fuzz.py: valid graphs of many shapes, and the files that are there to be spoiled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

DEMO = Path(__file__).resolve().parent.parent / "models" / "digits-target.onnx"
EDGES = (0, 1, -1, 2, 7, 100, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
ODD_NAMES = (
    *("a/b:0", "é", "名前", "a b", "", ".", "..", "x" * 300, "W0.dalr_B", "t0.dalr_latent", "a\nb", "*", "[x]", "\0"),
)
ODD_OPS = ("Gemm", "MatMul", "Conv", "Identity", "Transpose", "Cast", "Constant", "If", "Loop", "Add", "NoSuchOp", "")
FLOATS: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor the graph under construction has."""

    name: str
    shape: tuple[int, ...]
    type: int


class Graph:
    """A random valid graph, grown node by node: weights and biases are shared, carried and read by others at random."""

    def __init__(self, rng: random.Random, sizes: Sequence[int] = (4, 6, 8, 9)) -> None:
        self.rng, self.sizes = rng, sizes
        self.numbers = np.random.default_rng(rng.getrandbits(32))
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.weights: list[Tensor] = []
        self.names: set[str] = set()
        self.type = rng.choice([TensorProto.FLOAT] * 4 + [TensorProto.DOUBLE, TensorProto.FLOAT16])
        shapes = [(3, rng.choice(sizes)), (2, 3, rng.choice(sizes)), (1, rng.choice(sizes), 3, 2)]
        self.inputs = [Tensor(self.name("in"), shape, self.type) for shape in rng.sample(shapes, rng.randint(1, 3))]
        self.tensors = list(self.inputs)

    def name(self, base: str = "t") -> str:
        """A new tensor name, odd now and then."""
        odd = [name for name in ODD_NAMES if name not in ("", "\0")]
        made = self.rng.choice(odd) if self.rng.random() < 0.1 else f"{base}{len(self.names)}"
        while made in self.names:
            made += "_"
        self.names.add(made)
        return made

    def node(self, op: str, inputs: Sequence[str], shape: Sequence[int], kind: int = 0, **attributes: Any) -> Tensor:
        """Adds a node, its name new, missing, a duplicate or that of a tensor."""
        made = Tensor(self.name(), tuple(shape), kind or self.type)
        odd = self.rng.random()
        own = [f"n{len(self.nodes)}", f"n{len(self.nodes)}", "", made.name, f"{made.name} [*]\n{len(self.nodes)}"]
        # Recent ONNX Runtime refuses duplicates, so they are few.
        named = self.rng.choice(ODD_NAMES) if odd < 0.01 else "n0" if odd < 0.02 else self.rng.choice(own)
        self.nodes.append(helper.make_node(op, inputs, [made.name], name=named, **attributes))
        return made

    def constant(self, shape: Sequence[int], scale: float = 1.0, kind: int = 0) -> Tensor:
        """A stored constant: an initializer or a Constant node."""
        kind = kind or self.type
        values = np.asarray(self.numbers.standard_normal(tuple(shape)) * scale).astype(FLOATS[kind])
        if self.rng.random() < 0.1:
            values = np.zeros_like(values)
        made = Tensor(self.name("W"), tuple(shape), kind)
        tensor = numpy_helper.from_array(values, made.name)
        if self.rng.random() < 0.2:
            self.nodes.append(helper.make_node("Constant", [], [made.name], value=tensor))
        else:
            self.stored.append(tensor)
        return made

    def weight(self, shape: tuple[int, ...]) -> str:
        """A weight of a shape: a known one or a new one, read directly or through Identity, Transpose and Cast."""
        known = [tensor.name for tensor in self.weights if tensor.shape == shape and tensor.type == self.type]
        if known and self.rng.random() < 0.4:
            return self.rng.choice(known)
        way = self.rng.random()
        scale = shape[0] ** -0.5
        if way < 0.08:
            found = self.node("Identity", [self.constant(shape, scale).name], shape)
        elif way < 0.16 and len(shape) == 2:
            found = self.node("Transpose", [self.constant(shape[::-1], scale).name], shape, perm=[1, 0])
        elif way < 0.24:
            stored = self.rng.choice(list(FLOATS))
            found = self.node("Cast", [self.constant(shape, scale, stored).name], shape, to=self.type)
        else:
            found = self.constant(shape, scale)
        self.weights.append(found)
        return found.name

    def bias(self, rows: Sequence[int], m: int) -> str:
        """A bias in one of its forms: one row, a scalar, a whole matrix, or computed."""
        shape = self.rng.choice([(m,), (m,), (1, m), (), (1,), (1, 1), (*rows, m)])
        known = [tensor.name for tensor in self.weights if tensor.shape == shape and tensor.type == self.type]
        if known and self.rng.random() < 0.3:
            return self.rng.choice(known)
        made = self.constant(shape)
        self.weights.append(made)
        return self.node("Identity", [made.name], shape).name if self.rng.random() < 0.15 else made.name

    def grow(self, steps: int) -> None:
        """Adds so many random operations."""
        layers = (self._gemm, self._gemm, self._matmul, self._matmul, self._conv)
        makers = (*layers, self._elementwise, self._shape, self._other)
        for _ in range(steps):
            source = self.rng.choice(self.tensors[-4:] if self.rng.random() < 0.7 else self.tensors)
            found = self.rng.choice(makers)(source)
            if found is not None:
                self.tensors.append(found)

    def _gemm(self, x: Tensor) -> Tensor | None:
        if len(x.shape) != 2 or x.type != self.type:
            return None
        trans_a, trans_b, m = self.rng.random() < 0.2, self.rng.random() < 0.5, self.rng.choice(self.sizes)
        rows, n = x.shape[::-1] if trans_a else x.shape
        operands = [x.name, self.weight((m, n) if trans_b else (n, m))]
        if self.rng.random() < 0.7:
            operands.append(self.bias((rows,), m))
        scales: dict[str, Any] = {
            "alpha": self.rng.choice([1.0, 1.0, 0.5, 0.0]),
            "beta": self.rng.choice([1.0, 1.0, -2.0, 0.0]),
        }
        return self.node("Gemm", operands, (rows, m), transA=int(trans_a), transB=int(trans_b), **scales)

    def _matmul(self, x: Tensor) -> Tensor | None:
        if len(x.shape) < 2 or x.type != self.type:
            return None
        m = self.rng.choice(self.sizes)
        made = self.node("MatMul", [x.name, self.weight((x.shape[-1], m))], (*x.shape[:-1], m))
        if self.rng.random() < 0.5:
            return made
        if self.rng.random() < 0.1:
            self.tensors.append(made)
        operands = [made.name, self.bias(x.shape[:-1], m)]
        return self.node("Add", operands if self.rng.random() < 0.6 else operands[::-1], made.shape)

    def _conv(self, x: Tensor) -> Tensor | None:
        if len(x.shape) < 3 or x.type != self.type or self.type == TensorProto.DOUBLE:  # no kernel
            return None
        axes, m = len(x.shape) - 2, self.rng.choice(self.sizes)
        op, kernel = (
            self.rng.choice(["Conv", "Conv", "ConvTranspose"]),
            [self.rng.choice([1, 1, 2, 3]) for _ in range(axes)],
        )
        geometry = self._geometry(axes) if self.rng.random() < 0.6 else {}
        if op == "Conv" and self.rng.random() < 0.15:
            geometry = {"auto_pad": self.rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])}
        spatial = [self._length(op, axis, taps, x.shape[2 + axis], geometry) for axis, taps in enumerate(kernel)]
        if min(spatial) < 1 or max(spatial) > 40:
            return None
        channels = (x.shape[1], m) if op == "ConvTranspose" else (m, x.shape[1])
        operands = [x.name, self.weight((*channels, *kernel))]
        if self.rng.random() < 0.5:
            operands.append(self.constant((m,)).name)
        return self.node(op, operands, (x.shape[0], m, *spatial), **geometry)

    def _geometry(self, axes: int) -> dict[str, Any]:
        """Some of what there is to say of a kernel."""
        every = {
            "strides": [self.rng.choice([1, 2, 3]) for _ in range(axes)],
            "dilations": [self.rng.choice([1, 1, 2]) for _ in range(axes)],
            "pads": [self.rng.choice([0, 0, 1, 2]) for _ in range(2 * axes)],
        }
        return {name: each for name, each in every.items() if self.rng.random() < 0.6}

    @staticmethod
    def _length(op: str, axis: int, taps: int, length: int, geometry: dict[str, Any]) -> int:
        """What a kernel makes of an axis of such a length."""
        stride, dilation = (geometry.get(name, [1] * 9)[axis] for name in ("strides", "dilations"))
        pads, span = geometry.get("pads", [0] * 9), dilation * (taps - 1) + 1
        zeros = pads[axis] + pads[len(pads) // 2 + axis] if "pads" in geometry else 0
        if op == "ConvTranspose":
            return int((length - 1) * stride + span - zeros)
        if geometry.get("auto_pad", "VALID") != "VALID":
            return length
        return int((length + zeros - span) // stride + 1)

    def _elementwise(self, x: Tensor) -> Tensor | None:
        same = [tensor for tensor in self.tensors if tensor.shape == x.shape and tensor.type == x.type]
        if self.rng.random() < 0.3:
            return self.node("Add", [x.name, self.rng.choice(same).name], x.shape, x.type)
        return self.node(self.rng.choice(["Relu", "Identity", "Tanh"]), [x.name], x.shape, x.type)

    def _shape(self, x: Tensor) -> Tensor | None:
        if not x.shape:
            return None
        # onnxruntime 1.31.1 dies of perm [1,0,2] before a float16 MatMul (NchwcTransformer, MatmulTransposeFusion).
        if self.rng.random() < 0.5 and x.type != TensorProto.FLOAT16:
            perm = self.rng.sample(range(len(x.shape)), len(x.shape))
            return self.node("Transpose", [x.name], [x.shape[axis] for axis in perm], x.type, perm=perm)
        shape = (-1, x.shape[-1]) if self.rng.random() < 0.5 else (1, *x.shape)
        to = Tensor(self.name("shape"), (len(shape),), TensorProto.INT64)
        self.stored.append(numpy_helper.from_array(np.array(shape, np.int64), to.name))
        found = (int(np.prod(x.shape[:-1])), x.shape[-1]) if shape[0] == -1 else shape
        return self.node("Reshape", [x.name, to.name], found, x.type) if len(found) < 5 else None

    def _other(self, x: Tensor) -> Tensor | None:
        way = self.rng.choice(["cast", "if", "gather", "qdq", "weight"])
        if way == "cast":
            there = self.node("Cast", [x.name], x.shape, TensorProto.FLOAT, to=TensorProto.FLOAT)
            return self.node("Cast", [there.name], x.shape, self.type, to=self.type)
        if way == "weight" and self.weights:
            return self.node("Identity", [(known := self.rng.choice(self.weights)).name], known.shape, known.type)
        if way == "gather":
            rows = self.name("rows")
            self.stored.append(numpy_helper.from_array(np.array([0, 1, 0], np.int64), rows))
            columns = self.rng.choice(self.sizes)
            return self.node("Gather", [self.weight((self.rng.choice(self.sizes), columns)), rows], (3, columns))
        if len(x.shape) < 2 or x.type != self.type:
            return None
        return self._if(x) if way == "if" else self._qdq(x)

    def _if(self, x: Tensor) -> Tensor:
        """Two bodies that read a weight of the outer graph."""
        m, chosen = self.rng.choice(self.sizes), self.name("cond")
        self.stored.append(numpy_helper.from_array(np.array(self.rng.random() < 0.5), chosen))
        shape, weight = (*x.shape[:-1], m), self.weight((x.shape[-1], m))
        bodies = {}
        for branch in ("then_branch", "else_branch"):
            out = self.name("inner")
            made = helper.make_node("MatMul", [x.name, weight], [out], name=self.rng.choice(["", out]))
            value = helper.make_tensor_value_info(out, self.type, shape)
            bodies[branch] = helper.make_graph([made], branch, [], [value])
        return self.node("If", [chosen], shape, **bodies)

    def _qdq(self, x: Tensor) -> Tensor:
        n, m = x.shape[-1], self.rng.choice(self.sizes)
        names = [self.name(base) for base in ("q", "scale", "zero")]
        values = (self.numbers.integers(-9, 9, (n, m), np.int8), np.float32(0.1), np.int8(0))
        self.stored += [numpy_helper.from_array(np.asarray(v), name) for v, name in zip(values, names, strict=True)]
        found = self.node("DequantizeLinear", names, (n, m), TensorProto.FLOAT)
        if self.type != TensorProto.FLOAT:
            found = self.node("Cast", [found.name], (n, m), to=self.type)
        return self.node("MatMul", [x.name, found.name], (*x.shape[:-1], m))

    def model(self) -> ModelProto:
        """The model: the last tensor and some others as outputs, weights among the inputs at random."""
        made = [tensor for tensor in self.tensors if tensor not in self.inputs]
        made = made or [self.node("Relu", [self.inputs[0].name], self.inputs[0].shape)]
        chosen = [made[-1], *self.rng.sample(made, min(len(made), self.rng.choice([0, 0, 1, 3])))]
        if self.weights and self.rng.random() < 0.05:
            chosen.append(self.rng.choice(self.weights))
        value = helper.make_tensor_value_info
        inputs = [value(t.name, t.type, t.shape) for t in self.inputs]
        old = self.rng.random() < 0.1
        listed = [tensor for tensor in self.stored if old or self.rng.random() < 0.05]
        inputs += [value(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in listed]
        outputs = [value(t.name, t.type, None if self.rng.random() < 0.2 else t.shape) for t in dict.fromkeys(chosen)]
        infos = [value(t.name, t.type, t.shape) for t in made if t not in chosen and self.rng.random() < 0.3]
        named = self.rng.choice(["g", "é", "a b"])
        graph = helper.make_graph(self.nodes, named, inputs, outputs, self.stored, value_info=infos)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.rng.choice([13, 17, 21]))])
        proto.ir_version = 3 if old and self.rng.random() < 0.5 else self.rng.choice([7, 8, 10])
        proto.metadata_props.add(key="key", value="value")
        return proto


def random_model(rng: random.Random, sizes: Sequence[int] = (4, 6, 8, 9)) -> ModelProto:
    """A valid model of 1 to 12 operations."""
    graph = Graph(rng, sizes)
    graph.grow(rng.randint(1, 12))
    return graph.model()


# ------------------------------------------------------------------------------------------------------------ damage


@cache
def corpus() -> tuple[bytes, ...]:
    """Valid files: the demo model, external data, bodies, functions, QDQ, Loop, sparse and odd constants."""
    texts = (
        "agraph (float[N,4] x) => (float[N,4] y) <float[4,4] W = {@}> { y = MatMul(x, W) }",
        """agraph (float[N,4] x, bool c) => (float[N,4] y) <float[4,4] W = {@}> {
          y = If(c) <then_branch = g1 () => (float[N,4] a) { a = MatMul(x, W) },
                     else_branch = g2 () => (float[N,4] b) { b = Relu(x) }> }""",
        """agraph (float[N,4] x) => (float[N,4] y) <int8[4,4] Q = {@}, float s = {0.1}, int8 z = {0}> {
          W = DequantizeLinear(Q, s, z)  y = MatMul(x, W) }""",
        """agraph (float[N,4] x) => (float[N,4] y) <float[4,4] W = {@}> { y = local.f(x, W) }
        <domain: "local", opset_import: ["" : 17]> f (a, b) => (c) { c = MatMul(a, b) }""",
    )
    header = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
    found = [onnx.parser.parse_model(header + text.replace("@", ", ".join("2" * 16))) for text in texts]
    found += [random_model(random.Random(seed)) for seed in range(12)]
    external = [_external(found[0]), _external(found[6])]
    return (*(proto.SerializeToString() for proto in (*found, *external)), DEMO.read_bytes())


def _external(proto: ModelProto) -> ModelProto:
    """The model with its initializers in a file called "data", which `try_loader` writes."""
    made = ModelProto()
    made.CopyFrom(proto)
    for offset, tensor in enumerate(made.graph.initializer):
        size = numpy_helper.to_array(tensor).nbytes
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "data"), ("offset", 16 * offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
    return made


def random_samples(proto: ModelProto, rng: random.Random) -> dict[str, NDArray[Any]]:
    """Random samples for a model's inputs, mostly of shapes that fit."""
    numbers, count = np.random.default_rng(rng.getrandbits(32)), rng.choice([1, 2, 7, 40, 40, 40, 120])
    given = {tensor.name for tensor in proto.graph.initializer}
    feeds = {}
    for value in proto.graph.input:
        if value.name in given or rng.random() < 0.02:
            continue
        dims = [min(max(axis.dim_value, 1), 50) for axis in value.type.tensor_type.shape.dim]
        # The models are made for one batch size: complete feeds, one axis more, fit them.
        shape = (count, *dims) if rng.random() < 0.95 else (count, *dims[1:])
        made = numbers.standard_normal(shape).astype(FLOATS.get(value.type.tensor_type.elem_type, np.float32))
        odd = rng.random()
        if odd < 0.02:
            made[0] = np.nan
        elif odd < 0.04:
            made[:] = 0
        elif odd < 0.06:
            with np.errstate(over="ignore"):  # of float16
                made = made * made.dtype.type(3e4)
        feeds[value.name] = made.astype(np.int64) if 0.06 < odd < 0.08 else made
    return feeds
