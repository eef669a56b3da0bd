"""The options that `optimize` shares between the command line and Python, in groups."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.evaluate import TaskName
from onnx_dalr.factorize import METHODS, Method, Ridge
from onnx_dalr.runtime import Device
from onnx_dalr.samples import ImageSettings

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class SampleOptions:
    """Where the samples come from and how they are divided. See `optimize` for the meaning of each."""

    calib: Any
    eval: Any = None
    eval_labels: str | os.PathLike[str] | None = None
    labels: str | os.PathLike[str] | None = None
    samples: int | None = None
    seed: int = 0
    batch_size: int | None = None
    holdout: float = 0.3
    mask_input: str | None = None
    image: ImageSettings = field(default_factory=ImageSettings)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size} must be at least 1", "leave it out for 32")


@dataclass(frozen=True)
class Options:
    """Everything beside model, output, samples and target. See `optimize`."""

    method: Method
    ridge: Ridge | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    task: TaskName = "auto"
    device: Device = "auto"
    force: bool = False
    dry_run: bool = False


def make_options(
    method: str,
    ridge: str | float | None,
    include: str | Iterable[str],
    exclude: str | Iterable[str],
    task: str,
    device: str,
    force: bool,
    dry_run: bool,
) -> Options:
    """Checks what was typed.

    Raises:
        InputError: An unknown name, or a ridge that cannot be read or means nothing to the method.
    """
    chosen = METHODS[_one_of("--method", method, tuple(METHODS))]
    if ridge is not None and not chosen.takes_ridge:
        raise InputError(f"--ridge means nothing to --method {method}", "it belongs to --method dalr-2017")
    return Options(
        method=chosen,
        ridge=None if ridge is None else _parse_ridge(ridge),
        include=(include,) if isinstance(include, str) else tuple(include),
        exclude=(exclude,) if isinstance(exclude, str) else tuple(exclude),
        task=_one_of("--task", task, ("auto", "classify", "regress", "embed")),  # type: ignore[arg-type]
        device=_one_of("--device", device, ("auto", "cpu", "cuda")),  # type: ignore[arg-type]
        force=force,
        dry_run=dry_run,
    )


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{option} {value!r} is not known", f"one of {', '.join(known)}")
    return value


def _parse_ridge(text: str | float) -> Ridge:
    """Reads 1e-3 (relative to the mean squared input) or "abs:1000"."""
    number = str(text)
    try:
        value = float(number.removeprefix("abs:"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"--ridge {text!r} is not a ridge", "write 1e-3 (relative) or abs:1000")
    return Ridge(value, absolute=number.startswith("abs:"))
