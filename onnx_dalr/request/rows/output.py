"""What is written and what is shown."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.option import OUTPUT as GROUP
from onnx_dalr.request.option import RUNS, Option

_SHOWN = (*RUNS, "compare")
_WRITTEN = ("optimize", "apply")

OUTPUT = (
    Option(
        name="save_plan",
        type="PathLike | None",
        text="Write the plan here.",
        functions=("optimize",),
        help="Write the plan too: ranks and why, to edit and apply.",
        commands=("optimize",),
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="save_stats",
        type="PathLike | None",
        text="Write the statistics of the fit samples here.",
        functions=("optimize",),
        help="Write the statistics of the fit samples too.",
        commands=("optimize", "analyze"),
        group=GROUP,
        parsed=Path,
        metavar="FILE.npz",
    ),
    Option(
        name="force",
        type="bool",
        default=False,
        text="Replace existing files: the output, a plan, statistics, a sheet of thumbnails.",
        functions=RUNS,
        help="Replace existing files.",
        commands=RUNS,
        group=GROUP,
        parsed=bool,
    ),
    Option(
        name="dry_run",
        type="bool",
        default=False,
        text="Do everything but write.",
        functions=_WRITTEN,
        help="Do and measure everything, write nothing.",
        commands=_WRITTEN,
        group=GROUP,
        parsed=bool,
    ),
    Option(
        name="json",
        type="PathLike | None",
        text="Write the report as JSON here, in place of an older one; it comes into place with the model.",
        functions=_WRITTEN,
        help="Write the report as JSON too; - for standard output.",
        commands=(*_WRITTEN, "compare"),
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="verbose",
        default=False,
        help="Also why, all that was tried, and the time.",
        commands=_SHOWN,
        group=GROUP,
        parsed=bool,
        flags=("--verbose", "-v"),
        in_python="to_text(verbose=True)",
    ),
    Option(
        name="quiet",
        default=False,
        help="Only the report.",
        commands=_SHOWN,
        group=GROUP,
        parsed=bool,
        flags=("--quiet", "-q"),
    ),
    Option(
        name="progress",
        type="Progress | None",
        text="Where to report to while it runs: an object that overrides what it wants to hear of "
        "`onnx_dalr.progress.Silent`.",
        functions=_SHOWN,
    ),
)
