"""Synthetic models for tools/bench_speed.py: external data, weights of falling spectrum, inputs of few directions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

Float32 = NDArray[np.float32]
HEAD = (25088, 4096, 4096, 1000)
BLOCK = (4096, 14336)
SEVEN_B = (4096, 11008)
TOKENS = 32


class Weights:
    """Weights on their way into one data file, which can be read too."""

    def __init__(self, file: BinaryIO, seed: int, *, shared: bool = False) -> None:
        self._file, self._random, self._shared = file, np.random.default_rng(seed), shared
        self._places: dict[str, tuple[int, int]] = {}
        self.tensors: list[TensorProto] = []

    def matrix(self, name: str, rows: int, columns: int, inputs: int, like: str = "") -> str:
        """A matrix that keeps the scale of what it multiplies; with `like`, that one once more."""
        if like in self._places and self._shared:
            return self._put(name, (rows, columns), self._places[like])
        if like in self._places:
            start, length = self._places[like]
            self._file.seek(start)
            values = np.frombuffer(self._file.read(length), "<f4").reshape(rows, columns)
            self._file.seek(0, 2)
            return self.array(name, values)
        rank = max(1, min(rows, columns) // 8)
        falling = np.float32(1) / np.sqrt(np.arange(1, rank + 1, dtype=np.float32))
        left = self._random.standard_normal((rows, rank), dtype=np.float32) * falling
        right = self._random.standard_normal((rank, columns), dtype=np.float32)
        made = left @ right
        made += np.float32(0.3) * self._random.standard_normal((rows, columns), dtype=np.float32)
        made *= np.float32(1.4) / np.float32(np.sqrt(inputs * np.mean(np.square(made))))
        return self.array(name, made)

    def array(self, name: str, values: Float32) -> str:
        """These values."""
        start = self._file.tell()
        values.astype("<f4").tofile(self._file)
        self._places[name] = (start, self._file.tell() - start)
        return self._put(name, values.shape, self._places[name])

    def _put(self, name: str, dims: Sequence[int], place: tuple[int, int]) -> str:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
        entries = {"location": Path(self._file.name).name, "offset": place[0], "length": place[1]}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        return name


def scaled(sizes: Sequence[int], scale: float, multiple: int = 8) -> tuple[int, ...]:
    """Sizes of a smaller model of the same shape."""
    return tuple(max(multiple, round(size * scale / multiple) * multiple) for size in sizes)


def inputs(count: int, width: int, seed: int = 1) -> Float32:
    """Rows that fill about one direction in 25, and a little of all others."""
    random = np.random.default_rng(seed)
    rank = max(2, width // 25)
    latent = random.standard_normal((count, rank), dtype=np.float32)
    latent /= np.arange(1, rank + 1, dtype=np.float32) ** np.float32(0.5)
    spread = random.standard_normal((rank, width), dtype=np.float32)
    rows = latent @ spread
    rows /= np.float32(rows.std())
    return rows + np.float32(0.05) * random.standard_normal((count, width), dtype=np.float32)


def head(folder: Path, scale: float) -> tuple[Path, Float32]:
    """The three fully connected layers of a VGG, and what its last map gives them."""
    sizes = scaled(HEAD, scale)
    with (folder / "model.data").open("w+b") as file:
        weights = Weights(file, 0)
        nodes, data = [], "x"
        for at, (n, m) in enumerate(pairwise(sizes)):
            name = f"fc{6 + at}"
            weight = weights.matrix(f"{name}.weight", m, n, n)
            bias = weights.array(f"{name}.bias", np.full(m, 0.01, np.float32))
            made = "y" if at == 2 else f"{name}.out"
            nodes.append(helper.make_node("Gemm", [data, weight, bias], [made], name=name, transB=1))
            data = made
            if at < 2:
                data = f"{name}.relu"
                nodes.append(helper.make_node("Relu", [made], [data], name=data))
    ends = {"x": ["batch", sizes[0]], "y": ["batch", sizes[-1]]}
    path = _saved(folder, nodes, weights.tensors, ends)
    return path, np.maximum(inputs(max(60, round(2000 * min(1, scale))), sizes[0]), 0)


def blocks(
    folder: Path, sizes: Sequence[int], layers: int, samples: int, *, shared: bool = False
) -> tuple[Path, Float32]:
    """Transformer blocks with gated layers: attention, RMS norms, SiLU.

    Args:
        folder: Where to.
        sizes: Of what goes through the blocks, and within their gated layers.
        layers: Blocks; all have the weights of the first one.
        samples: Of 32 tokens each.
        shared: The weights are in the file once; else once for every block.
    """
    width, inner = sizes
    heads = max(1, width // 128)
    with (folder / "model.data").open("w+b") as file:
        weights = Weights(file, 0, shared=shared)
        nodes: list[NodeProto] = []
        data = "x"
        for at in range(layers):
            data = _block(nodes, weights, data, at, width, inner)
        nodes.append(helper.make_node("Identity", [data], ["y"], name="end"))
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("epsilon", TensorProto.FLOAT, [], [1e-5]),
        helper.make_tensor("root", TensorProto.FLOAT, [], [float(np.sqrt(width // heads))]),
        helper.make_tensor("apart", TensorProto.INT64, [4], [0, 0, heads, width // heads]),
        helper.make_tensor("together", TensorProto.INT64, [3], [0, 0, width]),
    ]
    ends: dict[str, list[Any]] = {"x": ["batch", "tokens", width], "y": ["batch", "tokens", width]}
    path = _saved(folder, nodes, [*weights.tensors, *constants], ends)
    return path, inputs(samples * TOKENS, width).reshape(samples, TOKENS, width)


def _block(nodes: list[NodeProto], weights: Weights, data: str, at: int, width: int, inner: int) -> str:
    """The nodes of one block; the name of what it gives."""
    b = f"layers.{at}"

    def node(op: str, read: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, read, [f"{b}.{name}"], name=f"{b}/{name}", **attributes))
        return f"{b}.{name}"

    def times(read: str, name: str, n: int, m: int) -> str:
        return node("MatMul", [read, weights.matrix(f"{b}.{name}.weight", n, m, n, f"layers.0.{name}.weight")], name)

    def norm(read: str, name: str) -> str:
        square = node("Pow", [read, "two"], f"{name}.square")
        mean = node("ReduceMean", [square], f"{name}.mean", axes=[-1])
        size = node("Sqrt", [node("Add", [mean, "epsilon"], f"{name}.shifted")], f"{name}.size")
        scale = weights.array(f"{b}.{name}.scale", np.ones(width, np.float32))
        return node("Mul", [node("Div", [read, size], f"{name}.unit"), scale], name)

    def split(read: str, name: str, perm: list[int]) -> str:
        apart = node("Reshape", [times(read, name, width, width), "apart"], f"{name}.apart")
        return node("Transpose", [apart], f"{name}.heads", perm=perm)

    first = norm(data, "norm1")
    q, v = split(first, "q", [0, 2, 1, 3]), split(first, "v", [0, 2, 1, 3])
    scores = node("Div", [node("MatMul", [q, split(first, "k", [0, 2, 3, 1])], "scores"), "root"], "scaled")
    seen = node("MatMul", [node("Softmax", [scores], "weights", axis=-1), v], "seen")
    joined = node("Reshape", [node("Transpose", [seen], "turned", perm=[0, 2, 1, 3]), "together"], "joined")
    data = node("Add", [data, times(joined, "o", width, width)], "attended")
    second = norm(data, "norm2")
    gate = times(second, "gate", width, inner)
    silu = node("Mul", [gate, node("Sigmoid", [gate], "sigmoid")], "silu")
    product = node("Mul", [silu, times(second, "up", width, inner)], "product")
    return node("Add", [data, times(product, "down", inner, width)], "out")


def _saved(folder: Path, nodes: list[NodeProto], tensors: list[TensorProto], ends: dict[str, list[Any]]) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in ends.items())
    graph = helper.make_graph(nodes, "synthetic", [x], [y], tensors)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
