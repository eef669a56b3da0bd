"""The first look at the original: its outputs, whether labels are its own, and what is said before the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.graph.storage.model import Model, input_specs, load
from onnx_dalr.look import first
from onnx_dalr.look.first import FirstLook, look
from onnx_dalr.quality.measures import Classes, Dense, Numbers
from onnx_dalr.quality.score import UserScore
from onnx_dalr.request.options import make_options
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import opened

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def constant(name: str, values: Any) -> str:
    array = np.asarray(values, np.float32)
    return f"float[{', '.join(map(str, array.shape))}] {name} = {{{', '.join(map(str, array.ravel().tolist()))}}}"


def model(ends: str, body: str, **constants: Any) -> Model:
    held = ", ".join(constant(name, values) for name, values in constants.items())
    proto = onnx.parser.parse_model(f"{HEADER} net {ends} <{held}> {{ {body} }}")
    onnx.checker.check_model(proto)
    return load(proto)


def looked(
    made: Model, calib: Any, *, measured: bool = True, labels: Any = None, eval: Any = None, **how: Any
) -> FirstLook:
    asked = SampleOptions(calib=calib, labels=labels, eval=eval)
    with opened(asked, input_specs(made.proto)) as sets:
        return look(made, make_options(device="cpu", **how), sets, measured=measured)


def rows(count: int = 60, width: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


CLASSIFIER = model("(float[N, 4] x) => (float[N, 4] logits)", "logits = Mul(x, eight)", eight=[8.0])
REGRESSOR = model("(float[N, 4] x) => (float[N, 4] y)", "y = Tanh(x)")
TAGGER = model("(float[N, T, 4] x) => (float[N, T, 4] logits)", "logits = Mul(x, eight)", eight=[8.0])


# What is said


def test_one_line_says_what_the_original_does() -> None:
    found = looked(CLASSIFIER, rows())
    assert found.task is not None
    assert isinstance(found.task.main.measure, Classes)
    assert len(found.lines) == 1
    assert found.lines[0].startswith("the original on ")
    assert "4 of 4 classes answered" in found.lines[0]
    assert found.notes == ()


def test_a_few_samples_are_looked_at() -> None:
    assert looked(CLASSIFIER, rows(1000)).lines[0].startswith("the original on 128 samples: ")
    assert looked(CLASSIFIER, rows(20)).lines[0].startswith("the original on 14 samples: ")


def test_fewer_are_looked_at_where_a_model_says_much_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "_OUTPUTS", 16 * 12)  # bytes of twelve rows of four
    assert looked(CLASSIFIER, rows(200)).lines[0].startswith("the original on 12 samples: ")
    monkeypatch.setattr(first, "_OUTPUTS", 1)
    assert looked(CLASSIFIER, rows(200)).lines[0].startswith("the original on 8 samples: ")


def test_a_model_that_draws_random_numbers_is_told() -> None:
    noisy = model("(float[N, 4] x) => (float[N, 4] y)", "r = RandomNormalLike(x) y = Add(x, r)")
    (note,) = looked(noisy, rows()).notes
    assert note.startswith("the original gives other outputs each time it runs")


def test_an_original_that_gives_nan_is_refused_where_it_would_be_measured() -> None:
    broken = model("(float[N, 4] x) => (float[N, 4] y)", "y = Sqrt(x)")
    with pytest.raises(InputError, match="the original model gives NaN in output 'y' on these samples"):
        looked(broken, rows())
    assert looked(broken, rows(), measured=False).notes[0].startswith("the original model gives NaN in output 'y'")


def test_a_model_that_has_nothing_to_compare_is_refused_where_it_would_be_measured() -> None:
    empty = model("(float[N, 4] x) => (seq(float[N, 4]) y)", "y = SequenceEmpty()")
    with pytest.raises(InputError, match="no numeric output to compare"):
        looked(empty, rows())
    found = looked(empty, rows(), measured=False)
    assert (found.task, found.lines) == (None, ())


def test_cautions_are_for_the_terminal_and_for_the_report() -> None:
    found = looked(CLASSIFIER, np.tile([[1, 0, 0, 0]], (60, 1)).astype(np.float32))
    (caution,) = found.notes
    assert caution.startswith("the original answers class 0 on all 42 samples looked at: check the preprocessing")
    assert found.lines[1:] == (caution,)


# Labels


def test_labels_that_fit_say_how_often_it_is_right() -> None:
    x = rows()
    found = looked(CLASSIFIER, x, labels=x.argmax(axis=1))
    assert found.lines[0].startswith("the original on 42 samples: right on 100.0 %, ")
    assert (len(found.lines), found.notes) == (1, ())
    assert found.sets.fit.labels is not None


def test_labels_that_it_only_guesses_are_left_out_and_it_is_said() -> None:
    x = rows(400)
    found = looked(CLASSIFIER, x, labels=(x.argmax(axis=1) + 1) % 4)
    (note,) = found.notes
    assert note.startswith("labels do not fit this model: the original is right on 0.0 % of 128 samples, about chance")
    assert note in found.lines
    assert all(each.labels is None for each in (found.sets.fit, found.sets.select, found.sets.report))


def test_a_label_that_is_no_class_is_refused_before_the_work() -> None:
    with pytest.raises(InputError, match="label 4 is no class of the model, which has 4"):
        looked(CLASSIFIER, rows(), labels=np.full(60, 4))


def test_labels_that_no_output_takes_are_not_passed_over_in_silence() -> None:
    for made in (REGRESSOR, TAGGER):
        x = rows() if made is REGRESSOR else rows(60, 20).reshape(60, 5, 4)
        found = looked(made, x, labels=np.arange(60) % 3)
        (note,) = found.notes
        assert note == "labels are given and not used: no output that counts gives classes they fit"
        assert note in found.lines
        assert found.sets.fit.labels is None


def test_labels_are_for_the_users_score_whatever_the_outputs_are() -> None:
    found = looked(REGRESSOR, rows(), labels=np.arange(60) % 3, score=lambda outputs, labels: 1.0)
    assert found.sets.fit.labels is not None
    assert found.notes == ()
    assert isinstance(found.task, object)
    assert isinstance(found.task.score, UserScore)  # type: ignore[union-attr]


def test_labels_by_position_are_laid_beside_the_answers() -> None:
    x = rows(60, 20).reshape(60, 5, 4)
    truth = x.argmax(axis=-1)
    found = looked(TAGGER, x, labels=truth)
    assert isinstance(found.task.main.measure, Dense)  # type: ignore[union-attr]
    assert (found.notes, found.sets.fit.labels is None) == ((), False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda truth: np.tile(truth, 2), "10 a sample are not as many as the model's answers"),
        (lambda truth: truth[:, :3], "3 a sample are not as many as the model's answers"),
        (lambda truth: (truth + 1) % 4, "the original is right on 0.0 % of them, about chance"),
    ],
)
def test_labels_by_position_that_do_not_fit_are_said_before_the_work(change: Any, why: str) -> None:
    x = rows(60, 20).reshape(60, 5, 4)
    found = looked(TAGGER, x, labels=change(x.argmax(axis=-1)))
    assert found.notes == (f"labels are given and not used: {why}",)
    assert found.notes[0] in found.lines
    assert found.sets.fit.labels is None


# Class folders

COLOURS = np.random.default_rng(3).integers(0, 256, (12, 3))


def pictures(folder: Path, names: list[str], each: int = 6) -> Path:
    """Folders of pictures in their class's colour, the first of `names` being class 0 of the model."""
    for colour, name in zip(COLOURS, names, strict=False):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            noise = np.random.default_rng(number).integers(-3, 4, (8, 8, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def of_colours(classes: int = 12) -> Model:
    """Nearest colour: 2·x·c − ‖c‖² is largest where c is nearest."""
    near = COLOURS[:classes] / 255
    return model(
        f"(float[N, 3, 8, 8] x) => (float[N, {classes}] logits)",
        "mean = GlobalAveragePool(x) flat = Flatten(mean) dots = MatMul(flat, W) y = Sub(dots, b) logits = Mul(y, s)",
        W=2 * near.T,
        b=(near**2).sum(axis=1),
        s=[50.0],
    )


NUMBERS = [str(number) for number in range(1, 13)]


def test_class_folders_in_natural_order_need_no_word(tmp_path: Path) -> None:
    found = looked(of_colours(), pictures(tmp_path, NUMBERS))
    assert (found.notes, len(found.lines)) == ((), 1)
    assert "right on 100.0 %" in found.lines[0]


def test_class_folders_in_another_order_are_numbered_as_the_original_numbers_them(tmp_path: Path) -> None:
    found = looked(of_colours(), pictures(tmp_path, sorted(NUMBERS)))
    (note,) = found.notes
    assert note.startswith("class folders are numbered in text order")
    assert "the original is right on 100.0 % of the samples looked at, in natural order on " in note
    assert "right on 100.0 %" in found.lines[0]
    names = [name.split("/")[0] for name in found.sets.report.ids]
    labels = found.sets.report.labels
    assert labels is not None
    assert [sorted(NUMBERS)[labels[at]] for at in found.sets.report.indices] == names


def test_an_order_that_is_better_by_chance_alone_is_not_taken(tmp_path: Path) -> None:
    """One picture among many is in the right place in text order alone."""
    names = ["1", "10", "2", *"abcdefghi"]  # natural: 1, 2, 10, a, …; text: 1, 10, 2, a, …
    folder = pictures(tmp_path, ["1", "2", "10", *"abcdefghi"])
    for name in ("2", "10"):
        for picture in sorted((folder / name).iterdir()):
            picture.unlink()
        Image.fromarray(np.full((8, 8, 3), COLOURS[names.index(name)], np.uint8)).save(folder / name / "0.png")
    found = looked(of_colours(), folder)
    assert found.notes == ()


def test_class_folders_of_other_classes_are_said_to_be_so(tmp_path: Path) -> None:
    mixed = ["g", "c", "k", "a", "l", "e", "b", "j", "d", "i", "f", "h"]
    found = looked(of_colours(), pictures(tmp_path, mixed))
    (note,) = found.notes
    assert note.startswith("class folders do not fit this model: the original is right on ")
    assert found.sets.fit.labels is None


def test_more_class_folders_than_classes_are_left_out(tmp_path: Path) -> None:
    found = looked(of_colours(3), pictures(tmp_path, NUMBERS))
    assert found.notes == ("there are 12 class folders and the model has 3 classes: labels are not used",)
    assert found.sets.fit.labels is None


# What it finds in the graph


def test_scores_behind_class_numbers_are_looked_at() -> None:
    made = model(
        "(float[N, 4] x) => (int64[N] label)",
        "s = Mul(x, eight) label = ArgMax <axis = 1, keepdims = 0> (s)",
        eight=[8.0],
    )
    x = rows()
    found = looked(made, x, labels=x.argmax(axis=1))
    assert found.task is not None
    assert (found.task.hidden, found.task.main.name) == (("s",), "label")
    assert [one.name for one in found.task.seeded] == ["s"]
    assert "right on 100.0 %, " in found.lines[0]


def test_outputs_that_do_not_count_have_no_scores_behind_them_looked_at() -> None:
    made = model(
        "(float[N, 4] x) => (int64[N] label, float[N, 4] y)",
        "s = Mul(x, eight) label = ArgMax <axis = 1, keepdims = 0> (s) y = Tanh(x)",
        eight=[8.0],
    )
    found = looked(made, rows(), outputs=["y"])
    assert found.task is not None
    assert (found.task.hidden, [one.counts for one in found.task.measured]) == ((), [False, True])


@pytest.mark.parametrize(("length", "padded"), [("T", False), ("4", True)])
def test_whether_the_model_takes_any_length_says_what_an_axis_may_be(length: str, padded: bool) -> None:
    made = model(
        f"(float[N, 4] x, int64[N, {length}] attention_mask) => (float[N, 4] y)",
        "m = Cast <to = 1> (attention_mask) s = ReduceMean <axes = [1]> (m) z = Mul(x, s) y = Tanh(z)",
    )
    mask = (np.arange(4)[None] < np.random.default_rng(0).integers(1, 5, (60, 1))).astype(np.int64)
    feeds = [{"x": rows()[at : at + 1], "attention_mask": mask[at : at + 1]} for at in range(60)]
    found = looked(made, feeds)
    assert found.sets.mask_input == "attention_mask"
    assert found.task is not None
    assert found.task.main.padded == padded


def test_padding_is_left_out_of_what_is_found() -> None:
    made = model(
        "(float[N, T, 4] x, int64[N, T] attention_mask) => (float[N, T, 4] y)",
        "m = Cast <to = 1> (attention_mask) one = Constant <value_ints = [-1]> () u = Unsqueeze(m, one) "
        "o = Sub(w, u) far = Mul(o, big) y = Add(x, far)",
        w=[1.0],
        big=[1e4],
    )
    mask = (np.arange(5)[None] < np.random.default_rng(0).integers(1, 6, (60, 1))).astype(np.int64)
    x = {"x": rows(60, 20).reshape(60, 5, 4), "attention_mask": mask}
    found = looked(made, [{name: array[at : at + 1] for name, array in x.items()} for at in range(60)])
    assert found.task is not None
    measure = found.task.main.measure
    assert isinstance(measure, Numbers)
    assert measure.power.sum() < 4 * 5 * 2
