"""The blocks of README.md and docs/ run as they stand there, on stand-ins for what a reader would have.

A block that cannot run here says why in a line before it: <!-- not run: why -->.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from onnx import helper, numpy_helper

import onnx_dalr
from onnx_dalr.request.budgets.config import schema
from onnx_dalr.request.table import COMMANDS, of_command
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
COPIES = 20  # of every pixel: makes in.onnx larger than the 12 MB of an example
PER_CLASS = 16
RUN = ("bash", "python")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the blocks are for bash, which is not here")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Where it stands.
        line: Of its fence.
        language: What the fence says it is.
        text: What is between the fences.
        not_run: Why it cannot run here, if it says so.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    at, why = 0, None
    while at < len(lines):
        reason = NOT_RUN.fullmatch(lines[at])
        if reason:
            why = reason[1]
        elif lines[at].startswith("```"):
            end = lines.index("```", at + 1)
            yield Block(page, at + 1, lines[at][3:], "\n".join(lines[at + 1 : end]), why)
            at, why = end, None
        elif lines[at].strip() and not lines[at].startswith("<!--"):
            why = None
        at += 1


BLOCKS = [block for page in PAGES for block in blocks(page)]


def find(page: str, language: str, word: str = "") -> Block:
    (block,) = [b for b in BLOCKS if b.page.name == page and b.language == language and word in b.text]
    return block


PLAN = find("plan.md", "bash")  # runs in the test of what it writes
DEMO = find("README.md", "bash", "digits-small.onnx").text.rpartition("&& .venv/")[2]  # runs with its report


def stand_in(path: Path) -> None:
    """The demo net behind a detour through a wide layer and back, which changes nothing; its last layer is the head."""
    model = onnx.load(REPOSITORY / "models" / "digits-target.onnx")
    graph, pixels = model.graph, 256
    copies = np.tile(np.eye(pixels, dtype=np.float32), (COPIES, 1)) / np.float32(np.sqrt(COPIES))
    tensors = {"wide.W": copies, "narrow.W": copies.T.copy(), "rows": np.array([-1, pixels])}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 16, 16]), "images"))
    for node in graph.node:
        node.input[:] = ["again" if name == "image" else name for name in node.input]
        node.name = "head" if node.name == "fc8" else node.name
    detour = (
        helper.make_node("Reshape", ["image", "rows"], ["flat"]),
        helper.make_node("Gemm", ["flat", "wide.W"], ["wide.out"], "wide", transB=1),
        helper.make_node("Gemm", ["wide.out", "narrow.W"], ["narrow.out"], "narrow", transB=1),
        helper.make_node("Reshape", ["narrow.out", "images"], ["again"]),
    )
    nodes = [*detour, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: in.onnx, images/, samples.npy, out/, models/, and what a first run makes."""
    folder = tmp_path_factory.mktemp("docs")
    stand_in(folder / "in.onnx")
    for images in sorted((REPOSITORY / "models" / "digits" / "calib").iterdir()):
        kept = folder / "images" / images.name
        kept.mkdir(parents=True)
        for file in sorted(images.iterdir())[:PER_CLASS]:
            shutil.copy(file, kept)
    samples = np.stack(list(pixels(folder / "images")))
    np.save(folder / "samples.npy", samples)
    (folder / "out").mkdir()
    shutil.copytree(REPOSITORY / "models", folder / "models")
    small = onnx_dalr.optimize(folder / "models" / "digits-target.onnx", calib=samples, rank=3, holdout=0, tune="off")
    onnx.save(small.model, folder / "digits-small.onnx")
    (folder / "bin").mkdir()
    command = folder / "bin" / "onnx-dalr"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m onnx_dalr "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def pixels(images: Path) -> Iterator[np.ndarray[Any, Any]]:
    """The samples as arrays of the model's input, without the axis of samples."""
    from PIL import Image

    for file in sorted(images.rglob("*.png")):
        yield np.asarray(Image.open(file), np.float32)[None] / 255


@pytest.fixture
def workplace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, with `onnx-dalr` on the path."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    return tmp_path


