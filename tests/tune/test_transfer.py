"""What is lost is learned back from the original, where samples that had no part in it prove so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from scipy import special

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.plan.plan import Plan
from onnx_dalr.progress import TUNING, Silent
from onnx_dalr.tune import budget, schooling, training, transfer
from tests.graph.helpers import model, run

NET = model(
    """g (float[N,16] x) => (float[N,5] y) {
        [a] h1 = Gemm<transB: int = 1>(x, W1, b1)
        r1 = Relu(h1)
        [b] h2 = Gemm<transB: int = 1>(r1, W2, b2)
        r2 = Relu(h2)
        [c] y = Gemm<transB: int = 1>(r2, W3, b3)
    }""",
    W1=(32, 16),
    b1=(32,),
    W2=(32, 32),
    b2=(32,),
    W3=(5, 32),
    b3=(5,),
)
for tensor in NET.graph.initializer:
    if tensor.name == "W3":  # answers that are not sure
        tensor.CopyFrom(numpy_helper.from_array(0.1 * numpy_helper.to_array(tensor), "W3"))
FORMS = ["a=5", "b=5"]


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows that vary in few directions most."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 16)) * 0.6 ** np.arange(16)[::-1]).astype(np.float32)


MANY, UNSEEN = rows(400), rows(1000, seed=1)


def made(calib: Any = MANY, net: ModelProto = NET, **options: Any) -> onnx_dalr.Result:
    """From factors that know nothing of the data, to which much is left to be learned."""
    given: dict[str, Any] = {"rank": FORMS, "task": "classify", "device": "cpu", "tune": 200, "refit": "off"}
    if options.get("method") != "svd":
        given |= {"shrinkage": 1, "metric": False}
    given |= options
    return onnx_dalr.optimize(net, calib=calib, **given)


def divergence(proto: ModelProto) -> float:
    """Mean KL to the original on rows that no run has seen."""
    log_p, log_q = (special.log_softmax(run(each, {"x": UNSEEN})["y"], axis=-1) for each in (NET, proto))
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)))


def constants(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.fixture(scope="module")
def pair() -> tuple[onnx_dalr.Result, onnx_dalr.Result]:
    """(tuned, not tuned) in the same forms."""
    return made(), made(tune="off")


def test_the_same_forms_in_the_same_bytes_answer_more_like_the_original(
    pair: tuple[onnx_dalr.Result, onnx_dalr.Result],
) -> None:
    tuned, plain = pair
    assert divergence(tuned.model) < 0.7 * divergence(plain.model)
    assert abs(tuned.bytes_after - plain.bytes_after) < 200  # the note in the file has other samples
    assert tuned.params_after == plain.params_after


def test_the_model_says_whether_it_learned(pair: tuple[onnx_dalr.Result, onnx_dalr.Result]) -> None:
    notes = [onnx_dalr.inspect(result.model).made for result in pair if result.model is not None]
    assert [made.tuned for made in notes if made is not None] == [True, False]


def test_it_says_what_was_proven_on_which_samples(pair: tuple[onnx_dalr.Result, onnx_dalr.Result]) -> None:
    tuning, sets = pair[0].tuning, pair[0].samples
    assert tuning is not None
    assert sets is not None
    assert tuning.kept
    assert tuning.before is not None
    assert tuning.after is not None
    assert tuning.after < tuning.before
    assert tuning.errors is not None
    assert tuning.errors > 2
    assert tuning.proof == len(sets.proof) == 56  # a fifth of 280
    assert not set(sets.proof) & {*sets.fit, *sets.select, *sets.report}
    assert tuning.curve[0][0] == 0
    assert tuning.curve[-1][0] == 200
    text = pair[0].to_text(verbose=True)
    assert "56 samples that chose and taught nothing" in text
    assert "tuning curve" in text
    assert json.loads(pair[0].to_json())["tuning"]["kept"] is True


def test_without_tuning_no_samples_are_set_apart(pair: tuple[onnx_dalr.Result, onnx_dalr.Result]) -> None:
    plain = pair[1]
    assert plain.tuning is None
    assert plain.samples is not None
    assert not plain.samples.proof
    assert len(plain.samples.fit) == 280


def test_only_factors_and_biases_change(pair: tuple[onnx_dalr.Result, onnx_dalr.Result]) -> None:
    before, after = (constants(result.model) for result in reversed(pair))
    assert before.keys() == after.keys()
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    np.testing.assert_array_equal(after["W3"], constants(NET)["W3"])
    assert not np.array_equal(after["b3"], before["b3"])
    assert [node.op_type for node in pair[0].model.graph.node] == [node.op_type for node in pair[1].model.graph.node]


def test_the_same_samples_and_seed_give_the_same_file(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    first = made(save_plan=saved)
    assert json.loads(saved.read_text())["tuning"]["steps"] == 200
    again = onnx_dalr.apply(NET, saved, calib=MANY, task="classify", device="cpu", refit="off")
    assert again.model.SerializeToString() == first.model.SerializeToString()
    assert again.tuning is not None
    assert again.tuning.reason == "as the plan says"
    assert made().model.SerializeToString() == first.model.SerializeToString()


def test_a_plan_meets_other_samples_and_has_to_prove_itself_again(tmp_path: Path) -> None:
    made(save_plan=tmp_path / "plan.json")
    other = onnx_dalr.apply(
        NET, tmp_path / "plan.json", calib=rows(400, seed=5), task="classify", device="cpu", refit="off"
    )
    assert other.tuning is not None
    assert other.tuning.proof == 56
    assert other.tuning.course is not None
    assert other.tuning.course.steps == 200


def test_a_plan_keeps_its_course_through_a_file(tmp_path: Path) -> None:
    made(save_plan=tmp_path / "plan.json")
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.tuning is not None
    assert (plan.tuning.steps, plan.tuning.seed, plan.tuning.batch) == (200, 0, 32)
    plan.save(tmp_path / "again.json")
    assert Plan.load(tmp_path / "again.json") == plan


@pytest.mark.parametrize("change", [{"steps": 0}, {"rate": -1.0}, {"rate": None}, {"share": 2}, {"odd": 1}])
def test_a_course_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    made(save_plan=tmp_path / "plan.json")
    facts = json.loads((tmp_path / "plan.json").read_text())
    facts["tuning"] |= change
    (tmp_path / "plan.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="tuning"):
        Plan.load(tmp_path / "plan.json")


def test_statistics_alone_say_that_they_cannot(tmp_path: Path) -> None:
    made(save_plan=tmp_path / "plan.json", save_stats=tmp_path / "stats")
    applied = onnx_dalr.apply(NET, tmp_path / "plan.json", stats=tmp_path / "stats")
    assert applied.tuning is not None
    assert not applied.tuning.kept
    assert "no samples to learn from: the plan was tuned" in applied.tuning.reason


def test_few_samples_are_refused_and_a_few_more_tune_biases_alone() -> None:
    few = made(rows(63))
    assert few.tuning is not None
    assert few.tuning.reason == "63 samples are too few to learn from (64 are needed)"
    assert few.tuning.reason in str(few)
    plain = made(rows(63), tune="off")
    for name, value in constants(plain.model).items():
        np.testing.assert_array_equal(constants(few.model)[name], value)
    some = made(rows(150))
    assert some.tuning is not None
    assert some.tuning.course is not None
    assert some.tuning.course.biases_only
    assert some.tuning.numbers == 32 + 32 + 5


def test_what_does_not_gain_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that lead away: the candidate stays what it was."""
    step = training.Adam.step
    monkeypatch.setattr(
        training.Adam, "step", lambda self, tensors, g, rate: step(self, tensors, {k: -v for k, v in g.items()}, rate)
    )
    worse, plain = made(), made(tune=1, tune_time="1s")
    assert worse.tuning is not None
    assert not worse.tuning.kept
    assert "within two standard errors" in worse.tuning.reason
    assert worse.tuning.curve
    assert divergence(worse.model) == pytest.approx(divergence(plain.model), rel=1e-3)


