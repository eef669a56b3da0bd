"""`check --update`: today's sizes and a margin, written into the config as somebody else has written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from onnx_dalr.commands.check import check
from onnx_dalr.commands.checking.update import update, written
from onnx_dalr.errors import InputError
from onnx_dalr.units import parse_amount
from tests.cli import tiny


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    onnx.save(tiny.mlp(), "models/a.onnx")  # 13,784 bytes, 3,364 parameters, 3,264 multiply-adds
    onnx.save(tiny.mlp((16, 64, 48, 4)), "models/b.onnx")
    return tmp_path


def updated(*models: str, margin: str | None = "0%", config: str | None = None) -> list[str]:
    done = update({"models": [Path(model) for model in models], "config": config}, margin)
    return [str(change) for change in done.changes]


def config(text: str, name: str = "onnx-dalr.toml") -> Path:
    Path(name).write_bytes(text.encode())
    return Path(name)


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (0, "B", "0B"),
        (999, "B", "999B"),
        (1000, "B", "1kB"),
        (1001, "B", "1.001kB"),
        (12_345, "B", "12.35kB"),
        (20_541_460, "B", "20.55MB"),
        (999_999, "", "1M"),
        (1_000_999, "", "1.001M"),
        (3_000_000_001, "B", "3.001GB"),
        (123_456, "", "123.5k"),
    ],
)
def test_amounts_are_written_rounded_up_to_a_few_digits(amount: int, unit: str, text: str) -> None:
    assert written(amount, unit) == text


def test_what_is_written_is_never_less_than_what_there_is() -> None:
    for amount in (*range(1, 3000), *range(1_000_000, 1_002_000, 7), *range(99_990, 100_010), 2**31 - 1, 2**31):
        assert amount <= parse_amount(written(amount, "B"), "", unit="B").of(0) <= amount * 1.001 + 1


def test_limits_change_and_comments_order_and_the_rest_stay() -> None:
    text = """# ours
title = 1

[[budgets]]  # first
max-size = "1MB"  # a megabyte
# between
models = [ "models/*.onnx" ]
baseline = "models/a.onnx"
max-growth = "50%"
max-params = 5_000 # a number

[other]
x = 1
"""
    file = config(
        f"[tool.x]\ny = 1\n{text.replace('[[b', '[[tool.onnx-dalr.b').replace('title = 1', '')}", "pyproject.toml"
    )
    before = file.read_text(encoding="utf-8")
    assert updated() == ["models/*.onnx: max-size 1MB → 17.95kB", "models/*.onnx: max-params 5000 → 4404"]
    assert file.read_text(encoding="utf-8") == before.replace('"1MB"', '"17.95kB"').replace("5_000", "4404")
    assert check().passed
    assert updated() == []


def test_a_margin_is_added() -> None:
    config('[[budgets]]\nmodels = "models/a.onnx"\nmax-params = "1M"\nmax-macs = 1\n')
    assert updated(margin=None) == ["models/a.onnx: max-params 1M → 3.432k", "models/a.onnx: max-macs 1 → 3330"]
    assert updated(margin="100%") == [
        "models/a.onnx: max-params 3.432k → 6.728k",
        "models/a.onnx: max-macs 3330 → 6528",
    ]


def test_shares_growth_and_what_is_run_stay() -> None:
    text = '[[budgets]]\nmodels = "models/b.onnx"\nbaseline = "models/a.onnx"\nmax-size = "80%"\nmax-growth = "2%"\n'
    file = config(text)
    assert updated() == []
    assert file.read_text() == text


def test_without_a_config_one_is_made_for_the_models_that_are_named() -> None:
    assert [line.partition(": ")[0] for line in updated("models/a.onnx", "models/b.onnx")] == ["models/a.onnx"] * 3 + [
        "models/b.onnx"
    ] * 3
    text = Path("onnx-dalr.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert 'models = "models/a.onnx"\nmax-size = "13.79kB"\nmax-params = "3.364k"\nmax-macs = "3.264k"\n\n[[' in text
    assert len(check().lines) == 6
    assert check().passed


def test_a_model_without_a_budget_gets_one_and_the_others_stay() -> None:
    text = '[[budgets]]\nmodels = "models/a.onnx"\nmax-size = "1MB"  # much\n\n'
    file = config(text.replace("\n", "\r\n"))
    assert [line.partition(" ")[0] for line in updated("models/b.onnx")] == ["models/b.onnx:"] * 3
    new = file.read_bytes().decode()
    assert new.startswith(text.replace("\n", "\r\n"))
    assert "\n" not in new.replace("\r\n", "")
    assert check().passed


def test_a_table_that_others_share_is_added_to_in_its_place() -> None:
    text = '[[tool.onnx-dalr.budgets]]\nmodels = "models/a.onnx"\nmax-size = "1MB"\n\n[tool.z]\nq = 1\n'
    file = config(text, "pyproject.toml")
    updated("models/b.onnx")
    new = file.read_text(encoding="utf-8")
    assert new.endswith("\n\n[tool.z]\nq = 1\n")
    assert new.count("[[tool.onnx-dalr.budgets]]") == 2
    assert check().passed


def test_a_new_table_stands_apart_from_what_is_before_it() -> None:
    assert len(updated("models/a.onnx")) == 3
    assert len(updated("models/b.onnx")) == 3
    parts = Path("onnx-dalr.toml").read_text(encoding="utf-8").split("\n\n")
    assert [part.splitlines()[0] for part in parts[1:]] == ["[[budgets]]", "[[budgets]]"]
    config("[[budgets]]\r\nmodels = 'models/a.onnx'\r\nmax-size = 1\r\n# the end")
    updated("models/b.onnx")
    assert b"# the end\r\n\r\n[[budgets]]\r\n" in Path("onnx-dalr.toml").read_bytes()


def test_a_list_in_one_line_stays_one() -> None:
    config('budgets = [{models = "models/a.onnx", max-size = "1MB"}]\n')
    assert updated("models/b.onnx")[-1] == "models/b.onnx: max-macs 4.288k"
    assert Path("onnx-dalr.toml").read_text(encoding="utf-8").count("\n") == 1
    assert {line.model for line in check().lines} == {"models/a.onnx", "models/b.onnx"}


def test_names_that_look_like_globs_are_names() -> None:
    Path("models/a.onnx").rename("models/a[1].onnx")
    updated("models/a[1].onnx")
    assert [line.model for line in check().lines] == [str(Path("models/a[1].onnx"))] * 3


def test_multiply_adds_that_are_not_known_get_no_limit() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }'
    )
    onnx.save(proto, "open.onnx")
    assert [line.split()[1] for line in updated("open.onnx")] == ["max-size"]


@pytest.mark.parametrize(
    ("given", "margin", "message"),
    [
        ({}, None, "nothing to write budgets for"),
        ({"max_size": "1MB"}, None, "--max-size means nothing beside --update"),
        ({"config": "pyproject.toml", "models": ["models/a.onnx"]}, None, "no such config: pyproject.toml"),
        ({"models": ["models/a.onnx"]}, "20kB", "--margin 20kB is no share"),
        ({"models": ["models/a.onnx"]}, "much", "--margin 'much' is not an amount"),
        ({"models": ["none.onnx"]}, None, "no such model"),
    ],
)
def test_what_cannot_be_written_is_said(given: dict[str, Any], margin: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        update({"models": [], "config": None} | given, margin)
    assert not Path("onnx-dalr.toml").exists()
