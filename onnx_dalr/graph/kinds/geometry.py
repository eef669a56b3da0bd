"""How a kernel goes over its data, and how several kernels in its place share that out (methods.md §6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_dalr.graph.index import attribute
from onnx_dalr.graph.kinds.base import Link
from onnx_dalr.graph.kinds.readings import Patches, patches


@dataclass(frozen=True)
class Geometry:
    """Of a convolution with one group.

    Attributes:
        patches: What its kernel sees at every position.
    """

    patches: Patches

    @classmethod
    def of(cls, node: NodeProto, dims: Sequence[int]) -> Geometry:
        """Of a Conv with a kernel of these dimensions, [M, C, *kernel].

        Raises:
            ValueError: Of what it sees nothing is known: it has groups, say.
        """
        found = patches(node, dims)
        if found is None:
            raise ValueError(f"no patches of {node.op_type} {node.name!r}")
        return cls(found)

    @property
    def strides(self) -> tuple[int, ...]:
        """Positions it moves on along each axis."""
        return tuple(window.stride for window in self.patches.windows)

    @property
    def taps(self) -> int:
        """Positions it sees at once."""
        return math.prod(window.taps for window in self.patches.windows)

    @property
    def is_plain(self) -> bool:
        """Whether it sees every position by itself, each once."""
        windows = self.patches.windows
        return self.taps == 1 and all(max(window.stride, 1 + window.before + window.after) == 1 for window in windows)

    def reached(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The positions that a 1×1 kernel stops at, [N, C, *positions], the zeros that it pads with among them."""
        around = [(window.before, window.after) for window in self.patches.windows]
        if any(any(zeros) for zeros in around) and not self.patches.same:
            tensor = np.pad(tensor, [(0, 0), (0, 0), *around])
        if math.prod(self.strides) > 1:
            tensor = tensor[(slice(None), slice(None), *(slice(None, None, step) for step in self.strides))]
        return tensor


def shared_out(whole: Geometry, links: Sequence[Link]) -> list[dict[str, Any]]:
    """Attributes for every link: the stride, dilation and padding of an axis go to the first link that spans it.

    What pads an axis by its length alone (`auto_pad`) does so along every axis by itself, and so it can go along.
    """
    windows, same = whole.patches.windows, whole.patches.same
    left, found = set(range(len(windows))), []
    for link in links:
        mine = left if link.axes is None else left & set(link.axes)
        left = left - mine
        own = [window if axis in mine else None for axis, window in enumerate(windows)]
        lists = {
            "strides": [window.stride if window else 1 for window in own],
            "dilations": [window.dilation if window else 1 for window in own],
            "pads": [window.before if window else 0 for window in own]
            + [window.after if window else 0 for window in own],
            "output_padding": [window.more if window else 0 for window in own],
        }
        plain = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}
        attributes: dict[str, Any] = {
            name: each for name, each in lists.items() if any(one != plain[name] for one in each)
        }
        if same and mine:
            attributes["auto_pad"] = same
        found.append(attributes)
    return found


def grouped(node: NodeProto, channels: int) -> str | None:
    """Why a convolution with groups is not taken apart; None where it has one.

    Args:
        node: The node.
        channels: Inputs of one group.
    """
    groups = attribute(node, "group", 1)
    if groups == 1:
        return None
    if channels == 1:
        return "depthwise convolution: each channel by itself, there is nothing to take apart"
    return f"grouped convolution ({groups} groups): only one group is supported"
