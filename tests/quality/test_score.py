"""A user's own score: what it is given, what it may return, and the interval it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.quality.score import HALVES, Joined, KeptOutputs, Scored, UserScore, load_score, third_argument

RANDOM = np.random.default_rng(0)
Y = RANDOM.standard_normal((40, 3)).astype(np.float32)
Y_NEW = Y + 0.3 * RANDOM.standard_normal((40, 3)).astype(np.float32)
LABELS = np.arange(40) % 2


def joined(y: Any = Y, y_new: Any = Y_NEW) -> Joined:
    return Joined({"y": y}, {"y": y_new}, (), len(y))


def scored(function: Callable[..., Any], labels: Any = LABELS, **options: Any) -> Scored:
    return load_score(function).measure(joined(), labels, **options)


def first(outputs: Any, labels: Any) -> Any:
    """One number per sample."""
    del labels
    return outputs["y"][:, 0]


def total(outputs: Any, labels: Any) -> float:
    """One number."""
    del labels
    return float(outputs["y"][:, 0].mean())


# Where it comes from


def test_a_score_is_named_after_its_function(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def good(outputs, labels):\n    return 1.0\n")
    assert load_score(f"{file}:good").name == "good"
    assert load_score(first).name == "first"
    assert load_score(partial(first)).name == "partial"
    assert str(load_score(first)) == "first"


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("mine.py", "--score 'mine.py' does not name a function in a file", "write --score file.py:function"),
        ("gone.py:good", "--score gone.py:good: there is no file gone.py", "write --score file.py:function"),
        ("mine.py:best", "--score mine.py:best: mine.py has no function best", "it has good"),
        ("mine.py:number", "--score mine.py:number: mine.py has no function number", "it has good"),
        ("broken.py:f", "the file cannot be run: ZeroDivisionError: division by zero (line 2 of broken.py)", ""),
        ("text.py:f", "the file cannot be run: SyntaxError", ""),
        (3, "--score: a int is no function", "write --score file.py:function"),
    ],
)
def test_what_is_no_function_is_refused(
    given: Any, said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("number = 3\ndef good(outputs, labels):\n    return 1.0\n")
    Path("broken.py").write_text("\n1 / 0\n")
    Path("text.py").write_text("this is no Python\n")
    with pytest.raises(InputError) as error:
        load_score(given)
    assert said in error.value.message
    assert error.value.hint == hint


# What it returns


def test_one_number_per_sample_has_the_mean_and_the_interval_of_the_paired_differences() -> None:
    found = scored(first)
    assert found.after is not None
    assert found.before.value == pytest.approx(Y[:, 0].mean())
    assert found.after.value == pytest.approx(Y_NEW[:, 0].mean())
    difference = (Y - Y_NEW)[:, 0].astype(float)
    half = 1.96 * difference.std() / np.sqrt(40)
    assert found.drop.value == pytest.approx(difference.mean(), rel=1e-5)
    assert (found.drop.low, found.drop.high) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=0.3 * half
    )
    assert {found.before.n, found.after.n, found.drop.n} == {40}


def test_right_or_wrong_per_sample_is_an_accuracy() -> None:
    right = np.array([True] * 30 + [False] * 10)
    found = UserScore("right", lambda outputs, labels: outputs["y"]).measure(joined(right, right), None)
    assert found.before.value == 0.75
    assert (found.before.low, found.before.high) == pytest.approx((0.5981, 0.8581), abs=1e-4)  # Wilson's
    assert found.drop.low < found.drop.value == 0 < found.drop.high


def test_one_number_has_about_the_interval_of_one_per_sample() -> None:
    whole, each = scored(total), scored(first)
    assert whole.drop.value == pytest.approx(each.drop.value, rel=1e-4)
    assert whole.drop.high - whole.drop.low == pytest.approx(each.drop.high - each.drop.low, rel=0.25)
    assert whole.before.high - whole.before.low == pytest.approx(each.before.high - each.before.low, rel=0.25)
    assert whole.notes == ()


def test_the_interval_is_the_same_every_time() -> None:
    assert scored(total) == scored(total)


@pytest.mark.parametrize("number", [2, 2.5, np.float32(2.5), np.array(2.5), True])
def test_one_number_is_a_number_of_any_type(number: Any) -> None:
    found = scored(lambda outputs, labels: number)
    assert found.before == Estimate(float(number), float(number), float(number), 40)
    assert found.drop == Estimate(0, 0, 0, 40)


@pytest.mark.parametrize(("intervals", "calls"), [(True, 2 * HALVES + 2), (False, 2)])
def test_it_is_called_once_per_model_and_for_an_interval_on_halves(intervals: bool, calls: int) -> None:
    sizes: list[int] = []

    def counted(outputs: Any, labels: Any) -> float:
        sizes.append(len(outputs["y"]))
        return total(outputs, labels)

    found = scored(counted, intervals=intervals)
    assert len(sizes) == calls
    assert sizes[:2] == [40, 40]
    assert set(sizes[2:]) <= {20}
    assert (found.drop.low < found.drop.high) is intervals


def test_both_models_are_scored_on_the_same_halves_with_their_labels() -> None:
    seen: list[tuple[list[float], list[int]]] = []

    def watched(outputs: Any, labels: Any) -> float:
        seen.append((outputs["y"].tolist(), labels.tolist()))
        return 0.5

    y = np.arange(40.0)
    UserScore("watched", watched).measure(joined(y, y), np.arange(40))
    assert all(one == other for one, other in zip(seen[::2], seen[1::2], strict=True))
    assert all(y == labels == sorted(set(labels)) for y, labels in seen)  # in order, and none twice


def test_one_sample_has_no_interval() -> None:
    found = load_score(total).measure(joined(Y[:1], Y_NEW[:1]), None)
    assert found.drop.low == found.drop.value == found.drop.high


def test_halves_that_cannot_be_scored_are_left_out_and_it_says_so() -> None:
    def both_rare(outputs: Any, labels: Any) -> float:
        if not {0, 1} <= set(labels):
            raise ValueError("only one class")
        return total(outputs, labels)

    found = scored(both_rare, labels=np.array([1] * 2 + [0] * 38))
    assert found.drop.low < found.drop.high
    (note,) = found.notes
    assert "both_rare fails on " in note
    assert f" of {HALVES} random halves" in note


def test_a_score_may_change_what_it_is_given() -> None:
    def greedy(outputs: Any, labels: Any) -> float:
        found = total(outputs, labels)
        outputs.pop("y")[:] = 0
        labels[:] = 7
        return found

    assert scored(greedy) == scored(total)


def test_a_model_that_gives_no_numbers_is_not_scored() -> None:
    for function in (first, total):
        found = scored(function, finite=False)
        assert found.before.low < found.before.value < found.before.high
        assert found.after is None
        assert found.drop.value == float("inf")


def exits(*given: Any) -> float:
    del given
    raise SystemExit(3)


def wants_more(outputs: Any, labels: Any, original: Any, more: float) -> float:
    del original
    return total(outputs, labels) + more


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda outputs, labels: outputs["z"], "KeyError: 'z' (line "),
        (exits, "SystemExit: 3"),
        (wants_more, "missing 1 required positional argument: 'more'"),
        (lambda outputs, labels: None, "it returned nothing"),
        (lambda outputs, labels: "good", "it returned a str, not a number"),
        (lambda outputs, labels: 1j, "it returned a complex, not a number"),
        (lambda outputs, labels: [[1], [1, 2]], "it returned no number"),
        (lambda outputs, labels: outputs["y"], "it returned an array of shape [40, 3]"),
        (lambda outputs, labels: [1, 2], "it returned 2 numbers for 40 samples"),
        (lambda outputs, labels: float("nan"), "it returned NaN or infinity"),
        (lambda outputs, labels: [float("inf")] * 40, "it returned NaN or infinity"),
    ],
)
def test_what_is_no_score_is_told_in_one_line(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        UserScore("mine", function).measure(joined(), LABELS)
    assert error.value.message.startswith("--score mine on the outputs of the original: ")
    assert said in error.value.message
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_a_failure_on_the_new_model_says_that_it_is_the_new_one() -> None:
    def on_original(outputs: Any, labels: Any) -> float:
        del labels
        return 1.0 if (outputs["y"] == Y).all() else float("nan")

    with pytest.raises(InputError, match="on the outputs of the new model: it returned NaN"):
        scored(on_original)


def test_the_hint_of_a_failure_is_what_there_was_to_use() -> None:
    with pytest.raises(InputError) as error:
        UserScore("mine", lambda outputs, labels: outputs["z"]).measure(
            Joined({"y": Y}, {"y": Y_NEW}, ("boxes",), 40), None
        )
    assert error.value.hint == "outputs: y [40, 3]; boxes left out: no row per sample; labels: None"


def test_both_models_are_scored_in_the_same_form() -> None:
    def mixed(outputs: Any, labels: Any) -> Any:
        return first(outputs, labels) if (outputs["y"] == Y).all() else 0.5

    with pytest.raises(InputError, match="one number per sample for one model and one number for the other"):
        scored(mixed)


# The original's outputs beside them


def stayed(outputs: Any, labels: Any, original: Any) -> Any:
    """How much of each sample is as it was."""
    del labels
    return 1 - np.abs(outputs["y"] - original["y"]).mean(axis=1)


def stayed_whole(outputs: Any, labels: Any, original: Any) -> float:
    return float(stayed(outputs, labels, original).mean())


def defaulted(outputs: Any, labels: Any, original: Any = None) -> Any:
    assert original is not None
    return stayed(outputs, labels, original)


def weighted(outputs: Any, labels: Any, weight: float = 2.0) -> float:
    return weight * total(outputs, labels)


def any_number(*given: Any) -> float:
    return 0.5 * len(given)


def keyed(outputs: Any, labels: Any, *, original: Any) -> Any:
    return stayed(outputs, labels, original)


class Mine:
    """Something that can be called."""

    def __call__(self, outputs: Any, labels: Any, first: Any) -> Any:
        return stayed(outputs, labels, first)

    def method(self, outputs: Any, labels: Any, before: Any) -> Any:
        return stayed(outputs, labels, before)


@pytest.mark.parametrize("function", [stayed, stayed_whole, defaulted, keyed, Mine(), Mine().method])
def test_a_score_may_look_at_what_the_original_says(function: Callable[..., Any]) -> None:
    found = scored(function)
    assert found.before.value == 1
    assert found.drop.value == pytest.approx(np.abs(Y - Y_NEW).mean(), rel=1e-5)
    assert found.drop.low < found.drop.value < found.drop.high


BOUND = partial(stayed, original={"y": Y})


@pytest.mark.parametrize("function", [weighted, any_number, partial(weighted, weight=3.0), BOUND])
def test_a_third_argument_with_a_value_of_its_own_is_left_alone(function: Callable[..., Any]) -> None:
    assert third_argument(function) is None
    scored(function)


def test_the_original_is_of_the_same_half_and_may_be_changed() -> None:
    y = np.arange(40.0)

    def same(outputs: Any, labels: Any, original: Any) -> float:
        del labels
        assert (outputs["y"] == original["y"]).all()
        outputs["y"][:] = original["y"][:] = 0
        return 0.5

    assert load_score(same).measure(joined(y, y), None).notes == ()


def test_what_fails_with_the_original_is_told_like_any_other() -> None:
    with pytest.raises(InputError, match="--score wants on the outputs of the original: KeyError: 'z'"):
        UserScore("wants", lambda outputs, labels, original: original["z"]).measure(joined(), None)


# What it is given


def kept(*runs: Sequence[Any], sizes: Sequence[int], complete: bool = False) -> Joined:
    """What becomes of runs of a model with outputs y (and z), its copy's being the negatives."""
    sums, start = KeptOutputs(complete=complete), 0
    for size, run in zip(sizes, runs, strict=True):
        sums.add(list(range(start, start + size)), run, [-y for y in run])
        start += size
    return sums.joined(["y", "z"][: len(runs[0])])


