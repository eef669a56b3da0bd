"""Whether a built wheel and sdist hold what they should, and nothing else.

    python -m build --no-isolation --outdir FOLDER && python tools/check_package.py FOLDER

What should be in them is what git tracks: all of it in the sdist, all of onnx_dalr/ in the wheel.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.metadata import Metadata

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "onnx_dalr"


def tracked(folder: str = ".") -> set[str]:
    """What git tracks below a folder of the repository, by its path from the root."""
    done = subprocess.run(["git", "ls-files", "-z", folder], cwd=REPOSITORY, capture_output=True, check=True)
    return set(done.stdout.decode("utf-8").strip("\0").split("\0"))


def differences(what: str, found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """A line for each file that is missing or foreign."""
    have, want = set(found), set(wanted)
    missing = [f"{what} lacks {name}" for name in sorted(want - have)]
    return missing + [f"{what} has {name}, which git does not track there" for name in sorted(have - want)]


def wheel_faults(path: Path, wanted: set[str]) -> list[str]:
    """What is wrong with a wheel.

    Args:
        path: Of the wheel.
        wanted: The files of the package.
    """
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (about,) = {name.split("/")[0] for name in names if not name.startswith(f"{PACKAGE}/")}
        described = [
            f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        ]
        faults = differences(path.name, names, {*wanted, *described})
        if faults:
            return faults
        if "onnx-dalr = onnx_dalr.cli.main:main" not in wheel.read(f"{about}/entry_points.txt").decode("utf-8"):
            faults.append(f"{path.name} installs no command onnx-dalr")
        return faults + metadata_faults(path.name, wheel.read(f"{about}/METADATA"))


def sdist_faults(path: Path, wanted: set[str]) -> list[str]:
    """What is wrong with an sdist.

    Args:
        path: Of the sdist.
        wanted: The files of the repository.
    """
    with tarfile.open(path) as sdist:
        inside = {name.partition("/")[2]: name for name in sdist.getnames()}
        faults = differences(path.name, inside, {*wanted, "PKG-INFO"})
        described = None if faults else sdist.extractfile(inside["PKG-INFO"])
        return faults + (metadata_faults(path.name, described.read()) if described else [])


def metadata_faults(what: str, text: bytes) -> list[str]:
    """What is wrong with the metadata of a distribution.

    Raises:
        ExceptionGroup: They break the rules for metadata.
    """
    found = Metadata.from_email(text, validate=True)
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "(.+)"', (REPOSITORY / PACKAGE / "_version.py").read_text(encoding="utf-8"))
    assert version is not None
    said = {
        "name": (found.name, project["name"]),
        "version": (str(found.version), version[1]),
        "summary": (found.summary, project["description"]),
        "license": (found.license_expression, project["license"]),
        "Python": (str(found.requires_python), project["requires-python"]),
        "classifiers": (sorted(found.classifiers or ()), sorted(project["classifiers"])),
        "description": (found.description, (REPOSITORY / "README.md").read_text(encoding="utf-8")),
        "type of the description": (found.description_content_type, "text/markdown"),
        "needs": (
            len([need for need in found.requires_dist or () if "extra ==" not in str(need)]),
            len(project["dependencies"]),
        ),
        "extras": (sorted(found.provides_extra or ()), sorted(project["optional-dependencies"])),
    }
    return [f"{what}: {name} is {got!r}, not {want!r}" for name, (got, want) in said.items() if got != want]


def main(folder: Path) -> int:
    """Checks the one wheel and the one sdist in a folder; the number of faults is the exit code, at most 1."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    faults = wheel_faults(wheel, tracked(PACKAGE)) + sdist_faults(sdist, tracked())
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{wheel.name} and {sdist.name} hold what git tracks, and nothing else")
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
