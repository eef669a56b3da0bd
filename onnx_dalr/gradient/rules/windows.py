"""Where the windows of convolutions and pools lie: kernel, strides, dilations, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx_dalr.gradient.emit import PathEndsError, Tensor
from onnx_dalr.gradient.step import Step

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Windows:
    """One entry per spatial axis.

    Attributes:
        kernel: Taps.
        strides: Between windows.
        dilations: Between taps.
        before: Padding in front.
        after: Padding behind.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def pads(self) -> list[int]:
        """As the attribute has them."""
        return [*self.before, *self.after]

    def along(self, axis: int) -> Attributes:
        """Attributes of windows that are one wide along every other axis."""

        def only(values: Sequence[int], other: int) -> list[int]:
            return [value if at == axis else other for at, value in enumerate(values)]

        found = {"kernel_shape": only(self.kernel, 1), "strides": only(self.strides, 1)}
        found["pads"] = [*only(self.before, 0), *only(self.after, 0)]
        return found if self.dilations[axis] == 1 else found | {"dilations": only(self.dilations, 1)}

    @property
    def spans(self) -> list[int]:
        """From the first tap of a window to its last, both counted."""
        return [(taps - 1) * by + 1 for taps, by in zip(self.kernel, self.dilations, strict=True)]


def windows_of(step: Step, kernel: Sequence[int | None], x: Tensor) -> Windows:
    """The windows of a node over x.

    Raises:
        PathEndsError: Their padding depends on sizes not known before the run.
    """
    taps = step.attribute("kernel_shape") or list(kernel)
    if not taps or None in taps:
        raise PathEndsError("the size of its kernel is not known before the run")
    ones = [1] * len(taps)
    strides, dilations = step.attribute("strides", ones), step.attribute("dilations", ones)
    pads = step.attribute("pads", [0] * (2 * len(taps)))
    before, after = pads[: len(taps)], pads[len(taps) :]
    plain = Windows(*map(tuple, (taps, strides, dilations, before, after)))
    auto = step.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return plain
    totals = [
        0 if auto == "VALID" else same_padding(x, *sizes)
        for sizes in zip(range(2, 2 + len(taps)), plain.spans, strides, strict=True)
    ]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    before, after = (more, less) if auto == "SAME_LOWER" else (less, more)
    return Windows(plain.kernel, plain.strides, plain.dilations, tuple(before), tuple(after))


def same_padding(x: Tensor, axis: int, span: int, stride: int) -> int:
    """How much SAME adds in all: as many windows as ⌈size / stride⌉."""
    if stride == 1:
        return span - 1
    size = None if x.dims is None else x.dims[axis]
    if size is None:
        raise PathEndsError("its SAME padding depends on sizes not known before the run")
    return max(0, (-(-size // stride) - 1) * stride + span - size)
