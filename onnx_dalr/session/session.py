"""ONNX Runtime sessions: which device really runs, quiet logs, one line where a model cannot be loaded or run."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.samples.base import Batch

DeviceName = Literal["auto", "cpu", "cuda"]
_FATAL_ONLY = 4
_CRASHING = ["MatmulTransposeFusion"]
"""onnxruntime 1.31.1 dies on the CPU of a float16 MatMul behind a Transpose of the batch axes (NchwcTransformer)."""
_UNKNOWN = (
    re.compile(r"(?P<domain>[^\s:]*):(?P<op>[^\s:(]+)\S*\(-?\d+\) is not a registered function/op"),
    re.compile(r'In Node, \(".*?", (?P<op>[^,]+), "(?P<domain>[^"]*)", .*No Op registered for'),
)
"""How ONNX Runtime says that it does not know an operator, with an import of its domain's operator set and without."""

_OWN = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
_EXTENSIONS = ("ai.onnx.contrib", "com.microsoft.extensions")


@dataclass(frozen=True)
class Runtime:
    """How ONNX Runtime runs models.

    Attributes:
        device: "auto" takes CUDA where it works and the CPU elsewhere.
        ops_libraries: Shared libraries of operators beside its own.
    """

    device: DeviceName = "auto"
    ops_libraries: tuple[Path, ...] = ()


Device = DeviceName | Runtime
"""Where to run: a device by its name, or a Runtime, which says more."""


@dataclass(frozen=True, eq=False)
class Session:
    """A loaded model.

    Attributes:
        raw: The onnxruntime session.
        provider: The execution provider that really runs it.
    """

    raw: Any
    provider: str

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Output names in order."""
        return tuple(output.name for output in self.raw.get_outputs())

    @cached_property
    def signature(self) -> tuple[tuple[str, str, str, tuple[Any, ...]], ...]:
        """(input or output, name, type, shape) of everything a caller sees."""
        ends = (("input", self.raw.get_inputs()), ("output", self.raw.get_outputs()))
        return tuple((end, arg.name, arg.type, tuple(arg.shape)) for end, args in ends for arg in args)

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> list[Any]:
        """Runs one batch.

        Raises:
            InputError: ONNX Runtime refuses the batch: a shape that does not fit, say.
        """
        try:
            return list(self.raw.run(list(outputs) if outputs is not None else None, batch))
        except Exception as error:  # onnxruntime raises its own, unrelated exception types
            if isinstance(error, MemoryError):
                raise
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
            raise InputError(
                f"ONNX Runtime cannot run the model on {shapes}: {_reason(error)}",
                "check that the samples fit the model's inputs; a model made for one sample at a time wants "
                "--batch-size 1",
            ) from error


def reference_session(model: Model, device: Device = "auto", hidden: Sequence[str] = ()) -> Session:
    """The original in a session, with tensors inside it among its outputs, after its own.

    Raises:
        InputError: As `open_session`.
    """
    if not hidden:
        return open_session(model.source(), device)
    made, folder = model.in_memory(exposing(model.proto, hidden))
    return open_session(made, device, folder)


def open_session(
    model: Path | bytes, device: Device = "auto", folder: Path | None = None, *, prepack: bool = True
) -> Session:
    """Loads a model into a fresh session.

    Args:
        model: A path, or a serialized model.
        device: Where to run.
        folder: Where a serialized model's external data lies.
        prepack: Let ONNX Runtime keep weights a second time, in the layout its kernels like best.

    Raises:
        InputError: ONNX Runtime cannot load the model or a library of operators, or CUDA was asked for and is not
            there.
    """
    runtime = _runtime(device)
    for path in (model, folder):
        if isinstance(path, Path):
            check_path(path)
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # Idle ONNX Runtime threads would spin while NumPy's work, and the other way round (METHODS §7).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    for library in runtime.ops_libraries:
        _register(library, options)
    providers = ["CPUExecutionProvider"]
    if runtime.device != "cpu" and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    try:
        with redirect_stdout(None):  # where a provider fails it prints what it raises
            raw = ort.InferenceSession(
                os.fspath(model) if isinstance(model, Path) else model,
                options,
                providers=providers,
                disabled_optimizers=_CRASHING,
            )
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        what = str(model) if isinstance(model, Path) else "the model"
        raise _cannot_load(what, _reason(error), runtime) from error
    provider = raw.get_providers()[0]
    if runtime.device == "cuda" and provider != "CUDAExecutionProvider":
        raise InputError(
            "--device cuda: CUDA is not available to ONNX Runtime here",
            "install the CUDA and cuDNN libraries it was built for, or use --device cpu",
        )
    return Session(raw, provider)


def _runtime(device: Device) -> Runtime:
    return device if isinstance(device, Runtime) else Runtime(device)


def _register(library: Path, options: Any) -> None:
    """Adds a library's operators to those of a session to be.

    Raises:
        InputError: It cannot be loaded, or holds no operators.
    """
    check_path(library)
    try:
        # The system looks for a bare name among its own libraries.
        options.register_custom_ops_library(str(library.resolve()))
    except Exception as error:
        reason = _reason(error)
        if "RegisterCustomOps" in reason:
            reason = "it is no library of operators (it has no RegisterCustomOps)"
        raise InputError(
            f"--ops-library {library} cannot be loaded: {reason}",
            f"it has to be built for this system and ONNX Runtime {_onnxruntime().__version__}",
        ) from error


def _cannot_load(what: str, reason: str, runtime: Runtime) -> InputError:
    """The error of a model that ONNX Runtime refuses; of an operator that it does not know, where that may be found."""
    found = next(filter(None, (pattern.search(reason) for pattern in _UNKNOWN)), None)
    if found is None:
        return InputError(f"ONNX Runtime cannot load {what}: {reason}")
    op, domain = found["op"], found["domain"]
    if domain in _OWN:
        hint = f"ONNX Runtime {_onnxruntime().__version__} does not have it, a newer one may"
    elif domain in _EXTENSIONS:
        path = "python -c 'import onnxruntime_extensions as e; print(e.get_library_path())'"
        hint = f'it is a custom operator of onnxruntime-extensions: --ops-library "$({path})"'
    else:
        but = f", and {', '.join(map(str, runtime.ops_libraries))} does not hold it" if runtime.ops_libraries else ""
        hint = f"a custom operator needs the library that brings it{but}: --ops-library FILE"
    return InputError(
        f"ONNX Runtime cannot load {what}: it does not know the operator {op!r} of the domain {domain or 'ai.onnx'!r}",
        hint,
    )


def check_path(path: Path) -> None:
    """Refuses a path that ONNX Runtime cannot be told.

    Raises:
        InputError: Bytes in it are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"ONNX Runtime cannot open {path}: its name is not UTF-8", "rename it") from error


