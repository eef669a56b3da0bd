"""Whatever an image file is made of, the model sees what a viewer would show, without alpha."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.samples import ImageSettings, open_samples

from .conftest import MakeImage, spec

RAW = spec(None, 3, None, None, dtype="uint8")
GRAY = spec(None, 1, None, None, dtype="uint8")


def pixels(folder: Path, model: object = RAW) -> np.ndarray:
    """The only image of a folder as [H, W, C]."""
    return open_samples(folder, [model]).read(0)["x"][0].transpose(1, 2, 0)


class TestOrientation:
    @pytest.mark.parametrize(
        ("orientation", "shown"),
        [
            (1, [[1, 2, 3], [4, 5, 6]]),
            (2, [[3, 2, 1], [6, 5, 4]]),
            (3, [[6, 5, 4], [3, 2, 1]]),
            (4, [[4, 5, 6], [1, 2, 3]]),
            (5, [[1, 4], [2, 5], [3, 6]]),
            (6, [[4, 1], [5, 2], [6, 3]]),
            (7, [[6, 3], [5, 2], [4, 1]]),
            (8, [[3, 6], [2, 5], [1, 4]]),
            (9, [[1, 2, 3], [4, 5, 6]]),
        ],
    )
    @pytest.mark.parametrize("extension", ["png", "tiff", "webp"])
    def test_it_is_as_the_camera_says(
        self, tmp_path: Path, orientation: int, shown: list[list[int]], extension: str
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[:, :, None].repeat(3, axis=2)
        options = {"lossless": True} if extension == "webp" else {}
        Image.fromarray(stored).save(tmp_path / f"a.{extension}", exif=exif, **options)
        np.testing.assert_array_equal(pixels(tmp_path)[:, :, 0], shown)

    @pytest.mark.parametrize("extension", ["jpg", "tiff"])
    def test_the_size_of_a_turned_image_is_the_turned_one(self, tmp_path: Path, extension: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (4, 2)).save(tmp_path / f"a.{extension}", exif=exif)
        assert open_samples(tmp_path, [RAW]).settings["input size"] == "4x2"


class TestModes:
    def test_alpha_is_dropped_and_the_colour_below_it_kept(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], np.uint8))
        assert pixels(tmp_path).tolist() == [[[10, 20, 30], [40, 50, 60]]]

    def test_gray_with_alpha(self, tmp_path: Path) -> None:
        Image.new("LA", (2, 2), (77, 5)).save(tmp_path / "a.png")
        assert (pixels(tmp_path, GRAY) == 77).all()

    def test_a_palette_with_a_transparent_colour(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (2, 2), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
        image.save(tmp_path / "a.png", transparency=0)
        assert (pixels(tmp_path) == (10, 20, 30)).all()

    def test_a_palette_with_alpha_per_colour_warns_nobody(
        self, tmp_path: Path, recwarn: pytest.WarningsRecorder
    ) -> None:
        image = Image.new("RGB", (2, 2), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
        image.save(tmp_path / "a.png", transparency=bytes([128] * 4))
        assert (pixels(tmp_path) == (10, 20, 30)).all()
        assert not recwarn.list

    def test_black_and_white_of_one_bit(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[True, False]]))
        assert pixels(tmp_path, GRAY)[0, :, 0].tolist() == [255, 0]

    @pytest.mark.parametrize("extension", ["jpg", "tiff"])
    def test_cmyk_becomes_rgb(self, tmp_path: Path, extension: str) -> None:
        Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / f"a.{extension}")
        np.testing.assert_allclose(pixels(tmp_path)[4, 4].astype(int), [0, 255, 255], atol=3)

    def test_gray_is_the_luma_of_the_colours(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
        assert pixels(tmp_path, GRAY)[0, :, 0].tolist() == [76, 150, 29]

    @pytest.mark.parametrize("extension", ["png", "tiff"])
    def test_sixteen_bit_gray_keeps_its_full_range(self, tmp_path: Path, make_image: MakeImage, extension: str) -> None:
        make_image(f"a.{extension}", np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16))
        assert pixels(tmp_path, GRAY)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]

    def test_sixteen_bit_gray_for_a_model_of_three_channels(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[0, 65535]], np.uint16))
        assert pixels(tmp_path).tolist() == [[[0, 0, 0], [255, 255, 255]]]

    def test_sixteen_bit_colour_keeps_its_upper_bits(self, tmp_path: Path) -> None:
        (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + np.array([0, 32896, 65535], ">u2").tobytes())
        assert pixels(tmp_path).tolist() == [[[0, 128, 255]]]


def deep_colour(path: Path, pixels: np.ndarray) -> None:
    """Writes a PNG of 16 bits per channel, [H, W, 3] or with alpha [H, W, 4]; Pillow writes none."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


