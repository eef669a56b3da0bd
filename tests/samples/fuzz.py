"""Broken files by the thousand for the sample readers: `python -m tests.samples.fuzz --seconds 300 --seed 1`.

A reader may read a broken file or refuse it with an InputError of one printable line; anything else is a finding.
The short deterministic part of it is in test_hostile.py.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, InputSpec, open_samples, read_labels

IMAGE = InputSpec("x", (None, 3, 8, 8), np.dtype("float32"))
OPEN_IMAGE = InputSpec("x", (None, 3, None, None), np.dtype("float32"))
ROWS = InputSpec("x", (None, 3), np.dtype("float32"))
OPEN_ROWS = InputSpec("x", None, np.dtype("float32"))
SCALAR = InputSpec("sr", (), np.dtype("int64"))

SLOW = 5.0
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def seeds() -> dict[str, bytes]:
    """Well-formed files: name → content."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [rgb.convert("P"), rgb.rotate(90, expand=True).convert("P")]
    images: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "rgb.png": (rgb, {"exif": exif}),
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "gray16.png": (Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200), {}),
        "alpha.png": (rgb.convert("RGBA"), {}),
        "bit.png": (rgb.convert("1"), {}),
        "exif.jpg": (rgb, {"exif": exif}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "moving.gif": (frames[0], {"save_all": True, "append_images": frames[1:]}),
        "moving.png": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        "moving.webp": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        "lossless.webp": (rgb, {"lossless": True}),
        "lzw.tiff": (rgb, {"compression": "tiff_lzw"}),
        "raw.tiff": (rgb.convert("CMYK"), {}),
        "deflate.tiff": (Image.fromarray(pixels[:, :, 0].astype(np.uint16)), {"compression": "tiff_adobe_deflate"}),
        "packbits.tiff": (rgb, {"compression": "packbits"}),
        "a.bmp": (rgb, {}),
        "a.ico": (rgb.resize((16, 16)), {}),
        "a.icns": (rgb.resize((16, 16)), {}),
        "a.jp2": (rgb, {}),
        "a.pcx": (rgb, {}),
        "a.ppm": (rgb, {}),
        "a.sgi": (rgb, {}),
        "a.tga": (rgb, {"compression": "tga_rle"}),
        "a.dds": (rgb, {}),
        "a.dib": (rgb, {}),
        "a.im": (rgb, {}),
        "a.msp": (rgb.convert("1"), {}),
        "a.xbm": (rgb.convert("1"), {}),
        "a.qoi": (rgb, {}),
        "a.avif": (rgb, {}),
        "a.blp": (rgb.convert("P"), {}),
    }
    known = {}
    for name, (image, options) in images.items():
        buffer = io.BytesIO()
        try:
            with warnings.catch_warnings(action="ignore"):  # some are about to go
                image.save(buffer, format=Image.registered_extensions()[Path(name).suffix], **options)
        except (KeyError, OSError, ValueError):
            continue  # this Pillow was built without it
        known[name] = buffer.getvalue()
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    arrays: dict[str, Callable[[io.BytesIO], None]] = {
        "a.npy": lambda file: np.save(file, rows),
        "fortran.npy": lambda file: np.save(file, np.asfortranarray(rows)),
        "text.npy": lambda file: np.save(file, np.array(["a", "bc"])),
        "a.npz": lambda file: np.savez(file, x=rows, sr=np.int64(8)),
        "small.npz": lambda file: np.savez_compressed(file, x=rows, sr=np.int64(8)),
        "objects.npz": lambda file: np.savez(file, x=np.array([{}, None], dtype=object), sr=np.int64(8)),
        "labels.npy": lambda file: np.save(file, np.arange(10)),
    }
    for name, write in arrays.items():
        buffer = io.BytesIO()
        write(buffer)
        known[name] = buffer.getvalue()
    known["labels.txt"] = "\n".join(map(str, range(10))).encode()
    known["labels.csv"] = b"\xef\xbb\xbf0\r\n1\r\n\r\n12\r\n" * 3
    return known


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Does one to six of the usual kinds of damage to a file, most of them near its start, where headers are."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            break
        at = min(int(len(data) * chance.random() ** chance.choice((1, 3))), len(data) - 1)
        kind = chance.randrange(8)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + chance.randrange(1, 32)]
        elif kind == 4:
            data[at:at] = data[at : at + chance.randrange(1, 64)]
        elif kind == 5:
            size = chance.choice((1, 2, 4, 8))
            order = chance.choice(("little", "big"))
            data[at : at + size] = (chance.choice(EDGES) & (256**size - 1)).to_bytes(size, order)
        elif kind == 6:
            data[at : at + 16] = chance.randbytes(16)
        else:
            digits = [place for place, byte in enumerate(data[:4096]) if 0x30 <= byte <= 0x39]
            if digits:
                place = chance.choice(digits)
                data[place : place + 1] = chance.choice((b"9" * 9, b"9" * 30, b"-1", b"0", b"1e9", b"\xd9\xa3"))
    return bytes(data)