def provider_line(provider: str, device: Device) -> str:
    """One honest line: which provider runs, and that CUDA was tried where it was."""
    name = provider.removesuffix("ExecutionProvider")
    tried = _runtime(device).device == "auto" and "CUDAExecutionProvider" in _onnxruntime().get_available_providers()
    return f"running on {name}" + (" (no usable CUDA here)" if tried and name == "CPU" else "")


def be_ready() -> None:
    """Imports ONNX Runtime, which takes a while the first time.

    Raises:
        InputError: It is not installed, or two of its packages have overwritten each other.
    """
    _onnxruntime()


def all_finite(arrays: Sequence[Any]) -> bool:
    """Whether no floating array holds NaN or infinity."""
    return all(
        bool(np.isfinite(array).all()) for array in arrays if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    )


def not_numbers(names: Sequence[str], outputs: Sequence[Any]) -> str:
    """What a model's outputs hold that nothing can be measured against, in words; "" where all is well.

    Some infinities are no fault: a mask may be made of them.
    """
    for name, y in zip(names, outputs, strict=True):
        if isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.size:
            if np.isnan(y).any():
                return f"NaN in output {name!r}"
            if not np.isfinite(y).any():
                return f"nothing but infinity in output {name!r}"
    return ""


def _onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        InputError: It is not installed, or two of its packages have overwritten each other.
    """
    both = {"onnxruntime", "onnxruntime-gpu"}
    try:
        import onnxruntime as ort  # noqa: PLC0415 - heavy: not for --help

        ort.set_default_logger_severity(_FATAL_ONLY)
    except (ImportError, AttributeError) as error:
        broken = installed_runtimes() >= both
        raise InputError(
            "onnxruntime and onnxruntime-gpu are both installed and break each other"
            if broken
            else f"onnxruntime cannot be imported: {error}",
            "uninstall both and install one: pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu"
            if broken
            else "pip install --force-reinstall onnxruntime-gpu (or onnxruntime)",
        ) from error
    return ort


def installed_runtimes() -> set[str]:
    """Which of the packages that provide the onnxruntime module are installed; more than one overwrite each other."""
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
    found = set()
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def _reason(error: BaseException) -> str:
    """The part of an ONNX Runtime message a user can use: its last sentence, without the source location."""
    text = " ".join(str(error).split())
    text = text.split("Status Message: ")[-1]
    return text.removeprefix("[ONNXRuntimeError] : ")[:300]
