"""What tools/benchmark_convs.py times: convolutions of known networks, and what each structure makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from onnx_dalr.graph.shapes import opened

STRUCTURES = ("out", "in", "v", "h", "tucker")
_OPEN_SIDE = 224  # of an image whose size a file leaves open
_VGG = ((3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56))
_VGG_LAST = ((256, 512, 28), (512, 512, 28), (512, 512, 14))
_RESNET = ((64, 64, 56, 1), (128, 128, 56, 2), (128, 128, 28, 1), (256, 256, 28, 2), (256, 256, 14, 1))
_RESNET_LAST = ((512, 512, 14, 2), (512, 512, 7, 1))


@dataclass(frozen=True)
class Conv:
    """A 2-D convolution of one group on data of a known size.

    Attributes:
        channels: C, of its data.
        filters: N, of its output.
        kernel: (kh, kw).
        size: (height, width) of its data.
        strides: By axis.
        pads: Zeros before both axes, then after both, as ONNX writes them.
        dilations: By axis.
    """

    channels: int
    filters: int
    kernel: tuple[int, int]
    size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    @property
    def out(self) -> tuple[int, int]:
        """(height, width) of its output."""
        return (self._along(0), self._along(1))

    def _along(self, axis: int) -> int:
        span = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        return (self.size[axis] + self.pads[axis] + self.pads[axis + 2] - span) // self.strides[axis] + 1

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample."""
        return self.channels * self.filters * math.prod(self.kernel) * math.prod(self.out)

    def __str__(self) -> str:
        sides = "×".join(map(str, self.kernel))
        stride = "" if self.strides == (1, 1) else f" /{max(self.strides)}"
        dilated = "" if self.dilations == (1, 1) else f" dilated {max(self.dilations)}"
        return f"{self.channels}→{self.filters}, {sides}{stride}{dilated}, {self.size[0]}×{self.size[1]}"

    def spanning(self, axes: tuple[int, ...], channels: int, filters: int, size: tuple[int, int]) -> Conv:
        """The factor that spans these axes, with their stride, pads and dilation; 1 wide along the others."""

        def mine(both: tuple[int, ...], neutral: int) -> tuple[int, ...]:
            return tuple(value if at % 2 in axes else neutral for at, value in enumerate(both))

        return replace(
            self,
            channels=channels,
            filters=filters,
            size=size,
            kernel=mine(self.kernel, 1),
            strides=mine(self.strides, 1),
            pads=mine(self.pads, 0),
            dilations=mine(self.dilations, 1),
        )


def factors(conv: Conv, structure: str, rank: tuple[int, ...]) -> list[Conv]:
    """What takes the place of a convolution, in the order in which data meet it."""
    spans: dict[str, tuple[tuple[int, ...], ...]] = {
        "out": ((0, 1), ()),
        "in": ((), (0, 1)),
        "v": ((0,), (1,)),
        "h": ((1,), (0,)),
        "tucker": ((), (0, 1), ()),
    }
    ends = (conv.channels, *rank, conv.filters)
    chain: list[Conv] = []
    for axes, channels, filters in zip(spans[structure], ends, ends[1:], strict=False):
        chain.append(conv.spanning(axes, channels, filters, chain[-1].out if chain else conv.size))
    return chain


def macs(chain: Sequence[Conv]) -> int:
    """Multiply-adds of one sample."""
    return sum(conv.macs for conv in chain)