class TestSixteenBitsThatHoldFewer:
    @pytest.mark.parametrize(
        ("largest", "bits", "levels", "scale"),
        [(4095, 12, 17, "257/4095"), (1000, 10, 5, "257/1023"), (255, 8, 2, "257/255"), (16000, 14, 63, "257/16383")],
    )
    def test_it_is_said_with_the_scale_that_is_meant(
        self, tmp_path: Path, make_image: MakeImage, largest: int, bits: int, levels: int, scale: str
    ) -> None:
        for number in range(3):
            make_image(f"{number}.png", np.array([[0, largest // (3 - number)]], np.uint16))
        (note,) = open_samples(tmp_path, [spec(None, 1, 1, 2)]).notes
        assert f"hold at most {bits} (largest value {largest} in 3 of them)" in note
        assert f"in {levels} of 256 levels. --scale {scale} is probably meant; --preprocess" in note

    def test_that_scale_gives_the_whole_range(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[0, 2056, 4095]], np.uint16))
        samples = open_samples(tmp_path, [spec(None, 1, 1, 3)], image=ImageSettings(scale=257 / 4095))
        np.testing.assert_allclose(samples.read(0)["x"].ravel(), [0, 0.5, 1], atol=1 / 32)
        assert list(samples.notes) == []

    def test_raw_pixels_have_another_factor_and_whole_numbers_none(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.tiff", np.array([[0, 4095]], np.uint16))
        (note,) = open_samples(tmp_path, [spec(None, 1, 1, 2)], image=ImageSettings(preset="raw")).notes
        assert "--scale 16.0037 is probably meant" in note
        (note,) = open_samples(tmp_path, [spec(None, 1, 1, 2, dtype="uint8")]).notes
        assert "--scale" not in note
        assert "--preprocess with a function that multiplies by 255/4095" in note

    @pytest.mark.parametrize("channels", [3, 4])
    def test_colours_are_looked_at_too(self, tmp_path: Path, channels: int) -> None:
        pixels = np.full((2, 2, channels), 65535)
        pixels[:, :, :3] = 4095
        deep_colour(tmp_path / "a.png", pixels)
        (note,) = open_samples(tmp_path, [spec(None, 3, 2, 2)]).notes
        assert "hold at most 12 (largest value 4095 in 1 of them)" in note

    @pytest.mark.parametrize("largest", [0, 16384, 65535])
    def test_images_that_use_their_bits_or_none_are_passed_over(
        self, tmp_path: Path, make_image: MakeImage, largest: int
    ) -> None:
        make_image("a.png", np.array([[0, largest]], np.uint16))
        make_image("b.png", np.array([[0, min(largest, 99)]], np.uint16))
        assert list(open_samples(tmp_path, [spec(None, 1, 1, 2)]).notes) == []

    def test_dark_images_of_eight_bits_are_as_they_are(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[0, 3]], np.uint8))
        (tmp_path / "b.png").write_text("no image")
        assert list(open_samples(tmp_path, [spec(None, 1, 1, 2)]).notes) == []


class TestMovingImages:
    @pytest.mark.parametrize("extension", ["gif", "png", "webp", "tiff"])
    def test_the_first_frame_is_seen(self, tmp_path: Path, extension: str) -> None:
        first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
        options = {"lossless": True} if extension == "webp" else {}
        first.save(tmp_path / f"a.{extension}", save_all=True, append_images=[second], **options)
        assert (pixels(tmp_path) == (255, 0, 0)).all()


def test_programs_are_no_images(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.eps")
    samples = open_samples(tmp_path, [spec(None, 3, 4, 4)], image=ImageSettings())
    assert samples.ids == ["a.png"]
    assert "1 other file(s) left out" in samples.description
