"""`--stats` in place of samples: options that are about samples then mean nothing, and are refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_dalr.errors import InputError
from onnx_dalr.request.options import Options
from onnx_dalr.samples.options import SampleOptions


def check_given(how: Options, which: SampleOptions, *, thumbnails: bool) -> None:
    """Refuses options that would do nothing, since there is no --calib; what is left at its default is not given.

    Args:
        how: Of the run.
        which: Its samples: those of `eval`, or none at all.
        thumbnails: A sheet of them is asked for.

    Raises:
        InputError: They are named, with what would give them a meaning.
    """
    if idle := [*_of_calib(how, which), *(["--thumbnails"] if thumbnails else [])]:
        raise InputError(
            f"{_mean(idle)} nothing without --calib: the statistics of --stats are taken as they are",
            f"add --calib PATH, or leave {_them(idle)} out",
        )
    if which.eval is None and (idle := list(_of_any(how, which))):
        raise InputError(
            f"{_mean(idle)} nothing to --stats alone: no sample is run",
            f"add --eval PATH to measure quality on, or leave {_them(idle)} out",
        )


def _of_calib(how: Options, which: SampleOptions) -> Iterator[str]:
    """What is asked of samples that are learned from and chosen on."""
    default = SampleOptions(None)
    for name in ("samples", "seed", "holdout"):
        if getattr(which, name) != getattr(default, name):
            yield f"--{name}"
    if which.labels is not None:
        yield "--labels"
    for option, value in (("--workers", how.workers), ("--cluster", how.cluster), ("--work-dir", how.work_dir)):
        if value is not None:
            yield option


def _of_any(how: Options, which: SampleOptions) -> Iterator[str]:
    """What is asked of any samples that are run."""
    for option, value in (
        ("--eval-labels", which.eval_labels),
        ("--batch-size", which.batch_size),
        ("--mask-input", which.mask_input),
        ("--score", how.score),
    ):
        if value is not None:
            yield option
    if how.task != "auto":
        yield "--task"
    yield from which.image.given()


def _mean(options: list[str]) -> str:
    return f"{', '.join(options)} mean{'s' if len(options) == 1 else ''}"


def _them(options: list[str]) -> str:
    return "it" if len(options) == 1 else "them"
