"""A function of the user's in place of all image settings, and what is said when it does not work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, open_samples

from .conftest import MakeImage, spec

MODEL = spec(None, 3, 4, 4)

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes a Python file and returns "file.py:function"."""
    folder = tmp_path_factory.mktemp("code")

    def written(code: str, function: str = "prepare") -> str:
        path = folder / "mine.py"
        path.write_text(code)
        return f"{path}:{function}"

    return written


def seen(folder: Path, preprocess: object, model: object = MODEL) -> np.ndarray:
    return open_samples(folder, [model], image=ImageSettings(preprocess=preprocess)).read(0)[model.name]


def to_unit(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((4, 4))).transpose(2, 0, 1) / 255


class TestWhatItGets:
    def test_a_function_of_python_is_called(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png")
        values = seen(tmp_path, to_unit)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values[0], to_unit(Image.open(path)).astype(np.float32))

    def test_a_function_in_a_file_is_called(self, tmp_path: Path, make_image: MakeImage, write: Write) -> None:
        make_image("a.png")
        given = write("import numpy as np\ndef prepare(image):\n    return np.full((3, 4, 4), image.width)\n")
        assert (seen(tmp_path, given) == 4).all()

    def test_it_may_import_the_files_beside_it(self, tmp_path: Path, make_image: MakeImage, write: Write) -> None:
        make_image("a.png")
        given = write("from beside_mine import level\ndef prepare(image):\n    return [[[level] * 4] * 4] * 3\n")
        (Path(given.rpartition(":")[0]).parent / "beside_mine.py").write_text("level = 5\n")
        assert (seen(tmp_path, given) == 5).all()

    def test_the_image_is_turned_and_in_its_own_mode(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGBA", (4, 2)).save(tmp_path / "a.png", exif=exif)
        known: list[tuple[str, tuple[int, int]]] = []

        def look(image: Image.Image) -> np.ndarray:
            known.append((image.mode, image.size))
            return np.zeros((3, 4, 4))

        seen(tmp_path, look)
        assert known == [("RGBA", (2, 4))]

    def test_any_shape_that_the_model_takes_will_do(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        assert seen(tmp_path, lambda image: np.ones(7), spec(None, 7)).shape == (1, 7)
        assert seen(tmp_path, lambda image: np.ones((2, 5, 3, 1, 1)), spec(1, 2, None, 3, 1, 1)).shape[2] == 5

    def test_the_settings_name_it(self, tmp_path: Path, make_image: MakeImage, write: Write) -> None:
        make_image("a.png")
        given = write("def prepare(image): ...\n")
        samples = open_samples(tmp_path, [MODEL], image=ImageSettings(preprocess=given))
        assert samples.settings["preprocess"] == given
        samples = open_samples(tmp_path, [MODEL], image=ImageSettings(preprocess=to_unit))
        assert samples.settings["preprocess"] == "to_unit"


class TestWhatIsRefused:
    def test_other_image_settings_beside_it(self) -> None:
        with pytest.raises(InputError, match=r"--preprocess takes the place of all.*--mean, --preset is given too"):
            ImageSettings(preprocess=to_unit, mean=(0.5,), preset="imagenet")

    def test_arrays_have_nothing_to_preprocess(self) -> None:
        with pytest.raises(InputError, match="--preprocess: image options do nothing for a dict of arrays"):
            open_samples({"x": np.zeros((2, 3, 4, 4))}, [MODEL], image=ImageSettings(preprocess=to_unit))

    @pytest.mark.parametrize("given", ["mine.py", "mine.py:", ":prepare", "mine.py:a b", "prepare"])
    def test_what_names_no_function(self, tmp_path: Path, make_image: MakeImage, given: str) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"does not name a function in a file.*file\.py:function"):
            seen(tmp_path, given)

    def test_a_file_that_is_not_there(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"--preprocess nowhere\.py:prepare: there is no file nowhere\.py"):
            seen(tmp_path, "nowhere.py:prepare")

    def test_a_file_that_is_no_python(self, tmp_path: Path, make_image: MakeImage) -> None:
        path = make_image("a.png")
        with pytest.raises(InputError, match="is no Python file"):
            seen(tmp_path, f"{path}:prepare")

    def test_a_function_that_is_not_there_lists_those_that_are(
        self, tmp_path: Path, make_image: MakeImage, write: Write
    ) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=r"mine\.py has no function prepare \(it has prep\)"):
            seen(tmp_path, write("level = 3\ndef prep(image): ...\n"))

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("def prepare(image:\n", "SyntaxError"),
            ("import nothing_of_this_name\n", r"ModuleNotFoundError.*line 1 of mine\.py"),
            ("import sys\nsys.exit('bye')\n", r"SystemExit: bye \(line 2 of mine\.py\)"),
        ],
    )
    def test_a_file_that_cannot_be_run(
        self, tmp_path: Path, make_image: MakeImage, write: Write, code: str, reason: str
    ) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match=f"the file cannot be run: {reason}"):
            seen(tmp_path, write(code))

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("raise ValueError('two\\nlines')", r"ValueError: two \(line 3 of mine\.py\)"),
            ("return helper(image)", r"ZeroDivisionError: division by zero \(line 5 of mine\.py\)"),
            ("raise SystemExit", r"SystemExit \(line 3 of mine\.py\)"),
            ("pass", "it returned nothing"),
            ("return np.zeros((4, 4, 3))", r"rows of shape \[4, 4, 3\] do not fit the model's input 'x'"),
            ("return np.zeros((1, 3, 4, 4))", r"rows of shape \[1, 3, 4, 4\] do not fit"),
            ("return np.full((3, 4, 4), np.nan)", r"hold NaN \(48 of 48\)"),
            ("return [[1, 2], [3]]", "not an array"),
            ("return 'text'", r"do not fit"),
            ("return np.zeros((3, 4, 4), complex)", "complex128 values cannot feed"),
        ],
    )
    def test_a_function_that_fails_is_named_with_the_image(
        self, tmp_path: Path, make_image: MakeImage, write: Write, body: str, message: str
    ) -> None:
        make_image("cat.png")
        given = write(f"import numpy as np\ndef prepare(image):\n    {body}\ndef helper(image):\n    return 1 / 0\n")
        with pytest.raises(InputError, match=rf"mine\.py:prepare on cat\.png.*{message}") as caught:
            seen(tmp_path, given)
        assert "\n" not in str(caught.value)

    def test_what_is_no_function(self, tmp_path: Path, make_image: MakeImage) -> None:
        make_image("a.png")
        with pytest.raises(InputError, match="a int is no function"):
            seen(tmp_path, 3)