def shell(command: str) -> str:
    """Runs a line as pasted; what it printed."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run(block: Block) -> None:
    """Runs a block in the current folder. Lines of one that write the same model are alternatives."""
    if block.language == "python":
        feeds = [{"image": sample[None]} for sample in np.load("samples.npy")]
        given = {"model_proto": onnx.load("in.onnx"), "model": onnx.load("in.onnx"), "reader": feeds}
        exec(compile("\n" * block.line + block.text, str(block.page), "exec"), given)
        return
    for line in block.text.splitlines():
        for word in shlex.split(line, comments=True)[2:]:
            if word in ("out.onnx", "small.onnx") and line.split()[1] in ("optimize", "apply"):
                Path(word).unlink(missing_ok=True)
        shell(line)


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.language in RUN and b != PLAN and b.text != DEMO.removeprefix("bin/")],
    ids=lambda block: block.place,
)
@pytest.mark.usefixtures("workplace")
def test_a_block_runs_as_pasted(block: Block) -> None:
    if block.not_run:
        pytest.skip(f"not run: {block.not_run}")
    run(block)


def test_what_is_not_run_is_known_here() -> None:
    assert [(b.page.name, b.not_run) for b in BLOCKS if b.language in RUN and b.not_run] == [
        ("README.md", "CI does, in a virtual environment of its own"),
        ("README.md", "CI does, in a virtual environment of its own"),
        ("CONTRIBUTING.md", "sets up a virtual environment"),
        ("CONTRIBUTING.md", "builds the package, which CI does"),
        ("benchmarks.md", "hours, on models and data that are not in the repository"),
        ("cluster.md", "it starts processes for a minute of work"),
        ("cluster.md", "a cluster of yours is needed"),
        ("cluster.md", "Kubernetes, and an image that holds onnx-dalr, are needed"),
        ("cluster.md", "Slurm is needed"),
        ("conv-speed.md", "minutes of measuring"),
        *[("frameworks.md", "PyTorch is not needed for anything else here")] * 3,
        ("frameworks.md", "in.onnx has no such metadata"),
        ("frameworks.md", "the exporter is not installed here"),
        ("frameworks.md", "no tokenizer is installed here"),
        *[("frameworks.md", "TensorFlow is not installed here")] * 3,
        ("getting-started.md", "sets up a virtual environment"),
        ("lrdkt.md", "ten to thirty minutes, and 1 GB on disk"),
        ("neighbours.md", "minutes, and models that are not in the repository"),
        ("running.md", "makes a model of opset 21, which takes longer than it shows"),
        ("running.md", "wants the Python that ONNX Runtime is installed for"),
        ("security.md", "wants Docker"),
        ("speed.md", "minutes to an hour of measuring"),
        ("tuning.md", "ten minutes are ten minutes"),
        ("tuning.md", "ten minutes are ten minutes; tests/tune/test_any_student.py has it shorter"),
        ("tuning.md", "tests/tune/test_any_student.py does"),
    ]


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "python", "json", "text", "toml", "yaml", "{toctree}"}
    assert not [block.place for block in BLOCKS if block.not_run and block.language not in RUN]


def skeleton(text: str) -> str:
    """A line without its numbers and the width of its columns."""
    return re.sub(r"\s+", " ", re.sub(r"[-−]?\d[\d.,]*(e-\d+)?", "#", text)).strip()


@cache
def printed(command: str, folder: Path) -> list[str]:
    """What a command prints in a wide terminal, line by line, without its numbers."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "PYTHONUTF8": "1"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=folder, env=environment, check=True)
    return [skeleton(line) for line in done.stdout.decode("utf-8").splitlines()]


INSPECT = "bin/onnx-dalr inspect models/digits-target.onnx"


@pytest.mark.parametrize(
    ("page", "word", "command"),
    [
        ("README.md", "digits-small.onnx", DEMO),
        ("README.md", "eligible:", INSPECT),
        ("getting-started.md", "digits-small.onnx", DEMO),
        ("getting-started.md", "opset onnx", INSPECT),
        ("reading-the-report.md", "digits-small.onnx", DEMO),
    ],
)
def test_the_reports_in_the_readme_and_the_pages_are_those_that_are_printed(
    made: Path, page: str, word: str, command: str
) -> None:
    shown = [skeleton(line) for line in find(page, "text", word).text.splitlines() if line.strip()]
    found = printed(command, made)
    assert [line for line in shown if not any(each.startswith(line) for each in found)] == []