def largest_rank(conv: Conv, structure: str, budget: float, step: int) -> tuple[int, ...] | None:
    """The rank that spends most of a budget of multiply-adds, in multiples of `step`.

    Both ranks of `tucker` are the same share of their side, as far as steps allow. None where the smallest costs more,
    and where `v` or `h` would be `in` or `out`: on a kernel that is 1 wide.
    """
    if structure in ("v", "h") and min(conv.kernel) == 1:
        return None
    widest = max(conv.channels, conv.filters)
    if structure == "tucker":
        shares = (at * step / widest for at in range(1, widest // step + 1))
        sides = (conv.channels, conv.filters)
        tried = [tuple(max(1, round(share * side / step)) * step for side in sides) for share in shares]
    else:
        tried = [(at * step,) for at in range(1, widest * max(conv.kernel) // step + 1)]
    fitting = [rank for rank in tried if macs(factors(conv, structure, rank)) <= budget]
    return max(fitting, key=lambda rank: macs(factors(conv, structure, rank)), default=None)


def model(chain: Sequence[Conv], batch: int, seed: int = 0) -> ModelProto:
    """The convolutions one after the other, a bias on the last, with weights that keep the scale of the data."""
    draw, nodes, tensors = np.random.default_rng(seed), [], []
    for at, conv in enumerate(chain):
        last = at == len(chain) - 1
        fan_in = conv.channels * math.prod(conv.kernel)
        W = draw.standard_normal((conv.filters, conv.channels, *conv.kernel), np.float32) / np.float32(fan_in**0.5)
        tensors.append(numpy_helper.from_array(W, f"W{at}"))
        if last:
            tensors.append(numpy_helper.from_array(np.ones(conv.filters, np.float32), "b"))
        nodes.append(
            helper.make_node(
                "Conv",
                [f"t{at}", f"W{at}", *(["b"] if last else [])],
                [f"t{at + 1}"],
                kernel_shape=conv.kernel,
                strides=conv.strides,
                pads=conv.pads,
                dilations=conv.dilations,
            )
        )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
        for name, shape in (
            ("t0", (chain[0].channels, *chain[0].size)),
            (f"t{len(chain)}", (chain[-1].filters, *chain[-1].out)),
        )
    ]
    graph = helper.make_graph(nodes, "convolution", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def published() -> Iterator[tuple[str, Conv]]:
    """The distinct convolutions of VGG-16 and ResNet-50 at 224×224, but those of one tap."""
    for C, N, side in (*_VGG, *_VGG_LAST):
        yield "VGG-16", Conv(C, N, (3, 3), (side, side), pads=(1, 1, 1, 1))
    yield "ResNet-50", Conv(3, 64, (7, 7), (224, 224), (2, 2), (3, 3, 3, 3))
    for C, N, side, stride in (*_RESNET, *_RESNET_LAST):
        yield "ResNet-50", Conv(C, N, (3, 3), (side, side), (stride, stride), (1, 1, 1, 1))


def of_file(path: Path) -> Iterator[Conv]:
    """The distinct 2-D convolutions of one group and several taps in a file, at the sizes that it declares."""
    proto = ModelProto.FromString(path.read_bytes())
    given = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name not in given:
            _settle(value.type.tensor_type.shape.dim)
    known = opened((*proto.graph.value_info, *proto.graph.output))
    del proto.graph.value_info[:], proto.graph.output[:]
    proto.graph.output.extend(value for value in known if value.name in {o for n in proto.graph.node for o in n.output})
    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    weights |= {n.output[0]: list(a.t.dims) for n in proto.graph.node if n.op_type == "Constant" for a in n.attribute}
    seen = set()
    for node in proto.graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            conv = _read(node, weights[node.input[1]], shapes.get(node.input[0], []))
            if conv is not None and conv not in seen:
                seen.add(conv)
                yield conv


def _settle(dims: list[helper.TensorShapeProto.Dimension]) -> None:
    for at, axis in enumerate(dims):
        if axis.dim_value <= 0:
            axis.dim_value = 1 if at == 0 else _OPEN_SIDE


def _read(node: NodeProto, dims: list[int], shape: list[int]) -> Conv | None:
    """A node as a Conv; None where it is no such convolution, or what enters it has no known size."""
    held = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    known = len(shape) == 4 and min(shape[1:]) > 0
    if len(dims) != 4 or not known or held.get("group", 1) != 1 or math.prod(dims[2:]) == 1:
        return None
    kernel, size = (dims[2], dims[3]), (shape[2], shape[3])
    strides, dilations = (tuple(held.get(name, (1, 1))) for name in ("strides", "dilations"))
    pads = tuple(held.get("pads", (0, 0, 0, 0)))
    if held.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        wanted = [
            max(0, (math.ceil(at / step) - 1) * step + gap * (taps - 1) + 1 - at)
            for at, step, gap, taps in zip(size, strides, dilations, kernel, strict=True)
        ]
        pads = (*(zeros // 2 for zeros in wanted), *(zeros - zeros // 2 for zeros in wanted))
    return Conv(shape[1], dims[0], kernel, size, strides, pads, dilations)
