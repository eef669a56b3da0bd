"""A run that was killed goes on from what it left, and makes what an undisturbed one makes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_dalr
from onnx_dalr.choose import decide
from onnx_dalr.choose.scoring import Scoring
from onnx_dalr.errors import InputError
from onnx_dalr.learn import passes
from onnx_dalr.progress import Silent
from onnx_dalr.work_dir import opened_work_dir
from tests.cli import tiny

REPOSITORY = Path(__file__).resolve().parents[2]

DYING = """
import contextlib, os, signal, sys
import onnx_dalr
from onnx_dalr.progress import Silent
from onnx_dalr.work_dir import WorkDir

class Dying(Silent):
    left = int(sys.argv[1])

    def step(self, *_):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    say = detail = step

    @contextlib.contextmanager
    def stage(self, name, total):
        self.step()
        yield self.step

if Dying.left < 0:  # in the middle of a record
    write = WorkDir.write
    def half(self, kind, key, suffix, writer):
        def writing(path):
            writer(path)
            Dying.left += 1
            if Dying.left == 0:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        write(self, kind, key, suffix, writing)
    WorkDir.write = half

onnx_dalr.optimize("model.onnx", "small.onnx", calib="calib.npz", params="50%", tune="off", refit="off",
                   device="cpu", work_dir="work", progress=Dying())
"""


class Counting(Silent):
    """Counts what it is told, and keeps the lines."""

    def __init__(self) -> None:
        self.steps, self.said = 0, list[str]()

    def say(self, line: str) -> None:
        self.steps += 1
        self.said.append(line)

    def detail(self, line: str) -> None:
        super().detail(line)
        self.steps += 1

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        self.steps += 1
        with super().stage(name, total) as advance:

            def counted(count: int) -> None:
                self.steps += 1
                advance(count)

            yield counted


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(tiny.mlp((16, 64, 64, 4)), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=tiny.rows(96))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(output: str, **options: Any) -> tuple[bytes, Any]:
    how: dict[str, Any] = {"calib": "calib.npz", "params": "50%", "tune": "off", "refit": "off", "device": "cpu"}
    how |= {"save_plan": "plan.json", "force": True} | options
    result = onnx_dalr.optimize("model.onnx", output, **how)
    return Path(output).read_bytes() + Path("plan.json").read_bytes(), result


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done: passes that are run, and candidates that are scored."""
    done: list[str] = []
    for name in ("capture", "add_metric"):
        inner = getattr(passes, name)
        monkeypatch.setattr(passes, name, lambda *a, inner=inner, name=name, **k: done.append(name) or inner(*a, **k))

    class Watched(Scoring):
        def __call__(self, plan: Any) -> Any:
            done.append("score")
            return super().__call__(plan)

    monkeypatch.setattr(decide, "Scoring", Watched)
    return done


def test_what_was_done_is_not_done_again(work: list[str]) -> None:
    plain, _ = made("small.onnx")
    fresh = list(work)
    assert {"capture", "add_metric", "score"} <= set(fresh)
    work.clear()
    assert made("small.onnx", work_dir="work")[0] == plain
    assert work == fresh
    work.clear()
    again, result = made("small.onnx", work_dir="work")
    assert again == plain
    assert work == []
    assert len([note for note in result.notes if "work" in note]) == 2


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(here: Path) -> None:
    """With SIGKILL, at moments drawn by lot, and once in the middle of a record."""
    plain, _ = made("plain.onnx")
    draw = random.Random(16)
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}

    def drawn() -> int:
        """A step that a run which goes on from here still takes."""
        shutil.copytree("work", "copy", dirs_exist_ok=True)
        progress = Counting()
        made("other.onnx", work_dir="copy", progress=progress)
        shutil.rmtree("copy")
        Path("other.onnx").unlink()
        return draw.randrange(1, progress.steps)

    for at in range(3):
        left = drawn() if at else -2
        dead = subprocess.run(
            [sys.executable, "-c", DYING, str(left)], check=False, cwd=here, env=env, capture_output=True
        )
        assert dead.returncode == -9, dead.stderr.decode()
        assert not Path("small.onnx").exists()
    assert list(Path("work").glob("onnx-dalr-statistics-*"))
    assert made("small.onnx", work_dir="work")[0] == plain
    assert not list(Path("work").glob(".*"))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"samples": 80},
        {"include": ["second", "third"]},
        {"weights": "int8"},
        {"metric": False},
        {"method": "svd-bc"},
        {"confidence": "90%", "params": None, "max_error": 0.9},
    ],
    ids=str,
)
def test_what_matters_and_has_changed_is_done_again(work: list[str], changed: dict[str, Any]) -> None:
    made("small.onnx", work_dir="work")
    work.clear()
    plain, _ = made("small.onnx", **changed)
    fresh = list(work)
    work.clear()
    assert made("small.onnx", work_dir="work", **changed)[0] == plain
    if "confidence" in changed:  # the statistics are the same
        fresh = [each for each in fresh if each == "score"]
    assert work == fresh