def test_a_user_who_excludes_layers_keeps_their_biases() -> None:
    tuned = made(exclude="c")
    np.testing.assert_array_equal(constants(tuned.model)["b3"], constants(NET)["b3"])


def test_baselines_stay_what_they_are() -> None:
    assert made(method="svd").tuning is None


def test_rounded_weights_tune_their_scales() -> None:
    tuned, plain = (made(weights="int4", rank=None, size="90%", tune=how) for how in (200, 1))
    assert tuned.tuning is not None
    assert tuned.tuning.kept
    before, after = (constants(result.model) for result in (plain, tuned))
    whole = [name for name, value in after.items() if value.dtype == np.uint8]
    assert whole
    for name in whole:
        np.testing.assert_array_equal(before[name], after[name])


class Interrupting(Silent):
    """Ctrl-C after so many steps of tuning."""

    def __init__(self, after: int) -> None:
        self._left = after

    def stage(self, name: str, total: int | None) -> Any:
        return _Stage(self._step) if name.startswith(TUNING) else super().stage(name, total)

    def _step(self, count: int) -> None:
        self._left -= count
        if self._left == 0:
            raise KeyboardInterrupt


class _Stage:
    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def __enter__(self) -> Callable[[int], None]:
        return self._advance

    def __exit__(self, *error: object) -> None:
        return None


