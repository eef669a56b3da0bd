"""Files that come into place together, in one step each, or not at all; what is in the way is found out before."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.files import ReadsAndWrites, ToWrite, files_read, same_file, staged, together, try_writing, write_text

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")


# One file


def leftovers(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_is_staged_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with staged(out, force=False) as path:
        path.write_bytes(b"proto")
        path.with_name("out.onnx.data").write_bytes(b"data")
        assert not out.exists()
        assert path.parent.parent == tmp_path
    assert (out.read_bytes(), (tmp_path / "out.onnx.data").read_bytes()) == (b"proto", b"data")
    assert leftovers(tmp_path) == ["out.onnx", "out.onnx.data"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError, MemoryError, InputError])
def test_nothing_stays_behind_when_the_block_fails(tmp_path: Path, raised: Callable[[str], BaseException]) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    with pytest.raises(BaseException, match="stop"), staged(out, force=True) as path:  # noqa: PT012
        path.write_bytes(b"half")
        path.with_name("out.onnx.data").write_bytes(b"half")
        raise raised("stop")
    assert leftovers(tmp_path) == ["out.onnx"]
    assert out.read_bytes() == b"old"


def test_a_full_disk_is_the_users_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left on device"), staged(tmp_path / "out.onnx", force=False) as path:  # noqa: PT012
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    assert leftovers(tmp_path) == []


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="exists already") as caught, staged(out, force=False):
        pytest.fail("the block must not begin")
    assert "--force" in caught.value.hint
    assert out.read_bytes() == b"old"


def test_an_existing_data_file_is_not_overwritten_either(tmp_path: Path) -> None:
    data = tmp_path / "out.onnx.data"
    data.write_bytes(b"of another model")
    with pytest.raises(InputError), staged(tmp_path / "out.onnx", force=False) as path:  # noqa: PT012
        path.write_bytes(b"proto")
        path.with_name(data.name).write_bytes(b"new")
    assert data.read_bytes() == b"of another model"
    assert leftovers(tmp_path) == [data.name]


def test_with_force_a_file_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    with staged(out, force=True) as path:
        path.write_bytes(b"new")
        assert out.read_bytes() == b"old"
    assert out.read_bytes() == b"new"
    assert leftovers(tmp_path) == ["out.onnx"]


def test_with_force_a_folder_is_still_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.mkdir()
    with pytest.raises(InputError), staged(out, force=True) as path:  # noqa: PT012
        path.write_bytes(b"new")
        path.with_name("out.onnx.data").write_bytes(b"new")
    assert leftovers(tmp_path) == ["out.onnx"]


def test_no_such_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write .*No such file or directory") as caught,
        staged(tmp_path / "no" / "m.onnx", force=False),
    ):
        pytest.fail("the block must not begin")
    assert caught.value.hint


@as_root
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"), staged(tmp_path / "m.onnx", force=False):
        pytest.fail("the block must not begin")
    tmp_path.chmod(0o700)


# Several files


NAMES = ("model.onnx", "plan.json", "report.json")


@pytest.fixture(params=["nothing there", "older files there", "a file system without links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where three files and a data file go; they may be there already."""
    if request.param != "nothing there":
        for name in (*NAMES, "model.onnx.data"):
            (tmp_path / name).write_text(f"old {name}")
    if request.param == "a file system without links":

        def refused(*_arguments: Any, **_named: Any) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def write(folder: Path) -> None:
    """Three files and a data file, as one run writes them."""
    with together() as files:
        for name in NAMES:
            with files.at(folder / name, force=True) as path:
                path.write_text(f"new {name}")
                if name == "model.onnx":
                    path.with_name("model.onnx.data").write_text("new model.onnx.data")


def test_files_come_into_place_together(folder: Path) -> None:
    write(folder)
    assert contents(folder) == {name: f"new {name}" for name in (*NAMES, "model.onnx.data")}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
