"""The config of `check`: where it is found, what is read of it, and what is said of what is wrong with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from onnx_dalr.errors import InputError
from onnx_dalr.request.budgets.asked import asked
from onnx_dalr.request.budgets.budget import IN_CONFIG, Budget
from onnx_dalr.request.budgets.config import find, load, schema
from onnx_dalr.request.budgets.lines import lines_of
from onnx_dalr.request.budgets.source import OPTIONS, key_of
from onnx_dalr.units import Amount


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two models by name: nothing here opens them."""
    monkeypatch.chdir(tmp_path)
    for name in ("models/a.onnx", "models/deep/b.onnx", "models/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


def config(text: str, name: str = "onnx-dalr.toml") -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def budget(rest: str, models: str = '"models/a.onnx"') -> Budget:
    """The one budget of a config."""
    (found,) = load(config(f"[[budgets]]\nmodels = {models}\n{rest}")).budgets
    return found


def complaint(text: str, name: str = "onnx-dalr.toml") -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        asked((), config(text, name), {})
    return caught.value.message, caught.value.hint


def models(*given: str, file: str | None = None) -> list[list[str]]:
    """The models of every budget that is asked about."""
    return [[path.as_posix() for path in one.models] for one in asked(list(given), file, {})]


# The schema


def test_the_schema_is_one_and_has_what_the_table_of_options_has() -> None:
    Draft202012Validator.check_schema(schema())
    properties = schema()["$defs"]["budget"]["properties"]
    assert set(properties) == {"models", *(key_of(OPTIONS[name]) for name in IN_CONFIG)}
    for name in IN_CONFIG:
        listed = properties[key_of(OPTIONS[name])].get("enum")
        assert listed is None or set(listed) == set(OPTIONS[name].known_words()), name
    assert all(found["description"] for found in properties.values())


def test_what_a_description_shows_is_what_the_schema_takes() -> None:
    shown = 0
    for key, found in schema()["$defs"]["budget"]["properties"].items():
        for value in re.findall(rf"\b{key} = (\"[^\"]*\"|\[[^\]]*\]|\d+(?:\.\d+)?)", found["description"]):
            models = "" if key == "models" else 'models = "a"'
            facts = tomllib.loads(f"[[budgets]]\n{models}\n{key} = {value}")
            Draft202012Validator(schema()).validate(facts)
            shown += 1
    assert shown > 15


# What is read


def test_limits_are_read_as_options_are() -> None:
    found = budget('max-size = "25MB"\nmax-params = 6_000_000\nmax-growth = "2%"\nbaseline = "base.onnx"')
    assert [(limit.budget, limit.amount) for limit in found.limits] == [
        ("size", Amount(25_000_000)),
        ("params", Amount(6_000_000)),
        ("growth", Amount(0.02, relative=True)),
    ]
    assert [limit.said for limit in found.limits] == ['max-size = "25MB"', "max-params = 6000000", 'max-growth = "2%"']
    assert [str(limit.where) for limit in found.limits] == [
        f"{key} in onnx-dalr.toml:{line}" for key, line in (("max-size", 3), ("max-params", 4), ("max-growth", 5))
    ]


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        ('max-drop = "1%"', 0.01),
        ("max-drop = 0.01", 0.01),
        ('max-drop = "0%"', 0.0),
        ("max-error = 0", 0.0),
        ('max-error = "2%"', 0.02),
        ("max-latency-ratio = 1.1", 1.1),
        ('max-latency-ratio = "110%"', 1.1),
        ("max-latency-ratio = 1", 1.0),
    ],
)
def test_what_models_are_run_for_is_read_too(line: str, limit: float) -> None:
    (found,) = budget(f'{line}\nbaseline = "base.onnx"\ndata = "d.npz"').limits
    assert found.amount == pytest.approx(limit)


def test_the_reference_is_the_baseline_where_nothing_else_is_given() -> None:
    lines = 'max-drop = "1%"\ndata = "d.npz"\nbaseline = "base.onnx"'
    assert budget(lines).reference == Path("base.onnx")
    assert budget(f'{lines}\nreference = "orig.onnx"').reference == Path("orig.onnx")


def test_how_samples_are_read_is_what_compare_takes() -> None:
    lines = """
        max-error = 0.1
        reference = 'sub\\orig.onnx'
        data = "images"
        labels = "labels.npy"
        resize = "224x192"
        crop = [200, 180]
        mean = [0.5, 0.5, 0.5]
        std = ".2,.2,.2"
        scale = "1/255"
        preprocess = "code/prep.py:prepare"
        score = "code/score.py:f1"
        ops-library = "lib/ops.so"
        output = "logits"
        batch-size = 8
    """
    config(f'[[budgets]]\nmodels = "*.onnx"\n{lines}', "ci/onnx-dalr.toml")
    (found,) = load("ci/onnx-dalr.toml").budgets
    assert found.reference == Path("ci/sub/orig.onnx")
    assert found.on_samples == {
        "data": Path("ci/images"),
        "labels": Path("ci/labels.npy"),
        "resize": (224, 192),
        "crop": (200, 180),
        "mean": (0.5, 0.5, 0.5),
        "std": [0.2, 0.2, 0.2],
        "scale": 1 / 255,
        "preprocess": f"{Path('ci/code/prep.py')}:prepare",
        "score": f"{Path('ci/code/score.py')}:f1",
        "ops_library": [Path("ci/lib/ops.so")],
        "outputs": ["logits"],
        "batch_size": 8,
    }


