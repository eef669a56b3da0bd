"""What is said before the work: how small the file can get at best, and which phases are to come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import InputError, NothingToGainError, TargetError
from onnx_dalr.progress import Silent, part_of
from onnx_dalr.request.target import make_target
from onnx_dalr.units import format_bytes
from tests.cli import tiny


class Heard(Silent):
    """Remembers everything it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.details: list[str] = []
        self.expected: list[str] = []
        self.stages: list[str] = []
        self.steps: dict[str, list[int | None]] = {}

    def say(self, line: str) -> None:
        self.said.append(line)

    def detail(self, line: str) -> None:
        self.details.append(line)

    def expect(self, seconds: Mapping[str, float]) -> None:
        assert all(each >= 0 for each in seconds.values())
        self.expected += seconds

    def about(self, *texts: str) -> None:
        assert list(texts) == sorted(texts, key=len, reverse=True)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        self.stages.append(name)
        self.steps[name] = [total, 0]

        def advance(steps: int) -> None:
            self.steps[name][1] += steps  # type: ignore[operator]

        yield advance

    @property
    def phases(self) -> list[str]:
        return list(dict.fromkeys(part_of(stage)[0] for stage in self.stages))

    def line(self, start: str) -> str:
        (found,) = [line for line in self.said if line.startswith(start)]
        return found


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def model() -> ModelProto:
    return tiny.mlp((16, 64, 64, 4))


def optimize(model: ModelProto | Path, heard: Heard, **options: Any) -> onnx_dalr.Result:
    return onnx_dalr.optimize(model, calib=options.pop("calib", tiny.rows(60)), progress=heard, **options)


def analyze(model: ModelProto, heard: Heard, **target: Any) -> None:
    onnx_dalr.analyze(model, calib=tiny.rows(60), target=make_target(**target), progress=heard).close()


def smallest(line: str) -> str:
    (found,) = re.findall(r"the file becomes (.*)$", line)
    return str(found)


# How small


def test_the_bytes_in_layers_are_said_before_anything_is_run(heard: Heard, model: ModelProto) -> None:
    optimize(model, heard, rank=4)
    size, eligible = model.ByteSize(), 4 * (16 * 64 + 64 * 64 + 64 * 4)
    line = heard.line("eligible")
    assert line.startswith(
        f"eligible: {format_bytes(eligible)} of {format_bytes(size)} ({100 * eligible / size:.1f} %) in 3 layers; "
    )
    assert heard.said.index(line) < heard.said.index(heard.line("running on"))


def test_what_it_becomes_at_best_is_the_file_with_rank_one(heard: Heard, model: ModelProto) -> None:
    optimize(model, heard, params="60%")
    made = onnx_dalr.optimize(model, calib=tiny.rows(60), rank=1).model
    assert smallest(heard.line("eligible")) == format_bytes(made.ByteSize())
    assert "at best" in heard.line("eligible")


@pytest.mark.parametrize(
    ("bounds", "ranks"),
    [
        ({"min_rank": 5}, ["first=5", "second=5"]),
        ({"rank_multiple": 4}, ["first=4", "second=4"]),
        ({"rank": ["second=20"]}, ["first=1", "second=20", "third=1"]),
        ({"rank": ["second=keep"]}, ["first=1", "third=1"]),
    ],
    ids=str,
)
def test_it_keeps_to_the_ranks_that_are_allowed(
    heard: Heard, model: ModelProto, bounds: dict[str, Any], ranks: list[str]
) -> None:
    optimize(model, heard, max_drop=0.9, **bounds)
    made = onnx_dalr.optimize(model, calib=tiny.rows(60), rank=ranks).model
    line = smallest(heard.line("eligible"))
    assert line == format_bytes(made.ByteSize())


def test_ranks_that_are_asked_for_make_one_size(heard: Heard, model: ModelProto) -> None:
    result = optimize(model, heard, rank=["first=4", "second=9"])
    line = heard.line("eligible")
    assert "with these ranks" in line
    assert smallest(line) == format_bytes(result.bytes_after)


