"""The options that `optimize`, `analyze` and `apply` share between the command line and Python, in groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Method, Ridge, Settings
from onnx_dalr.files import PathLike as PathLike  # noqa: PLC0414 - for who makes options
from onnx_dalr.quality.score import UserScore, load_score
from onnx_dalr.quality.task import TaskName
from onnx_dalr.request.option import SHARED
from onnx_dalr.request.structures import StructureRule, read_structures
from onnx_dalr.request.table import of_function
from onnx_dalr.request.tuning import TuneName, read_time, read_tune
from onnx_dalr.request.weights import MemoryName, RefitName, WeightRule, only_keeps, read_rules
from onnx_dalr.samples import GivenLabels, ImageSettings
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.session.session import DeviceName, Runtime


@dataclass(frozen=True)
class Options:
    """Everything beside model, output, samples and target. See `optimize`."""

    method: Method
    settings: Settings = Settings()  # noqa: RUF009 - frozen
    structures: tuple[StructureRule, ...] = ()
    weights: tuple[WeightRule, ...] = ()
    memory: MemoryName = "keep"
    refit: RefitName = "auto"
    tune: TuneName | int = "auto"
    tune_time: float | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    task: TaskName = "auto"
    outputs: tuple[str, ...] = ()
    score: UserScore | None = None
    device: DeviceName = "auto"
    ops_libraries: tuple[Path, ...] = ()
    workers: int | None = None
    cluster: str | None = None
    work_dir: Path | None = None
    threads: int | None = None

    @property
    def runtime(self) -> Runtime:
        """How sessions are opened."""
        return Runtime(self.device, self.ops_libraries, self.threads)

    @property
    def wants_metric(self) -> bool:
        """Whether gradients are to be captured."""
        return self.method.takes_metric and self.settings.metric is not None

    @property
    def keeps(self) -> bool:
        """Whether all numbers stay in the element type they have."""
        return only_keeps(self.weights)

    @property
    def small_memory(self) -> bool:
        """Whether weights are to stay packed while the model runs."""
        return self.memory == "small"

    @property
    def refits(self) -> bool:
        """Whether layers are fitted to what the layers before them have become; baselines stay what they are."""
        return self.refit == "auto" and self.method.takes_metric

    @property
    def tunes(self) -> bool:
        """Whether numbers may learn from the original; baselines stay what they are."""
        return self.tune != "off" and self.method.takes_metric

    @property
    def concerns_memory(self) -> bool:
        """Whether memory at run time is worth measuring."""
        return self.small_memory or not self.keeps

    def described(self) -> dict[str, str]:
        """The settings of the factors that are not the default, as a plan carries them."""
        found = {}
        if self.settings.ridge is not None:
            found["ridge"] = str(self.settings.ridge)
        if self.settings.shrinkage is not None:
            found["shrinkage"] = f"{self.settings.shrinkage:g}"
        if self.method.takes_metric and self.settings.metric is None:
            found["metric"] = "none"
        return found


def make_options(
    *,
    method: str = "dalr",
    ridge: str | float | None = None,
    shrinkage: str | float | None = None,
    metric: bool = True,
    structures: str | Iterable[str] = "auto",
    weights: str | Iterable[str] = "keep",
    memory: str = "keep",
    refit: str = "auto",
    tune: str | int = "auto",
    tune_time: str | float | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    task: str = "auto",
    outputs: str | Iterable[str] = (),
    score: str | Callable[..., Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    ops_library: PathLike | Sequence[PathLike] = (),
    workers: int | None = None,
    cluster: str | None = None,
    work_dir: PathLike | None = None,
) -> Options:
    """Checks what was typed.

    Raises:
        InputError: An unknown name, or a setting that cannot be read or means nothing to the method.
    """
    chosen = METHODS[_known("method", method)]
    if ridge is not None and not chosen.takes_ridge:
        raise InputError(f"--ridge means nothing to --method {method}", "it belongs to --method dalr-2017")
    for option, given in (("--shrinkage", shrinkage is not None), ("--no-metric", not metric)):
        if given and not chosen.takes_metric:
            raise InputError(f"{option} means nothing to --method {method}", "it belongs to --method dalr")
    return Options(
        method=chosen,
        settings=Settings(
            ridge=None if ridge is None else _parse_ridge(ridge),
            shrinkage=None if shrinkage is None else _parse_shrinkage(shrinkage),
            metric="auto" if metric else None,
        ),
        structures=read_structures(structures),
        weights=read_rules(weights),
        memory=_known("memory", memory),
        refit=_known("refit", refit),
        tune=read_tune(tune),
        tune_time=read_time(tune_time),
        include=(include,) if isinstance(include, str) else tuple(include),
        exclude=(exclude,) if isinstance(exclude, str) else tuple(exclude),
        task=_known("task", task),
        outputs=(outputs,) if isinstance(outputs, str) else tuple(outputs),
        score=None if score is None else load_score(score),
        device=_known("device", device),
        ops_libraries=tuple(map(_library, paths(ops_library))),
        workers=_workers(workers),
        cluster=None if cluster is None else _address(cluster),
        work_dir=None if work_dir is None else Path(work_dir),
        threads=None if threads is None else _at_least_one(threads),
    )


def from_plan(settings: dict[str, str]) -> dict[str, Any]:
    """The arguments of `make_options` for settings that a plan carries."""
    found: dict[str, Any] = {name: settings[name] for name in ("ridge", "shrinkage") if name in settings}
    return found | ({"metric": False} if settings.get("metric") == "none" else {})


def _known(name: str, given: str) -> Any:
    """The word that an option was given, if it is one of those it takes."""
    option = of_function(SHARED)[name]
    if given not in option.known_words():
        raise InputError(f"{option.flag} {given!r} is not known", f"one of {', '.join(option.known_words())}")
    return given


def _workers(given: int | None) -> int | None:
    if given is not None and given < 1:
        raise InputError(f"--workers {given} must be at least 1", "leave it out to run the samples in this process")
    return given


def _address(given: str) -> str:
    """An address as Dask takes it, with the port that it asks for."""
    try:
        parts = urlsplit(given)
        complete = bool(parts.scheme and parts.hostname and parts.port)
    except ValueError:  # a port that is no number
        complete = False
    if not complete:
        raise InputError(
            f"--cluster {given!r} is no address of a scheduler", "give the one that it prints, tcp://HOST:8786 say"
        )
    return given


def _at_least_one(threads: int) -> int:
    if threads < 1:
        raise InputError(f"--threads {threads} is less than one", "leave it out for as many as there are cores to use")
    return threads


def _library(path: Path) -> Path:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise InputError(f"--ops-library {path} {what}", "give the shared library (.so, .dll, .dylib) of the operators")
    return path


def paths(given: PathLike | Sequence[PathLike]) -> list[Path]:
    """One path or several, as a list."""
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(path) for path in given]


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


def _parse_shrinkage(text: str | float) -> float:
    """Reads a share from 0, the covariance as it was seen, to 1, none of it."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--shrinkage {text!r} is not a share from 0 to 1", "leave it out for OAS")
    return value


