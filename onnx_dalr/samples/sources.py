"""The table of sources: what samples can be given as. A new source is a new file and a line here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError
from onnx_dalr.samples.arrays.readers import DataReader, StreamSamples, from_reader
from onnx_dalr.samples.arrays.stored import from_array, from_arrays, npz_files, open_npy, open_npz, open_npz_folder
from onnx_dalr.samples.base import CLASS_FOLDERS, InputSpec, Samples
from onnx_dalr.samples.images.folder import ImageFolder, has_images, images_among
from onnx_dalr.samples.images.settings import ImageSettings
from onnx_dalr.samples.labels import GivenLabels, labels_of


@dataclass(frozen=True)
class _Source:
    """One kind of source.

    Attributes:
        name: What it is, for messages.
        accepts: Whether a path (as Path) or a Python object is one; the first that accepts is taken.
        open: Opens it for the model's inputs with the image settings.
        images: Whether the image settings mean anything to it.
    """

    name: str
    accepts: Callable[[Any], bool]
    open: Callable[[Any, Sequence[InputSpec], ImageSettings], Samples]
    images: bool = False


_PATHS = (
    _Source(
        "a folder of .npz files",
        lambda path: path.is_dir() and bool(npz_files(path)),
        lambda path, specs, _: open_npz_folder(path, specs),
    ),
    _Source("a folder of images", lambda path: path.is_dir(), ImageFolder, images=True),
    _Source("an .npz file", lambda path: path.suffix.lower() == ".npz", lambda path, specs, _: open_npz(path, specs)),
    _Source("a .npy file", lambda path: path.suffix.lower() == ".npy", lambda path, specs, _: open_npy(path, specs)),
)

_OBJECTS = (
    _Source(
        "a dict of arrays",
        lambda given: isinstance(given, Mapping),
        lambda given, specs, _: from_arrays(given, specs),
    ),
    _Source(
        "a calibration data reader",
        lambda given: isinstance(given, DataReader),
        lambda given, specs, _: from_reader(given, specs),
    ),
    _Source("an array", lambda given: hasattr(given, "__array__"), lambda given, specs, _: from_array(given, specs)),
    _Source(
        "an iterable of dicts or arrays",
        lambda given: isinstance(given, Iterable) and not isinstance(given, bytes),
        lambda given, specs, _: StreamSamples(given, specs),
    ),
)


def open_samples(
    source: object,
    specs: Sequence[InputSpec],
    *,
    image: ImageSettings = ImageSettings(),  # noqa: B008 - frozen
    labels: GivenLabels | None = None,
    labels_option: str = "--labels",
) -> Samples:
    """Opens samples for a model, whatever they are given as.

    Args:
        source: A path to a folder of images, an `.npz`, a folder of `.npz` or a `.npy`; in Python also an array, a
            dict of arrays, any iterable of dicts, arrays or pairs of these and labels, or an onnxruntime
            CalibrationDataReader.
        specs: The model's inputs that have to be fed.
        image: How pixels become numbers; only for images.
        labels: A path to a file of labels, or integers, one per sample in their order (or an array of them for each);
            they go before the classes of an image folder. None: what the samples carry.
        labels_option: What messages call `labels`.

    Returns:
        The samples; a context manager, to be closed where temporary files should not wait for the garbage collector.

    Raises:
        InputError: The source is not there, not readable, of no known kind, or does not fit the model; image settings
            for something that is no folder of images; labels that do not fit, or are given twice.
    """
    if not specs:
        raise InputError("the model has no inputs to feed", "a model that computes from nothing cannot be calibrated")
    if isinstance(source, str | os.PathLike):
        samples = _open_path(Path(source), specs, image)
    else:
        samples = _open_object(source, specs, image)
    if labels is not None:
        if samples.labels_from not in (None, CLASS_FOLDERS):
            raise InputError(
                f"labels are given twice: by {labels_option} and by {samples.labels_from}",
                f"leave {labels_option} out, or yield no pairs",
            )
        # The numbers of labels that are given say nothing of the order of folders, nor the folders of their classes.
        samples.labels, samples.classes = labels_of(labels, len(samples), labels_option), ()
        samples.labels_from = labels_option
    if samples.fixed_batch and len(samples) < samples.fixed_batch:
        raise samples.too_few(len(samples))
    return samples


def _open_path(path: Path, specs: Sequence[InputSpec], image: ImageSettings) -> Samples:
    try:
        path.stat()
        if path.is_dir() and npz_files(path) and has_images(path):
            raise InputError(f"{path}: the folder holds both .npz files and images", "give a folder with one of them")
        source = next((source for source in _PATHS if source.accepts(path)), None)
        if source is not None:
            _check_image_options(source, image)
            return source.open(path, specs, image)
    except FileNotFoundError as error:
        missing = error.filename or path
        raise InputError(f"{missing}: no such file or folder", f"give {_accepted(_PATHS)}") from error
    except PermissionError as error:
        raise InputError(f"{error.filename or path}: no permission to read it", "check who may read it") from error
    except OSError as error:
        raise InputError(
            f"{path}: it cannot be read: {error.strerror or error}", f"give {_accepted(_PATHS)}"
        ) from error
    if images_among([path]):
        raise InputError(f"{path}: one image is not a set of samples", "give the folder that holds the images")
    raise InputError(
        f"{path}: samples cannot be read from {f'a {path.suffix} file' if path.suffix else 'this file'}",
        f"give {_accepted(_PATHS)}",
    )


def _open_object(given: object, specs: Sequence[InputSpec], image: ImageSettings) -> Samples:
    source = next((source for source in _OBJECTS if source.accepts(given)), None)
    if source is None:
        raise InputError(
            f"samples cannot be read from an object of type {type(given).__name__}",
            f"give a path, {_accepted(_OBJECTS)}",
        )
    _check_image_options(source, image)
    return source.open(given, specs, image)


def _check_image_options(source: _Source, image: ImageSettings) -> None:
    if image.given() and not source.images:
        raise InputError(
            f"{', '.join(image.given())}: image options do nothing for {source.name}",
            "leave them out; arrays are fed as they are",
        )


def _accepted(sources: Sequence[_Source]) -> str:
    names = [source.name for source in sources]
    return f"{', '.join(names[:-1])} or {names[-1]}"
