"""The contract "Arrays": names are inputs, ranks say rows or complete feeds, values are never changed in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.errors import InputError
from onnx_dalr.samples import InputSpec, Samples, open_samples
from onnx_dalr.samples.arrays.stored import load_npy

from .conftest import spec

ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)
VAD = [spec(None, None, name="input"), spec(2, None, 4, name="state"), spec(name="sr", dtype="int64")]


def all_of(samples: Samples, size: int = 4) -> list[dict[str, np.ndarray]]:
    return [feed for _, feed in samples.batches(range(len(samples)), size)]


class TestRows:
    def test_axis_0_counts_samples(self) -> None:
        samples = open_samples({"x": ROWS}, [spec(None, 3)])
        assert len(samples) == 10
        assert not samples.complete
        np.testing.assert_array_equal(samples.read(7)["x"], ROWS[7:8])

    def test_a_dict_an_array_and_files_of_them_are_the_same_samples(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        np.savez(tmp_path / "a.npz", x=ROWS)
        np.savez_compressed(tmp_path / "b.npz", x=ROWS)
        for source in (ROWS, {"x": ROWS}, tmp_path / "a.npy", str(tmp_path / "a.npz"), tmp_path / "b.npz"):
            feeds = all_of(open_samples(source, [spec(None, 3)]))
            np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), ROWS)

    def test_the_folder_is_the_files_one_after_the_other(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "part10.npz", x=ROWS[6:])
        np.savez(tmp_path / "part9.npz", x=ROWS[:6])
        np.savez(tmp_path / ".hidden.npz", x=ROWS)
        samples = open_samples(tmp_path, [spec(None, 3)])
        assert samples.ids[0] == "part9.npz[0]"
        assert samples.ids[-1] == "part10.npz[3]"
        np.testing.assert_array_equal(np.concatenate([samples.read(i)["x"] for i in range(10)]), ROWS)

    def test_inputs_must_agree_in_their_number_of_samples(self) -> None:
        with pytest.raises(InputError, match=r"'a' \[10, 3\], 'b' \[9, 3\]"):
            open_samples({"a": ROWS, "b": ROWS[1:]}, [spec(None, 3, name="a"), spec(None, 3, name="b")])

    def test_fixed_axes_must_fit(self) -> None:
        with pytest.raises(InputError, match=r"rows of shape \[3\] do not fit the model's input 'x' float32 \[\?, 4\]"):
            open_samples(ROWS, [spec(None, 4)])

    def test_an_undeclared_rank_takes_rows(self) -> None:
        samples = open_samples(ROWS, [InputSpec("x", None, np.dtype("float32"))])
        assert samples.read(0)["x"].shape == (1, 3)

    def test_a_fixed_batch_of_one_takes_rows_one_by_one(self) -> None:
        feeds = all_of(open_samples(ROWS, [spec(1, 3)]), size=4)
        assert [feed["x"].shape for feed in feeds] == [(1, 3)] * 10

    def test_an_axis_0_that_does_not_count_samples_asks_for_complete_feeds(self) -> None:
        arrays = {"input": np.zeros((2, 5)), "state": np.zeros((2, 2, 4)), "sr": np.int64(16000)}
        with pytest.raises(InputError, match=r"axis 0 cannot count samples.*complete feeds"):
            open_samples(arrays, VAD)


class TestCompleteFeeds:
    def test_one_axis_more_gives_one_feed_per_entry(self) -> None:
        arrays = {
            "input": np.ones((6, 1, 5), np.float32),
            "state": np.ones((6, 2, 1, 4), np.float32),
            "sr": np.full(6, 16000),
        }
        samples = open_samples(arrays, VAD)
        assert samples.complete
        assert samples.fixed_batch is None
        feed = samples.read(5)
        assert {name: array.shape for name, array in feed.items()} == {"input": (1, 5), "state": (2, 1, 4), "sr": ()}
        assert feed["sr"].dtype == np.int64

    def test_they_are_never_joined(self) -> None:
        samples = open_samples(np.zeros((6, 1, 3)), [spec(None, 3)])
        assert [(indices, feed["x"].shape) for indices, feed in samples.batches([4, 5], 8)] == [
            ([4], (1, 3)),
            ([5], (1, 3)),
        ]

    def test_their_fixed_axes_must_fit_with_axis_0(self) -> None:
        with pytest.raises(
            InputError, match=r"feeds of shape \[2, 3\] do not fit the model's input 'x' float32 \[1, 3\]"
        ):
            open_samples(np.zeros((6, 2, 3)), [spec(1, 3)])

    def test_a_mix_of_ranks_is_refused(self) -> None:
        arrays = {"input": np.zeros((6, 5)), "state": np.zeros((6, 2, 1, 4)), "sr": np.zeros(6, int)}
        with pytest.raises(InputError, match=r"do not agree in form: \[6, 5\] for 'input'.*but \[6, 2, 1, 4\]"):
            open_samples(arrays, VAD)

    def test_two_axes_too_many_are_refused(self) -> None:
        with pytest.raises(InputError, match="one axis more"):
            open_samples(np.zeros((6, 1, 2, 3)), [spec(None, 3)])


class TestRepeatedInputs:
    def test_a_scalar_goes_with_every_row(self) -> None:
        samples = open_samples({"x": ROWS, "rate": np.int64(8)}, [spec(None, 3), spec(name="rate", dtype="int64")])
        assert len(samples) == 10
        (first, *_) = all_of(samples)
        assert first["x"].shape == (4, 3)
        assert first["rate"].shape == ()

    def test_an_array_of_exactly_the_fixed_shape_goes_with_every_row(self) -> None:
        anchors = np.arange(20, dtype=np.float32).reshape(10, 2)
        samples = open_samples({"x": ROWS, "anchors": anchors}, [spec(None, 3), spec(10, 2, name="anchors")])
        for feed in all_of(samples):
            np.testing.assert_array_equal(feed["anchors"], anchors)

    def test_it_goes_with_every_complete_feed(self) -> None:
        arrays = {"input": np.zeros((6, 1, 5)), "state": np.zeros((6, 2, 1, 4)), "sr": np.int64(16000)}
        samples = open_samples(arrays, VAD)
        assert len(samples) == 6
        assert samples.read(3)["sr"] == 16000

    def test_arrays_that_all_have_the_fixed_shapes_are_one_feed(self) -> None:
        samples = open_samples({"a": np.zeros((1, 3)), "b": np.zeros(4)}, [spec(1, 3, name="a"), spec(4, name="b")])
        assert len(samples) == 1
        assert {name: array.shape for name, array in samples.read(0).items()} == {"a": (1, 3), "b": (4,)}

    def test_files_with_other_repeated_values_are_not_joined(self, tmp_path: Path) -> None:
        for rate in (8, 16):
            np.savez(tmp_path / f"{rate}.npz", x=ROWS[:2], rate=np.int64(rate))
        samples = open_samples(tmp_path, [spec(None, 3), spec(name="rate", dtype="int64")])
        assert [int(feed["rate"]) for feed in all_of(samples, size=4)] == [8, 16]


class TestNames:
    def test_an_unknown_key_lists_the_inputs_and_the_nearest(self) -> None:
        with pytest.raises(
            InputError, match=r"'imagee' is not an input.*did you mean 'image'\?.*'image' float32 \[\?, 3\]"
        ):
            open_samples({"imagee": ROWS}, [spec(None, 3, name="image")])

    @pytest.mark.parametrize("key", ["y", "label", "labels"])
    def test_a_key_of_labels_points_at_the_option(self, tmp_path: Path, key: str) -> None:
        np.savez(tmp_path / "a.npz", x=ROWS, **{key: np.zeros(10)})
        with pytest.raises(InputError, match="--labels FILE"):
            open_samples(tmp_path / "a.npz", [spec(None, 3)])

    def test_a_missing_input_is_named(self) -> None:
        with pytest.raises(InputError, match="nothing for the model's input 'mask'"):
            open_samples({"x": ROWS}, [spec(None, 3), spec(None, 3, name="mask")])

    def test_one_array_cannot_feed_two_inputs(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        with pytest.raises(InputError, match=r"2 inputs.*'x'.*'mask'"):
            open_samples(tmp_path / "a.npy", [spec(None, 3), spec(None, 3, name="mask")])


class TestElementTypes:
    @pytest.mark.parametrize(
        ("given_type", "wanted"),
        [
            ("float64", "float32"),
            ("float32", "float16"),
            ("uint8", "float32"),
            ("int64", "float32"),
            ("int64", "int32"),
            ("int16", "int64"),
            ("bool", "int64"),
            ("float32", "int64"),
            (">f4", "float32"),
            ("int64", "bool"),
        ],
    )
    def test_a_cast_that_keeps_the_values_is_silent(self, given_type: str, wanted: str) -> None:
        values = np.array([[0, 1], [1, 0]]).astype(given_type)
        read = open_samples(values, [spec(None, 2, dtype=wanted)]).read(0)["x"]
        assert read.dtype == wanted
        np.testing.assert_array_equal(read, values[:1])

    @pytest.mark.parametrize(
        ("value", "given_type", "wanted"),
        [
            (0.5, "float32", "int64"),
            (1e30, "float64", "int64"),
            (1e300, "float64", "float32"),
            (70000, "int64", "float16"),
            (2**40 + 1, "int64", "float32"),
            (2**40, "int64", "int32"),
            (2**63, "uint64", "int64"),
            (-1, "int64", "uint8"),
            (2, "int64", "bool"),
        ],
    )
    def test_a_cast_that_changes_values_is_refused(self, value: float, given_type: str, wanted: str) -> None:
        samples = open_samples(np.full((2, 1), value, given_type), [spec(None, 1, dtype=wanted)])
        with pytest.raises(InputError, match=rf"array\[1\].*do not fit into {wanted}"):
            samples.read(1)

    @pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([None])])
    def test_other_kinds_are_refused_at_once(self, values: np.ndarray) -> None:
        with pytest.raises(InputError, match="cannot feed"):
            open_samples(values, [spec(None)])

    def test_text_feeds_text(self) -> None:
        read = open_samples(np.array(["a", "bc"]), [spec(None, dtype="object")]).read(1)["x"]
        assert read.tolist() == ["bc"]
        assert read.dtype == object

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_named_with_file_key_and_sample(self, tmp_path: Path, bad: float) -> None:
        broken = ROWS.copy()
        broken[6, 1] = bad
        np.savez(tmp_path / "a.npz", x=broken)
        samples = open_samples(tmp_path / "a.npz", [spec(None, 3)])
        assert samples.read(5)["x"].shape == (1, 3)
        with pytest.raises(InputError, match=r"a\.npz\[6\].*'x' hold (NaN|infinity) \(1 of 3\)"):
            samples.read(6)


class TestBrokenFiles:
    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    @pytest.mark.parametrize("keep", [0, 5, 100, 300])
    def test_a_truncated_file_is_named(self, tmp_path: Path, name: str, keep: int) -> None:
        path = tmp_path / name
        (np.save if name == "a.npy" else np.savez)(path, ROWS.repeat(10, axis=0))
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match=rf"{name}: "):
            open_samples(path, [spec(None, 3, name="arr_0")])

    def test_a_damaged_header_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, ROWS)
        path.write_bytes(path.read_bytes().replace(b"}", b"{"))
        with pytest.raises(InputError, match=r"a\.npy: this \.npy file cannot be read"):
            open_samples(path, [spec(None, 3)])

    def test_damaged_content_of_an_archive_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        np.savez_compressed(path, x=np.random.default_rng(0).random((50, 3)))
        content = bytearray(path.read_bytes())
        content[200:220] = bytes(20)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz: this \.npz file cannot be read"):
            open_samples(path, [spec(None, 3)])

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_pickled_objects_are_never_loaded(self, tmp_path: Path, name: str) -> None:
        objects = np.array([{"x": 1}], dtype=object)
        (np.save if name == "a.npy" else np.savez)(tmp_path / name, objects, allow_pickle=True)
        with pytest.raises(InputError, match="Python objects are never loaded"):
            open_samples(tmp_path / name, [spec(None)])

    def test_files_under_the_others_name_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        (tmp_path / "a.npy").rename(tmp_path / "b.npz")
        np.savez(tmp_path / "c.npz", x=ROWS)
        (tmp_path / "c.npz").rename(tmp_path / "d.npy")
        with pytest.raises(InputError, match=r"b\.npz: this is not an \.npz"):
            open_samples(tmp_path / "b.npz", [spec(None, 3)])
        with pytest.raises(InputError, match=r"d\.npy: this is not a \.npy"):
            open_samples(tmp_path / "d.npy", [spec(None, 3)])

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    @pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
    def test_no_samples_are_no_input(self, tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
        (np.save if name == "a.npy" else np.savez)(tmp_path / name, np.zeros(shape))
        with pytest.raises(InputError, match="no samples"):
            open_samples(tmp_path / name, [spec(None, None, name="arr_0")])

    def test_an_archive_without_arrays_is_no_input(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz")
        with pytest.raises(InputError, match="no arrays"):
            open_samples(tmp_path / "a.npz", [spec(None, 3)])


def test_a_npy_is_not_read_into_memory_as_a_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    assert isinstance(load_npy(tmp_path / "a.npy"), np.memmap)


@given(
    count=st.integers(1, 12),
    inner=st.lists(st.integers(1, 3), max_size=3),
    complete=st.booleans(),
    size=st.integers(1, 5),
    data=st.data(),
)
def test_batches_hold_every_sample_once_and_in_order(
    count: int, inner: list[int], complete: bool, size: int, data: st.DataObject
) -> None:
    shape = (count, 1, *inner) if complete else (count, *inner)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    free = [data.draw(st.booleans()) for _ in inner]
    model = spec(None, *(None if open_axis else axis for open_axis, axis in zip(free, inner, strict=True)))
    samples = open_samples(values, [model])
    assert samples.complete == complete
    batches = list(samples.batches(range(count), size))
    assert [index for indices, _ in batches for index in indices] == list(range(count))
    assert all(len(feed["x"]) == len(indices) <= size for indices, feed in batches)
    np.testing.assert_array_equal(np.concatenate([feed["x"] for _, feed in batches]), values.reshape(count, *inner))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("file", "specs", "complete", "count"),
    [
        ("mnist-calib.npz", [spec(None, 784, name="image")], False, 2048),
        ("dtln-2-feeds.npz", [spec(1, 1, 512, name="input_4"), spec(1, 2, 128, 2, name="input_5")], True, 600),
        (
            "silero-vad-feeds.npz",
            [spec(None, None, name="input"), spec(2, None, 128, name="state"), spec(name="sr", dtype="int64")],
            True,
            530,
        ),
        (
            "banking77-train.npz",
            [
                spec(None, None, name="input_ids", dtype="int64"),
                spec(None, None, name="attention_mask", dtype="int64"),
            ],
            False,
            2048,
        ),
        ("magika-calib.npz", [spec(None, 2048, name="bytes", dtype="int32")], False, 1293),
    ],
)
def test_real_files_are_read(assets: Path, file: str, specs: list[InputSpec], complete: bool, count: int) -> None:
    samples = open_samples(assets / "data" / file, specs)
    assert (samples.complete, len(samples)) == (complete, count)
    feed = samples.read(count - 1)
    for model in specs:
        assert feed[model.name].dtype == model.dtype
        assert feed[model.name].ndim == len(model.shape)
