"""Labels from a file of their own, or from an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import open_samples, read_labels

from .conftest import MakeImage, spec


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int64"])
def test_a_npy_of_integers_is_read(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "y.npy", np.array([2, 0, 1], dtype))
    labels = read_labels(tmp_path / "y.npy", 3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("name", ["y.txt", "y.csv"])
@pytest.mark.parametrize("text", ["2\n0\n1\n", "2\r\n0\r\n1", "\ufeff2\n 0 \n\n1\n\n"])
def test_one_integer_per_line_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_labels(tmp_path / name, 3).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("y.npy", np.zeros(3), "one integer per sample, not float64"),
        ("y.npy", np.array(3), "not int64 of shape"),
        ("y.npy", np.zeros(4, int), "4 labels for 3 samples"),
        ("y.npy", np.zeros((2, 3), int), "2 labels for 3 samples"),
        ("y.npy", np.zeros((3, 0), int), "0 labels for 3 samples"),
        ("y.npy", np.array([0, -1, 2]), "label -1 is negative"),
        ("y.npy", np.array([[0, 1], [2, -100], [-101, -100]]), "label -101 is negative"),
        ("y.npy", np.full((3, 2), -100), "all labels are -100"),
        ("y.txt", b"0\n1\n", "2 labels for 3 samples"),
        ("y.txt", b"", "0 labels for 3 samples"),
        ("y.csv", b"label\n0\n1\n2\n", "line 1 is not an integer: 'label'"),
        ("y.txt", b"0\n1.5\n2\n", "line 2 is not an integer"),
        ("y.txt", b"\xff\xfe\x00", "not a text file"),
        ("y.npy", b"no array", r"y\.npy"),
        ("y.json", b"[0, 1, 2]", r"'\.json' file"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    np.save(path, content) if isinstance(content, np.ndarray) else path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_labels(path, 3)


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 4)])
def test_tokens_and_pixels_have_labels_of_their_own(tmp_path: Path, shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(0).integers(0, 256, shape, dtype=np.int16)
    given[0] = -100
    np.save(tmp_path / "y.npy", given)
    labels = read_labels(tmp_path / "y.npy", 3)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, given)


def test_a_column_is_one_label_per_sample(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([[2], [0], [1]]))
    assert read_labels(tmp_path / "y.npy", 3).tolist() == [2, 0, 1]


def test_minus_100_says_that_a_sample_has_no_label(tmp_path: Path) -> None:
    (tmp_path / "y.txt").write_text("0\n-100\n1\n")
    assert read_labels(tmp_path / "y.txt", 3).tolist() == [0, -100, 1]


@pytest.mark.parametrize("name", ["gone.npy", "gone.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: the labels cannot be read"):
        read_labels(tmp_path / name, 3)


def test_a_file_of_labels_goes_before_sub_folders(tmp_path: Path, make_image: MakeImage) -> None:
    images = tmp_path / "images"
    for name in ("images/a/1.png", "images/b/1.png"):
        make_image(name)
    (tmp_path / "y.txt").write_text("5\n3\n")
    samples = open_samples(images, [spec(None, 3, 4, 4)], labels=tmp_path / "y.txt")
    assert samples.labels.tolist() == [5, 3]
    assert samples.labels_from == "--labels"
    assert list(samples.classes) == []  # the folders' names are not those of these numbers


@pytest.mark.parametrize("labels", [[1, 0], (1, 0), np.array([1, 0], np.uint8), [np.int64(1), np.int64(0)]])
def test_labels_may_be_given_as_an_array(labels: object) -> None:
    assert open_samples(np.zeros((2, 3)), [spec(None, 3)], labels=labels).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1]), "--eval-labels: 1 labels for 2 samples"),
        ([0.5, 1.0], "--eval-labels: labels must be one integer per sample, not float64"),
        (["cat", "dog"], "--eval-labels: labels must be one integer per sample, not <U3"),
        ([[1], [0, 2]], "--eval-labels: not an array"),
    ],
)
def test_an_array_that_does_not_fit_is_named_by_its_option(labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_samples(np.zeros((2, 3)), [spec(None, 3)], labels=labels, labels_option="--eval-labels")