def test_rows_are_joined_in_the_order_of_the_samples() -> None:
    found = kept([Y[:7]], [Y[7:]], sizes=[7, 33])
    assert np.array_equal(found.before["y"], Y)
    assert np.array_equal(found.after["y"], -Y)
    assert (found.n, found.left_out) == (40, ())


def test_complete_feeds_are_stacked_even_where_an_axis_looks_like_the_batch() -> None:
    runs = [[Y[i : i + 1], Y[i : i + 2]] for i in range(3)]
    found = kept(*runs, sizes=[1, 1, 1], complete=True)
    assert found.before["y"].shape == (3, 1, 3)
    assert found.before["z"].shape == (3, 2, 3)
    assert np.array_equal(found.before["z"][2], Y[2:4])


def test_an_output_without_rows_gets_an_axis_where_samples_run_one_at_a_time() -> None:
    found = kept([Y[:1], Y[0]], [Y[1:2], Y[1]], sizes=[1, 1])
    assert found.before["y"].shape == found.before["z"].shape == (2, 3)
    assert np.array_equal(found.before["z"], Y[:2])


def test_an_output_without_rows_is_left_out_of_batches() -> None:
    found = kept([Y[:2], Y[0]], [Y[2:4], Y[1]], sizes=[2, 2])
    assert set(found.before) == {"y"}
    assert found.left_out == ("z",)