@pytest.mark.parametrize("failing", range(4))
def test_where_one_cannot_be_moved_all_is_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    before, moves, replace = contents(folder), [], os.replace

    def moving(source: Path, target: Path) -> None:
        if Path(target).parent == folder and Path(source).read_text().startswith("new"):
            moves.append(target)
            if len(moves) == failing + 1:
                raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", moving)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        write(folder)
    assert len(moves) == failing + 1
    if isinstance(error, OSError):
        assert str(raised.value).startswith(f"cannot write {moves[-1]}: No space left on device")
    assert contents(folder) == before


def test_an_interrupt_after_a_move_takes_it_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, replace = contents(folder), os.replace
    moved = iter((False, True))

    def moving(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).parent == folder and next(moved, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", moving)
    with pytest.raises(KeyboardInterrupt):
        write(folder)
    assert contents(folder) == before


def test_a_file_that_is_not_finished_keeps_the_others_out(folder: Path) -> None:
    before = contents(folder)

    def fail() -> None:
        with together() as files:
            with files.at(folder / "plan.json", force=True) as path:
                path.write_text("new")
            with files.at(folder / "model.onnx", force=True) as path:
                path.write_text("half")
                raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert contents(folder) == before


def test_a_file_that_appeared_meanwhile_keeps_all_of_them_out(tmp_path: Path) -> None:
    def work() -> None:
        with together() as files:
            for name in NAMES:
                with files.at(tmp_path / name, force=False) as path:
                    path.write_text("new")
            (tmp_path / "report.json").write_text("of another program")

    with pytest.raises(InputError, match=r"report\.json exists already"):
        work()
    assert contents(tmp_path) == {"report.json": "of another program"}


@posix
def test_what_replaces_a_file_has_its_rights_and_what_is_new_those_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("old")
    (tmp_path / "plan.json").chmod(0o640)
    write(tmp_path)
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == 0o640
    (tmp_path / "usual").write_text("")
    assert (tmp_path / "model.onnx").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix
def test_a_link_stays_what_it_leads_to_is_written_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "latest").write_text("old")
    (tmp_path / "plan.json").symlink_to(elsewhere / "latest")
    replace = os.replace

    def moving(source: Path, target: Path) -> None:
        if Path(target).name == "report.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", moving)
        with pytest.raises(InputError):
            write(tmp_path)
    assert (tmp_path / "plan.json").is_symlink()
    assert contents(elsewhere) == {"latest": "old"}
    write(tmp_path)
    assert (tmp_path / "plan.json").is_symlink()
    assert contents(elsewhere) == {"latest": (tmp_path / "plan.json").read_text()}
    assert contents(elsewhere) != {"latest": "old"}


@posix
def test_what_is_written_beside_a_link_stays_beside_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "model.onnx"
    link.symlink_to(tmp_path / "elsewhere" / "v1.onnx")
    (tmp_path / "model.onnx.data").symlink_to(tmp_path / "elsewhere" / "v1.data")
    with staged(link) as path:
        path.write_text("model")
        path.with_name("model.onnx.data").write_text("data")
        path.with_name("more").write_text("more")
    assert contents(tmp_path / "elsewhere") == {"v1.onnx": "model", "v1.data": "data"}
    assert {file.name: file.is_symlink() for file in tmp_path.iterdir() if file.is_file()} == {
        "model.onnx": True,
        "model.onnx.data": True,
        "more": False,
    }
    assert link.with_name("more").read_text() == "more"


@posix
def test_one_file_alone_is_never_missing_not_even_on_a_file_system_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.json").write_text("old")
    replace, seen = os.replace, []

    def moving(source: Path, target: Path) -> None:
        seen.append((tmp_path / "plan.json").read_text())
        replace(source, target)

    monkeypatch.delattr(os, "link")
    monkeypatch.setattr(os, "replace", moving)
    write_text(tmp_path / "plan.json", "new")
    assert seen == ["old"]
    assert contents(tmp_path) == {"plan.json": "new"}


# Text in one step


