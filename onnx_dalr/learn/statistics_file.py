"""Statistics on disk: written in one move, opened layer by layer, and refused where they are damaged."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError, first_line, one_line
from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.learn.lazy_layers import LazyLayers, StatisticsFacts
from onnx_dalr.samples.arrays.archives import check_archive

SCHEMA = 1
"""Counts up with every change after which an older onnx-dalr would misread a file."""

_HEADER = "header.json"
_AGAIN = "write it again with --save-stats"
_SLACK = 65_536
"""Bytes that the headers and single numbers of one layer may take."""


def write_statistics(path: Path, parts: Mapping[str, Any], facts: Mapping[str, StatisticsFacts]) -> None:
    """Writes a set as `.npz`; the same set gives the same bytes.

    The archive holds header.json and the arrays of layer i as "i/name.npy", uncompressed: deflating sums takes
    thirty times as long and saves a quarter.

    Args:
        path: Where to.
        parts: What the set is made of: the arguments of `StatisticsSet` by name.
        facts: Of the layers to be written.

    Raises:
        InputError: A layer of a set that lies in a file cannot be read.
        OSError: The file cannot be written.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(_header(parts, facts), indent=1))
        for position, name in enumerate(facts):
            for key, array in parts["layers"][name].to_arrays().items():
                with archive.open(f"{position}/{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_statistics(path: Path) -> dict[str, Any]:
    """What a set in a file is made of: the arguments of `StatisticsSet` by name.

    The header is read now, each layer's sums when they are asked for.

    Nothing in it is ever executed: pickles are refused.

    Raises:
        InputError: No such file, not ours, damaged, or written by a newer version; on access to a layer too.
    """
    with _reading(path):
        header = _read_header(path)
        facts = {_text(entry["name"]): _facts(entry) for entry in header["layers"]}
        if len(facts) < len(header["layers"]):
            raise ValueError("a layer is in it twice")
        places = {name: f"{position}/" for position, name in enumerate(facts)}
        return {
            "model": _text(header["model"]),
            "method": _text(header["method"]),
            "settings": {name: _text(value) for name, value in header["settings"].items()},
            "version": _text(header["version"]),
            "samples": frozenset(map(_text, header["samples"])),
            "layers": LazyLayers(facts, lambda name: _read_layer(path, places[name], facts[name])),
            "notes": tuple(one_line(_text(note)) for note in header["notes"]),
        }


def _header(parts: Mapping[str, Any], facts: Mapping[str, StatisticsFacts]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": parts["version"],
        "model": parts["model"],
        "method": parts["method"],
        "settings": parts["settings"],
        "samples": sorted(parts["samples"]),
        "notes": parts["notes"],
        "layers": [
            {"name": name, "m": fact.m, "n": fact.n, "rows": fact.rows, "needs": [need.name for need in fact.needs]}
            | ({"taps": fact.taps} if fact.taps > 1 else {})
            for name, fact in facts.items()
        ],
    }


def _read_header(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file", "--stats takes what --save-stats wrote")
    with path.open("rb") as file:  # which says what is wrong where there is none
        if not zipfile.is_zipfile(file):
            raise InputError(f"{path} is no .npz file, or it is cut off", "--stats takes what --save-stats wrote")
    with zipfile.ZipFile(path) as archive:
        if _HEADER not in archive.namelist():
            raise InputError(f"{path} holds no statistics of onnx-dalr", "--stats takes what --save-stats wrote")
    try:
        check_archive(path)
    except InputError as error:
        raise InputError(error.message, _AGAIN) from error
    with zipfile.ZipFile(path) as archive:
        header: dict[str, Any] = json.loads(archive.read(_HEADER))
    if _count(header["schema"]) > SCHEMA:
        version = _text(header["version"])
        raise InputError(
            f"{path} was written by a newer onnx-dalr, {version}; this is {__version__}", "update this one"
        )
    return header


def _facts(entry: Mapping[str, Any]) -> StatisticsFacts:
    needs = reduce(or_, (Need[name] for name in entry["needs"]), Need.NONE)
    m, n, rows, taps = (_count(entry.get(name, 1 if name == "taps" else None)) for name in ("m", "n", "rows", "taps"))
    return StatisticsFacts(m, n, needs, rows, taps)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r:.40} counts nothing")
    return value


def _read_layer(path: Path, place: str, facts: StatisticsFacts) -> Statistics:
    """The statistics of one layer; nothing larger than its facts allow is ever made room for."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.startswith(place)]
        least = Statistics.bytes_needed(facts.m, facts.n, facts.needs, facts.rows, taps=facts.taps)
        most = least + 8 * facts.n**2 * (Need.ROWS in facts.needs) + _SLACK
        if not least <= sum(info.file_size for info in members) <= most:
            raise ValueError(f"the arrays {place} are not those of a layer of {facts.m}x{facts.n}")
        arrays = {}
        for info in members:
            with archive.open(info) as member:
                name = info.filename.removeprefix(place).removesuffix(".npy")
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        if any(np.any(arrays[name] != value) for name, value in _stored(facts).items()):
            raise ValueError(f"the arrays {place} are of another layer")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"the arrays {place} hold NaN or infinity")
        return Statistics.from_arrays(arrays)


def _stored(facts: StatisticsFacts) -> dict[str, int]:
    """The facts under the names that `Statistics.to_arrays` gives them."""
    return {"m": facts.m, "n": facts.n, "needs": facts.needs.value, "count": facts.rows}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What can go wrong in reading becomes an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}", "--stats takes what --save-stats wrote") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "check the file and its rights") from error
    except Exception as error:  # zipfile, json and numpy raise nearly anything on a broken file
        raise InputError(f"{path} is damaged: {first_line(error)}", _AGAIN) from error
