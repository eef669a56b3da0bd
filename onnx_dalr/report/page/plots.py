"""Plots as SVG that takes its colours from the page it stands in: drawn by Matplotlib, without any state of it."""

from __future__ import annotations

import io
import logging
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from onnx_dalr.errors import one_line
from onnx_dalr.report.names import shortened
from onnx_dalr.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, LINE = "#010101", "#020202", "#030303"
COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "blue": "#3b7dd8",
        "orange": "#d97b1f",
        "green": "#2f9e6e",
        "purple": "#9a5fd0",
        "red": "#d0504a",
        "grey": "#8b95a1",
    }
)
"""By name; they can be told apart on white and on black, and by those who see few colours by their lightness too."""

_BY_PAGE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {INK: ("ink", "currentColor"), FAINT: ("faint", "#7a848f"), LINE: ("line", "#9aa3ad55")}
)
"""Stand-ins that no plot would use: what the style of a page calls these, and what they are where there is none."""

_VARIABLE = re.compile(r"var\([-\w]+, ([^)]+)\)")

WIDE, NARROW = (720, 300), (340, 260)
"""Pixels of the two shapes."""

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small files, readable by screen readers and by search
    "svg.hashsalt": "onnx-dalr",  # the same plot gives the same file
    "font.size": 12,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 11,
    "axes.unicode_minus": True,
}
_LINES = 'stroke-linejoin="round" stroke-linecap="butt"'
_FONT = re.compile(r"font: ((?:\d+ )?[\d.]+px) [^;\"]*")
_POINTS = 72  # of an inch: so that a point is a pixel


@dataclass(frozen=True)
class Drawn:
    """A plot in both shapes.

    Attributes:
        wide: SVG for screens and paper.
        narrow: SVG for phones.
    """

    wide: str
    narrow: str


def drawn(
    draw: Callable[[Figure, bool], None], told: str, *, height: int | None = None, narrow_height: int | None = None
) -> Drawn:
    """Draws a plot in both shapes.

    Args:
        draw: Draws into a figure; it is told whether that is the narrow one.
        told: What it shows, for those who do not see it.
        height: Pixels, where the plot needs more or fewer than usual.
        narrow_height: The same of the narrow one.
    """
    shapes = ((WIDE[0], height or WIDE[1]), (NARROW[0], narrow_height or height or NARROW[1]))
    wide, narrow = (_svg(draw, shape, told, narrow=at == 1) for at, shape in enumerate(shapes))
    return Drawn(wide, narrow)


def _svg(draw: Callable[[Figure, bool], None], shape: tuple[int, int], told: str, *, narrow: bool) -> str:
    # Where a home folder cannot be written Matplotlib says so at length; a report is no worse for it.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib as mpl  # noqa: PLC0415 - heavy: only where a plot is drawn
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    settings: dict[Any, Any] = dict(_SETTINGS)
    with mpl.rc_context(settings):
        figure = Figure(figsize=(shape[0] / _POINTS, shape[1] / _POINTS), dpi=_POINTS, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure, narrow)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return _for_a_page(buffer.getvalue(), shape, told)


def _for_a_page(text: str, shape: tuple[int, int], told: str) -> str:
    """The drawing alone, with the page's font and colours, and a name for screen readers."""
    inside = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    inside = re.sub(r"\s*<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inside, flags=re.DOTALL)  # it would be of the page
    inside = _FONT.sub(r"font-size: \1", inside).replace("font-size: 700 ", "font-weight: 700; font-size: ")
    for stand_in, (name, otherwise) in _BY_PAGE.items():
        inside = inside.replace(stand_in, f"var(--{name}, {otherwise})")
    # What one drawing calls its parts, another on the same page may too.
    salt = f"p{zlib.crc32(inside.encode()):x}"
    inside = re.sub(r'(id="|href="#|url\(#)([\w.]+)', rf"\g<1>{salt}-\g<2>", inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    label = escape(one_line(told), quote=True)
    head = f'<svg viewBox="0 0 {shape[0]} {shape[1]}" role="img" aria-label="{label}" class="plot" {_LINES}>'
    return f"{head}{inside.strip()}</svg>"


def plain(text: str) -> str:
    """A name as Matplotlib shows it: nothing in it is a formula."""
    return one_line(text).replace("$", r"\$")


def bytes_axis(axes: Axes, *, vertical: bool = False) -> None:
    """Writes sizes along an axis as people read them."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415

    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, place: format_bytes(value)))


def ticks_between(low: float, high: float, count: int) -> list[float]:
    """Round numbers for a logarithmic axis: 1, 2 and 5 times powers of ten, not more of them than asked for."""
    if not 0 < low < high:
        return [low]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) <= count:
            break
    return found[:: max(1, math.ceil(len(found) / count))]


def without_page(svg: str) -> str:
    """A plot for where no style of ours is: it takes the colour of the text around it."""
    return _VARIABLE.sub(r"\1", svg)


def labels(names: Sequence[str], most: int) -> list[str]:
    """Names for an axis in at most so many characters, shortened so that they still tell apart where they can."""
    return [plain(short(name, most)) for name in shortened(names, most)]


def short(name: str, most: int) -> str:
    """A name in at most so many characters, its middle left out."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"