def test_the_block_of_plans_runs_and_the_plan_that_is_shown_has_the_fields_that_are_written(workplace: Path) -> None:
    shown = json.loads(find("plan.md", "json").text)
    schema = json.loads((Path(onnx_dalr.__file__).parent / "plan" / "plan.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(shown)
    run(PLAN)
    written = json.loads((workplace / "plan.json").read_text(encoding="utf-8"))
    assert list(shown) == list(written)
    for name in ("schema", "model", "target", "method", "settings"):
        assert shown[name] == written[name], name
    assert [list(entry) for entry in shown["layers"]] == [list(entry) for entry in written["layers"]]
    assert [(entry["layer"], entry["largest_rank"]) for entry in shown["layers"]] == [
        (entry["layer"], entry["largest_rank"]) for entry in written["layers"]
    ]
    assert {tuple(point) for point in shown["curve"]} == {tuple(point) for point in written["curve"]}


def configs() -> list[Block]:
    """What is shown of onnx-dalr.toml and pyproject.toml."""
    return [block for block in BLOCKS if block.language == "toml" and "budgets]]" in block.text]


def test_configs_that_are_shown_are_what_the_schema_takes() -> None:
    assert len(configs()) >= 2
    for block in configs():
        facts = tomllib.loads(block.text)
        Draft202012Validator(schema()).validate(facts.get("tool", {}).get("onnx-dalr", facts))


@pytest.mark.parametrize("block", configs(), ids=lambda block: block.place)
def test_configs_that_are_shown_hold(block: Block, workplace: Path) -> None:
    (workplace / ("pyproject.toml" if "[tool." in block.text else "onnx-dalr.toml")).write_text(block.text, "utf-8")
    assert "FAIL" not in shell("onnx-dalr check")


def test_pipelines_that_are_shown_are_yaml_and_call_what_there_is() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    found = [block for block in BLOCKS if block.language == "yaml"]
    assert len(found) >= 3
    assert all(isinstance(yaml.safe_load(block.text), dict) for block in found)
    called = [line.partition("onnx-dalr ")[2].split() for block in found for line in block.text.splitlines()]
    for command, *words in (words for words in called if words and words[0] in COMMANDS):
        flags = {flag for option in of_command(command).values() for flag in (option.flag, *option.flags)}
        assert {word for word in words if word.startswith("--")} <= flags
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks] == ["onnx-dalr-check"]
    assert f"- id: {hooks[0]['id']}" in find("check.md", "yaml", "repos:").text
    named = ("m.onnx", "a/m.onnx", "m.onnx.data", "m.onnx_data", "onnx-dalr.toml", "sub/pyproject.toml")
    assert [re.search(hooks[0]["files"], name) is not None for name in (*named, "m.onnxx", "xpyproject.toml")] == [
        *[True] * len(named),
        False,
        False,
    ]


def test_what_is_shown_of_a_budget_that_is_not_met_is_what_is_printed(made: Path) -> None:
    shown = find("check.md", "text", "FAIL").text.splitlines()
    command = "bin/onnx-dalr check in.onnx --baseline models/digits-target.onnx --max-growth 2%"
    assert command.removeprefix("bin/") in find_page("check.md")
    assert printed(f"{command} || [ $? = 3 ]", made) == list(map(skeleton, shown))


def find_page(name: str) -> str:
    """The text of a page."""
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in file:
            continue
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_section_of_the_methods_that_is_cited_is_there() -> None:
    page = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", page, re.MULTILINE))
    cited = set(re.findall(r"§(\d+(?:\.\d+)?)", page.partition("\n## ")[0]))
    for file in (path for room in ("onnx_dalr", "tests", "tools") for path in (REPOSITORY / room).rglob("*.py")):
        for numbers in re.findall(r"methods\.md((?:(?:,| and)? §\d+(?:\.\d+)?)+)", file.read_text(encoding="utf-8")):
            cited |= set(re.findall(r"§(\d+(?:\.\d+)?)", numbers))
    assert len(cited) > 5
    assert cited <= sections
