"""The image options as people type them, through to the file that is calibrated with them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

import onnx_dalr
from onnx_dalr.cli.main import app


def run(demo: Path, *options: str) -> tuple[int, str]:
    """`optimize` on a few images of the demo, without writing a model."""
    always = ["--calib", str(demo / "digits" / "calib"), "--samples", "40", "--dry-run", "--rank", "3"]
    result = CliRunner().invoke(app, ["optimize", str(demo / "digits-target.onnx"), *always, *options])
    return result.exit_code, " ".join(result.output.split())


def test_a_preset_is_said_and_thumbnails_are_drawn(demo: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    code, said = run(demo, "--preset", "mnist", "--crop", "1", "--thumbnails", str(sheet))
    assert code == 0, said
    assert "images: preset mnist" in said
    assert "resize shorter side to 16, crop center 16x16" in said
    assert Image.open(sheet).width == 956
    code, said = run(demo, "--thumbnails", str(sheet))
    assert (code, "sheet.png exists already" in said) == (2, True)


def test_a_function_in_a_file_prepares_the_images(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef prepare(image):\n    return np.asarray(image.convert('L'))[None] / 255\n"
    )
    code, said = run(demo, "--preprocess", f"{tmp_path / 'mine.py'}:prepare")
    assert code == 0, said
    assert "mine.py:prepare" in said
    code, said = run(demo, "--preprocess", f"{tmp_path / 'mine.py'}:prepare", "--preset", "unit")
    assert (code, "--preset is given too" in said) == (2, True)


def test_python_takes_the_same(demo: Path) -> None:
    def optimized(**options: object) -> onnx_dalr.Result:
        calib = demo / "digits" / "calib"
        return onnx_dalr.optimize(demo / "digits-target.onnx", calib=calib, samples=40, rank=3, **options)

    preset = optimized(preset="unit", crop="center")
    assert preset.samples.settings["preset"] == "unit"
    # Images that already have the model's size: preset, crop and nothing at all are the same samples.
    assert preset.samples.fingerprint == optimized().samples.fingerprint


def test_an_unknown_preset_is_the_users_mistake(demo: Path) -> None:
    code, said = run(demo, "--preset", "imagnet")
    assert (code, "choose imagenet," in said) == (2, True)