@pytest.mark.parametrize("after", [150, 250])
def test_control_c_keeps_the_best_so_far(after: int) -> None:
    """While it is explored, or while it is done once more."""
    stopped = made(progress=Interrupting(after))
    assert stopped.tuning is not None
    assert stopped.tuning.stopped
    assert stopped.tuning.kept
    assert divergence(stopped.model) < divergence(made(tune="off").model)


def test_what_was_proven_stays_with_the_whole_numbers_it_was_proven_with() -> None:
    """Made of all samples, weights may be rounded to others; scales of these would not fit."""
    proven, done = (made(weights="int4", progress=listener) for listener in (Interrupting(250), None))
    assert proven.tuning is not None
    assert proven.tuning.kept
    assert proven.tuning.stopped
    assert divergence(proven.model) < 1.25 * divergence(done.model)


def test_time_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    none = made(tune="auto", tune_time=0.0001)
    assert none.tuning is not None
    assert "--tune-time" in none.tuning.reason or "tune_time" in none.tuning.reason
    monkeypatch.setattr(schooling, "FLOOR", 1.0)
    some = made(tune="auto")
    assert some.tuning is not None
    assert some.tuning.course is not None


@pytest.mark.parametrize("given", ["on", "-3", "0", "1.5", True, ""])
def test_what_is_no_tuning_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="tune"):
        made(tune=given)


@pytest.mark.parametrize("given", ["soon", "0", "-1s", "nan", True])
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="tune"):
        made(tune_time=given)


def test_steps_go_up_a_ladder() -> None:
    assert [budget.steps_within(count) for count in (0, 39, 40, 79, 1e9)] == [0, 0, 40, 60, 4000]


def test_memory_that_stays_small_is_made_of_what_was_tuned() -> None:
    tuned = made(weights="int8", memory="small", rank=None, size="90%")
    assert tuned.quality is not None
    assert tuned.quality.finite


def test_a_loss_is_told_in_words() -> None:
    result = made()
    assert result.tuning is not None
    assert result.tuning.course is not None
    assert result.tuning.course.loss == "KL to the original's probabilities"
    assert replace(result.tuning.course, samples="") != result.tuning.course
    assert transfer.FEWEST == 64
    onnx.checker.check_model(result.model, full_check=True)