class Shared(TypedDict, total=False):
    """The options that `optimize`, `analyze` and `apply` have in common; `optimize` says what each means."""

    method: str
    ridge: str | float | None
    shrinkage: str | float | None
    metric: bool
    structures: str | Iterable[str]
    weights: str | Iterable[str]
    memory: str
    refit: str
    tune: str | int
    tune_time: str | float | None
    include: str | Iterable[str]
    exclude: str | Iterable[str]
    task: str
    outputs: str | Iterable[str]
    score: str | Callable[..., Any] | None
    device: str
    threads: int | None
    ops_library: PathLike | Sequence[PathLike]
    workers: int | None
    cluster: str | None
    work_dir: PathLike | None
    eval: Any
    eval_labels: GivenLabels | None
    labels: GivenLabels | None
    samples: int | None
    seed: int
    batch_size: int | None
    holdout: float
    mask_input: str | None
    resize: tuple[int, int] | int | None
    mean: Sequence[float] | float | None
    std: Sequence[float] | float | None
    scale: float | None
    color: str | None
    layout: str | None
    preset: str | None
    crop: tuple[int, int] | float | str | None
    preprocess: str | Callable[[Any], Any] | None


def read_options(calib: Any, shared: Mapping[str, object]) -> tuple[Options, SampleOptions]:
    """Sorts what the functions of the API were given: each option goes to whom has it among its parameters.

    Raises:
        InputError: As `make_options`.
        TypeError: An option that does not exist.
    """
    given: dict[str, Any] = dict(shared)
    how, image = take(given, make_options), take(given, ImageSettings)
    for name in ("mean", "std"):
        if isinstance(image.get(name), int | float):
            image[name] = (float(image[name]),)
        elif image.get(name) is not None:
            image[name] = tuple(map(float, image[name]))
    return make_options(**how), SampleOptions(calib, **given, image=ImageSettings(**image))


def take(given: dict[str, Any], taker: Callable[..., Any] | Iterable[str]) -> dict[str, Any]:
    """Takes out of what was given what a function, or names, want of it."""
    wanted = signature(taker).parameters if callable(taker) else taker
    return {name: given.pop(name) for name in wanted if name in given}
