"""`check`, the CI gate: one line per budget, passed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onnx_dalr.commands.check import check
from onnx_dalr.errors import InputError
from onnx_dalr.results.check import CheckResult
from tests.graph.helpers import model


def written(path: Path, width: int = 100) -> Path:
    """A model of 10·width parameters."""
    proto = model(f"g (float[N,{width}] x) => (float[N,10] y) {{ y = MatMul(x, W) }}", W=(width, 10))
    path.write_bytes(proto.SerializeToString())
    return path


def size(path: Path) -> int:
    return path.stat().st_size


# One budget


def test_a_size_is_bytes_on_disk(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    (line,) = check(path, max_size=size(path)).lines
    assert (line.model, line.budget, line.limit, line.value) == (str(path), "size", size(path), size(path))
    assert (line.passed, line.left) == (True, 0)


def test_a_byte_too_many_is_over(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    result = check(path, max_size=size(path) - 1)
    assert not result.passed
    assert result.lines[0].left == -1


@pytest.mark.parametrize(
    ("text", "limit"),
    [("25MB", 25_000_000), ("0.5 kB", 500), ("4096", 4096), ("1GB", 10**9), (4096, 4096), ("1e4", 10_000)],
)
def test_sizes_are_written_in_si_units(tmp_path: Path, text: str | int, limit: int) -> None:
    assert check(written(tmp_path / "m.onnx"), max_size=text).lines[0].limit == limit


@pytest.mark.parametrize(("text", "limit"), [("6M", 6_000_000), ("999", 999), ("1k", 1000), (1000, 1000)])
def test_params_are_floating_constants(tmp_path: Path, text: str | int, limit: int) -> None:
    (line,) = check(written(tmp_path / "m.onnx"), max_params=text).lines
    assert (line.budget, line.value, line.limit, line.passed) == ("params", 1000, limit, limit >= 1000)


# Against a baseline


def test_a_share_is_of_the_baseline(tmp_path: Path) -> None:
    path, base = written(tmp_path / "m.onnx", 50), written(tmp_path / "base.onnx", 100)
    result = check(path, baseline=base, max_size="80%", max_params="40%", max_growth="1%")
    assert [(line.budget, line.limit, line.passed) for line in result.lines] == [
        ("size", int(0.8 * size(base)), True),
        ("params", 400, False),
        ("growth", int(0.01 * size(base)), True),
    ]
    assert not result.passed


def test_a_baseline_alone_allows_no_growth(tmp_path: Path) -> None:
    base, larger = written(tmp_path / "base.onnx", 100), written(tmp_path / "larger.onnx", 101)
    assert check(base, baseline=base).passed
    (line,) = check(larger, baseline=base).lines
    assert (line.budget, line.limit, line.value, line.passed) == ("growth", 0, size(larger) - size(base), False)


@pytest.mark.parametrize("growth", ["2%", "100B", "0.1kB", 100])
def test_growth_is_a_share_or_bytes(tmp_path: Path, growth: str | int) -> None:
    base, larger = written(tmp_path / "base.onnx", 100), written(tmp_path / "larger.onnx", 102)
    limit = int(0.02 * size(base)) if growth == "2%" else 100
    (line,) = check(larger, baseline=base, max_growth=growth).lines
    assert (line.limit, line.passed) == (limit, size(larger) - size(base) <= limit)


@pytest.mark.parametrize("growth", ["0", "0%", "0.0", 0, 0.0, "0 %", "0.00%", "0kB", "0B"])
def test_growth_may_be_zero(tmp_path: Path, growth: str | float) -> None:
    base = written(tmp_path / "base.onnx")
    assert check(base, baseline=base, max_growth=growth).lines[0].limit == 0


# Many


def test_every_budget_of_every_model_is_a_line(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.onnx", 50), written(tmp_path / "b.onnx", 200)]
    result = check(paths, max_size="5kB", max_params="1k")
    assert [(Path(line.model).name, line.budget, line.passed) for line in result.lines] == [
        ("a.onnx", "size", True),
        ("a.onnx", "params", True),
        ("b.onnx", "size", False),
        ("b.onnx", "params", False),
    ]
    assert not result.passed
    assert check(paths[:1], max_size="5kB", max_params="1k").passed


# What is told


def test_what_was_allowed_is_repeated_as_it_was_given(tmp_path: Path) -> None:
    base = written(tmp_path / "base.onnx", 100)
    lines = check(base, baseline=base, max_size="80%", max_growth="2%", max_params="2k").lines
    assert [line.allowed for line in lines] == [
        "--max-size 80% of the baseline",
        "--max-params 2k",
        "--max-growth 2% of the baseline",
    ]
    assert [str(line.where) for line in lines] == ["--max-size", "--max-params", "--max-growth"]


def test_json_has_the_same_facts(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    facts = json.loads(check(path, max_size="25MB", max_params="10").to_json())
    assert (facts["schema"], facts["passed"], facts["notes"]) == (2, False, [])
    within, over = facts["lines"]
    assert within == {
        "model": str(path),
        "budget": "size",
        "unit": "bytes",
        "limit": 25_000_000,
        "value": size(path),
        "allowed": "--max-size 25MB",
        "where": {"key": "--max-size", "file": None, "line": None, "budget": None},
        "against": None,
        "low": None,
        "high": None,
        "n": None,
        "notes": [],
        "contributors": [],
        "by_lower_end": False,
        "left": 25_000_000 - size(path),
        "passed": True,
    }
    assert [over[name] for name in ("budget", "limit", "value", "left", "passed")] == ["params", 10, 1000, -990, False]
    assert over["contributors"] == [{"name": "W", "what": "MatMul", "before": None, "after": 1000}]


def test_no_line_fails_nothing() -> None:
    assert CheckResult(()).passed


# Errors


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({}, "nothing to check", "--max-size"),
        ({"max_growth": "2%"}, "--max-growth needs something to grow from", "--baseline"),
        ({"max_size": "80%"}, "--max-size 80% is a share of a baseline, and there is none", "--baseline"),
        ({"max_params": "80%"}, "--max-params 80% is a share of a baseline", "--baseline"),
        ({"max_size": "big"}, "--max-size 'big' is not an amount", "25MB"),
        ({"max_size": "-1MB"}, "--max-size '-1MB' is not an amount", "25MB"),
        ({"max_size": "0"}, "--max-size '0' must be more than zero", "25MB"),
        ({"max_size": ""}, "--max-size '' is not an amount", "25MB"),
        ({"max_params": "6MB"}, "--max-params '6MB' is not an amount", "6M"),
        ({"max_params": "nan"}, "--max-params 'nan' is not an amount", "6M"),
    ],
    ids=str,
)
def test_a_budget_that_makes_no_sense(tmp_path: Path, options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        check(written(tmp_path / "m.onnx"), **options)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_no_model_is_nothing_to_check() -> None:
    with pytest.raises(InputError, match="nothing to check"):
        check([], max_size="1MB")


@pytest.mark.parametrize("which", ["model", "baseline"])
def test_a_file_that_is_no_model(tmp_path: Path, which: str) -> None:
    good, bad = written(tmp_path / "good.onnx"), tmp_path / "bad.onnx"
    bad.write_text("no model")
    with pytest.raises(InputError, match=r"bad\.onnx is not an ONNX model"):
        check(bad if which == "model" else good, baseline=good if which == "model" else bad)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        check([written(tmp_path / "m.onnx"), tmp_path / "no.onnx"], max_size="1MB")
