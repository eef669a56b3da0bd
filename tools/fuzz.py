"""Hostile and odd models by the thousand: what the loader, the layer finder, the rewrite and `optimize` make of them.

    python tools/fuzz.py --seconds 300 --seed 0 [--only loader|layers|optimize] [--findings FILE]
    python tools/fuzz.py --replay layers:0:1234 [--keep FOLDER]

Three stages. `loader`: damaged bytes and damaged fields of valid files may load or be refused with an InputError of
one line. `layers`: random graphs; where ONNX Runtime loads one, exact factors leave its outputs as they are and the
empty selection leaves it equal; other graphs may only be refused. `optimize`: a result or a DalrError, an output file
only with a result, and nothing left behind. Every case runs from its own seed in a worker process, so that a crash or
a hang of native code is a finding too; a finding's id replays it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnx_dalr
from onnx_dalr.errors import DalrError, InputError
from onnx_dalr.graph.layers import Layer, find, matrix
from onnx_dalr.graph.model import Model, count_params, input_specs, is_valid, load, save
from onnx_dalr.graph.rewrite import Substitution, rewrite

DEMO = Path(__file__).resolve().parent.parent / "models" / "digits-target.onnx"
HANG = 60.0
MEMORY = 12 << 30
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
TOLERANCE = {np.dtype(np.float16): 0.05, np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-3}


@dataclass(frozen=True)
class Finding:
    """A case that went wrong: its id (stage:seed:number) replays it."""

    id: str
    what: str
    trace: str


class WrongError(AssertionError):
    """A property that does not hold."""


# ---------------------------------------------------------------------------------------------- random valid graphs


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
        strides, pads = self.rng.choice([1, 1, 2]), self.rng.choice([0, 0, 1])
        geometry: dict[str, Any] = (
            {"strides": [strides] * axes, "pads": [pads] * 2 * axes} if self.rng.random() < 0.5 else {}
        )
        spatial = [(axis + 2 * pads - 1) // strides + 1 if geometry else axis for axis in x.shape[2:]]
        operands = [x.name, self.weight((m, x.shape[1], *[1] * axes))]
        if self.rng.random() < 0.5:
            operands.append(self.constant((m,)).name)
        return self.node("Conv", operands, (x.shape[0], m, *spatial), **geometry)

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


def damage_fields(proto: ModelProto, rng: random.Random) -> None:
    """Changes a few fields anywhere in a message to something else, valid or not."""
    for _ in range(rng.randint(1, 4)):
        message: Any = proto.graph if rng.random() < 0.8 else proto
        while True:
            nested = [(f, v) for f, v in message.ListFields() if f.message_type]
            if not nested or rng.random() < 0.25:
                break
            field, value = rng.choice(nested)
            message = rng.choice(list(value)) if field.is_repeated else value
        with suppress(ValueError, TypeError):
            _damage_field(message, rng)


def _damage_field(message: Any, rng: random.Random) -> None:
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.8 else list(message.DESCRIPTOR.fields))
    if not field.is_repeated:
        if field.message_type or rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _other_value(field, rng))
        return
    values = getattr(message, field.name)
    position = rng.randrange(len(values)) if values else 0
    way = rng.choice(["drop", "double", "swap", "change", "clear"])
    if way == "clear":
        message.ClearField(field.name)
    elif way == "drop" and values:
        del values[position]
    elif field.message_type:
        made = values.add()
        if values:
            made.CopyFrom(values[position])
    elif way == "change" and values:
        values[position] = _other_value(field, rng)
    else:
        values.append(values[position] if values and way == "double" else _other_value(field, rng))


def _other_value(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice([*ODD_NAMES, *ODD_OPS, *(f"{base}{number}" for base in "tWn" for number in range(9))])
    if field.type == field.TYPE_BYTES:
        return rng.randbytes(rng.choice([0, 1, 7, 64]))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    if field.enum_type:
        return rng.choice(field.enum_type.values).number
    return rng.choice([*EDGES, rng.randint(0, 30)])


def damage_bytes(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, splices, doubles or blanks bytes of a file."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        # Structure lies at the beginnings and ends of files more than in the middle of weights.
        at = rng.choice([rng.randrange(len(made) + 1), rng.randrange(min(len(made), 400) + 1)])
        length = rng.choice([1, 1, 2, 5, 40])
        way = rng.choice(["flip", "flip", "random", "insert", "delete", "splice", "cut", "blank", "bad utf-8"])
        if way == "flip" and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif way in ("random", "blank"):
            made[at : at + length] = rng.randbytes(length) if way == "random" else rng.choice([b"\0", b"\xff"]) * length
        elif way == "insert":
            made[at:at] = rng.randbytes(length)
        elif way == "delete":
            del made[at : at + length]
        elif way == "splice":
            start = rng.randrange(len(other) + 1)
            made[at:at] = other[start : start + rng.choice([4, 40, 400])]
        elif way == "cut" and rng.random() < 0.3:
            del made[at:]
        elif way == "bad utf-8":
            _spoil_text(made, rng)
    return bytes(made)


def _spoil_text(made: bytearray, rng: random.Random) -> None:
    words = [found.span() for found in re.finditer(rb"[a-zA-Z_][\w./]{1,20}", bytes(made[:20000]))]
    if words:
        made[rng.randrange(*rng.choice(words))] = rng.choice([0xFF, 0xC3, 0x80, 0])


# ------------------------------------------------------------------------------------------------------------ stages


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


def try_loader(rng: random.Random, folder: Path) -> str:
    """A damaged file is loaded and looked at, or refused."""
    known = corpus()
    (folder / "data").write_bytes(bytes(4096))
    content = rng.choice(known)
    if rng.random() < 0.5 and len(content) < 100_000:
        proto = onnx.load_from_string(content)
        damage_fields(proto, rng)
        content = proto.SerializeToString()
    else:
        content = damage_bytes(content, rng.choice(known), rng)
    path = folder / "model.onnx"
    path.write_bytes(content)
    try:
        look_at(path)
    except InputError as error:
        return one_line(error)
    return "read"


def look_at(path: Path) -> None:
    """Everything the commands do with a model before they run it."""
    model = load(path)
    layers, _ = find(model)
    str(onnx_dalr.inspect(path))
    input_specs(model.proto)
    count_params(model.proto)
    is_valid(path)
    for layer in layers:
        if not np.isfinite(matrix(model, layer)).all():
            continue
    proto = rewrite(model, [])
    if proto.SerializeToString(deterministic=True) != model.proto.SerializeToString(deterministic=True):
        raise WrongError("the empty selection changes the model")
    save(proto, model, path.with_name("again.onnx"))


def try_layers(rng: random.Random, folder: Path) -> str:
    """A random graph: refused, or rewritten without changing what it computes."""
    proto = random_model(rng)
    hostile = rng.random() < 0.5
    if hostile:
        damage_fields(proto, rng)
    (folder / "model.onnx").write_bytes(before := proto.SerializeToString(deterministic=True))
    try:
        model = load(proto)
        layers, _ = find(model)
        chosen = [layer for layer in layers if rng.random() < 0.8]
        made = rewrite(model, [exact(model, layer) for layer in chosen])
        empty = rewrite(model, [])
    except InputError as error:
        if not hostile:
            raise WrongError(f"a valid graph is refused: {error}") from error
        return one_line(error)
    except Exception as error:
        if _session(proto) is not None:
            raise WrongError(f"ONNX Runtime loads it, and we fail: {error!r}") from error
        raise
    if before != proto.SerializeToString(deterministic=True) or before != empty.SerializeToString(deterministic=True):
        raise WrongError("a model was changed that should not have been")
    session = _session(proto)
    if session is None and not hostile:
        return "not loadable"
    if session is None:
        return "found in a broken graph"
    _check_rewrite(model, made, chosen, session, folder, hostile)
    return f"rewritten: {min(len(chosen), 4)} layers{' of a damaged graph' if hostile else ''}"


def exact(model: Model, layer: Layer) -> Substitution:
    """Full-rank factors: A·B = W."""
    W = matrix(model, layer).astype(np.float64)
    if not np.isfinite(W).all():
        raise InputError("not finite")
    return Substitution(layer, np.eye(layer.m), W, np.zeros(layer.m))


def _check_rewrite(
    model: Model, made: ModelProto, chosen: Sequence[Layer], before: Any, folder: Path, hostile: bool
) -> None:
    grown = sum(entry.m * entry.m + entry.plain_growth for entry in chosen)
    if count_params(made) - count_params(model.proto) > grown:
        raise WrongError(f"parameters: {count_params(model.proto)} → {count_params(made)}, announced growth {grown}")
    (folder / "made.onnx").write_bytes(made.SerializeToString())
    if not hostile and is_valid(folder / "model.onnx") is None and (wrong := is_valid(folder / "made.onnx")):
        raise WrongError(f"the checker refuses the result: {wrong}")
    try:
        feeds = {value.name: _numbers(value) for value in before.get_inputs()}
        expected = before.run(None, feeds)
    except Exception:  # a damaged graph may load and not run
        return
    after = _session(made)
    if after is None:
        raise WrongError("ONNX Runtime does not load the result")
    names = [value.name for value in before.get_outputs()]
    if [value.name for value in after.get_outputs()] != names:
        raise WrongError("other outputs")
    for name, old, new in zip(names, expected, after.run(None, feeds), strict=True):
        _compare(name, old, new, chosen)


def _compare(name: str, old: Any, new: Any, chosen: Sequence[Layer]) -> None:
    if not isinstance(old, np.ndarray) or not np.isfinite(np.asarray(old, np.float64)).all():
        return
    if old.shape != new.shape or old.dtype != new.dtype:
        raise WrongError(f"{name!r}: {old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}")
    coarsest = max((TOLERANCE.get(layer.dtype, 0.05) for layer in chosen), default=0.0)
    if old.dtype == np.float16:
        coarsest = max(coarsest, 0.05)
    difference = float(np.abs(new.astype(np.float64) - old.astype(np.float64)).max(initial=0))
    if difference > coarsest * (1 + float(np.abs(old.astype(np.float64)).max(initial=0))):
        raise WrongError(f"{name!r} differs by {difference:.3g}")


def _session(proto: ModelProto) -> Any:
    options = ort.SessionOptions()
    # What the graph says: the optimizer loses constant outputs and quantizes what a DequantizeLinear is multiplied by.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        with redirect_stdout(None):  # it prints what it raises
            return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def _numbers(value: Any) -> NDArray[Any]:
    shape = [axis if isinstance(axis, int) else 3 for axis in value.shape]
    if np.prod(shape, dtype=float) > 1e6:
        raise ValueError(shape)
    dtype = {"float": "float32", "double": "float64"}.get(kind := value.type[7:-1], kind)
    return np.asarray(np.random.default_rng(len(value.name)).standard_normal(shape)).astype(dtype)


def try_optimize(rng: random.Random, folder: Path) -> str:
    """`optimize` from end to end, in Python or by the command line."""
    proto = random_model(rng, (16, 24, 33))
    if rng.random() < 0.3:
        damage_fields(proto, rng)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    if rng.random() < 0.3:
        with suppress(Exception):  # a damaged model may refuse it
            onnx.save(proto, folder / "model.onnx", save_as_external_data=True, location="data", size_threshold=0)
    feeds = _samples(proto, rng)
    options: dict[str, Any] = {
        "rank": rng.choice([None, None, 1, 2, 5, "*=3", 10**9]),
        "method": rng.choice(["dalr", "dalr-2017", "svd-bc", "svd"]),
        "holdout": rng.choice([0.3, 0.3, 0, 0.9]),
        "batch_size": rng.choice([None, 1, 3, 1000]),
        "seed": rng.randrange(3),
        "task": rng.choice(["auto", "auto", "classify", "regress", "embed"]),
    }
    if options["rank"] is None:
        options["max_drop"] = rng.choice([None, 0.5, "10%", 0])
    options["samples"] = rng.choice([None, 2, 20])
    before = _listing(folder)
    if rng.random() < 0.3:
        np.savez(folder / "calib.npz", allow_pickle=True, **feeds)
        return _by_command(folder, options)
    try:
        result = onnx_dalr.optimize(folder / "model.onnx", folder / "out.onnx", calib=feeds, **options)
        str(result), result.to_json()
    except DalrError as error:
        if _listing(folder) != before:
            raise WrongError(f"left behind after {error}: {_listing(folder) - before}") from error
        return one_line(error)
    _check_output(folder, _listing(folder) - before)
    return "optimized"


def _by_command(folder: Path, options: dict[str, Any]) -> str:
    from typer.testing import CliRunner  # noqa: PLC0415 - only this case needs it

    from onnx_dalr.cli.main import app  # noqa: PLC0415

    before = _listing(folder)
    arguments = ["optimize", str(folder / "model.onnx"), str(folder / "out.onnx"), "--calib", str(folder / "calib.npz")]
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    done = CliRunner().invoke(app, arguments)
    new = _listing(folder) - before
    if done.exit_code not in (0, 2, 3, 4, 5) or (done.exit_code and new):
        raise WrongError(f"exit code {done.exit_code}, left: {new}: {done.stderr[-2000:]}")
    if done.exit_code and len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) != 1:
        raise WrongError(f"not one line: {done.stderr}")
    if not done.exit_code:
        _check_output(folder, new)
    return f"exit code {done.exit_code}"


def _check_output(folder: Path, new: set[str]) -> None:
    if not {"out.onnx"} <= new <= {"out.onnx", "out.onnx.data"}:
        raise WrongError(f"written: {sorted(new)}")
    if load(folder / "out.onnx").size >= load(folder / "model.onnx").size:
        raise WrongError("the output is not smaller")
    if is_valid(folder / "model.onnx") is None and (wrong := is_valid(folder / "out.onnx")) is not None:
        raise WrongError(f"the checker refuses the output: {wrong}")


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _samples(proto: ModelProto, rng: random.Random) -> dict[str, NDArray[Any]]:
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


def one_line(error: DalrError) -> str:
    """The error's message without its names and numbers; it must be one line that can be printed."""
    if not error.message or len((error.message + "." + error.hint + ".").splitlines()) != 1:
        raise WrongError(f"not one line: {error.message!r} {error.hint!r}")
    if len(error.message) > 2000:
        raise WrongError(f"a message of {len(error.message)} characters: {error.message[:200]!r}")
    (error.message + error.hint).encode()
    return f"{type(error).__name__}: " + re.sub(r"/\S+|'[^']*'|\"[^\"]*\"|-?\d+", "…", error.message)[:70]


