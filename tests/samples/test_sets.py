"""The samples of a run, opened and divided: one numbering of classes for all of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples import InputSpec, class_orders
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened

ROWS = [InputSpec("x", (None, 3), np.dtype("float32"))]
GRAY = [InputSpec("x", (None, 1, 4, 4), np.dtype("float32"))]
X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def test_labels_are_arrays_or_paths(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(20) % 4)
    for labels in (np.arange(20) % 4, [i % 4 for i in range(20)], tmp_path / "y.npy", str(tmp_path / "y.npy")):
        options = SampleOptions(X, labels=labels, eval=X[:2], eval_labels=[3, 1])
        with opened(options, ROWS) as sets:
            assert sets.fit.labels.tolist() == [i % 4 for i in range(20)]
            assert sets.report.labels.tolist() == [3, 1]
            assert (sets.fit.labels_from, sets.report.labels_from) == ("--labels", "--eval-labels")
            assert (sets.fit.classes, sets.report.classes) == (4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calib": X, "eval_labels": [0]}, "--eval-labels is given and no samples that it is for"),
        ({"calib": None, "labels": [0]}, "--labels is given and no samples that it is for"),
    ],
)
def test_labels_without_their_samples_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SampleOptions(**options)


def images(root: Path, *folders: str, each: int = 10) -> Path:
    """A folder with so many images in each of the folders; the name "" puts them into none."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.new("L", (4, 4), number).save(root / folder / f"{number}.png")
    return root


def both(calib: Path, other: Path, **options: object) -> AbstractContextManager[Sets]:
    return opened(SampleOptions(calib, eval=other, **options), GRAY)


def names_and_labels(sets: Sets) -> set[tuple[str, int]]:
    """(folder, label) of the samples to fit and to report."""
    found = set()
    for each in (sets.fit, sets.report):
        assert each.labels is not None
        found |= {(each.source.ids[i].split("/")[0], int(each.labels[i])) for i in each.indices}
    return found


def test_class_folders_are_matched_by_name(tmp_path: Path) -> None:
    calib, other = images(tmp_path / "a", "1", "2", "10"), images(tmp_path / "b", "10", "2", each=2)
    with both(calib, other) as sets:
        assert names_and_labels(sets) == {("1", 0), ("2", 1), ("10", 2)}
        assert sets.report.classes == 3
        assert sets.class_names == ("1", "2", "10")
        assert sets.notes == ()


def test_all_sets_are_relabelled_at_once(tmp_path: Path) -> None:
    calib, other = images(tmp_path / "a", "1", "2", "10"), images(tmp_path / "b", "10", "2", each=2)
    with both(calib, other) as sets:
        text = class_orders(sets.class_names)[1]
        again = sets.relabelled(text.labels)
        assert names_and_labels(again) == {("1", 0), ("10", 1), ("2", 2)}
        assert again.select.source is again.fit.source
        assert again.class_names == ("1", "10", "2")
        assert names_and_labels(sets) == {("1", 0), ("2", 1), ("10", 2)}  # as they were
        np.testing.assert_array_equal(again.fit.source.read(3)["x"], sets.fit.source.read(3)["x"])


def test_numbers_in_the_names_may_leave_gaps(tmp_path: Path) -> None:
    with opened(SampleOptions(images(tmp_path, "3", "7")), GRAY) as sets:
        numbers = class_orders(sets.class_names, count=10)[1]
        again = sets.relabelled(numbers.labels)
        assert names_and_labels(again) == {("3", 3), ("7", 7)}
        assert again.class_names == ("", "", "", "3", "", "", "", "7")
        assert again.report.source is again.fit.source


def test_given_labels_go_before_folders_and_have_no_order_to_try(tmp_path: Path) -> None:
    calib, other = images(tmp_path / "a", "x", "y"), images(tmp_path / "b", "u", "v", each=1)
    with both(calib, other, labels=[5] * 20, eval_labels=[3, 4]) as sets:
        assert sets.class_names == ()
        assert sets.relabelled(np.array([1, 0])).report.labels.tolist() == [3, 4]
        assert sets.notes == ()


@pytest.mark.parametrize(
    ("calib", "other", "options", "labelled", "note"),
    [
        (("a", "b"), ("",), {}, (True, False), "--calib has labels (class folders) and --eval has none"),
        (("",), ("a", "b"), {}, (False, True), "--eval has labels (class folders) and --calib has none"),
        (("all",), ("a", "b"), {}, (False, True), "--eval has labels (class folders) and --calib has none"),
        (("",), ("",), {"eval_labels": [0] * 10}, (False, True), "--eval has labels (--eval-labels) and --calib"),
        (("a", "b"), ("images",), {}, (True, False), "all images of --eval lie in the folder 'images', which is no"),
        (("",), ("a", "b"), {"labels": [0] * 10}, (True, True), "--calib has its labels from --labels and --eval from"),
        (("a", "b"), ("b",), {}, (True, True), None),
        (("all",), ("images",), {}, (False, False), None),
        (("",), ("",), {}, (False, False), None),
    ],
)
def test_labels_in_only_one_set_are_used_there_and_it_is_said(
    tmp_path: Path,
    calib: tuple[str, ...],
    other: tuple[str, ...],
    options: dict[str, object],
    labelled: tuple[bool, bool],
    note: str | None,
) -> None:
    with both(images(tmp_path / "calib", *calib), images(tmp_path / "eval", *other), **options) as sets:
        assert (sets.fit.labels is not None, sets.report.labels is not None) == labelled
        assert sets.notes[:1] == () if note is None else sets.notes[0].startswith(note)


def test_class_folders_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    calib = images(tmp_path / "calib", "ant", "bee")
    with pytest.raises(InputError, match="did you mean 'bee'"), both(calib, images(tmp_path / "e", "ant", "beee")):
        pass
    with pytest.raises(InputError, match="no name in common"), both(calib, images(tmp_path / "f", "0", "1")):
        pass
