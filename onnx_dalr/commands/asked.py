"""What an analysis is asked for, beside what its whole run shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_dalr.request.target import Target
from onnx_dalr.samples.options import SampleOptions


@dataclass(frozen=True, eq=False)
class Asked:
    """What an analysis is asked for.

    Attributes:
        samples: Which samples; where there are statistics, those of `eval` alone, or none.
        stats: Files of statistics that take the place of the fit samples.
        target: Refused before anything is run where the sizes of the layers say so; None for none yet.
        only: Names of the layers to look at, None for all.
        keep: Hold on to the statistics.
        thumbnails: Where to draw the fit images, and whether a file there may be replaced.
        written: A model is going to be made: the time that takes is part of what is said of it before the work.
    """

    samples: SampleOptions
    stats: Sequence[Path] = ()
    target: Target | None = None
    only: frozenset[str] | None = None
    keep: bool = False
    thumbnails: tuple[Path, bool] | None = None
    written: bool = False
