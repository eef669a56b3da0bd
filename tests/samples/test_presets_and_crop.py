"""Presets fill in what is not given; a crop cuts the middle out after resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, open_samples
from onnx_dalr.samples.images.cut import Cut
from onnx_dalr.samples.images.presets import PRESETS

from .conftest import MakeImage, spec

MODEL = spec(None, 3, 8, 8)
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])


def seen(folder: Path, model: object = MODEL, **options: object) -> np.ndarray:
    """What the model sees of the only image of a folder."""
    return open_samples(folder, [model], image=ImageSettings(**options)).read(0)[model.name]


def facts(folder: Path, model: object = MODEL, **options: object) -> dict[str, str]:
    return open_samples(folder, [model], image=ImageSettings(**options)).settings


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=np.float64).transpose(2, 0, 1)[None]


class TestValues:
    @pytest.mark.parametrize(
        ("preset", "black", "white"),
        [
            ("imagenet", -IMAGENET_MEAN / IMAGENET_STD, (1 - IMAGENET_MEAN) / IMAGENET_STD),
            ("tf", [-1, -1, -1], [1, 1, 1]),
            ("imagenet-inception", [-1, -1, -1], [1, 1, 1]),
            ("siglip", [-1, -1, -1], [1, 1, 1]),
            ("caffe", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
            ("unit", [0, 0, 0], [1, 1, 1]),
            ("yolo", [0, 0, 0], [1, 1, 1]),
            ("raw", [0, 0, 0], [255, 255, 255]),
        ],
    )
    def test_black_and_white_become_the_known_values(
        self, tmp_path: Path, make_image: MakeImage, preset: str, black: list[float], white: list[float]
    ) -> None:
        make_image("black.png", np.zeros((8, 8, 3), np.uint8))
        make_image("white.png", np.full((8, 8, 3), 255, np.uint8))
        samples = open_samples(tmp_path, [MODEL], image=ImageSettings(preset=preset))
        np.testing.assert_allclose(samples.read(0)["x"][0, :, 3, 3], black, rtol=1e-5)
        np.testing.assert_allclose(samples.read(1)["x"][0, :, 3, 3], white, rtol=1e-5)

    def test_caffe_has_blue_first(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))
        np.testing.assert_allclose(seen(tmp_path, preset="caffe")[0, :, 0, 0], [-103.939, -116.779, 131.32], rtol=1e-5)

    def test_mnist_is_gray(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", np.zeros((8, 8), np.uint8))
        values = seen(tmp_path, spec(None, 1, 8, 8), preset="mnist")
        np.testing.assert_allclose(values, np.full((1, 1, 8, 8), -0.1307 / 0.3081), rtol=1e-5)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_reads_an_image(self, tmp_path: Path, make_image: MakeImage, preset: str) -> None:
        make_image("a.png", size=(40, 30))
        model = spec(None, 1 if PRESETS[preset].color == "gray" else 3, 16, 16)
        assert seen(tmp_path, model, preset=preset).shape[2:] == (16, 16)
        assert facts(tmp_path, model, preset=preset)["preset"] == preset


class TestOwnOptionsGoFirst:
    def test_single_fields_are_overridden(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(8, 8))
        values = seen(tmp_path, preset="imagenet", mean=(0.0,), crop=1.0)
        np.testing.assert_allclose(values, pixels_of(path) / 255 / IMAGENET_STD[:, None, None], rtol=1e-5)

    def test_the_other_order_of_channels_takes_its_mean_along(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(8, 8))
        rgb = seen(tmp_path, preset="imagenet")
        np.testing.assert_array_equal(seen(tmp_path, preset="imagenet", color="bgr"), rgb[:, ::-1])
        np.testing.assert_array_equal(
            seen(tmp_path, preset="caffe", color="rgb"), seen(tmp_path, preset="caffe")[:, ::-1]
        )

    def test_an_exact_size_of_the_models_cuts_nothing_off(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(20, 30))
        whole = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None] / 255
        values = seen(tmp_path, preset="imagenet", mean=(0.0,), std=(1.0,), resize=(8, 8))
        np.testing.assert_allclose(values, whole, rtol=1e-5)


class TestWhatIsRefused:
    def test_an_unknown_preset_lists_the_known(self) -> None:
        with pytest.raises(InputError, match=r"--preset 'imagnet' is not known \(choose imagenet, .*raw\)"):
            ImageSettings(preset="imagnet")

    def test_three_means_for_a_gray_model_blame_the_preset(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"the mean of --preset imagenet has 3 values and the images have 1"):
            seen(tmp_path, spec(None, 1, 8, 8), preset="imagenet")

    def test_the_colours_of_a_preset_blame_the_preset(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"--preset caffe gives 3 channel\(s\), the model's input .* takes 1"):
            seen(tmp_path, spec(None, 1, 8, 8), preset="caffe")

    def test_0_to_1_for_whole_numbers_is_refused(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"0 \.\. 1.*only whole numbers.*--preset raw"):
            seen(tmp_path, spec(None, 3, 8, 8, dtype="uint8"), preset="unit")
        assert seen(tmp_path, spec(None, 3, 8, 8, dtype="uint8"), preset="raw").dtype == np.uint8

    @pytest.mark.parametrize("crop", [0.0, -1.0, 1.5, float("nan"), "middle", (8,), (0, 8)])
    def test_a_crop_that_is_none(self, crop: object) -> None:
        with pytest.raises(InputError, match="is no crop"):
            ImageSettings(crop=crop)

    def test_a_fraction_and_a_size_contradict_each_other(self) -> None:
        with pytest.raises(InputError, match=r"--crop 0\.875 says how far.*so does --resize"):
            ImageSettings(crop=0.875, resize=256)

    def test_a_crop_of_another_size_than_the_models(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(20, 20))
        with pytest.raises(InputError, match=r"--crop 10x8 does not fit.*of height 8"):
            seen(tmp_path, crop=(10, 8))

    def test_a_crop_of_no_size_for_a_model_of_no_size(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(20, 20))
        with pytest.raises(InputError, match=r"leaves the size of images open.*--crop HxW"):
            seen(tmp_path, spec(None, 3, None, None), crop="center")

    @pytest.mark.parametrize("resize", [7, (8, 7)])
    def test_a_size_smaller_than_the_crop(self, tmp_path: Path, make_image: MakeImage, resize: object) -> None:
        make_image("a.png", size=(20, 20))
        with pytest.raises(InputError, match="is smaller than the crop of 8x8"):
            seen(tmp_path, crop="center", resize=resize)

    def test_an_image_smaller_than_the_crop_is_named(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("small.png", size=(7, 20))
        with pytest.raises(InputError, match=r"small\.png: the image, 7x20, is smaller than the crop of 8x8"):
            seen(tmp_path, crop="center")

    def test_a_ribbon_that_would_become_gigantic_is_named(self, tmp_path: Path) -> None:
        Image.new("RGB", (60_000, 1)).save(tmp_path / "ribbon.png")
        with pytest.raises(InputError, match=r"ribbon\.png: the image, 1x60000, would become 64x3840000"):
            seen(tmp_path, spec(None, 3, 64, 64), crop=1.0)

    def test_a_model_of_gigantic_images(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"images of 2000000x2000000 .* more than 100,000,000 pixels"):
            seen(tmp_path, spec(None, 3, 2_000_000, 2_000_000))


class TestCrop:
    def test_center_takes_the_middle_of_the_image_as_it_is(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(12, 20))
        np.testing.assert_allclose(seen(tmp_path, crop="center"), pixels_of(path)[:, :, 2:10, 6:14] / 255, rtol=1e-5)

    def test_one_number_is_the_shorter_side_before_it(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(20, 35))
        resized = Image.open(path).resize((17, 10), Image.Resampling.BILINEAR).crop((4, 1, 12, 9))
        values = seen(tmp_path, crop=(8, 8), resize=10)
        np.testing.assert_allclose(values[0], np.asarray(resized).transpose(2, 0, 1) / 255, rtol=1e-5)

    def test_two_numbers_are_the_exact_size_before_it(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(20, 35))
        resized = Image.open(path).resize((12, 10), Image.Resampling.BILINEAR).crop((2, 1, 10, 9))
        values = seen(tmp_path, crop=(8, 8), resize=(10, 12))
        np.testing.assert_allclose(values[0], np.asarray(resized).transpose(2, 0, 1) / 255, rtol=1e-5)

    def test_without_a_crop_one_number_is_a_square(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(20, 35))
        np.testing.assert_array_equal(seen(tmp_path, resize=8), seen(tmp_path, resize=(8, 8)))

    def test_imagenet_is_the_shorter_side_256_and_the_middle_224(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(300, 400))
        resized = Image.open(path).resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240))
        expected = (np.asarray(resized) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        for model in (spec(None, 3, 224, 224), spec(None, 3, None, None)):
            values = seen(tmp_path, model, preset="imagenet")
            np.testing.assert_allclose(values[0], expected.transpose(2, 0, 1), rtol=1e-4, atol=1e-5)
        said = facts(tmp_path, spec(None, 3, None, None), preset="imagenet")
        assert (said["resize"], said["crop"]) == ("shorter side to 256", "center 224x224")

    def test_the_models_size_decides_over_the_presets(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png", size=(300, 400))
        assert facts(tmp_path, spec(None, 3, 280, 280), preset="imagenet")["resize"] == "shorter side to 320"

    def test_clip_is_bicubic(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(20, 30))
        resized = Image.open(path).resize((12, 8), Image.Resampling.BICUBIC).crop((2, 0, 10, 8))
        values = seen(tmp_path, preset="clip", mean=(0.0,), std=(1.0,))
        np.testing.assert_allclose(values[0], np.asarray(resized).transpose(2, 0, 1) / 255, rtol=1e-5)
        assert facts(tmp_path, preset="clip")["resampling"] == "bicubic"

    def test_a_flattened_image_has_the_size_of_the_crop(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png", size=(12, 20))
        values = seen(tmp_path, spec(None, 192), crop=(8, 8))
        np.testing.assert_allclose(values, pixels_of(path)[:, :, 2:10, 6:14].reshape(1, -1) / 255, rtol=1e-5)

    @pytest.mark.parametrize(
        ("cut", "image", "resized"),
        [
            (Cut((224, 224), fraction=0.875), (300, 400), (256, 341)),
            (Cut((224, 224), fraction=0.875), (400, 300), (341, 256)),
            (Cut((100, 200), fraction=1.0), (300, 400), (150, 200)),
            (Cut((100, 200), fraction=1.0), (300, 900), (100, 300)),
            (Cut((224, 224), fraction=0.9), (500, 500), (248, 248)),
            (Cut((8, 8), fraction=1.0), (3, 3), (8, 8)),
            (Cut((5, 5), 7), (10, 10), (7, 7)),
        ],
    )
    def test_a_fraction_covers_the_models_size(
        self, cut: Cut, image: tuple[int, int], resized: tuple[int, int]
    ) -> None:
        assert cut.resized(image) == resized
