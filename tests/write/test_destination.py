"""Where results go: clashes are found before the work, by looking only, and results arrive whole or not at all."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper
from PIL import Image

from onnx_dalr import analyze, optimize
from onnx_dalr.errors import InputError, NothingToGainError
from onnx_dalr.files import together
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.write.destination import STANDARD_OUTPUT, Destination
from tests.cli import tiny

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
OUTPUT, REPORT = Path("out/small.onnx"), Path("out/report.json")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a model whose weights lie in a file beside it, samples, labels, and an empty `out`."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.mlp(), "model.onnx")
    onnx.save(tiny.mlp(), "big.onnx", save_as_external_data=True, location="big.weights", size_threshold=0)
    for name in ("calib.npz", "eval.npz", "labels.npy", "other.txt"):
        Path(name).write_text(name)
    Path("folder").mkdir()
    Path("folder/a.npz").write_text("a sample")
    Path("out").mkdir()
    return tmp_path


READ = [Path("calib.npz"), Path("eval.npz"), Path("labels.npy"), Path("folder")]


def check(
    output: str | Path | None = OUTPUT,
    report: str | Path | None = None,
    *,
    model: str | Model = "model.onnx",
    force: bool = False,
    dry_run: bool = False,
) -> None:
    destination(output, report, force=force, dry_run=dry_run).check(
        load(model) if isinstance(model, str) else model, READ
    )


def destination(
    output: str | Path | None = OUTPUT, report: str | Path | None = None, *, force: bool = False, dry_run: bool = False
) -> Destination:
    model, json = (None if file is None else Path(file) for file in (output, report))
    return Destination(output=model, json=json, force=force, dry_run=dry_run)


def everything() -> dict[str, bytes | None]:
    """What lies in the folder: contents of files, None for folders."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


@pytest.fixture
def untouched() -> Iterator[None]:
    """Holds a test to leave all files as they were when it began."""
    before = everything()
    yield
    assert everything() == before


# Nothing clashes


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("report", [None, REPORT, STANDARD_OUTPUT, "report.json", "other.txt"])
@pytest.mark.parametrize("output", [None, OUTPUT, "small.onnx", "out/../small.onnx"])
@pytest.mark.parametrize("model", ["model.onnx", "big.onnx"])
def test_where_nothing_clashes_a_check_writes_nothing(
    output: str | Path | None, report: str | Path | None, model: str
) -> None:
    check(output, report, model=model)


@pytest.mark.usefixtures("untouched")
def test_a_model_in_memory_has_no_file_to_clash_with() -> None:
    check(OUTPUT, REPORT, model=load(tiny.mlp()))


# The output


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("output", ["model.onnx", "./model.onnx", "out/../model.onnx", "folder/../out/../model.onnx"])
def test_the_output_is_never_the_input(output: str, force: bool, dry_run: bool) -> None:
    with pytest.raises(InputError, match="the output is the input"):
        check(output, force=force, dry_run=dry_run)
    with pytest.raises(InputError, match="the output is the input"):
        check(Path(output).absolute(), force=force, dry_run=dry_run)


@posix
@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_nor_is_it_a_link_to_the_input(link: Callable[..., None], desk: Path) -> None:
    link(desk / "model.onnx", "linked.onnx")
    before = everything()
    with pytest.raises(InputError, match="the output is the input"):
        check("linked.onnx", force=True)
    with pytest.raises(InputError, match="the output is the input"):
        check("model.onnx", model="linked.onnx", force=True)
    assert everything() == before


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("output", ["calib.npz", "eval.npz", "labels.npy", "out/../labels.npy"])
def test_the_output_is_nothing_else_the_run_reads(output: str, force: bool) -> None:
    with pytest.raises(InputError, match="is read by this run"):
        check(output, force=force)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("force", [False, True])
def test_the_output_is_not_the_external_data_of_the_input(force: bool) -> None:
    with pytest.raises(InputError, match=r"big\.weights is read by this run"):
        check("big.weights", model="big.onnx", force=force)


def test_nor_is_the_data_file_that_comes_with_it() -> None:
    onnx.save(tiny.mlp(), "big.onnx", save_as_external_data=True, location="small.onnx.data", size_threshold=0)
    before = everything()
    with pytest.raises(InputError, match=r"small\.onnx\.data is read by this run"):
        check("small.onnx", model="big.onnx", force=True)
    assert everything() == before


@pytest.mark.usefixtures("untouched")
def test_an_existing_output_is_replaced_only_with_force() -> None:
    with pytest.raises(InputError, match=r"other\.txt exists already") as error:
        check("other.txt")
    assert "--force" in error.value.hint
    check("other.txt", force=True)
    check("other.txt", dry_run=True)


