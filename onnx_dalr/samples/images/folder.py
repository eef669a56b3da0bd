"""Samples from a folder of images, with or without one sub-folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError, one_line
from onnx_dalr.samples.arrays.alignment import listing
from onnx_dalr.samples.base import CLASS_FOLDERS, Batch, InputSpec, Samples
from onnx_dalr.samples.files import visible, visible_files
from onnx_dalr.samples.images.bit_depth import depth_notes
from onnx_dalr.samples.images.image_input import ImageInput
from onnx_dalr.samples.images.pixel_table import PixelTable
from onnx_dalr.samples.images.preprocess import UserFunction
from onnx_dalr.samples.images.settings import ImageSettings

_NEEDS_CONVERSION = frozenset({".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"})
"""Images that cameras and phones make and Pillow does not read, or not everywhere."""

_SHOWN_KINDS = 2

__all__ = ["ImageFolder", "ImageSettings", "has_images", "images_among"]


class ImageFolder(Samples):
    """The images of a folder in natural order of their paths.

    Sub-folders are the classes 0, 1, … in natural order; images deeper inside belong to the sub-folder's class, and a
    sub-folder without images keeps its number. Hidden files and `__MACOSX` do not exist here; files without an image's
    extension are left out and counted in the description.
    """

    def __init__(self, root: Path, specs: Sequence[InputSpec], settings: ImageSettings) -> None:
        """Finds the images and settles how the model takes them; they are decoded when they are read.

        Args:
            root: The folder.
            specs: The model's inputs; there must be one.
            settings: The options; what they leave open is taken from the model.

        Raises:
            InputError: No images, images both beside and in sub-folders, a model that does not take images, options
                that contradict it.
        """
        if len(specs) != 1:
            raise InputError(
                f"images cannot feed the {len(specs)} inputs of the model: {listing(specs)}",
                "give an .npz, or a folder of them, with one array per input name",
            )
        self.specs = specs
        self._spec = specs[0]
        self._paths, classes, others = _find(root)
        self._reader: PixelTable | UserFunction
        if settings.preprocess is not None:
            self._reader = UserFunction(self._spec, settings.preprocess)
        else:
            paths = self._paths
            self._reader = PixelTable(self._spec, settings, lambda wanted: _with_size(wanted, paths, specs[0]))
        self.ids = [one_line(path.relative_to(root).as_posix()) for path in self._paths]
        if classes:
            index = {name: number for number, name in enumerate(classes)}
            self.classes = [one_line(name) for name in classes]
            self.labels_from = CLASS_FOLDERS
            self.labels = np.array([index[path.relative_to(root).parts[0]] for path in self._paths], dtype=np.int64)
        self.description = _description(root, len(self._paths), classes, self.labels, others)
        self.settings = self._reader.settings
        self.notes = depth_notes(self._paths, self._spec, settings)

    def read(self, index: int) -> Batch:
        """Returns image `index` as [1, C, H, W], [1, H, W, C] or [1, H·W·C]."""
        return {self._spec.name: self._reader.values(self._paths[index])}

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Returns image `index` as the model sees it, brought back to pixels: [H, W, 1 or 3]."""
        return self._reader.picture(self._reader.values(self._paths[index]))


def has_images(folder: Path) -> bool:
    """Whether an image lies in the folder or a folder in it."""
    return bool(images_among(list(visible_files(folder))))


def images_among(paths: Sequence[Path]) -> list[Path]:
    """The files whose extension says that they are images, in the order given."""
    from onnx_dalr.samples.images.pixels import image_extensions  # noqa: PLC0415 - Pillow is loaded when it is needed

    known = image_extensions()
    return [path for path in paths if path.suffix.lower() in known]


def _find(root: Path) -> tuple[list[Path], list[str], int]:
    """Returns (images, class names, number of files left out).

    Raises:
        InputError: No images, or images both beside and in sub-folders.
    """
    entries = visible(root)
    folders = [entry for entry in entries if entry.is_dir()]
    beside = [entry for entry in entries if not entry.is_dir()]
    inside = [path for folder in folders for path in visible_files(folder)]
    top = images_among(beside)
    deep = images_among(inside)
    others = len(beside) + len(inside) - len(top) - len(deep)
    if top and deep:
        raise InputError(
            f"{root}: images lie both in the folder ({one_line(top[0].name)}, …) and in its "
            f"sub-folders ({one_line(deep[0].relative_to(root).as_posix())}, …)",
            "put all of them in sub-folders, one per class, or all of them in the folder",
        )
    if not top and not deep:
        unread = {path.suffix.lower() for path in (*beside, *inside)} & _NEEDS_CONVERSION
        raise InputError(
            f"{root}: there are no images in this folder, it holds {_listed(beside + inside)}",
            f"convert the {' and '.join(sorted(unread))} files to PNG or JPEG" if unread else "give a folder of images",
        )
    return (deep, [folder.name for folder in folders], others) if deep else (top, [], others)


def _listed(paths: Sequence[Path]) -> str:
    """How many files of which kind, the most frequent first."""
    kinds = Counter(path.suffix.lower() for path in paths).most_common()
    shown = [f"{count} {one_line(kind) or 'other'} file(s)" for kind, count in kinds[:_SHOWN_KINDS]]
    more = sum(count for _, count in kinds[_SHOWN_KINDS:])
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "no files"


def _with_size(wanted: ImageInput, paths: Sequence[Path], spec: InputSpec) -> ImageInput:
    """The input with the images' own size where model and options leave it open.

    Raises:
        InputError: It is open and the images differ in size, or do not have the side that the model fixes.
    """
    from onnx_dalr.samples.images.pixels import image_size  # noqa: PLC0415 - Pillow is loaded when it is needed

    if wanted.height is not None and wanted.width is not None:
        return wanted
    hint = "give the size: --resize HxW"
    first = image_size(paths[0])
    for path in paths[1:]:
        size = image_size(path)
        if size != first:
            raise InputError(
                f"the model's input {spec} leaves the size of images open and they differ: "
                f"{one_line(paths[0].name)} is {first[0]}x{first[1]}, {one_line(path.name)} is {size[0]}x{size[1]}",
                hint,
            )
    if any(fixed not in (None, side) for fixed, side in zip((wanted.height, wanted.width), first, strict=True)):
        raise InputError(f"the images are {first[0]}x{first[1]}, which does not fit the model's input {spec}", hint)
    return replace(wanted, height=first[0], width=first[1])


def _description(
    root: Path,
    count: int,
    classes: Sequence[str],
    labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None,
    others: int,
) -> str:
    """One line: what was found, and what was left out."""
    text = f"{one_line(root.name)}: {count} images"
    notes = []
    if labels is not None:
        text += f" in {len(classes)} class{'es' if len(classes) != 1 else ''}"
        empty = len(classes) - len(np.unique(labels))
        if empty:
            notes.append(f"{empty} sub-folder(s) without images")
    if others:
        notes.append(f"{others} other file(s) left out")
    return f"{text} ({', '.join(notes)})" if notes else text
