"""Statistics on disk: written in one move, opened layer by layer, and refused where they are damaged."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError, one_line
from onnx_dalr.factorize import Method, Need, Statistics
from onnx_dalr.files import staged
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.statistics_set import LayerFacts, LazyLayers, StatisticsSet, check_fits, merged, model_hash
from onnx_dalr.samples.arrays.archives import check_archive

__all__ = [
    "SCHEMA",
    "StatisticsSet",
    "check_fits",
    "gathered",
    "load_statistics",
    "merged",
    "model_hash",
    "save_statistics",
    "write_statistics",
]

SCHEMA = 1
"""Counts up with every change after which an older onnx-dalr would misread a file."""

_HEADER = "header.json"
_AGAIN = "write it again with --save-stats"
_SLACK = 65_536
"""Bytes that the headers and single numbers of one layer may take."""


def save_statistics(stats: StatisticsSet, path: Path) -> None:
    """Writes a set as `write_statistics`, in one step and in place of an older file.

    Raises:
        InputError: It cannot be written, or a layer of a set that lies in a file cannot be read.
    """
    with staged(path) as written:
        write_statistics(stats, written)


def write_statistics(stats: StatisticsSet, path: Path) -> None:
    """Writes a set as `.npz`; the same set gives the same bytes.

    Layers that no row reached are left out.

    The archive holds header.json and the arrays of layer i as "i/name.npy", uncompressed: deflating sums takes
    thirty times as long and saves a quarter.

    Raises:
        InputError: A layer of a set that lies in a file cannot be read.
        OSError: The file cannot be written.
    """
    facts = {name: stats.facts(name) for name in stats.layers if stats.facts(name).rows}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(_header(stats, facts), indent=1))
        for position, name in enumerate(facts):
            for key, array in stats.layers[name].to_arrays().items():
                with archive.open(f"{position}/{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def load_statistics(path: Path) -> StatisticsSet:
    """Opens a file of `save_statistics`. Its header is read now, each layer's sums when they are asked for.

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
        return StatisticsSet(
            model=_text(header["model"]),
            method=_text(header["method"]),
            settings={name: _text(value) for name, value in header["settings"].items()},
            version=_text(header["version"]),
            samples=frozenset(map(_text, header["samples"])),
            layers=LazyLayers(facts, lambda name: _read_layer(path, places[name], facts[name])),
            notes=tuple(one_line(_text(note)) for note in header["notes"]),
        )


def gathered(
    paths: Iterable[Path],
    *,
    model: str,
    method: Method,
    settings: Mapping[str, str],
    layers: Sequence[Layer],
    needs: Callable[[Layer], Need] | None = None,
) -> tuple[StatisticsSet, tuple[str, ...]]:
    """What `--stats` stands for: the files opened, checked, added up, and cut down to what the run reads.

    Args:
        paths: Of the files, at least one.
        model: `model_hash` of the run's model.
        method: Of the run.
        settings: Of the run.
        layers: Of the run.
        needs: Layer → the sums the run reads, with METRIC where it weighs by gradients; those of the method where
            left out.

    Returns:
        As `merged`; every layer of the run is in it, with exactly the sums the run itself would have kept: a layer
        whose metric one of the files lacks has none.

    Raises:
        InputError: As `load_statistics`, `check_fits` and `merged`.
    """
    check = partial(check_fits, model=model, method=method, settings=settings, layers=layers, needs=needs)
    parts = [(str(path), load_statistics(path)) for path in paths]
    for name, part in parts:
        check(part, name, complete=False)
    total, notes = merged(parts)
    check(total, " + ".join(name for name, _ in parts))
    read = needs or (lambda layer: method.needs(layer.m, layer.n))
    wanted = {layer.name: read(layer) for layer in layers}
    return total.restricted(wanted), (*notes, *_lost_metrics(parts, wanted))


def _lost_metrics(parts: Sequence[tuple[str, StatisticsSet]], wanted: Mapping[str, Need]) -> Iterator[str]:
    """What is to be said of layers of which some of the parts keep a metric, and others do not."""
    held = {
        name: {path: Need.METRIC in part.facts(name).needs for path, part in parts if name in part.layers}
        for name, needs in wanted.items()
        if Need.METRIC in needs
    }
    for path, _ in parts:
        lost = [name for name, kept in held.items() if any(kept.values()) and not kept.get(path, True)]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            yield f"no output metric for {', '.join(map(repr, lost[:3]))}{more}: {path} keeps none"


def _header(stats: StatisticsSet, facts: Mapping[str, LayerFacts]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": stats.version,
        "model": stats.model,
        "method": stats.method,
        "settings": stats.settings,
        "samples": sorted(stats.samples),
        "notes": stats.notes,
        "layers": [
            {"name": name, "m": fact.m, "n": fact.n, "rows": fact.rows, "needs": [need.name for need in fact.needs]}
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


def _facts(entry: Mapping[str, Any]) -> LayerFacts:
    needs = reduce(or_, (Need[name] for name in entry["needs"]), Need.NONE)
    return LayerFacts(_count(entry["m"]), _count(entry["n"]), needs, _count(entry["rows"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r:.40} counts nothing")
    return value


def _read_layer(path: Path, place: str, facts: LayerFacts) -> Statistics:
    """The statistics of one layer; nothing larger than its facts allow is ever made room for."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.startswith(place)]
        least = Statistics.bytes_needed(facts.m, facts.n, facts.needs, facts.rows)
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


def _stored(facts: LayerFacts) -> dict[str, int]:
    """The same facts as `Statistics.to_arrays` names them."""
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is damaged: {reason}", _AGAIN) from error