def test_samples_of_different_shapes_are_an_array_of_arrays() -> None:
    found = kept([Y[None, :5]], [Y[None, :8]], sizes=[1, 1])
    assert (found.before["y"].dtype, found.before["y"].shape) == (object, (2,))
    assert np.array_equal(found.before["y"][1], Y[:8])
    assert np.array_equal(found.after["y"][1], -Y[:8])
    with pytest.raises(ValueError, match="read-only"):
        found.before["y"][0][:] = 0


def test_both_models_are_given_in_the_same_form() -> None:
    sums = KeptOutputs()
    sums.add([0], [Y[:1]], [Y[:1]])
    sums.add([1], [Y[:1]], [Y[:3]])
    found = sums.joined(["y"])
    assert found.before["y"].shape == (2, 1, 3)[:1]
    assert [len(each) for each in found.before["y"]] == [1, 1]
    assert [len(each) for each in found.after["y"]] == [1, 3]


def test_text_is_an_output_too_and_lists_are_left_out() -> None:
    sums = KeptOutputs()
    sums.add([0, 1], [np.array(["a", "b"]), [{}, {}]], [np.array(["a", "c"]), [{}, {}]])
    found = sums.joined(["y", "z"])
    assert found.after["y"].tolist() == ["a", "c"]
    assert found.left_out == ("z",)


def test_a_model_without_rows_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="no output of the model has a row for each sample") as error:
        kept([Y[0]], sizes=[2])
    assert "--batch-size 1" in error.value.hint
