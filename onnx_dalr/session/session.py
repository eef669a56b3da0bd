"""ONNX Runtime sessions: which device really runs, quiet logs, one line where a model cannot be loaded or run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.smallest import smallest
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.samples.base import Array, Batch
from onnx_dalr.session.installed import FATAL_ONLY, onnxruntime
from onnx_dalr.session.refusals import cannot_load, reason_of
from onnx_dalr.session.threads import usable_cores

DeviceName = Literal["auto", "cpu", "cuda"]
CPU = "CPUExecutionProvider"
"""The execution provider that is always there."""
CUDA = "CUDAExecutionProvider"
_CRASHING = ["MatmulTransposeFusion"]
"""onnxruntime 1.31.1 dies on the CPU of a float16 MatMul behind a Transpose of the batch axes (NchwcTransformer)."""
PACKED_BELOW = 250_000_000
"""Bytes of a model whose weights may be there twice while it is loaded, or in two layouts."""


@dataclass(frozen=True)
class Runtime:
    """How ONNX Runtime runs models.

    Attributes:
        device: "auto" takes CUDA where it works and the CPU elsewhere.
        ops_libraries: Shared libraries of operators beside its own.
        threads: So many work on one model; None for as many as there are cores to use.
        sums_there: Whether what is summed up of activations is summed up where the model runs (methods.md §7.4). None:
            where that is CUDA.
    """

    device: DeviceName = "auto"
    ops_libraries: tuple[Path, ...] = ()
    threads: int | None = None
    sums_there: bool | None = None

    @property
    def workers(self) -> int:
        """Threads to work with, at least one."""
        return self.threads or usable_cores()


_NUMBERS = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}

Device = DeviceName | Runtime
"""Where to run: a device by its name, or a Runtime, which says more."""


@dataclass(frozen=True, eq=False)
class Session:
    """A loaded model.

    Attributes:
        raw: The onnxruntime session.
        provider: The execution provider that really runs it.
        held: Arrays that it computes with and does not own.
    """

    raw: Any
    provider: str
    held: tuple[Array, ...] = ()

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Output names in order."""
        return tuple(output.name for output in self.raw.get_outputs())

    @cached_property
    def signature(self) -> tuple[tuple[str, str, str, tuple[Any, ...]], ...]:
        """(input or output, name, type, shape) of everything a caller sees."""
        ends = (("input", self.raw.get_inputs()), ("output", self.raw.get_outputs()))
        return tuple((end, arg.name, arg.type, tuple(arg.shape)) for end, args in ends for arg in args)

    @cached_property
    def _takes(self) -> dict[str, str]:
        """The element types of the inputs that take numbers, as NumPy calls them."""
        return {arg.name: _NUMBERS[arg.type] for arg in self.raw.get_inputs() if arg.type in _NUMBERS}

    def fed(self, batch: Batch) -> Batch:
        """A batch with its numbers in the precision that the model takes; the very arrays where they are in it.

        Floats stay floats and integers integers: an array of another kind is left to ONNX Runtime to refuse.
        """
        return {name: _in_precision(array, self._takes.get(name)) for name, array in batch.items()}

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> list[Any]:
        """Runs one batch, as `fed`.

        Raises:
            InputError: ONNX Runtime refuses the batch: a shape that does not fit, say.
        """
        with refused(batch):
            return list(self.raw.run(list(outputs) if outputs is not None else None, self.fed(batch)))


@contextmanager
def refused(batch: Batch) -> Iterator[None]:
    """What ONNX Runtime raises over a batch becomes one line.

    Raises:
        InputError: It refuses the batch.
    """
    try:
        yield
    except Exception as error:  # onnxruntime raises its own, unrelated exception types
        if isinstance(error, MemoryError):
            raise
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
        raise InputError(
            f"ONNX Runtime cannot run the model on {shapes}: {reason_of(error)}",
            "check that the samples fit the model's inputs; a model made for one sample at a time wants --batch-size 1",
        ) from error