# Which models


LIMIT = 'max-size = "1MB"\n'


def test_globs_are_relative_to_the_config_and_two_stars_are_any_folders() -> None:
    config(f'[[budgets]]\nmodels = "models/**/*.onnx"\n{LIMIT}')
    assert models() == [["models/a.onnx", "models/deep/b.onnx"]]
    config(f'[[budgets]]\nmodels = ["deep/*.onnx", "*.onnx", "a.onnx"]\n{LIMIT}', "models/onnx-dalr.toml")
    assert models(file="models/onnx-dalr.toml") == [["models/deep/b.onnx", "models/a.onnx"]]


def test_both_slashes_part_folders() -> None:
    config(f"[[budgets]]\nmodels = 'models\\**\\*.onnx'\n{LIMIT}")
    assert models() == [["models/a.onnx", "models/deep/b.onnx"]]


def test_a_glob_with_an_exclamation_mark_takes_models_out_again() -> None:
    config(f'[[budgets]]\nmodels = ["models/**/*.onnx", "!models/deep/*"]\n{LIMIT}')
    assert models() == [["models/a.onnx"]]
    message, _ = complaint(f'[[budgets]]\nmodels = ["models/*.onnx", "!models/*"]\n{LIMIT}')
    assert message.endswith("models leaves no model")


def test_two_budgets_of_one_model_both_apply() -> None:
    config(f'[[budgets]]\nmodels = "models/**"\n{LIMIT}'.replace("**", "*.onnx") * 2)
    assert models() == [["models/a.onnx"], ["models/a.onnx"]]


def test_models_that_are_named_have_the_budgets_that_match_them(monkeypatch: pytest.MonkeyPatch) -> None:
    config(f'[[budgets]]\nmodels = "models/*.onnx"\n{LIMIT}[[budgets]]\nmodels = "models/**/*.onnx"\n{LIMIT}')
    assert models("models/deep/b.onnx") == [["models/deep/b.onnx"]]
    assert models("models/a.onnx", "models/deep/b.onnx") == [["models/a.onnx"], ["models/a.onnx", "models/deep/b.onnx"]]
    monkeypatch.chdir("models/deep")
    assert models("../a.onnx") == [["../a.onnx"], ["../a.onnx"]]


def test_a_model_without_a_budget_is_no_success() -> None:
    config(f'[[budgets]]\nmodels = "models/a.onnx"\n{LIMIT}')
    with pytest.raises(InputError, match=r"no budget of onnx-dalr.toml is for models.deep.b\.onnx"):
        models("models/a.onnx", "models/deep/b.onnx")
    with pytest.raises(InputError, match=r"no such model: models.c\.onnx"):
        models("models/c.onnx")


def test_a_glob_that_a_shell_has_left_is_matched() -> None:
    found = asked("models/*.onnx", None, {"max_size": "1MB"})
    assert [one.models for one in found] == [(Path("models/a.onnx"),)]
    with pytest.raises(InputError, match="matches nothing"):
        asked("modles/*.onnx", None, {"max_size": "1MB"})


# Where it is


def test_the_nearest_config_is_found_from_below(monkeypatch: pytest.MonkeyPatch) -> None:
    config("[tool.other]", "models/pyproject.toml")
    config(f'[[tool.onnx-dalr.budgets]]\nmodels = "models/a.onnx"\n{LIMIT}', "pyproject.toml")
    monkeypatch.chdir("models/deep")
    assert find(Path()) == Path("../../pyproject.toml")
    assert models() == [["../a.onnx"]]
    config("", "onnx-dalr.toml")
    assert find(Path()) == Path("onnx-dalr.toml")


def test_two_configs_in_one_folder_are_refused() -> None:
    config(LIMIT)
    config("[tool.onnx-dalr]", "pyproject.toml")
    with pytest.raises(InputError, match=r"both onnx-dalr\.toml and pyproject\.toml have budgets"):
        find(Path())


def test_options_are_alone_or_not_at_all(folder: Path) -> None:
    config("broken [", "onnx-dalr.toml")
    assert asked("models/a.onnx", None, {"max_size": "1MB"})[0].budget.source.file is None
    with pytest.raises(InputError, match="--config x means nothing beside --max-size"):
        asked("models/a.onnx", "x", {"max_size": "1MB"})
    assert folder.is_dir()


