"""Samples from arrays: `.npy`, `.npz`, a folder of `.npz`, and in Python an array or a dict of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_dalr.errors import InputError, first_line, one_line
from onnx_dalr.samples.arrays.alignment import (
    as_text,
    check_axes,
    check_batch_axis,
    check_names,
    excess_axes,
    ignored_note,
    listing,
    spare_names,
)
from onnx_dalr.samples.arrays.archives import check_archive, check_array
from onnx_dalr.samples.arrays.dtypes import check_kind, to_model_dtype
from onnx_dalr.samples.base import Array, Batch, InputSpec, Samples
from onnx_dalr.samples.files import check_regular, visible


@dataclass(frozen=True)
class _Part:
    """The arrays of one file: input name → array, all with the same number of samples."""

    name: str
    arrays: Mapping[str, Array]


class ArraySamples(Samples):
    """Rows, or complete feeds, of arrays that are in memory or memory-mapped.

    With the rank of the model's inputs, axis 0 of the arrays counts samples; with one axis more, each entry is a
    complete feed. An array that exactly has the fixed shape of its input is repeated with every sample.
    """

    def __init__(self, parts: Sequence[tuple[str, Mapping[str, Array]]], specs: Sequence[InputSpec], name: str) -> None:
        """Lines the arrays up with the model; their values are looked at when they are read.

        Args:
            parts: (name of the file, input name → array), to be concatenated.
            specs: The model's inputs.
            name: What the samples are called in messages and the report.

        Raises:
            InputError: Names, ranks, shapes or element types that do not fit the model; nothing in them.
        """
        self.specs = specs
        self._parts = [_Part(part, arrays) for part, arrays in parts]
        for part in self._parts:
            check_names(part.arrays, specs, part.name)
            for spec in specs:
                check_kind(part.arrays[spec.name].dtype, spec, part.name)
        self.complete, self.repeated = self._form(name)
        if not self.complete:
            check_batch_axis(specs, self.repeated, name)
        counts = [self._count(part) for part in self._parts]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.ids = [
            f"{part.name}[{row}]" for part, count in zip(self._parts, counts, strict=True) for row in range(count)
        ]
        self.description = f"{name}: {len(self.ids)} {'complete feeds' if self.complete else 'samples'}"

    def _form(self, name: str) -> tuple[bool, frozenset[str]]:
        """Whether entries are complete feeds, and which inputs are repeated."""
        shapes = {spec.name: [part.arrays[spec.name].shape for part in self._parts] for spec in self.specs}
        excess, exact = excess_axes(shapes, self.specs, name)
        if excess is None and len(exact) == len(self.specs):
            # Every array is exactly what the model takes: rows where axis 0 can count them, else one feed per file.
            rows = {spec.fixed[:1] if spec.fixed else () for spec in self.specs}
            return (False, frozenset()) if len(rows) == 1 and () not in rows else (True, exact)
        if excess not in (None, 0, 1):
            spec = next(spec for spec in self.specs if spec.name not in exact and spec.shape is not None)
            check_axes(shapes[spec.name][0], spec, name)
        return excess == 1, exact

    def _count(self, part: _Part) -> int:
        """The number of samples in a file, once its shapes are checked."""
        batched = {spec.name: part.arrays[spec.name] for spec in self.specs if spec.name not in self.repeated}
        for spec in self.specs:
            if spec.name in batched:
                where = f"{part.name}: '{spec.name}'"
                shape = batched[spec.name].shape
                if not shape:
                    raise InputError(f"{where} is a single number and has no samples on axis 0")
                check_axes(shape[1:] if self.complete else shape, spec, where, skip=0 if self.complete else 1)
        lengths = {array.shape[0] for array in batched.values()}
        if len(lengths) > 1:
            listed = ", ".join(f"'{name}' {as_text(array.shape)}" for name, array in batched.items())
            raise InputError(
                f"{part.name}: the arrays differ in their number of samples: {listed}",
                "axis 0 must have the same length in all of them",
            )
        count = int(next(iter(lengths), 1))
        # By bytes: text of no characters has entries without end in no space.
        if count == 0 or (batched and all(array.nbytes == 0 for array in batched.values())):
            raise InputError(f"{part.name}: there are no samples in it", "give at least one sample")
        return count

    def read(self, index: int) -> Batch:
        """Returns sample `index`: arrays of axis-0 length 1, or the complete feed."""
        where = self.ids[index]
        at = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[at])
        batch: Batch = {}
        for spec in self.specs:
            array = self._parts[at].arrays[spec.name]
            if spec.name not in self.repeated:
                # `[()]`-style indexing of a one-axis array would give a scalar that is no array.
                array = np.asarray(array[row]) if self.complete else array[row : row + 1]
            batch[spec.name] = to_model_dtype(array, spec, where)
        return batch


def open_npy(path: Path, specs: Sequence[InputSpec]) -> ArraySamples:
    """Samples of a `.npy` file, memory-mapped, for a model with one input.

    Raises:
        InputError: A broken file, Python objects in it, a model with several inputs, a shape that does not fit.
    """
    return from_array(load_npy(path), specs, one_line(path.name))


def open_npz(path: Path, specs: Sequence[InputSpec]) -> ArraySamples:
    """Samples of an `.npz` file whose keys are input names.

    Raises:
        InputError: A broken file, Python objects in it, keys or shapes that do not fit the model.
    """
    return ArraySamples([(one_line(path.name), _load_npz(path))], specs, one_line(path.name))


def open_npz_folder(path: Path, specs: Sequence[InputSpec]) -> ArraySamples:
    """Samples of all `.npz` files of a folder in natural order, one after the other.

    Raises:
        InputError: As `open_npz`, for any of the files.
    """
    parts = [(one_line(file.name), _load_npz(file)) for file in npz_files(path)]
    samples = ArraySamples(parts, specs, one_line(path.name))
    samples.description += f" in {len(parts)} .npz files"
    return samples


def from_array(array: object, specs: Sequence[InputSpec], name: str = "array") -> ArraySamples:
    """Samples of one array (or tensor that numpy can read), for a model with one input.

    Raises:
        InputError: A model with several inputs, a shape that does not fit.
    """
    if len(specs) != 1:
        raise InputError(
            f"{name}: one array cannot feed the {len(specs)} inputs of the model: {listing(specs)}",
            "give an .npz (in Python a dict) with one array per input name",
        )
    return from_arrays({specs[0].name: array}, specs, name)


def from_arrays(arrays: Mapping[str, object], specs: Sequence[InputSpec], name: str = "arrays") -> ArraySamples:
    """Samples of a dict: input name → array (or anything numpy can read); keys beside the inputs are passed over.

    Raises:
        InputError: Inputs without an array, or shapes that do not fit the model.
    """
    spare = spare_names(arrays, specs, name)
    taken = {spec.name: as_array(arrays[spec.name], f"{name}['{spec.name}']") for spec in specs}
    samples = ArraySamples([(name, taken)], specs, name)
    samples.notes = [ignored_note(spare)] if spare else []
    return samples


def as_array(value: object, where: str) -> Array:
    """Returns the value as a numpy array; memory maps stay memory maps.

    Raises:
        InputError: numpy cannot read it (a ragged list, a tensor on another device or with a gradient).
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise InputError(f"{where}: not an array: {reason}", "give numpy arrays") from error