def _in_precision(array: Array, dtype: str | None) -> Array:
    if dtype is None or np.dtype(dtype).kind != array.dtype.kind:
        return array
    return array.astype(dtype, copy=False)


def reference_session(model: Model, device: Device = "auto", hidden: Sequence[str] = ()) -> Session:
    """The original in a session, with tensors inside it among its outputs, after its own.

    A large one is not packed anew: it is run a few times, and its weights would be there twice until that is done.

    Raises:
        InputError: As `open_session`.
    """
    prepack = model.size < PACKED_BELOW
    if not hidden:
        return open_session(model.source(), device, prepack=prepack)
    made, folder = model.in_memory(exposing(model.proto, hidden))
    return open_session(made, device, folder, prepack=prepack)


def open_session(
    model: Path | bytes,
    device: Device = "auto",
    folder: Path | None = None,
    *,
    prepack: bool = True,
    optimized: Path | None = None,
    values: Mapping[str, Array] = MappingProxyType({}),
    exact: bool = False,
) -> Session:
    """Loads a model into a fresh session.

    Args:
        model: A path, or a serialized model.
        device: Where to run.
        folder: Where a serialized model's external data lies.
        prepack: Let ONNX Runtime keep weights a second time, in the layout its kernels like best.
        values: Of external initializers of a serialized model, by name: used where they are, not read from a file.
        optimized: Where ONNX Runtime is to write what it makes of the model, with the values in a file beside it.
        exact: Products are of single precision on CUDA too, which may else take ten bits of every number (TF32).

    Raises:
        InputError: ONNX Runtime cannot load the model or a library of operators, or CUDA was asked for and is not
            there.
    """
    runtime = runtime_of(device)
    for path in (model, folder):
        if isinstance(path, Path):
            check_path(path)
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = runtime.workers
    # Idle ONNX Runtime threads would spin while NumPy's work, and the other way round (methods.md §7.2).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{optimized.name}.data"
        )
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if values:
        arrays = [ort.OrtValue.ortvalue_from_numpy(array) for array in values.values()]
        options.add_external_initializers(list(values), arrays)
    for library in runtime.ops_libraries:
        _register(library, options)
    providers: list[Any] = [CPU]
    if _may_be_cuda(runtime):
        providers.insert(0, (CUDA, {"use_tf32": "0"}) if exact else CUDA)
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
        raise cannot_load(what, reason_of(error), runtime.ops_libraries) from error
    provider = raw.get_providers()[0]
    if runtime.device == "cuda" and provider != CUDA:
        raise InputError(
            "--device cuda: CUDA is not available to ONNX Runtime here",
            "install the CUDA and cuDNN libraries it was built for, or use --device cpu",
        )
    return Session(raw, provider, tuple(values.values()))


def runtime_of(device: Device) -> Runtime:
    """What a device by its name stands for."""
    return device if isinstance(device, Runtime) else Runtime(device)


def runs_on_cuda(device: Device) -> bool:
    """Whether CUDA works here, and is not ruled out: a session of one node says so in a millisecond where it does not.

    Raises:
        InputError: It was asked for and does not.
    """
    return _may_be_cuda(runtime_of(device)) and open_session(smallest(), device).provider == CUDA


def _may_be_cuda(runtime: Runtime) -> bool:
    """Whether it is not ruled out, and ONNX Runtime was built for it."""
    return runtime.device != "cpu" and CUDA in onnxruntime().get_available_providers()


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
        reason = reason_of(error)
        if "RegisterCustomOps" in reason:
            reason = "it is no library of operators (it has no RegisterCustomOps)"
        raise InputError(
            f"--ops-library {library} cannot be loaded: {reason}",
            f"it has to be built for this system and ONNX Runtime {onnxruntime().__version__}",
        ) from error


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
    tried = runtime_of(device).device == "auto" and _may_be_cuda(runtime_of(device))
    return f"running on {name}" + (" (no usable CUDA here)" if tried and name == "CPU" else "")
