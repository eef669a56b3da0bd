"""Whatever is given as samples is opened, or refused in one line that says what would do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import ImageSettings, digest, open_samples

from .conftest import MakeImage, spec

X = spec(None, 3)


@pytest.mark.parametrize("name", ["data.csv", "data.tfrecord", "data.parquet", "data"])
def test_an_unknown_kind_of_file_says_what_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1,2,3")
    with pytest.raises(InputError, match=r"a folder of images, an \.npz file or a \.npy file"):
        open_samples(tmp_path / name, [X])


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: no such file or folder"):
        open_samples(tmp_path / "gone", [X])


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "images"])
def test_a_path_without_permission_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    if path.suffix:
        path.touch()
        monkeypatch.setattr(np, "load", refuse)
    else:
        path.mkdir()
        monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=rf"{name}: no permission to read it"):
        open_samples(path, [X])


def test_one_image_is_no_set_of_samples(make_image: MakeImage) -> None:
    with pytest.raises(InputError, match=r"a\.png: one image is not a set.*folder"):
        open_samples(make_image("a.png"), [spec(None, 3, 4, 4)])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images in this folder, it holds no files"):
        open_samples(tmp_path, [spec(None, 3, 4, 4)])


def test_archives_and_images_in_one_folder_are_refused(tmp_path: Path, make_image: MakeImage) -> None:
    make_image("a.png")
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"both \.npz files and images"):
        open_samples(tmp_path, [X])


@pytest.mark.parametrize("source", [np.zeros((2, 3)), {"x": np.zeros((2, 3))}, [np.zeros(3)]])
def test_image_options_for_arrays_are_refused(source: object) -> None:
    with pytest.raises(InputError, match=r"--resize, --color: image options do nothing for an? "):
        open_samples(source, [X], image=ImageSettings(resize=(2, 2), color="gray"))


@pytest.mark.parametrize("source", [None, 5, b"bytes"])
def test_other_objects_are_refused(source: object) -> None:
    with pytest.raises(InputError, match=r"samples cannot be read from an object of type"):
        open_samples(source, [X])


def test_a_model_without_inputs_cannot_be_fed() -> None:
    with pytest.raises(InputError, match="no inputs"):
        open_samples(np.zeros((2, 3)), [])


def test_fewer_samples_than_the_model_takes_at_a_time_are_refused() -> None:
    with pytest.raises(InputError, match="takes 4 samples at a time and this set has 3"):
        open_samples(np.zeros((3, 3)), [spec(4, 3)])


def test_batches_of_a_fixed_size_leave_out_what_does_not_fill_one() -> None:
    samples = open_samples(np.zeros((10, 3)), [spec(4, 3)])
    assert [indices for indices, _ in samples.batches(range(10), 32)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(samples.batches([], 32)) == []
    with pytest.raises(InputError, match="takes 4 samples at a time"):
        list(samples.batches([0, 1], 32))


def test_batches_follow_the_order_of_the_indices() -> None:
    samples = open_samples(np.arange(6)[:, None], [spec(None, 1, dtype="int64")])
    assert [(indices, feed["x"].ravel().tolist()) for indices, feed in samples.batches(np.array([5, 0, 3]), 2)] == [
        ([5, 0], [5, 0]),
        ([3], [3]),
    ]


def test_the_digest_is_of_names_types_shapes_and_values() -> None:
    feed = {"a": np.arange(4), "b": np.ones(2, np.float32)}
    assert len(digest(feed)) == 32
    assert digest(feed) == digest(dict(reversed(feed.items())))
    assert digest(feed) == digest({"a": np.arange(8)[::2] // 2, "b": np.ones(2, np.float32)})
    others = [
        {"a": feed["a"].reshape(2, 2), "b": feed["b"]},
        {"a": feed["a"].astype(np.int32), "b": feed["b"]},
        {"a": feed["a"] + 1, "b": feed["b"]},
        {"a": feed["a"], "c": feed["b"]},
    ]
    assert len({digest(other) for other in [feed, *others]}) == 5


def test_the_room_imports_neither_onnx_nor_pillow_before_it_reads() -> None:
    check = "import sys, onnx_dalr.samples; print([m for m in ('onnx', 'onnxruntime', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
