"""Files made to break the readers: each is read or refused in one line, in bounded memory, and nothing in it is run."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import Samples, open_samples, read_labels
from onnx_dalr.samples.files import visible_files

from .conftest import MakeImage, spec
from .fuzz import mutate, read_all, seeds

SEEDS = seeds()
MODEL = spec(None, 3, 8, 8)
ROWS = spec(None, 3)


def opened(source: Path, *specs: object) -> Samples:
    return open_samples(source, specs or [ROWS])


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def npy(shape: str, descr: str = "'<f4'", content: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


class TestImages:
    @pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
    @pytest.mark.parametrize("model", [MODEL, spec(None, 3, None, None)])
    def test_a_decompression_bomb_is_refused_by_its_header(
        self, tmp_path: Path, width: int, height: int, model: object
    ) -> None:
        (tmp_path / "bomb.png").write_bytes(png_that_claims(width, height))
        with pytest.raises(InputError, match=r"bomb\.png: this image claims more than 89,478,485 pixels"):
            opened(tmp_path, model).read(0)

    def test_a_program_called_png_is_not_run(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "EPS")
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        with pytest.raises(InputError, match=r"a\.png: this image cannot be decoded: it is no image"):
            opened(tmp_path, MODEL).read(0)

    def test_names_that_cannot_be_printed_are_escaped(self, tmp_path: Path, make_image: MakeImage) -> None:
        good = make_image("good.png").read_bytes()
        names = [b"line\nbreak.png", b"red\x1b[31m.png", b"\xff\xfe.png"]
        try:
            for name in names:
                Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(good)
        except OSError:
            pytest.skip("this file system has no such names")
        samples = opened(tmp_path, MODEL)
        assert sorted(samples.ids) == [r"\udcff\udcfe.png", "good.png", r"line\nbreak.png", r"red\x1b[31m.png"]
        for path in tmp_path.iterdir():
            path.write_bytes(b"")
        for index in range(4):
            with pytest.raises(InputError, match="cannot be decoded") as caught:
                samples.read(index)
            assert str(caught.value).isprintable()


class TestFolders:
    def test_a_link_to_itself_is_no_image(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        (tmp_path / "b.png").symlink_to("b.png")
        samples = opened(tmp_path, MODEL)
        with pytest.raises(InputError, match=r"b\.png"):
            samples.read(1)

    def test_links_in_a_circle_end(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("cat/a.png")
        (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "dog").symlink_to(tmp_path / "cat", target_is_directory=True)
        assert opened(tmp_path, MODEL).ids == ["cat/a.png", "dog/a.png"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    @pytest.mark.parametrize("name", ["images/a.png", "a.npy", "a.npz", "labels.txt"])
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        read = {
            "labels.txt": lambda: read_labels(path, 3),
            "images/a.png": lambda: opened(path.parent, MODEL).read(0),
        }.get(name, lambda: opened(path))
        with pytest.raises(InputError, match="this is no file but a pipe"):
            read()

    def test_folders_may_be_nested_deeper_than_calls(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("c/" + "d/" * 100 + "a.png")
        files = visible_files(tmp_path)
        # In place of more folders than Python's calls can be deep: pytest's own clean-up would fail on them.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack()) + 60)
        try:
            found = [path.name for path in files]
        finally:
            sys.setrecursionlimit(limit)
        assert found == ["a.png"]


class TestArrays:
    @pytest.mark.parametrize(
        "shape", ["(99999999, 3)", "(10**30,)", "(4611686018427387905, 4)", "(-5, 3)", "(True, 3)", "3", "('a',)"]
    )
    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_a_shape_is_believed_only_as_far_as_the_file_goes(
        self, tmp_path: Path, shape: str, compression: int, recwarn: pytest.WarningsRecorder
    ) -> None:
        content = npy(shape, content=bytes(36))
        (tmp_path / "a.npy").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
            archive.writestr("x.npy", content)
        tracemalloc.start()
        for name in ("a.npy", "a.npz"):
            with pytest.raises(InputError, match=name) as caught:
                opened(tmp_path / name)
            assert str(caught.value).isprintable()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert not recwarn.list
        assert peak < 20_000_000

    def test_a_claim_of_gigabytes_is_named(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", npy("(999999999, 3)"))
        (tmp_path / "a.npy").write_bytes(npy("(999999999, 3)"))
        for name, what in (("a.npz", r"a\.npz: 'x\.npy'"), ("a.npy", r"a\.npy: it")):
            with pytest.raises(InputError, match=what + " claims to be an array of 11,999,999,988 bytes and has 128"):
                opened(tmp_path / name)

    @pytest.mark.parametrize("shape", ["(-1,)", "(0,)", "(1000000000000,)"])
    def test_entries_of_no_bytes_do_not_crash_numpy(self, tmp_path: Path, shape: str) -> None:
        # numpy.load(…, mmap_mode="r") of the first dies with SIGFPE: found by fuzz.py, seed 23.
        (tmp_path / "a.npy").write_bytes(npy(shape, "'<U0'", bytes(16)))
        with pytest.raises(InputError, match=r"a\.npy: it claims to be an array of shape .* of 0 bytes"):
            opened(tmp_path / "a.npy")

    def test_an_archive_that_would_fill_memory_with_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onnx_dalr.samples.arrays.archives._ALWAYS_FITS", 1_000_000)
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1_000_000, 3), np.float32))
        with pytest.raises(InputError, match=r"bytes would become 12,000,128 in memory.*decompression bomb"):
            opened(tmp_path / "a.npz")

    def test_zeros_within_reason_are_read(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1_000_000, 3), np.float32))
        assert len(opened(tmp_path / "a.npz")) == 1_000_000

    def test_a_header_of_megabytes_is_not_read(self, tmp_path: Path) -> None:
        content = b"\x93NUMPY\x02\x00" + struct.pack("<I", 50_000_000) + b" " * 50_000_000
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
        with pytest.raises(InputError, match="begins with a header of 50,000,000 bytes"):
            opened(tmp_path / "a.npz")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_compressions_are_refused(self, tmp_path: Path, method: int) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("x.npy", npy("(3, 3)", content=bytes(36)))
        with pytest.raises(InputError, match="compressed as numpy does not write it"):
            opened(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["../../escaped.npy", "/etc/escaped.npy", "C:\\escaped.npy"])
    def test_a_path_for_a_name_is_only_a_name(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(name, npy("(3, 3)", content=bytes(36)))
        with pytest.raises(InputError, match=r"escaped' is not an input of the model"):
            opened(tmp_path / "a.npz")
        assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]

    def test_a_name_that_moves_the_cursor_is_escaped(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x\x1b[2J.npy", npy("(3, 3)", content=bytes(36)))
        with pytest.raises(InputError, match=r"'x\\x1b\[2J\.npy' in it is no name"):
            opened(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "inside.npz", "labels.npy"])
    def test_pickles_are_never_loaded(self, tmp_path: Path, name: str) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "trapped"),)

        code = pickle.dumps(np.array([Trap()], dtype=object))
        path = tmp_path / name
        if name == "inside.npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x.npy", npy("(1,)", "'|O'", code))
        else:
            path.write_bytes(npy("(1,)", "'|O'", code) if name == "labels.npy" else code)
        with pytest.raises(InputError, match="Python objects"):
            read_labels(path, 1) if name.startswith("labels") else opened(path)
        assert not (tmp_path / "trapped").exists()

    def test_entries_without_bytes_are_no_samples(self) -> None:
        arrays = {"x": np.zeros((10**12, 0), np.float32), "sr": np.int64(8)}
        with pytest.raises(InputError, match="there are no samples"):
            open_samples(arrays, [spec(None, None), spec(name="sr", dtype="int64")])

    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "images/a.png"])
    def test_a_file_of_no_bytes(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        with pytest.raises(InputError, match=path.name):
            opened(path.parent, MODEL).read(0) if path.suffix == ".png" else opened(path)


class TestLabels:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\x00\x01\x02", "not an integer"),
            (b"1\n\xff\xfe\n", "not a text file"),
            (b"9" * 5000, "not an integer"),
            (b"9" * 30, "one integer per sample"),
            (b"1\x1b[31m", r"line 1 is not an integer: '1\\x1b\[31m'"),
            (b"", "0 labels for 1 samples"),
        ],
    )
    def test_text_that_is_no_labels(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "labels.txt").write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            read_labels(tmp_path / "labels.txt", 1)
        assert str(caught.value).isprintable()

    def test_numbers_beyond_the_range_do_not_turn_negative(self, tmp_path: Path) -> None:
        np.save(tmp_path / "labels.npy", np.array([2**64 - 1], np.uint64))
        with pytest.raises(InputError, match="label 18446744073709551615 is too large"):
            read_labels(tmp_path / "labels.npy", 1)


class TestDamage:
    """The short part of fuzz.py, the same every time."""

    @pytest.mark.parametrize("name", SEEDS)
    def test_damaged_files_are_read_or_refused(self, tmp_path: Path, name: str) -> None:
        chance, content = random.Random(name), SEEDS[name]
        for _ in range(12):
            read_all(tmp_path, name, mutate(content, chance))

    @pytest.mark.parametrize("name", ["rgb.png", "exif.jpg", "raw.tiff", "a.npy", "a.npz", "labels.txt", "labels.npy"])
    @settings(
        max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(content=st.binary(max_size=200), kept=st.integers(0, 200))
    def test_bytes_after_a_good_beginning(self, tmp_path: Path, name: str, content: bytes, kept: int) -> None:
        read_all(tmp_path, name, SEEDS[name][:kept] + content)