def test_samples_of_the_same_names_and_other_values_are_run_again(work: list[str]) -> None:
    made("small.onnx", work_dir="work")
    np.savez("calib.npz", x=tiny.rows(96, seed=5))
    plain, _ = made("small.onnx")
    work.clear()
    progress = Counting()
    assert made("small.onnx", work_dir="work", progress=progress)[0] == plain
    assert {"capture", "add_metric", "score"} <= set(work)
    assert any("the samples have changed since" in line for line in progress.said)


def test_another_model_of_the_same_name_is_run_anew(work: list[str]) -> None:
    made("small.onnx", work_dir="work")
    onnx.save(tiny.mlp((16, 64, 64, 4), seed=3), "model.onnx")
    plain, _ = made("small.onnx")
    fresh = work[len(work) // 2 :]
    work.clear()
    assert made("small.onnx", work_dir="work")[0] == plain
    assert work == fresh


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut_off, flip, empty])
def test_what_is_damaged_is_passed_over_with_a_note_and_made_anew(
    work: list[str], harm: Callable[[Path], None]
) -> None:
    plain, _ = made("small.onnx", work_dir="work")
    fresh = list(work)
    for path in Path("work").glob("onnx-dalr-*-*"):
        harm(path)
    work.clear()
    progress = Counting()
    assert made("small.onnx", work_dir="work", progress=progress)[0] == plain
    assert work == fresh
    notes = [line for line in progress.said if "passed over" in line]
    assert len(notes) == len(fresh)
    work.clear()
    assert made("small.onnx", work_dir="work")[0] == plain
    assert work == []


def test_a_record_under_the_name_of_another_is_not_taken_for_it(work: list[str]) -> None:
    plain, _ = made("small.onnx", work_dir="work")
    fresh = list(work)
    for kind in ("statistics", "trial"):
        files = sorted(Path("work").glob(f"onnx-dalr-{kind}-*"))
        contents = [file.read_bytes() for file in files]
        for file, content in zip(files, contents[1:] + contents[:1], strict=True):
            file.write_bytes(content)
    work.clear()
    assert made("small.onnx", work_dir="work")[0] == plain
    assert work == fresh


def test_a_trial_keeps_every_bit_of_its_numbers() -> None:
    made("small.onnx", work_dir="work")
    record = json.loads(next(Path("work").glob("onnx-dalr-trial-*")).read_text())
    assert len(record["facts"]["trial"]["distortions"]) > 0
    assert json.loads(json.dumps(record)) == record


def test_a_folder_that_another_run_uses_is_refused() -> None:
    with opened_work_dir(Path("work"), print), pytest.raises(InputError, match="is used by another run"):
        made("small.onnx", work_dir="work")
    made("small.onnx", work_dir="work")


def test_what_is_no_folder_is_refused() -> None:
    with pytest.raises(InputError, match="is no folder"):
        made("small.onnx", work_dir="model.onnx")


def test_scores_of_the_users_own_are_asked_for_again(work: list[str]) -> None:
    """Nobody knows what they depend on."""
    for _ in range(2):
        work.clear()
        made("small.onnx", work_dir="work", score=lambda outputs, labels: float(outputs["y"].mean()))
        assert "score" in work
    assert "capture" not in work