def test_the_same_holds_for_its_data_file() -> None:
    Path("out/small.onnx.data").write_text("precious")
    with pytest.raises(InputError, match=r"small\.onnx\.data exists already"):
        check(model="big.onnx")
    check(model="big.onnx", force=True)
    check(model="model.onnx")
    assert Path("out/small.onnx.data").read_text() == "precious"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("output", ["out", "folder", ".", ".."])
def test_an_output_that_is_a_folder_is_refused(output: str, force: bool) -> None:
    with pytest.raises(InputError, match=r"is (a folder|read by this run)"):
        check(output, force=force)


@posix
@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_is_a_device_a_pipe_or_a_socket_is_refused(force: bool) -> None:
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for output in ("/dev/null", "/dev/full", "pipe", "socket"):
            with pytest.raises(InputError, match="is no regular file"):
                check(output, force=force)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


@pytest.mark.usefixtures("untouched")
def test_an_output_in_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no such folder: nowhere"):
        check("nowhere/small.onnx")
    with pytest.raises(InputError, match="no such folder"):
        check("other.txt/small.onnx")


@posix
def test_a_link_that_leads_nowhere_is_no_obstacle() -> None:
    Path("out/small.onnx").symlink_to("nothing")
    check(force=True)
    assert os.readlink("out/small.onnx") == "nothing"  # noqa: PTH115


# The report


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("report", ["model.onnx", "calib.npz", "eval.npz", "labels.npy", OUTPUT, "out/../calib.npz"])
def test_the_report_overwrites_no_other_file_of_the_run(report: str | Path, force: bool, dry_run: bool) -> None:
    with pytest.raises(InputError, match="would overwrite another file of this run"):
        check(OUTPUT, report, force=force, dry_run=dry_run)


@pytest.mark.usefixtures("untouched")
def test_nor_the_external_data_of_the_input() -> None:
    with pytest.raises(InputError, match="would overwrite another file of this run"):
        check(OUTPUT, "big.weights", model="big.onnx")


@pytest.mark.usefixtures("untouched")
def test_a_folder_is_no_output_of_a_model_with_external_data_either() -> None:
    with pytest.raises(InputError, match="is a folder"):
        check("", model="big.onnx")


def test_nor_the_external_data_of_the_output() -> None:
    with pytest.raises(InputError, match="would overwrite another file of this run"):
        check(OUTPUT, "out/small.onnx.data", model="big.onnx")
    check(OUTPUT, "out/small.onnx.data", model="model.onnx")


def test_nor_a_sample_in_a_folder_of_them() -> None:
    Path("folder/report.json").write_text("of an earlier run")
    before = everything()
    for sample in ("folder/a.npz", "out/../folder/a.npz"):
        with pytest.raises(InputError, match="would overwrite another file of this run"):
            check(OUTPUT, sample)
    check(OUTPUT, "folder/report.json")
    check(OUTPUT, "folder/new.txt")
    assert everything() == before


@pytest.mark.usefixtures("untouched")
def test_nor_does_the_output_replace_a_sample_in_a_folder_of_them() -> None:
    with pytest.raises(InputError, match="is read by this run"):
        check("folder/a.npz", force=True)
    check("folder/small.onnx")


@posix
@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("file", ["model.onnx", "calib.npz", "labels.npy"])
def test_nor_any_of_them_through_a_link(file: str, link: Callable[..., None], desk: Path) -> None:
    link(desk / file, "report.json")
    with pytest.raises(InputError, match="would overwrite another file of this run"):
        check(OUTPUT, "report.json")


@posix
def test_two_names_of_one_new_file_are_the_same_file(desk: Path) -> None:
    Path("also").symlink_to(desk / "out", target_is_directory=True)
    with pytest.raises(InputError, match="would overwrite another file of this run"):
        check("out/new", "also/new")


@posix
@pytest.mark.parametrize("report", ["folder", ".", "out", "/dev/null", "/dev/full"])
def test_a_report_that_is_no_regular_file_is_refused(report: str) -> None:
    with pytest.raises(InputError, match=r"is no regular file|would overwrite"):
        check(OUTPUT, report)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("report", ["nowhere/report.json", "other.txt/report.json"])
def test_a_report_that_cannot_be_written_is_refused_before_the_work(report: str) -> None:
    with pytest.raises(InputError, match=r"cannot write .*report\.json"):
        check(OUTPUT, report)


@pytest.mark.usefixtures("untouched")
def test_a_report_of_an_earlier_run_may_be_replaced() -> None:
    check(OUTPUT, "other.txt")


# What only a whole run knows


