"""What can be read once is read once, kept outside memory, and read again in any order."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import InputSpec, open_samples

from .conftest import spec

X = spec(None, 3)
STATEFUL = [spec(1, 3, name="input"), spec(2, 1, 4, name="state")]


class Reader:
    """As onnxruntime's CalibrationDataReader: get_next until None; its __iter__ is not to be relied on."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


class Tensor:
    """Something that is no ndarray and can become one."""

    def __init__(self, values: object) -> None:
        self._values = np.asarray(values, dtype=np.float32)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self._values


def test_feeds_are_taken_apart_into_samples() -> None:
    rows = np.arange(21, dtype=np.float32).reshape(7, 3)
    samples = open_samples(({"x": part} for part in (rows[:4], rows[4:])), [X])
    assert list(samples.ids) == [f"sample {index}" for index in range(7)]
    assert not samples.complete
    for index in (6, 0, 3, 6):
        np.testing.assert_array_equal(samples.read(index)["x"], rows[index : index + 1])


def test_arrays_of_one_axis_less_are_one_sample_each() -> None:
    samples = open_samples([np.arange(3), np.arange(3, 6)], [X])
    assert len(samples) == 2
    np.testing.assert_array_equal(samples.read(1)["x"], [[3, 4, 5]])


def test_a_calibration_data_reader_is_read_until_none() -> None:
    samples = open_samples(Reader([{"x": np.ones((2, 3))}, {"x": np.zeros((1, 3))}]), [X])
    assert [samples.read(index)["x"][0, 0] for index in range(3)] == [1, 1, 0]


def test_tensors_that_numpy_can_read_are_arrays() -> None:
    assert len(open_samples([{"x": Tensor(np.ones((4, 3)))}], [X])) == 4
    assert len(open_samples([Tensor([1, 2, 3])], [X])) == 1
    assert len(open_samples(Tensor(np.ones((4, 3))), [X])) == 4


def test_a_fixed_axis_makes_every_feed_complete() -> None:
    feeds = [{"input": np.full((1, 3), step), "state": np.zeros((2, 1, 4))} for step in range(5)]
    samples = open_samples(feeds, STATEFUL)
    assert samples.complete
    assert len(samples) == 5
    assert samples.read(4)["state"].shape == (2, 1, 4)


def test_feeds_whose_arrays_differ_in_axis_0_are_complete() -> None:
    feeds = [{"a": np.zeros((2, 3)), "b": np.zeros((length, 3))} for length in (2, 5)]
    samples = open_samples(feeds, [spec(None, 3, name="a"), spec(None, 3, name="b")])
    assert samples.complete
    assert [samples.read(index)["b"].shape for index in (0, 1)] == [(2, 3), (5, 3)]


def test_samples_without_axis_0_fill_a_fixed_batch() -> None:
    samples = open_samples((np.full(3, index) for index in range(9)), [spec(4, 3)])
    assert samples.fixed_batch == 4
    assert [(indices, feed["x"].shape) for indices, feed in samples.batches(range(9), 32)] == [
        ([0, 1, 2, 3], (4, 3)),
        ([4, 5, 6, 7], (4, 3)),
    ]


def test_an_array_of_the_fixed_shape_is_repeated_with_every_sample() -> None:
    items = [{"x": np.zeros(3), "rate": np.int64(8)}, {"x": np.ones(3), "rate": np.int64(8)}]
    samples = open_samples(items, [X, spec(name="rate", dtype="int64")])
    ((indices, feed),) = samples.batches([0, 1], 8)
    assert indices == [0, 1]
    assert feed["x"].shape == (2, 3)
    assert feed["rate"].shape == ()


def test_shapes_may_differ_from_item_to_item() -> None:
    samples = open_samples([np.zeros((2, 5)), np.zeros((1, 7))], [spec(None, None)])
    assert [feed["x"].shape for _, feed in samples.batches(range(3), 8)] == [(2, 5), (1, 7)]


def test_values_come_back_in_the_models_type() -> None:
    read = open_samples([{"x": np.array([[1.0, 2.0, 3.0]])}], [spec(None, 3, dtype="int64")]).read(0)["x"]
    assert read.dtype == np.int64
    assert read.tolist() == [[1, 2, 3]]


def test_text_is_kept() -> None:
    samples = open_samples([np.array(["ab", "c"], dtype=object)], [spec(None, dtype="object")])
    assert [samples.read(index)["x"].tolist() for index in (1, 0)] == [["c"], ["ab"]]


def test_the_source_is_iterated_exactly_once() -> None:
    class Once:
        def __init__(self) -> None:
            self.times = 0

        def __iter__(self) -> Iterator[np.ndarray]:
            self.times += 1
            yield np.zeros((2, 3))

    source = Once()
    samples = open_samples(source, [X])
    for _ in range(3):
        assert sum(len(indices) for indices, _ in samples.batches(range(2), 1)) == 2
    assert source.times == 1


def test_the_temporary_file_goes_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = tempfile.TemporaryFile

    def recording(*args: object, **options: object) -> object:
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", recording)
    with open_samples([np.zeros((1, 3))], [X]) as samples:
        assert samples.read(0)["x"].shape == (1, 3)
        assert not opened[0].closed
    assert opened[0].closed
    samples = open_samples([np.zeros((1, 3))], [X])
    del samples
    gc.collect()
    assert opened[1].closed
    with pytest.raises(InputError):
        open_samples([np.full((1, 3), np.nan)], [X])
    assert opened[2].closed


def test_a_full_disk_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        closed = False

        def tell(self) -> int:
            return 0

        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match=r"No space left on device.*TMPDIR"):
        open_samples([np.zeros((1, 3))], [X])


@pytest.mark.parametrize(
    ("items", "specs", "message"),
    [
        ([], [X], r"gave no samples"),
        ([{"y": np.zeros((1, 3))}], [X], r"item 0 of the iterable: 'y' is not an input"),
        ([np.zeros((1, 3)), np.zeros((1, 4))], [X], r"item 1.*\[1, 4\] do not fit the model's input 'x'"),
        ([np.zeros((1, 3)), np.zeros(3)], [X], r"item 1.*differs in form"),
        ([np.zeros((1, 1, 1, 3))], [X], r"item 0.*\[1, 1, 1, 3\] does not fit"),
        ([np.zeros((1, 3)), np.full((1, 3), np.nan)], [X], r"item 1.*'x' hold NaN"),
        ([np.zeros((0, 3))], [X], r"item 0.*is empty"),
        ([(np.zeros((1, 3)), np.zeros(1))], [X], r"tuple of 2 arrays.*yield dicts"),
        ([np.zeros((1, 3))], STATEFUL, r"one array, the model has 2 inputs"),
        ([{"input": np.zeros((2, 3)), "state": np.zeros((1, 4))}], STATEFUL, r"do not agree in form"),
        ([{"input": np.zeros(3), "state": np.zeros((1, 4))}], STATEFUL, r"axis 0 cannot count samples"),
        ([np.array([1j])], [spec(None)], r"complex128 values cannot feed"),
        ([[[1, 2, 3], [1, 2]]], [X], r"item 0.*not an array"),
    ],
)
def test_items_that_do_not_fit_are_named(items: list[object], specs: list[InputSpec], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_samples(iter(items), specs)


def test_a_used_up_iterator_is_said_to_be_used_up() -> None:
    items = iter([np.zeros((1, 3))])
    list(items)
    with pytest.raises(InputError, match="used up"):
        open_samples(items, [X])
