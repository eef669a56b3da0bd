"""An image folder becomes what the model takes, and says what it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, open_samples
from onnx_dalr.samples.images import pixel_table, pixels
from onnx_dalr.samples.images.image_input import ImageInput
from onnx_dalr.samples.images.pixels import read_pixels

from .conftest import MakeImage, spec

NCHW = spec(None, 3, 4, 4, name="image")


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def only(folder: Path, *, model: object = NCHW, **options: object) -> np.ndarray:
    """The array that the only image of a folder becomes."""
    samples = open_samples(folder, [model], image=ImageSettings(**options))
    assert len(samples) == 1
    return samples.read(0)[model.name]


class TestWhatAFolderHolds:
    def test_images_come_in_natural_order(self, tmp_path: Path, make_image: MakeImage) -> None:
        for name in ("10.png", "9.png", "1.png"):
            make_image(name)
        assert open_samples(tmp_path, [NCHW]).ids == ["1.png", "9.png", "10.png"]

    def test_sub_folders_are_classes_in_natural_order(self, tmp_path: Path, make_image: MakeImage) -> None:
        for name in ("c10/a.png", "c2/a.png", "c2/deeper/b.png", "c1/a.png"):
            make_image(name)
        samples = open_samples(tmp_path, [NCHW])
        assert list(samples.classes) == ["c1", "c2", "c10"]
        assert list(zip(samples.ids, samples.labels, strict=True)) == [
            ("c1/a.png", 0),
            ("c2/a.png", 1),
            ("c2/deeper/b.png", 1),
            ("c10/a.png", 2),
        ]

    def test_a_folder_without_sub_folders_has_no_labels(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        samples = open_samples(tmp_path, [NCHW])
        assert samples.labels is None
        assert list(samples.classes) == []

    def test_an_empty_sub_folder_keeps_its_number(self, tmp_path: Path, make_image: MakeImage) -> None:
        (tmp_path / "0").mkdir()
        make_image("1/a.png")
        samples = open_samples(tmp_path, [NCHW])
        assert samples.labels.tolist() == [1]
        assert "1 sub-folder(s) without images" in samples.description

    def test_hidden_files_do_not_exist(self, tmp_path: Path, make_image: MakeImage) -> None:
        for name in ("a.png", ".a.png", "__MACOSX/a.png", ".thumbnails/b.png"):
            make_image(name)
        samples = open_samples(tmp_path, [NCHW])
        assert samples.ids == ["a.png"]
        assert "left out" not in samples.description

    def test_other_files_are_left_out_and_counted(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        for name in ("notes.txt", "meta.json", "Thumbs.db"):
            (tmp_path / name).write_text("no image")
        assert "1 images (3 other file(s) left out)" in open_samples(tmp_path, [NCHW]).description

    def test_images_beside_and_in_sub_folders_are_refused(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        make_image("class/b.png")
        with pytest.raises(InputError, match=r"a\.png.*sub-folders \(class/b\.png"):
            open_samples(tmp_path, [NCHW])

    def test_a_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(InputError, match=r"no images in this folder, it holds 1 \.txt file"):
            open_samples(tmp_path, [NCHW])

    @pytest.mark.parametrize("folder", ["", "class"])
    def test_images_that_pillow_does_not_read_are_named_by_their_kind(self, tmp_path: Path, folder: str) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in ("a.HEIC", "b.heic", "c.txt", "d.json", "README"):
            (tmp_path / folder / name).touch()
        with pytest.raises(InputError, match=r"it holds 2 \.heic file\(s\), 1 \S+ file\(s\) and 2 more") as caught:
            open_samples(tmp_path, [NCHW])
        assert caught.value.hint == "convert the .heic files to PNG or JPEG"

    def test_an_empty_folder_holds_no_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="it holds no files"):
            open_samples(tmp_path, [NCHW])


class TestBrokenFiles:
    def test_a_text_file_called_png_is_named(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        (tmp_path / "b.png").write_text("I am text")
        samples = open_samples(tmp_path, [NCHW])
        assert samples.read(0)["image"].shape == (1, 3, 4, 4)
        with pytest.raises(InputError, match=r"b\.png: this image cannot be decoded: it is no image"):
            samples.read(1)

    @pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "gif", "webp", "tiff"])
    def test_a_truncated_image_is_named(self, tmp_path: Path, make_image: MakeImage, extension: str) -> None:
        path = make_image(f"cut.{extension}", size=(64, 64))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=rf"cut\.{extension}: this image cannot be decoded"):
            only(tmp_path)

    def test_an_empty_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "nothing.jpg").touch()
        with pytest.raises(InputError, match=r"nothing\.jpg"):
            only(tmp_path)

    def test_an_image_that_went_away_is_named(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png")
        samples = open_samples(tmp_path, [NCHW])
        path.unlink()
        with pytest.raises(InputError, match=r"a\.png: the image cannot be read"):
            samples.read(0)


class TestValues:
    def test_pixels_become_0_to_1_by_default(self, tmp_path: Path, make_image: MakeImage) -> None:
        pixels = random_pixels(4, 4, 3)
        make_image("a.png", pixels)
        values = only(tmp_path)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, (pixels / 255).astype(np.float32).transpose(2, 0, 1)[None])

    def test_mean_and_std_apply_after_the_scale(self, tmp_path: Path, make_image: MakeImage) -> None:
        pixels = random_pixels(4, 4, 3)
        make_image("a.png", pixels)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(only(tmp_path, mean=mean, std=std), expected, rtol=1e-6, atol=1e-7)
        on_pixels = only(tmp_path, mean=(127.0,), std=(128.0,), scale=1.0)
        np.testing.assert_allclose(on_pixels, ((pixels - 127.0) / 128).transpose(2, 0, 1)[None], rtol=1e-6)

    def test_integer_inputs_get_raw_pixels(self, tmp_path: Path, make_image: MakeImage) -> None:
        pixels = random_pixels(4, 4, 3)
        make_image("a.png", pixels)
        for dtype in ("uint8", "int32", "int64"):
            values = only(tmp_path, model=spec(None, 3, 4, 4, dtype=dtype))
            assert values.dtype == dtype
            np.testing.assert_array_equal(values[0], pixels.transpose(2, 0, 1))

    def test_int8_inputs_need_pixels_moved_into_their_range(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.full((4, 4, 3), 200, np.uint8))
        model = spec(None, 3, 4, 4, dtype="int8")
        with pytest.raises(InputError, match=r"0 \.\. 255.*--mean 128"):
            only(tmp_path, model=model)
        assert only(tmp_path, model=model, scale=1.0, mean=(128.0,)).flat[0] == 72

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_values_come_in_the_models_type(self, tmp_path: Path, make_image: MakeImage, dtype: str) -> None:
        pixels = random_pixels(4, 4, 3)
        make_image("a.png", pixels)
        values = only(tmp_path, model=spec(None, 3, 4, 4, dtype=dtype))
        np.testing.assert_array_equal(values[0], (pixels.transpose(2, 0, 1) / 255).astype(dtype))

    def test_the_settings_say_the_range_that_the_model_will_see(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        settings = ImageSettings(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
        facts = open_samples(tmp_path, [NCHW], image=settings).settings
        assert facts == {
            "input": "'image' float32 [?, 3, 4, 4]",
            "input size": "4x4",
            "color": "rgb",
            "layout": "nchw",
            "scale": "1/255",
            "mean": "0.4914, 0.4822, 0.4465",
            "std": "0.2023, 0.1994, 0.201",
            "value range": "-2.43 .. 2.75",
        }

    @pytest.mark.parametrize("option", [{"mean": (0.5, 0.5)}, {"std": (1.0, 1.0, 1.0, 1.0)}])
    def test_mean_and_std_are_one_or_one_per_channel(
        self, tmp_path: Path, make_image: MakeImage, option: dict[str, tuple[float, ...]]
    ) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"values and the images have 3 channel"):
            only(tmp_path, **option)

    @pytest.mark.parametrize(
        "option",
        [
            {"std": (0.0,)},
            {"scale": 0.0},
            {"mean": (float("nan"),)},
            {"resize": (0, 4)},
            {"color": "hsv"},
            {"layout": "x"},
        ],
    )
    def test_settings_that_cannot_work_are_refused(self, option: dict[str, object]) -> None:
        with pytest.raises(InputError, match=f"--{next(iter(option))}"):
            ImageSettings(**option)


class TestDecoding:
    def test_exif_orientation_is_applied(self, tmp_path: Path) -> None:
        pixels = np.zeros((2, 4, 3), np.uint8)
        pixels[0] = 255  # the upper row; turned right by a quarter it is the right column
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        values = only(tmp_path, model=spec(None, 3, 4, 2))
        np.testing.assert_array_equal(values[0, 0], [[0, 1]] * 4)

    def test_alpha_is_dropped(self, tmp_path: Path, make_image: MakeImage) -> None:
        pixels = random_pixels(4, 4, 4)
        make_image("a.png", pixels)
        np.testing.assert_allclose(only(tmp_path)[0], pixels[..., :3].transpose(2, 0, 1) / 255, rtol=1e-6)

    def test_a_palette_becomes_its_colours(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
        np.testing.assert_allclose(only(tmp_path)[0, :, 0, 0] * 255, [10, 20, 30], rtol=1e-5)

    def test_cmyk_becomes_rgb(self, tmp_path: Path) -> None:
        Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.tiff")
        np.testing.assert_array_equal(only(tmp_path)[0, :, 0, 0], [0, 1, 1])

    def test_sixteen_bits_are_brought_to_eight_by_their_range(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.array([[0, 257], [32768, 65535]], np.uint16))
        values = only(tmp_path, model=spec(None, 1, 2, 2))
        np.testing.assert_array_equal(np.rint(values[0, 0] * 255), [[0, 1], [128, 255]])

    def test_floating_images_are_refused(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.tiff", np.ones((4, 4), np.float32))
        with pytest.raises(InputError, match=r"a\.tiff.*range is not known"):
            only(tmp_path)

    def test_bgr_turns_the_channels_round(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        np.testing.assert_array_equal(only(tmp_path, color="bgr"), only(tmp_path)[:, ::-1])

    def test_one_channel_means_gray(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png")
        values = only(tmp_path, model=spec(None, 1, 4, 4))
        np.testing.assert_allclose(values[0, 0] * 255, np.asarray(Image.open(path).convert("L")), rtol=1e-5)

    def test_the_whole_image_is_resized_to_the_models_size(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(9, 5))
        expected = np.asarray(Image.open(path).resize((4, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(only(tmp_path, model=spec(1, 3, 6, 4))[0], expected, rtol=1e-6)


class TestPassAfterPass:
    @pytest.mark.parametrize("room", [1 << 20, 100, 0])
    def test_an_image_is_decoded_once_while_there_is_room_for_it(
        self, room: int, tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            make_image(f"{number}.png", random_pixels(4, 4, 3))
        decoded: list[str] = []

        def counting(path: Path, wanted: ImageInput) -> np.ndarray:
            decoded.append(path.name)
            return read_pixels(path, wanted)

        monkeypatch.setattr(pixel_table, "KEPT", room)
        monkeypatch.setattr(pixels, "read_pixels", counting)
        samples = open_samples(tmp_path, [NCHW])
        first, second = ([samples.read(index)["image"] for index in range(3)] for _ in range(2))
        np.testing.assert_array_equal(first, second)
        kept = min(3, room // 48)
        assert len(decoded) == 3 + 3 - kept


class TestWhatTheModelTakes:
    @pytest.mark.parametrize(
        ("shape", "options", "result"),
        [
            ((None, 3, 8, 6), {}, (1, 3, 8, 6)),
            ((None, 8, 6, 3), {}, (1, 8, 6, 3)),
            ((1, 8, 6, 1), {}, (1, 8, 6, 1)),
            ((None, 3, 8, 3), {}, (1, 3, 8, 3)),
            ((None, 3, 8, 3), {"layout": "nhwc"}, (1, 3, 8, 3)),
            ((None, None, None, None), {"resize": (8, 6)}, (1, 3, 8, 6)),
            ((None, None, None, None), {"resize": (8, 6), "layout": "nhwc", "color": "gray"}, (1, 8, 6, 1)),
            ((None, None, None, 3), {"resize": (8, 6)}, (1, 8, 6, 3)),
            ((None, 3, None, None), {}, (1, 3, 5, 7)),
            ((None, 48), {"resize": (8, 6)}, (1, 48)),
            ((None, 144), {"resize": (8, 6)}, (1, 144)),
            ((None, None), {"resize": (8, 6), "color": "gray"}, (1, 48)),
        ],
    )
    def test_layout_size_and_channels_are_taken_from_it(
        self,
        tmp_path: Path,
        make_image: MakeImage,
        shape: tuple[int | None, ...],
        options: dict[str, object],
        result: tuple[int, ...],
    ) -> None:
        make_image("a.png", size=(5, 7))
        assert only(tmp_path, model=spec(*shape), **options).shape == result

    def test_an_undeclared_rank_is_taken_as_nchw(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(5, 7))
        unknown = type(NCHW)("x", None, np.dtype("float32"))
        assert only(tmp_path, model=unknown).shape == (1, 3, 5, 7)

    def test_flattening_keeps_the_order_of_the_layout(self, tmp_path: Path, make_image: MakeImage) -> None:
        pixels = random_pixels(2, 2, 3)
        make_image("a.png", pixels)
        model = spec(None, 12, dtype="uint8")
        np.testing.assert_array_equal(only(tmp_path, model=model, resize=(2, 2))[0], pixels.transpose(2, 0, 1).ravel())
        np.testing.assert_array_equal(only(tmp_path, model=model, resize=(2, 2), layout="nhwc")[0], pixels.ravel())

    @pytest.mark.parametrize(
        ("shape", "options", "message"),
        [
            ((None, 784), {}, r"takes 784 values.*--resize 28x28 --color gray"),
            ((None, 3072), {}, r"--resize 32x32 --color rgb"),
            ((None, 784), {"resize": (10, 10)}, r"300 values.*takes 784"),
            ((None, 784), {"resize": (28, 28), "color": "rgb"}, r"2352 values.*--color gray"),
            ((None, 6), {}, r"H·W = 6 for gray images, or H·W = 2 for rgb"),
            ((None, 4, 8, 8), {}, r"neither axis 1 \(4\) nor the last axis \(8\)"),
            ((None, 8, 8, 4), {}, r"last axis \(4\)"),
            ((None, 3, 8, 8), {"color": "gray"}, r"--color gray gives 1.*takes 3"),
            ((None, 1, 8, 8), {"color": "bgr"}, r"--color bgr gives 3.*takes 1"),
            ((None, 3, 8, 8), {"layout": "nhwc"}, r"8 channels as nhwc.*--layout nchw"),
            ((None, 3, 8, 8), {"resize": (9, 8)}, r"--resize 9x8.*height 8"),
            ((32, 32, 3), {}, r"has 3 axes"),
            ((None, 3, 4, 8, 8), {}, r"has 5 axes"),
            ((), {}, r"has 0 axes"),
        ],
    )
    def test_contradictions_are_refused(
        self,
        tmp_path: Path,
        make_image: MakeImage,
        shape: tuple[int | None, ...],
        options: dict[str, object],
        message: str,
    ) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=message):
            only(tmp_path, model=spec(*shape), **options)

    def test_a_text_input_takes_no_images(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match="does not take pixels"):
            only(tmp_path, model=spec(None, 3, 4, 4, dtype="object"))

    def test_a_free_size_needs_resize_when_images_differ(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(4, 4))
        make_image("b.png", size=(4, 6))
        with pytest.raises(InputError, match=r"a\.png is 4x4, b\.png is 4x6.*--resize"):
            open_samples(tmp_path, [spec(None, 3, None, None)])

    def test_a_side_the_model_fixes_is_checked(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(4, 4))
        with pytest.raises(InputError, match=r"images are 4x4.*--resize"):
            open_samples(tmp_path, [spec(None, 3, 8, None)])

    def test_several_inputs_cannot_be_fed_from_images(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"'left'.*'right'.*\.npz"):
            open_samples(tmp_path, [spec(None, 3, 4, 4, name="left"), spec(None, 3, 4, 4, name="right")])


@pytest.mark.assets
def test_real_images_are_read_like_the_arrays_they_were_made_from(assets: Path, tmp_path: Path) -> None:
    source = assets / "data" / "cifar-animals-images" / "calib"
    shutil.copytree(source / "0-bird", tmp_path / "0-bird")
    samples = open_samples(tmp_path, [spec(None, 3, 32, 32)])
    assert len(samples) == 80
    (indices, feed), *_ = samples.batches(range(80), 80)
    assert indices == list(range(80))
    files = sorted((source / "0-bird").iterdir())
    expected = np.stack([np.asarray(Image.open(path)) for path in files]).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(feed["x"], expected, rtol=1e-6)
