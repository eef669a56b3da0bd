"""The image options as people type them, through to the file that is calibrated with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import onnx_dalr
from onnx_dalr.cli.main import app
from onnx_dalr.errors import InputError
from onnx_dalr.request.values import image_crop, image_size


def run(demo: Path, *options: str) -> tuple[int, str]:
    """`optimize` on a few images of the demo, without writing a model."""
    always = ["--calib", str(demo / "digits" / "calib"), "--samples", "40", "--dry-run", "--rank", "3"]
    result = CliRunner().invoke(app, ["optimize", str(demo / "digits-target.onnx"), *always, *options])
    return result.exit_code, " ".join(result.output.split())


class TestValues:
    @pytest.mark.parametrize(("text", "value"), [("224", 224), ("224x192", (224, 192)), ("224 X 192", (224, 192))])
    def test_sizes(self, text: str, value: object) -> None:
        assert image_size("--resize", text) == value

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("center", "center"),
            ("224", (224, 224)),
            ("224×192", (224, 192)),
            ("1", 1.0),
            ("0.875", 0.875),
            ("7/8", 0.875),
        ],
    )
    def test_crops(self, text: str, value: object) -> None:
        assert image_crop("--crop", text) == value

    @pytest.mark.parametrize("text", ["", "x", "middle", "1x2x3", "²", "1/0"])
    def test_neither(self, text: str) -> None:
        with pytest.raises(InputError, match="is no crop"):
            image_crop("--crop", text)
        with pytest.raises(InputError, match="is not a size"):
            image_size("--resize", text)


class TestOptimize:
    def test_a_preset_is_said_and_thumbnails_are_drawn(self, demo: Path, tmp_path: Path) -> None:
        sheet = tmp_path / "sheet.png"
        code, said = run(demo, "--preset", "mnist", "--crop", "1", "--thumbnails", str(sheet))
        assert code == 0, said
        assert "images: preset mnist" in said
        assert "resize shorter side to 16, crop center 16x16" in said
        assert Image.open(sheet).width == 956
        code, said = run(demo, "--thumbnails", str(sheet))
        assert (code, "sheet.png exists already" in said) == (2, True)

    def test_a_function_in_a_file_prepares_the_images(self, demo: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "import numpy as np\ndef prepare(image):\n    return np.asarray(image.convert('L'))[None] / 255\n"
        )
        code, said = run(demo, "--preprocess", f"{tmp_path / 'mine.py'}:prepare")
        assert code == 0, said
        assert "mine.py:prepare" in said
        code, said = run(demo, "--preprocess", f"{tmp_path / 'mine.py'}:prepare", "--preset", "unit")
        assert (code, "--preset is given too" in said) == (2, True)

    def test_python_takes_the_same(self, demo: Path) -> None:
        def optimized(**options: object) -> onnx_dalr.Result:
            calib = demo / "digits" / "calib"
            return onnx_dalr.optimize(demo / "digits-target.onnx", calib=calib, samples=40, rank=3, **options)

        preset = optimized(preset="unit", crop="center")
        assert preset.samples.settings["preset"] == "unit"
        # Images that already have the model's size: preset, crop and nothing at all are the same samples.
        assert preset.samples.fingerprint == optimized().samples.fingerprint

    def test_an_unknown_preset_is_the_users_mistake(self, demo: Path) -> None:
        code, said = run(demo, "--preset", "imagnet")
        assert (code, "choose imagenet," in said) == (2, True)
