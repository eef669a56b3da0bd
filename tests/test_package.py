"""The package and the image: what is in a wheel and an sdist, and what the Dockerfile makes of them."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import pytest
from check_package import metadata_faults, sdist_faults, wheel_faults

import onnx_dalr
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ABOUT = f"onnx_dalr-{onnx_dalr.__version__}.dist-info"
FILES = {"onnx_dalr/__init__.py", "onnx_dalr/plan/plan.schema.json"}


def metadata(**changed: str) -> str:
    """METADATA as the project file asks for it, but for some fields."""
    fields = {
        "Name": PROJECT["name"],
        "Version": onnx_dalr.__version__,
        "Summary": PROJECT["description"],
        "License-Expression": PROJECT["license"],
        "License-File": "LICENSE",
        "Requires-Python": PROJECT["requires-python"],
        "Description-Content-Type": "text/markdown",
    } | changed
    lines = ["Metadata-Version: 2.4", *(f"{name}: {value}" for name, value in fields.items())]
    lines += [f"Classifier: {each}" for each in PROJECT["classifiers"]]
    lines += [f"Requires-Dist: {each}" for each in PROJECT["dependencies"]]
    lines += [f"Provides-Extra: {each}" for each in PROJECT["optional-dependencies"]]
    return "\n".join(lines) + "\n\n" + (REPOSITORY / "README.md").read_text(encoding="utf-8")


def wheel(path: Path, *more: str, without: str = "", entry: str = "onnx-dalr = onnx_dalr.cli.main:main") -> Path:
    """A wheel of two files, with more or less in it than it should have."""
    inside = {name: "" for name in (*FILES, *more) if name != without}
    inside |= {f"{ABOUT}/{name}": "" for name in ("WHEEL", "RECORD", "licenses/LICENSE")}
    inside |= {f"{ABOUT}/METADATA": metadata(), f"{ABOUT}/entry_points.txt": f"[console_scripts]\n{entry}\n"}
    with zipfile.ZipFile(path, "w") as made:
        for name, text in inside.items():
            made.writestr(name, text)
    return path


def test_a_wheel_that_holds_the_package_is_right(tmp_path: Path) -> None:
    assert wheel_faults(wheel(tmp_path / "a.whl"), FILES) == []


def test_what_a_wheel_lacks_or_has_too_much_is_named(tmp_path: Path) -> None:
    schema = "onnx_dalr/plan/plan.schema.json"
    assert wheel_faults(wheel(tmp_path / "a.whl", without=schema), FILES) == [f"a.whl lacks {schema}"]
    (line,) = wheel_faults(wheel(tmp_path / "b.whl", "onnx_dalr/notes.txt"), FILES)
    assert line == "b.whl has onnx_dalr/notes.txt, which git does not track there"
    assert wheel_faults(wheel(tmp_path / "c.whl", entry=""), FILES) == ["c.whl installs no command onnx-dalr"]


def test_an_sdist_holds_the_repository(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name, text in {"README.md": b"", "PKG-INFO": metadata().encode()}.items():
            entry = tarfile.TarInfo(f"onnx_dalr-1/{name}")
            entry.size = len(text)
            made.addfile(entry, BytesIO(text))
    assert sdist_faults(path, {"README.md"}) == []
    assert sdist_faults(path, {"README.md", "LICENSE"}) == ["a.tar.gz lacks LICENSE"]


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("Version", "9.9", f"version is '9.9', not '{onnx_dalr.__version__}'"),
        ("License-Expression", "MIT", "license is 'MIT', not 'Apache-2.0'"),
        ("Description-Content-Type", "text/plain", "type of the description is 'text/plain', not 'text/markdown'"),
    ],
)
def test_metadata_that_differ_from_the_project_file_are_named(field: str, value: str, fault: str) -> None:
    assert metadata_faults("a.whl", metadata().encode()) == []
    assert metadata_faults("a.whl", metadata(**{field: value}).encode()) == [f"a.whl: {fault}"]


# The image. There is no Docker to build it here: what can be read off its recipe is.


@pytest.fixture(scope="module")
def steps() -> list[list[str]]:
    """The instructions of the Dockerfile, as words."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split() for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()]


def test_what_the_image_copies_is_there_and_reaches_the_build(steps: list[list[str]]) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {name.rstrip("/") for step in steps if step[0] == "COPY" for name in step[1:-1] if "--from" not in step[1]}
    assert copied == let_through
    assert all((REPOSITORY / name).exists() for name in copied)
    assert "*" in ignored
    assert not any(fnmatch("digits-small.onnx", name) for name in let_through)


def test_the_image_builds_with_all_that_the_wheel_is_made_of(steps: list[list[str]]) -> None:
    (copied,) = [set(step[1:-1]) for step in steps if step[0] == "COPY" and "LICENSE" in step]
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} == copied


def test_the_image_is_the_command_and_its_user_is_not_root(steps: list[list[str]]) -> None:
    last = {step[0]: step[1:] for step in steps}
    assert last["ENTRYPOINT"] == ['["onnx-dalr"]']
    assert "onnx-dalr" in PROJECT["scripts"]
    assert int(last["USER"][0]) > 0
    order = [step[0] for step in steps]
    assert order.index("USER") > max(at for at, name in enumerate(order) if name in ("RUN", "COPY"))


def test_every_stage_starts_from_one_slim_python_that_we_support(steps: list[list[str]]) -> None:
    (base,) = {step[1] for step in steps if step[0] == "FROM"}
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
