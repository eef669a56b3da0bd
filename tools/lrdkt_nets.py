"""The networks of LRDKT's published tables, as ONNX: VGG-16 and AlexNet, with random weights, and their ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

IMAGE, LOGITS, CLASSES = "image", "logits", 1000
_FC = ("fc6", "fc7", "fc8")
_VGG = (("1_1", 64), ("1_2", 64), ("2_1", 128), ("2_2", 128), ("3_1", 256), ("3_2", 256), ("3_3", 256))
_VGG_LAST = (("4_1", 512), ("4_2", 512), ("4_3", 512), ("5_1", 512), ("5_2", 512), ("5_3", 512))
_VGG_NAMES = (*(f"conv{name}" for name, _ in (*_VGG, *_VGG_LAST)), *_FC)
_ALEXNET_NAMES = (*(f"conv{at}" for at in range(1, 6)), *_FC)


def _named(names: tuple[str, ...], *ranks: int) -> dict[str, int]:
    return dict(zip(names, ranks, strict=True))


_VGG_7 = _named(_VGG_NAMES, 3, 9, 15, 27, 40, 49, 63, 88, 123, 156, 171, 165, 162, 778, 463, 228)
_VGG_5 = _named(_VGG_NAMES, 2, 5, 10, 16, 22, 27, 33, 48, 62, 78, 92, 86, 85, 220, 141, 99)
_ALEXNET_7 = _named(_ALEXNET_NAMES, 18, 49, 103, 151, 111, 802, 723, 256)


@dataclass(frozen=True)
class Published:
    """A network as it was published.

    Attributes:
        network: "vgg16" or "alexnet".
        share: Of Σσ² that the ranks keep.
        head: "fc" with fc6–fc8 at their ranks, "gap" with pooling and one fully connected layer in their place.
        ranks: By layer.
        weights: Millions, from these ranks, as they are to be printed.
        macs: 10⁹ multiply-adds for one image, likewise.
        printed: What the paper prints for both; empty where it prints none.
    """

    network: str
    share: float
    head: str
    ranks: Mapping[str, int]
    weights: str
    macs: str
    printed: str = ""

    @property
    def kept(self) -> dict[str, int]:
        """The ranks of the layers that are there: with another head there is no fc6–fc8."""
        return {name: rank for name, rank in self.ranks.items() if self.head == "fc" or name not in _FC}

    def __str__(self) -> str:
        return f"{self.network}-{self.share}-{self.head}"


PUBLISHED = (
    Published("vgg16", 0.7, "fc", _VGG_7, "30.50", "2.415", "30.5 M, 2.43 G"),
    Published("vgg16", 0.5, "fc", _VGG_5, "9.57", "1.302", "9.5 M, 1.31 G"),
    Published("vgg16", 0.7, "gap", _VGG_7, "3.35", "2.387", "3.3 M, 2.41 G"),
    Published("alexnet", 0.7, "fc", _ALEXNET_7, "18.77", "0.274"),
    Published("alexnet", 0.7, "gap", _ALEXNET_7, "1.12", "0.256"),
)


@dataclass
class _Drawing:
    """A chain of layers, drawn one after the other.

    Attributes:
        shape: (channels, height, width) of the last tensor, or (features,).
        width: All channels and features between the ends are divided by it.
        valued: Tensors have values; without them, only dimensions, which is enough to count.
        random: Where weights come from.
    """

    shape: tuple[int, ...]
    width: int
    valued: bool
    random: np.random.Generator
    last: str = IMAGE
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def conv(self, name: str, filters: int, kernel: int = 3, stride: int = 1, pad: int = 1) -> None:
        """A square convolution and its Relu."""
        filters //= self.width
        sides = [(side + 2 * pad - kernel) // stride + 1 for side in self.shape[1:]]
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        self._weighted(name, "Conv", (filters, self.shape[0], kernel, kernel), **attributes)
        self.node("Relu", f"{name}.relu")
        self.shape = (filters, *sides)

    def pool(self, name: str, kernel: int, stride: int) -> None:
        """The largest of each window."""
        self.node("MaxPool", name, kernel_shape=[kernel] * 2, strides=[stride] * 2)
        self.shape = (self.shape[0], *((side - kernel) // stride + 1 for side in self.shape[1:]))

    def head(self, wide: int = 4096) -> None:
        """fc6, fc7 and fc8 on the flattened map."""
        self.node("Flatten", "flatten")
        self.shape = (math.prod(self.shape),)
        for name, features in zip(_FC, (wide // self.width, wide // self.width, CLASSES), strict=True):
            self._weighted(name, "Gemm", (features, *self.shape), transB=1)
            self.shape = (features,)
            if name != _FC[-1]:
                self.node("Relu", f"{name}.relu")

    def _weighted(self, name: str, op: str, dims: tuple[int, ...], **attributes: object) -> None:
        self._tensor(f"{name}.weight", dims)
        self._tensor(f"{name}.bias", dims[:1])
        self.node(op, name, f"{name}.weight", f"{name}.bias", **attributes)

    def _tensor(self, name: str, dims: tuple[int, ...]) -> None:
        if not self.valued:
            self.tensors.append(dimensions(name, dims))
            return
        scale = np.float32((2 / math.prod(dims[1:])) ** 0.5 if len(dims) > 1 else 0.01)
        self.tensors.append(numpy_helper.from_array(scale * self.random.standard_normal(dims, np.float32), name))

    def node(self, op: str, name: str, *operands: str, **attributes: object) -> None:
        """A node on the last tensor."""
        self.nodes.append(helper.make_node(op, [self.last, *operands], [f"{name}.out"], name, **attributes))
        self.last = f"{name}.out"

    def model(self, shape: tuple[int, ...]) -> ModelProto:
        """Of all that was drawn, its last tensor renamed to the output."""
        self.nodes[-1].output[0] = LOGITS
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *dims])
            for name, dims in ((IMAGE, shape), (LOGITS, self.shape))
        ]
        graph = helper.make_graph(self.nodes, "network", ends[:1], ends[1:], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dimensions(name: str, dims: tuple[int, ...]) -> TensorProto:
    """A float tensor of which nothing is there but its dimensions."""
    return TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)


def build(network: str, *, valued: bool = True, side: int = 224, width: int = 1, seed: int = 0) -> ModelProto:
    """A network with random weights, every layer under the name that the ranks have.

    AlexNet is the one of a single column: no groups, filters 96, 256, 384, 384, 256, of which the published ranks give
    the published numbers.

    Args:
        network: "vgg16" or "alexnet".
        valued: Without values the model can be counted and not run.
        side: Pixels of the image.
        width: Channels and features are divided by it.
        seed: Of the weights.
    """
    shape = (3, side, side)
    drawing = _Drawing(shape, width, valued, np.random.default_rng(seed))
    if network == "vgg16":
        for at, (name, filters) in enumerate(layers := (*_VGG, *_VGG_LAST)):
            drawing.conv(f"conv{name}", filters)
            if at + 1 == len(layers) or layers[at + 1][0][0] != name[0]:
                drawing.pool(f"pool{name[0]}", 2, 2)
    else:
        drawing.conv("conv1", 96, 11, 4, 2)
        drawing.node("LRN", "norm1", size=5)
        drawing.pool("pool1", 3, 2)
        drawing.conv("conv2", 256, 5, 1, 2)
        drawing.node("LRN", "norm2", size=5)
        drawing.pool("pool2", 3, 2)
        for name, filters in (("conv3", 384), ("conv4", 384), ("conv5", 256)):
            drawing.conv(name, filters)
        drawing.pool("pool5", 3, 2)
    drawing.head()
    return drawing.model(shape)