def read_all(folder: Path, name: str, content: bytes) -> str:
    """Writes a file into an empty folder and has it read in every way that fits; says how that ended.

    Raises:
        AssertionError: An error that is not fit for users, or a warning.
        Exception: Whatever escaped from a reader.
    """
    path = folder / name
    path.write_bytes(content)
    attempts: list[Callable[[], object]] = []
    if name.startswith("labels"):
        attempts.append(lambda: read_labels(path, 10))
    elif path.suffix in (".npy", ".npz"):
        specs = [ROWS] if path.suffix == ".npy" else [ROWS, SCALAR]
        attempts += [lambda: _read(path, specs), lambda: _read(path, [OPEN_ROWS, *specs[1:]])]
        if path.suffix == ".npz":
            attempts.append(lambda: _read(folder, specs))
    else:
        attempts += [
            lambda: _read(folder, [IMAGE]),
            lambda: _read(folder, [OPEN_IMAGE]),
            lambda: _read(folder, [IMAGE], crop=0.875, color="bgr"),
            lambda: _read(folder, [IMAGE], preprocess=lambda image: np.zeros((3, 8, 8)) + image.width),
        ]
    try:
        outcomes = [_outcome(attempt) for attempt in attempts]
    finally:
        path.unlink()
    return " ".join(outcomes)


def _outcome(attempt: Callable[[], object]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            attempt()
        except InputError as error:
            message = str(error)
        else:
            return "read"
    assert message.isprintable(), f"not one printable line: {message!r}"
    return "refused"


def _read(source: Path, specs: list[InputSpec], **options: object) -> None:
    with open_samples(source, specs, image=ImageSettings(**options)) as samples:
        for index in range(min(len(samples), 3)):
            for array in samples.read(index).values():
                assert np.isfinite(array).all()


def run(seconds: float, seed: int, kept: Path | None) -> Counter[str]:
    """Fuzzes for a while; prints and keeps what it finds."""
    import resource

    chance = random.Random(seed)
    known = seeds()
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            name = chance.choice(list(known))
            content = mutate(known[name], chance)
            if kept is not None:  # a decoder that crashes takes Python with it
                kept.mkdir(parents=True, exist_ok=True)
                (kept / "last").write_bytes(content)
            start, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            finding = ""
            try:
                outcomes[read_all(Path(folder), name, content)] += 1
            except BaseException:
                if time.monotonic() >= end + 60:
                    raise
                finding = traceback.format_exc()
            took = time.monotonic() - start
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
            if took > SLOW or grown > 400:
                finding += f"slow or large: {took:.1f} s, {grown:.0f} MiB"
            if finding:
                outcomes["FINDING"] += 1
                print(f"--- {name}\n{finding}", flush=True)
                if kept is not None:
                    (kept / f"{outcomes['FINDING']}-{name}").write_bytes(content)
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    print(run(given.seconds, given.seed, given.keep))