def test_external_data_counts(heard: Heard, model: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    result = onnx_dalr.optimize(path, tmp_path / "small.onnx", calib=tiny.rows(60), rank=4, progress=heard)
    assert smallest(heard.line("eligible")) == format_bytes(result.bytes_after)
    assert f" of {format_bytes(result.bytes_before)} " in heard.line("eligible")


def test_it_is_never_more_than_the_file_nor_more_than_what_comes_out(heard: Heard) -> None:
    """Of a tiny model, whose new nodes and names weigh more than what most ranks save."""
    narrow = tiny.mlp((16, 6, 6, 4))
    with pytest.raises(NothingToGainError):
        optimize(narrow, heard, rank=1)
    assert smallest(heard.line("eligible")) == format_bytes(narrow.ByteSize())
    again = Heard()
    result = optimize(narrow, again, params="60%")
    assert smallest(again.line("eligible")) == format_bytes(result.bytes_after)


def mostly_table() -> ModelProto:
    """A model with nearly all its bytes where there is no layer."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((4000, 24)).astype(np.float32),
        "W": rng.standard_normal((24, 24)).astype(np.float32),
        "b": np.zeros(24, np.float32),
    }
    return tiny.with_weights(tiny.TOKENS, weights)


def tokens(count: int = 40) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(1).integers(0, 4000, (count, 6))
    return {"ids": ids, "attention_mask": np.ones_like(ids)}


def test_where_little_can_go_it_is_said_before_the_work_and_noted(heard: Heard) -> None:
    result = optimize(mostly_table(), heard, calib=tokens(), max_error=0.9)
    note = heard.line("note: the file can get")
    assert re.search(r"0\.\d % smaller at best", note)
    assert heard.said.index(note) < heard.said.index(heard.line("running on"))
    assert note.removeprefix("note: ") in result.notes


def test_where_the_ranks_are_given_little_is_what_was_asked_for(heard: Heard) -> None:
    result = optimize(mostly_table(), heard, calib=tokens(), rank=4)
    assert not [line for line in (*heard.said, *result.notes) if "at best" in line]


def test_a_plan_has_its_ranks_and_no_best(heard: Heard, model: ModelProto) -> None:
    with onnx_dalr.analyze(model, calib=tiny.rows(60)) as analysis:
        plan = analysis.plan(params="60%")
    onnx_dalr.apply(model, plan, calib=tiny.rows(60), progress=heard)
    assert not [line for line in heard.said if line.startswith("eligible")]


# What cannot be met


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ({"size": "5%"}, TargetError),
        ({"size": 1500}, TargetError),
        ({"params": "5%"}, TargetError),
        ({"params": 100}, TargetError),
        ({"params": "50%", "rank": ["*second*=keep"]}, TargetError),
        ({"size": "60%", "min_rank": 30}, TargetError),
        ({"rank": 60}, NothingToGainError),
        ({"params": "100%"}, NothingToGainError),
        ({"max_drop": 0.01, "min_rank": 60}, NothingToGainError),
        ({"max_error": 0.1, "rank_multiple": 100}, NothingToGainError),
        ({"energy": 0.5, "min_rank": 60}, NothingToGainError),
        ({"rank": ["*=keep"]}, NothingToGainError),
    ],
    ids=str,
)
@pytest.mark.parametrize("call", [optimize, analyze])
def test_what_sizes_alone_refuse_is_refused_before_a_sample_is_run(
    heard: Heard, model: ModelProto, target: dict[str, Any], error: type[Exception], call: Callable[..., Any]
) -> None:
    with pytest.raises(error):
        call(model, heard, **target)
    assert heard.stages == []


# What is to come


@pytest.mark.parametrize(
    "options",
    [
        {"max_drop": 0.5},
        {"params": "60%"},
        {"rank": 4},
        {"energy": 0.9},
        {"max_error": 0.3, "metric": False},
        {"size": "70%", "method": "svd"},
        {"rank": 4, "holdout": 0.0},
        {"params": "60%", "calib": tiny.rows(400)},
        {"rank": 8, "calib": tiny.rows(800)},
        {"rank": 8, "calib": tiny.rows(800), "refit": "off"},
    ],
    ids=str,
)
def test_the_phases_of_the_run_are_those_that_were_expected(
    heard: Heard, model: ModelProto, options: dict[str, Any]
) -> None:
    optimize(model, heard, **options)
    expected = [phase for phase in heard.phases if phase not in ("looking at the original", "loading")]
    assert set(heard.expected) >= set(expected)
    assert set(heard.expected) - set(expected) <= {"scoring"}
    inner = [phase for phase in heard.expected if phase in expected]
    assert sorted(inner) == sorted(expected)
    assert heard.line("this takes")


def test_refitting_is_expected_where_there_are_rows_for_it(heard: Heard, model: ModelProto) -> None:
    optimize(model, heard, rank=8, calib=tiny.rows(100))
    assert "refitting" not in {*heard.expected, *heard.phases}
    optimize(model, heard, rank=8, calib=tiny.rows(800))
    assert "refitting" in heard.expected
    assert "refitting" in heard.stages  # the second layer's; the third is too small for a rank
    total, done = heard.steps["refitting"]
    assert done == total


def test_an_analysis_without_a_target_ends_with_the_factors(heard: Heard, model: ModelProto) -> None:
    onnx_dalr.analyze(model, calib=tiny.rows(60), progress=heard).close()
    assert heard.expected == ["capturing", "probing", "factorizing"]
    assert "at best" in heard.line("eligible")


def test_with_statistics_the_samples_are_not_expected_to_be_run(
    heard: Heard, model: ModelProto, tmp_path: Path
) -> None:
    onnx_dalr.optimize(model, calib=tiny.rows(60), rank=4, save_stats=tmp_path / "stats.npz")
    optimize(model, heard, stats=tmp_path / "stats.npz", rank=4)
    assert not {"capturing", "probing"} & {*heard.expected, *heard.phases}


def test_every_stage_has_a_total_that_is_reached(heard: Heard, model: ModelProto) -> None:
    optimize(model, heard, max_error=0.3, metric=False, calib=tiny.rows(100))
    untold = {"loading", "saving", "measuring latency"}
    assert {name for name, (total, _) in heard.steps.items() if total is None} == untold & heard.steps.keys()
    for name, (total, done) in heard.steps.items():
        assert total is None or done == total, name


def test_where_memory_is_short_every_group_of_layers_is_a_stage(
    heard: Heard, model: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_dalr.learn.learn.memory_limit", lambda: 1)
    optimize(model, heard, rank=4)
    parts = [f"({number}/3)" for number in (1, 2, 3)]
    assert heard.stages[1:10] == [
        f"{phase} {part}" for part in parts for phase in ("capturing", "probing", "factorizing")
    ]
    assert heard.expected[:3] == ["capturing", "probing", "factorizing"]


def test_models_that_are_scored_are_numbered_and_told_as_details(heard: Heard, model: ModelProto) -> None:
    result = optimize(model, heard, params="60%", calib=tiny.rows(100))
    scored = [name for name in heard.stages if name.startswith("scoring")]
    assert [part_of(name)[1] for name in scored] == list(range(1, result.evaluations + 1))
    assert {part_of(name)[2] for name in scored} == {8}
    assert len([line for line in heard.details if line.startswith("tried")]) == result.evaluations
    assert not [line for line in heard.said if line.startswith("tried")]


def test_speed_is_measured_where_there_is_much_linear_algebra(
    heard: Heard, model: ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_dalr.ahead.announce._WORTH_MEASURING", 0.0)
    for method in ("dalr", "dalr-2017", "svd-bc", "svd"):
        optimize(model, heard, rank=4, method=method)
    assert heard.expected.count("factorizing") == 4


def test_a_run_that_cannot_begin_says_why_and_no_time(heard: Heard, model: ModelProto) -> None:
    with pytest.raises(InputError):
        optimize(model, heard, calib=np.full((30, 16), np.nan, np.float32))
    assert not [line for line in heard.said if line.startswith("this takes")]