# What is wrong


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('max-sise = "2MB"', "onnx-dalr.toml:3: max-sise is not known", "did you mean max-size?"),
        ('max_size = "2MB"', "onnx-dalr.toml:3: max_size is not known", "did you mean max-size?"),
        ('max-size = "1MB"\nbase-line = "x"', "onnx-dalr.toml:4: base-line is not known", "did you mean baseline?"),
        ('max-size = "1MB"\nzzz = 1', "onnx-dalr.toml:4: zzz is not known", "there are models, max-size, "),
        ("max-size = true", "onnx-dalr.toml:3: max-size: true is no value it can have", "Bytes on disk, "),
        ("max-size = inf", "onnx-dalr.toml:3: max-size 'inf' is not an amount", "write 25MB or 40%"),
        ("max-size = 0", "onnx-dalr.toml:3: max-size '0.0' must be more than zero", "write 25MB or 40%"),
        ('max-size = "lots"', "onnx-dalr.toml:3: max-size 'lots' is not an amount", "write 25MB or 40%"),
        ('max-size = ""', "onnx-dalr.toml:3: max-size: is empty", "Bytes on disk, "),
        ('device = "gpu"\nmax-size = 1', 'onnx-dalr.toml:3: device: "gpu" is no value', "auto, cpu or cuda."),
        ('max-size = "80%"', 'onnx-dalr.toml:3: max-size = "80%" is a share of a baseline', "add baseline = "),
        ('max-growth = "2%"', "onnx-dalr.toml:3: max-growth needs something to grow from", "add baseline = "),
        ('max-drop = "1%"\ndata = "d"', "onnx-dalr.toml:3: max-drop needs a model", 'add reference = "original.onnx"'),
        ('max-error = 0.1\nbaseline = "b"', "onnx-dalr.toml:3: max-error needs samples", 'add data = "PATH"'),
        ('max-drop = "1"\nbaseline = "b"\ndata = "d"', "onnx-dalr.toml:3: max-drop '1' lacks its unit", "max-drop 1%"),
        ("max-latency-ratio = 0", "onnx-dalr.toml:3: max-latency-ratio 0 is not a ratio", "max-latency-ratio 1.1"),
        ('baseline = "b"', "onnx-dalr.toml:1: nothing to check: there is no limit", "give max-size"),
        ("", "onnx-dalr.toml:1: nothing to check: there is no limit", "give max-size"),
        ('max-size = 1\ndata = "d"', "onnx-dalr.toml:4: data means nothing here", "or leave it out"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_way_out(text: str, message: str, hint: str) -> None:
    said = complaint(f'[[budgets]]\nmodels = "models/a.onnx"\n{text}\n')
    assert said[0].startswith(message)
    assert hint in said[1]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[[budget]]\nmodels = "a"', "budget is not known", "did you mean budgets?"),
        ('max-size = "1MB"', "max-size is in no budget", "below a line [[budgets]]"),
        ("", "budgets is missing", "A table [[budgets]] for each"),
        ("budgets = []", "budgets: is empty", "A table [[budgets]] for each"),
        ("[budgets]\nmodels = 'a'", "budgets: ", "A table [[budgets]] for each"),
        ("budgets = [{max-size = 1}]", "budgets[0]: models is missing", "models is a glob"),
        (
            '[[budgets]]\nmodels = ["models/*.onxx"]\nmax-size = 1',
            "2: models 'models/*.onxx' matches nothing",
            "a.onnx",
        ),
        ("[[budgets]", "onnx-dalr.toml is not TOML: ", "texts are in quotes"),
    ],
)
def test_what_is_no_list_of_budgets_is_refused(text: str, message: str, hint: str) -> None:
    said = complaint(text)
    assert message in said[0]
    assert hint in said[1]


@pytest.mark.parametrize("name", ["onnx_dalr", "onnxdalr"])
def test_a_misspelt_table_of_a_shared_file_is_named(name: str) -> None:
    config(f'[tool.{name}]\nx = "y"', "pyproject.toml")
    with pytest.raises(InputError) as caught:
        find(Path())
    assert caught.value.message == f"pyproject.toml: [tool.{name}] is not known"
    assert caught.value.hint == "did you mean [tool.onnx-dalr]?"


def test_a_config_that_is_not_there_or_no_text() -> None:
    with pytest.raises(InputError, match=r"no such config: none\.toml"):
        asked((), "none.toml", {})
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="it is no UTF-8 text"):
        asked((), "bytes.toml", {})
    message, hint = complaint("[project]", "pyproject.toml")
    assert message == "pyproject.toml has no [tool.onnx-dalr]"
    assert "[[tool.onnx-dalr.budgets]]" in hint


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            '[[budgets]]\nmodels = "a"\n\n[[budgets]]\n# max-size = 1\nmax-size = 2',
            [{"": 1, "models": 2}, {"": 4, "max-size": 6}],
        ),
        ('[[tool.onnx-dalr.budgets]]\n"max-size" = 1\n[tool.x]\nmax-size = 2', [{"": 1, "max-size": 2}]),
        (
            '[[ tool . "onnx-dalr" . budgets ]] # ours\nmodels = [\n  "a",\n]\nmax-macs=1',
            [{"": 1, "models": 2, "max-macs": 5}],
        ),
        ("budgets = [{models = 'a'}]", []),
    ],
)
def test_lines_are_found_by_their_looks(text: str, lines: list[dict[str, Any]]) -> None:
    assert lines_of(text) == lines
