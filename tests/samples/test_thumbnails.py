"""The contact sheet shows what the model sees, and is written in one step or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, Samples, open_samples
from onnx_dalr.samples.images.contact_sheet import draw_sheet, write_thumbnails
from onnx_dalr.samples.images.thumbnail import thumbnail

from .conftest import MakeImage, spec

MODEL = spec(None, 3, 8, 8)


@pytest.fixture
def photos(tmp_path: Path, make_image: MakeImage) -> Path:
    for number in range(20):
        make_image(f"photos/{number}.png", size=(8, 8))
    return tmp_path / "photos"


def opened(folder: Path, model: object = MODEL, **options: object) -> Samples:
    return open_samples(folder, [model], image=ImageSettings(**options))


class TestThePictures:
    @pytest.mark.parametrize(
        ("shape", "options"),
        [
            ((None, 3, 8, 8), {}),
            ((None, 8, 8, 3), {"preset": "caffe"}),
            ((None, 3, 8, 8), {"preset": "imagenet", "crop": 1.0}),
            ((None, 3, 8, 8), {"preset": "tf", "color": "bgr"}),
            ((None, 192), {"resize": (8, 8)}),
            ((None, 192), {"resize": (8, 8), "layout": "nhwc"}),
        ],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_they_are_the_pixels_again(
        self, photos: Path, shape: tuple[int | None, ...], options: dict[str, object], dtype: str
    ) -> None:
        picture = opened(photos, spec(*shape, dtype=dtype), **options).picture(3)
        np.testing.assert_array_equal(picture, np.asarray(Image.open(photos / "3.png")))

    def test_gray_ones_have_one_channel(self, photos: Path) -> None:
        picture = opened(photos, spec(None, 1, 8, 8)).picture(0)
        np.testing.assert_array_equal(picture[:, :, 0], np.asarray(Image.open(photos / "0.png").convert("L")))

    @pytest.mark.parametrize(
        ("shape", "axes"),
        [((None, 3, 8, 8), (2, 0, 1)), ((None, 8, 8, 3), (0, 1, 2))],
    )
    def test_what_a_function_made_runs_from_black_to_white(
        self, photos: Path, shape: tuple[int | None, ...], axes: tuple[int, ...]
    ) -> None:
        def prepare(image: Image.Image) -> np.ndarray:
            return np.asarray(image).transpose(axes) * 3.0 - 5

        picture = opened(photos, spec(*shape), preprocess=prepare).picture(1)
        pixels = np.asarray(Image.open(photos / "1.png")).astype(float)
        expected = (pixels - pixels.min()) * 255 / (pixels.max() - pixels.min())
        np.testing.assert_allclose(picture, expected, atol=0.51)

    def test_one_level_alone_is_black(self, photos: Path) -> None:
        assert not opened(photos, preprocess=lambda image: np.ones((3, 8, 8))).picture(0).any()

    def test_what_is_no_picture_is_refused(self, photos: Path) -> None:
        with pytest.raises(InputError, match=r"--thumbnails: the arrays of --preprocess, \[7\], cannot be shown"):
            opened(photos, spec(None, 7), preprocess=lambda image: np.ones(7)).picture(0)


class TestTheSheet:
    def test_it_shows_sixteen_spread_over_the_samples(self, photos: Path, tmp_path: Path) -> None:
        write_thumbnails(opened(photos), np.arange(20), tmp_path / "sheet.png")
        sheet = Image.open(tmp_path / "sheet.png")
        assert sheet.size == (956, 1128)
        # The last tile is the last image, every pixel 26 × 26 large, in its frame.
        tile = np.asarray(sheet)[862:1070, 716:924][13::26, 13::26]
        np.testing.assert_array_equal(tile, np.asarray(Image.open(photos / "19.png")))

    def test_large_small_long_and_nameless_pictures_fit(self) -> None:
        pictures = [
            ("a" * 300, np.zeros((1000, 500, 3), np.uint8)),
            ("", np.zeros((1, 60_000, 1), np.uint8)),
            ("\N{SNOWMAN}/名前.png", np.zeros((1, 1, 3), np.uint8)),
        ]
        sheet = draw_sheet(pictures, "title " * 100, ["fact " * 100, "another"])
        assert sheet.width == 728

    def test_one_picture_has_room_for_its_title(self) -> None:
        assert draw_sheet([("a.png", np.zeros((8, 8, 3), np.uint8))], "title", []).width == 500


class TestTheFile:
    def test_it_is_not_replaced_unless_forced(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "sheet.png").write_bytes(b"mine")
        with pytest.raises(InputError, match=r"sheet\.png exists already.*--force"):
            write_thumbnails(opened(photos), [0], tmp_path / "sheet.png")
        assert (tmp_path / "sheet.png").read_bytes() == b"mine"
        write_thumbnails(opened(photos), [0], tmp_path / "sheet.png", force=True)
        assert Image.open(tmp_path / "sheet.png").format == "PNG"

    def test_nothing_is_left_of_a_sheet_that_failed(self, photos: Path, tmp_path: Path) -> None:
        (photos / "4.png").write_text("no image")
        with pytest.raises(InputError, match=r"4\.png"):
            write_thumbnails(opened(photos), [3, 4], tmp_path / "sheet.png")
        assert [path.name for path in tmp_path.iterdir()] == ["photos"]

    @pytest.mark.parametrize(("name", "message"), [("sheet.jpg", r"ends in \.png"), ("no/sheet.png", "cannot write")])
    def test_names_that_cannot_be(self, photos: Path, tmp_path: Path, name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            write_thumbnails(opened(photos), [0], tmp_path / name)

    def test_arrays_are_no_images(self, tmp_path: Path) -> None:
        samples = open_samples({"x": np.zeros((2, 3, 8, 8))}, [MODEL])
        with pytest.raises(InputError, match="--thumbnails shows images, and there are none"):
            write_thumbnails(samples, [0], tmp_path / "sheet.png")


class TestOneSample:
    def picture(self, png: bytes | None) -> np.ndarray:
        assert png is not None
        opened = Image.open(BytesIO(png))
        assert opened.format == "PNG"
        return np.asarray(opened)

    def test_an_image_is_the_pixels_again(self, photos: Path) -> None:
        shown = self.picture(thumbnail(opened(photos, preset="imagenet", crop=1.0), 3, 16))
        np.testing.assert_array_equal(shown[::2, ::2], np.asarray(Image.open(photos / "3.png")))

    @pytest.mark.parametrize("shape", [(5, 3, 12, 20), (5, 12, 20, 3), (5, 1, 12, 20), (5, 12, 20, 1)])
    def test_an_array_runs_from_black_to_white(self, shape: tuple[int, ...]) -> None:
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        shown = self.picture(thumbnail(open_samples(values, [spec(None, *shape[1:])]), 2, 20))
        assert shown.shape[:2] == (12, 20)
        assert (shown.min(), shown.max()) == (0, 255)

    def test_a_large_one_is_reduced(self) -> None:
        values = np.zeros((1, 3, 300, 100), np.float32)
        values[:, 1] = 1
        assert self.picture(thumbnail(open_samples(values, [spec(None, 3, 300, 100)]), 0)).shape == (128, 42, 3)

    @pytest.mark.parametrize("shape", [(2, 7), (2, 5, 9), (2, 4, 8, 8), (2, 3, 2, 9), (2, 1, 257, 1)])
    def test_what_has_not_the_shape_of_one_is_none(self, shape: tuple[int, ...]) -> None:
        assert thumbnail(open_samples(np.ones(shape, np.float32), [spec(None, *shape[1:])]), 0) is None

    def test_what_a_function_makes_is_shown_where_it_is_one(self, photos: Path) -> None:
        flat = opened(photos, spec(None, 7), preprocess=lambda image: np.arange(7.0))
        assert thumbnail(flat, 0) is None
        seen = opened(photos, spec(None, 8, 8), preprocess=lambda image: np.asarray(image.convert("L")) / 255)
        assert self.picture(thumbnail(seen, 0)).shape == (128, 128)