STAGES: dict[str, Callable[[random.Random, Path], str]] = {
    "loader": try_loader,
    "layers": try_layers,
    "optimize": try_optimize,
}


# ----------------------------------------------------------------------------------------------------------- running


def try_case(case: str, folder: Path) -> str | Finding:
    """Runs one case, "stage:seed:number", in an empty folder: what came of it, or a finding."""
    rng = random.Random(case)
    try:
        return STAGES[case.partition(":")[0]](rng, folder)
    except Exception as error:
        trace = traceback.format_exc()
        return Finding(case, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", trace[-4000:])


def work(cases: Connection, scratch: Path) -> None:
    """A worker: runs the cases that it is sent until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable((scratch / "fault").open("w"), all_threads=False)
    ort.set_default_logger_severity(4)
    while (case := cases.recv()) is not None:
        shutil.rmtree(scratch / "case", ignore_errors=True)
        (scratch / "case").mkdir()
        cases.send(try_case(case, scratch / "case"))


class Worker:
    """A process that runs cases, started anew after a crash or a hang."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._cases, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._scratch), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, case: str) -> str | Finding:
        """What came of one case; a dead or stuck process is a finding."""
        try:
            self._cases.send(case)
            if self._cases.poll(HANG):
                found: str | Finding = self._cases.recv()
                return found
            what = f"hangs for more than {HANG:.0f} s"
        except (EOFError, ConnectionError):
            self._process.join(10)
            what = f"the process died with exit code {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        fault = self._scratch / "fault"
        trace = fault.read_text(errors="replace")[:4000] if fault.exists() else ""
        self._start()
        return Finding(case, what, trace)

    def stop(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._cases.send(None)
        self._process.join(10)
        self._process.kill()


def fuzz(stages: Sequence[str], seed: int, seconds: float, findings: Path) -> int:
    """Runs the stages, each for its share of the time, and prints what came of it; how many findings there were."""
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-fuzz-") as scratch, findings.open("a", encoding="utf-8") as file:
        worker = Worker(Path(scratch))
        for stage in stages:
            outcomes: Counter[str] = Counter()
            end, number = time.monotonic() + seconds / len(stages), 0
            while time.monotonic() < end:
                found = worker.run(f"{stage}:{seed}:{number}")
                number += 1
                outcomes["FINDING" if isinstance(found, Finding) else found] += 1
                if isinstance(found, Finding):
                    file.write(json.dumps(asdict(found)) + "\n")
                    kind = re.sub(r"'[^']*'|\d+", "…", found.what)[:120] + " @ " + _where(found.trace)
                    seen[kind] += 1
                    if seen[kind] <= 3:
                        print(f"{found.id}  {kind}", flush=True)
            print(f"{stage}: {number} cases in {seconds / len(stages):.0f} s")
            for outcome, count in outcomes.most_common(40):
                print(f"  {count:6}  {outcome}")
        worker.stop()
    for kind, count in seen.most_common():
        print(f"{count:6} × {kind}")
    return seen.total()


def _where(trace: str) -> str:
    ours = re.findall(r'File ".*?/(onnx_dalr/\S+?\.py)", line (\d+)', trace)
    return ":".join(ours[-1] if ours[-1:] and "Fatal" not in trace else ours[0]) if ours else "?"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(STAGES), help="one stage instead of all")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()) / "onnx-dalr-fuzz.jsonl")
    parser.add_argument("--replay", metavar="ID", help="run one case in this process, with its traceback")
    parser.add_argument("--keep", type=Path, help="folder for the files of the replayed case")
    options = parser.parse_args()
    if options.replay is None:
        stages = [options.only] if options.only else list(STAGES)
        sys.exit(1 if fuzz(stages, options.seed, options.seconds, options.findings) else 0)
    with tempfile.TemporaryDirectory(prefix="onnx-dalr-fuzz-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = try_case(options.replay, folder)
    print(found.trace + found.what if isinstance(found, Finding) else found)
    sys.exit(1 if isinstance(found, Finding) else 0)


if __name__ == "__main__":
    main()