def test_text_is_written_whole_as_utf_8_readable_by_others(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    write_text(report, "Größe ≤ 40 %\n")
    assert report.read_bytes() == "Größe ≤ 40 %\n".encode()
    if os.name == "posix":
        assert stat.S_IMODE(report.stat().st_mode) == 0o644
    write_text(report, "")
    assert report.read_text() == ""
    assert leftovers(tmp_path) == ["report.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_when_writing_text_fails_the_old_content_stays_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.json"
    report.write_text("old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as raised:
        write_text(report, "new")
    if isinstance(error, OSError):
        assert str(raised.value).startswith(f"cannot write {report}: No space left on device")
    assert contents(tmp_path) == {"report.json": "old"}


@posix
def test_text_is_written_where_a_link_leads_whether_something_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "today").write_text("old")
    for name in ("today", "tomorrow"):
        link = tmp_path / f"{name}.json"
        link.symlink_to(name)
        try_writing(link)
        write_text(link, "new")
        assert link.is_symlink()
        assert (tmp_path / name).read_text() == "new"


@posix
def test_a_link_into_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    link = tmp_path / "report.json"
    link.symlink_to(tmp_path / "nowhere" / "report.json")
    with pytest.raises(InputError, match=r"cannot write .*report\.json"):
        try_writing(link)
    with pytest.raises(InputError, match=r"cannot write .*report\.json"):
        write_text(link, "new")
    assert link.is_symlink()


# Before the work


def test_trying_whether_a_file_could_be_written_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    try_writing(tmp_path / "there")
    try_writing(tmp_path / "new")
    assert contents(tmp_path) == {"there": "old"}
    with pytest.raises(InputError, match=r"cannot write .*new"):
        try_writing(tmp_path / "no folder" / "new")


@pytest.mark.parametrize(
    ("writes", "message"),
    [
        ([ToWrite(Path("read"), "--json")], "--json read would overwrite another file of this run"),
        ([ToWrite(Path("read"))], "read is read by this run"),
        ([ToWrite(Path("new")), ToWrite(Path("new"), "--json")], "--json new would overwrite another file"),
        ([ToWrite(Path("samples/a.png"), "--thumbnails")], "--thumbnails .* would overwrite another file"),
        ([ToWrite(Path("old"), "--save-plan", replaces=False)], "--save-plan old exists already"),
        ([ToWrite(Path("old"), replaces=False)], "^old exists already"),
        ([ToWrite(Path("samples"), "--json")], "--json samples is no regular file|would overwrite"),
        ([ToWrite(Path("no/new"), "--json")], "cannot write no/new"),
        ([ToWrite(Path("no/new"))], "no such folder: no"),
    ],
)
def test_what_is_in_the_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: list[ToWrite], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for name in ("read", "old", "samples/a.png"):
        Path(name).write_text(name)
    with pytest.raises(InputError, match=message):
        ReadsAndWrites((Path("read"), Path("samples")), tuple(writes)).check()
    ReadsAndWrites((Path("read"),), (ToWrite(Path("old")), ToWrite(Path("new"), "--json"))).check()
    ReadsAndWrites((), (ToWrite(Path("no/new"), stays=False),)).check()
    assert leftovers(tmp_path) == ["old", "read", "samples"]


def test_files_are_the_same_by_what_they_are_and_new_ones_by_where_they_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("one").touch()
    Path("two").touch()
    assert same_file(Path("one"), Path("out/../one"))
    assert same_file(Path("new"), Path("out/../new"))
    assert not same_file(Path("one"), Path("two"))
    assert not same_file(Path("one"), Path("new"))


@posix
def test_a_link_to_itself_is_no_file_and_may_be_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    assert not same_file(link, tmp_path / "other")
    ReadsAndWrites((tmp_path / "read",), (ToWrite(link),)).check()
    write_text(link, "text")
    assert link.read_text(encoding="utf-8") == "text"


def test_files_are_told_from_what_else_a_user_gives() -> None:
    read = files_read("a.npz", Path("b"), None, [1.0], code=("mine.py:score", None, "accuracy", len))
    assert read == [Path("a.npz"), Path("b"), Path("mine.py")]