def npz_files(folder: Path) -> list[Path]:
    """The `.npz` files that lie directly in a folder, in natural order."""
    return [path for path in visible(folder) if path.suffix.lower() == ".npz" and path.is_file()]


def load_npy(path: Path) -> Array:
    """Returns the array of a `.npy` file, memory-mapped.

    Raises:
        InputError: A broken file, or Python objects in it.
    """
    check_regular(path)
    try:
        check_array(path)
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, InputError):
        raise
    # numpy and zipfile raise nearly anything on a broken file, from BadZipFile to tokenize.TokenError.
    except Exception as error:
        raise _broken(path, ".npy", error) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError(f"{path}: this is not a .npy file", "an archive of arrays is called .npz")
    return loaded


def _load_npz(path: Path) -> dict[str, Array]:
    check_regular(path)
    try:
        check_archive(path)
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            members = None if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, InputError):
        raise
    # numpy and zipfile raise nearly anything on a broken file, from BadZipFile to tokenize.TokenError.
    except Exception as error:
        raise _broken(path, ".npz", error) from error
    if members is None:
        raise InputError(f"{path}: this is not an .npz archive", "a single array is called .npy")
    for name, member in members.items():
        if not isinstance(member, np.ndarray):
            raise InputError(f"{path}: '{name}' in it is not an array", "write it with numpy.savez")
    if not members:
        raise InputError(f"{path}: there are no arrays in it", "write it with numpy.savez(FILE, INPUT=array)")
    return members


def _broken(path: Path, kind: str, error: BaseException) -> InputError:
    reason = first_line(error)
    name = one_line(path)
    if "allow_pickle" in reason or "Python objects" in reason:
        return InputError(
            f"{name}: it holds Python objects, or is no {kind} file",
            "Python objects are never loaded: they could run code; save plain numbers with numpy.save or numpy.savez",
        )
    return InputError(f"{name}: this {kind} file cannot be read: {reason}", "is it complete? write it again")