@pytest.fixture
def images() -> None:
    """A folder of images, a model that takes them and a function that prepares them."""
    for count in range(40):
        file = Path(f"images/{count}.png")
        file.parent.mkdir(exist_ok=True)
        random = np.random.default_rng(count)
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(file)
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 3, 4, 4] x) => (float[N, 40] y) { f = Flatten(x) [fc] y = Gemm <transB = 1> (f, W, b) }"""
    proto = onnx.parser.parse_model(text)
    for name, shape in (("W", (40, 48)), ("b", (40,))):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(proto, "images.onnx")
    Path("prepare.py").write_text(
        "import numpy as np\n\n\ndef prepare(image):\n"
        '    return np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)\n'
    )


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "written",
    [
        {"json": "images/3.png"},
        {"output": "images/3.png"},
        {"thumbnails": "images/3.png"},
        {"json": "prepare.py", "preprocess": "prepare.py:prepare"},
        {"output": "prepare.py", "preprocess": "prepare.py:prepare"},
        {"thumbnails": "sheet.png", "json": "sheet.png"},
        {"thumbnails": "sheet.png", "output": "sheet.png"},
    ],
    ids=str,
)
def test_not_even_with_force_does_one_file_of_a_run_overwrite_another(written: dict[str, str]) -> None:
    before = everything()
    arguments: dict[str, object] = {"output": None, "calib": "images", "rank": 4, "force": True, "device": "cpu"}
    with pytest.raises(InputError, match=r"is read by this run|would overwrite another file of this run"):
        optimize("images.onnx", **(arguments | written))  # type: ignore[arg-type]
    assert everything() == before


@pytest.mark.usefixtures("images")
def test_results_beside_the_samples_are_none_of_them() -> None:
    before = everything()
    for _ in range(2):
        names = {"output": "images/small.onnx", "json": "images/report.json", "thumbnails": "sheet.png"}
        optimize("images.onnx", calib="images", rank=4, force=True, device="cpu", **names)  # type: ignore[arg-type]
    assert {*everything()} - {*before} == {"images/small.onnx", "images/report.json", "sheet.png"}
    assert {name: content for name, content in everything().items() if name in before} == before


@pytest.mark.usefixtures("images")
def test_a_sheet_of_thumbnails_is_replaced_with_force_alone() -> None:
    Path("sheet.png").write_text("mine")
    with pytest.raises(InputError, match=r"sheet\.png exists already"):
        analyze("images.onnx", calib="images", thumbnails="sheet.png")
    assert Path("sheet.png").read_text() == "mine"
    analyze("images.onnx", calib="images", thumbnails="sheet.png", force=True).close()
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("images", "untouched")
def test_an_older_sheet_is_found_before_the_samples_are_opened() -> None:
    with pytest.raises(InputError, match=r"thumbnails=.*exists already"):
        optimize("images.onnx", calib="nowhere", rank=4, thumbnails="other.txt", dry_run=True)


# Where the model is written


def written(proto: ModelProto, where: Destination) -> Path:
    with together() as files, where.place(files) as path:
        onnx.save(proto, path)
    return path


def test_what_is_placed_arrives_when_the_block_ends_and_nothing_else_remains() -> None:
    with together() as files, destination().place(files) as path:
        assert path.name == OUTPUT.name
        path.write_bytes(b"new")
        assert not OUTPUT.exists()
    assert OUTPUT.read_bytes() == b"new"
    assert [entry.name for entry in Path("out").iterdir()] == [OUTPUT.name]


def test_data_files_beside_it_arrive_too() -> None:
    with together() as files, destination().place(files) as path:
        path.write_bytes(b"new")
        path.with_name("small.onnx.data").write_bytes(b"data")
    assert sorted(entry.name for entry in Path("out").iterdir()) == ["small.onnx", "small.onnx.data"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, NothingToGainError])
@pytest.mark.parametrize("force", [False, True])
def test_when_the_block_fails_the_old_file_is_still_there_and_nothing_new(
    error: type[BaseException], force: bool
) -> None:
    if force:
        OUTPUT.write_bytes(b"old")
    before = everything()

    def fail() -> None:
        with together() as files, destination(force=force).place(files) as path:
            path.write_bytes(b"half")
            raise error("no")

    with pytest.raises(error):
        fail()
    assert everything() == before


def test_a_file_that_appeared_meanwhile_is_not_overwritten() -> None:
    def work() -> None:
        with together() as files, destination().place(files) as path:
            path.write_bytes(b"new")
            path.with_name("small.onnx.data").write_bytes(b"data")
            Path("out/small.onnx.data").write_bytes(b"of another program")

    with pytest.raises(InputError, match="exists already"):
        work()
    assert [(entry.name, entry.read_bytes()) for entry in Path("out").iterdir()] == [
        ("small.onnx.data", b"of another program")
    ]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("where", [destination(None), destination(dry_run=True), destination(None, dry_run=True)])
def test_without_an_output_or_in_a_dry_run_the_model_is_written_nowhere_that_lasts(where: Destination) -> None:
    path = written(tiny.mlp(), where)
    assert not path.exists()
    assert not path.parent.exists()


def test_a_temporary_folder_without_room_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(InputError, match="No space left") as error, together() as files, destination(None).place(files):
        pass
    assert "TMPDIR" in error.value.hint
