"""What goes wrong says so in one line with a hint and the right exit code, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from onnx_dalr.candidate.candidate import Candidate, build
from onnx_dalr.learn.learn import learn
from onnx_dalr.session.session import open_session
from tests.cli import tiny
from tests.cli.conftest import Outcome, Run

OUTPUT = Path("out") / "small.onnx"

pytestmark = pytest.mark.usefixtures("bench")


@dataclass(frozen=True)
class Case:
    """One bad invocation of `optimize`, and what is to be said about it."""

    name: str
    code: int
    fragment: str
    options: tuple[str, ...] = ()
    model: str = "model.onnx"
    calib: str = "calib.npz"
    arrange: Callable[[], None] = field(default=lambda: None)

    def __str__(self) -> str:
        return self.name


def save_text(name: str) -> Callable[[], None]:
    def arrange() -> None:
        Path(name).write_text("this is no such file\n")

    return arrange


def truncate_model() -> None:
    Path("cut.onnx").write_bytes(Path("model.onnx").read_bytes()[:5000])


def save_npz(**arrays: np.ndarray) -> Callable[[], None]:
    return lambda: np.savez("bad.npz", allow_pickle=True, **arrays)


def with_one(value: float) -> np.ndarray:
    x = tiny.rows()
    x[17, 3] = value
    return x


def save_image_model() -> None:
    """A convolution, flattened, and one Gemm: takes grey images of 8 by 8."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    pictures (float[N,1,8,8] image) => (float[N,32] y) {
      flat = Flatten(image)
      [fc] y = Gemm<transB: int = 1>(flat, W, b)
    }
    """
    weights = {"W": np.random.default_rng(0).standard_normal((32, 64), np.float32), "b": np.zeros(32, np.float32)}
    onnx.save(tiny.with_weights(text, weights), "pictures.onnx")


def save_images(folder: str, count: int = 4) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((8, 8), 50 * number, np.uint8)).save(Path(folder) / f"{number}.png")


def image_folder_with_a_text_file() -> None:
    save_image_model()
    save_images("images")
    Path("images", "notes.png").write_text("not a picture\n")


def empty_image_folder() -> None:
    save_image_model()
    Path("images").mkdir()


def class_folders_beside_images() -> None:
    save_image_model()
    save_images("images")
    save_images("images/0-cat")


def label_above_the_classes() -> None:
    onnx.save(tiny.mlp((16, 48, 48, 5)), "five.onnx")
    np.save("labels.npy", np.full(64, 9))


def model_of_tiny_layers() -> None:
    """Rank 3 of 8 by 8 saves sixteen parameters, and the new nodes and names take more."""
    onnx.save(tiny.mlp((8, 8, 8, 8)), "eight.onnx")
    np.savez("eight.npz", x=tiny.rows(64, 8))


def model_without_layers() -> None:
    onnx.save(onnx.parser.parse_model(tiny.NO_LAYERS), "none.onnx")


def model_that_overflows() -> None:
    model = tiny.mlp()
    model.graph.node.insert(0, onnx.helper.make_node("Log", ["x"], ["negative"]))
    model.graph.node[1].input[0] = "negative"
    onnx.save(model, "log.onnx")


CASES = [
    # The model.
    Case("missing model", 2, "no such model: missing.onnx", model="missing.onnx"),
    Case("text called onnx", 2, "text.onnx is not an ONNX model", model="text.onnx", arrange=save_text("text.onnx")),
    Case("empty model file", 2, "not an ONNX model", model="e.onnx", arrange=lambda: Path("e.onnx").touch()),
    Case("truncated model", 2, "cut.onnx is not an ONNX model", model="cut.onnx", arrange=truncate_model),
    Case("model is a folder", 2, "out is a folder", model="out"),
    Case("no eligible layer", 5, "no layer is eligible", model="none.onnx", arrange=model_without_layers),
    # The samples.
    Case("missing calib", 2, "missing: no such file or folder", calib="missing"),
    Case(
        "empty calib folder",
        2,
        "there are no images in this folder",
        model="pictures.onnx",
        calib="images",
        arrange=empty_image_folder,
    ),
    Case(
        "text called png",
        2,
        "notes.png",
        ("--rank", "8", "--holdout", "0"),
        model="pictures.onnx",
        calib="images",
        arrange=image_folder_with_a_text_file,
    ),
    Case(
        "images beside class folders",
        2,
        "images lie both in the folder",
        model="pictures.onnx",
        calib="images",
        arrange=class_folders_beside_images,
    ),
    Case(
        "images for a model of vectors",
        2,
        "takes 16 values per sample",
        calib="images",
        arrange=lambda: save_images("images"),
    ),
    Case(
        "calib of an unknown kind",
        2,
        "samples cannot be read from a .txt file",
        calib="a.txt",
        arrange=save_text("a.txt"),
    ),
    Case("text called npz", 2, "a.npz", calib="a.npz", arrange=save_text("a.npz")),
    Case(
        "unknown key",
        2,
        "'z' is not an input of the model",
        calib="bad.npz",
        arrange=save_npz(x=tiny.rows(), z=tiny.rows()),
    ),
    Case(
        "wrong key", 2, "'pixels' is not an input of the model", calib="bad.npz", arrange=save_npz(pixels=tiny.rows())
    ),
    Case("wrong width", 2, "[?, 16]", calib="bad.npz", arrange=save_npz(x=tiny.rows(64, 15))),
    Case("wrong number of axes", 2, "[?, 16]", calib="bad.npz", arrange=save_npz(x=np.ones((9, 2, 4, 16), np.float32))),
    Case("no samples inside", 2, "there are no samples in it", calib="bad.npz", arrange=save_npz(x=tiny.rows()[:0])),
    Case(
        "NaN inside", 2, "x", ("--rank", "8", "--holdout", "0"), calib="bad.npz", arrange=save_npz(x=with_one(np.nan))
    ),
    Case(
        "infinity inside",
        2,
        "x",
        ("--rank", "8", "--holdout", "0"),
        calib="bad.npz",
        arrange=save_npz(x=with_one(np.inf)),
    ),
    Case(
        "pickled objects",
        2,
        "it holds Python objects",
        calib="bad.npz",
        arrange=lambda: np.savez("bad.npz", x=np.array([{"a": 1}], dtype=object)),
    ),
    Case("text for numbers", 2, "x", calib="bad.npz", arrange=save_npz(x=np.array([["a"] * 16] * 9))),
    Case("samples the model cannot take", 2, "gives NaN in output 'y'", model="log.onnx", arrange=model_that_overflows),
    Case("missing labels", 2, "labels.npy", ("--labels", "labels.npy")),
    Case(
        "too few labels",
        2,
        "3 labels for 64 samples",
        ("--labels", "labels.npy"),
        arrange=lambda: np.save("labels.npy", np.zeros(3, int)),
    ),
    Case(
        "label above the classes",
        2,
        "label 9 is no class of the model",
        ("--labels", "labels.npy", "--task", "classify"),
        model="five.onnx",
        arrange=label_above_the_classes,
    ),
    Case("missing eval", 2, "nowhere: no such file or folder", ("--eval", "nowhere")),
    Case("image options for arrays", 2, "image options do nothing", ("--mean", "0.5")),
    Case("mean of words", 2, "--mean 'half' is not a number", ("--mean", "half")),
    Case("resize of words", 2, "--resize 'big' is not a size", ("--resize", "big")),
    Case("unknown mask input", 2, "--mask-input 'mask' is no input of the model", ("--mask-input", "mask")),
    Case("no samples wanted", 2, "--samples 0", ("--samples", "0")),
    Case("batch of none", 2, "--batch-size 0", ("--batch-size", "0")),
    Case("negative seed", 2, "--seed -1", ("--seed", "-1")),
    Case("all held out", 2, "--holdout 1.0", ("--holdout", "1")),
    Case("negative holdout", 2, "--holdout -0.1", ("--holdout", "-0.1")),
    Case("one sample to split", 2, "one sample cannot be split", ("--samples", "1")),
    Case("nothing held out and no amount", 2, "no drop can be measured", ("--holdout", "0")),
    Case("nothing held out and a drop", 2, "no drop can be measured", ("--holdout", "0", "--max-drop", "1%")),
    # The target.
    Case("two targets", 2, "--params and --rank are different targets", ("--rank", "8", "--params", "50%")),
    Case("three targets", 2, "--max-drop", ("--rank", "8", "--params", "50%", "--max-drop", "1%")),
    *(
        Case(f"params {text}", 2, f"--params '{text}'", ("--params", text))
        for text in ("", "half", "-5", "0", "0%", "40%%", "12MB", "1e999", "nan", "6 7")
    ),
    *(
        Case(f"max-drop {text}", 2, f"--max-drop '{text}'", ("--max-drop", text))
        for text in ("", "1", "-1%", "200%", "nan%", "inf%", "a bit")
    ),
    *(
        Case(f"rank {text}", 2, f"--rank '{text}'", ("--rank", text))
        for text in ("", "0", "-3", "8.5", "many", "first=", "=8", "first=x", "nan")
    ),
    *(
        Case(f"size {text}", 2, f"--size '{text}'", ("--size", text))
        for text in ("", "half", "-5", "0", "40%%", "12MiB", "nan", "0.4")
    ),
    *(
        Case(f"max-error {text}", 2, f"--max-error '{text}' is not an error", ("--max-error", text))
        for text in ("", "0", "1", "-0.1", "nan", "200%")
    ),
    *(
        Case(f"energy {text}", 2, f"--energy '{text}' is not a share", ("--energy", text))
        for text in ("", "0", "1", "all", "nan", "100%")
    ),
    Case(
        "rank everywhere beside a size", 2, "--size and --rank are different targets", ("--size", "50%", "--rank", "8")
    ),
    Case("pin for no layer", 2, "--rank 'fourth' matches no layer", ("--size", "50%", "--rank", "fourth=keep")),
    Case(
        "every layer pinned to keep",
        5,
        "every layer stays dense",
        ("--energy", "0.9", "--rank", "W?=keep"),
    ),
    Case("size out of reach", 3, "--size 1% cannot be reached", ("--size", "1%")),
    Case("nothing held out and an error", 2, "no error can be measured", ("--holdout", "0", "--max-error", "0.1")),
    Case("shrinkage above one", 2, "--shrinkage '1.5' is not a share", ("--shrinkage", "1.5")),
    Case("shrinkage with svd", 2, "--shrinkage means nothing to --method svd", ("--shrinkage", "0", "--method", "svd")),
    Case("no metric with svd", 2, "--no-metric means nothing to --method svd", ("--no-metric", "--method", "svd")),
    Case("missing plan", 2, "no such plan: plan.json", ("--plan", "plan.json")),
    Case("plan of words", 2, "plan.json is not JSON", ("--plan", "plan.json"), arrange=save_text("plan.json")),
    Case("plan and target", 2, "a plan and a target are given", ("--plan", "plan.json", "--rank", "8")),
    Case("missing statistics", 2, "no such file: stats.npz", ("--rank", "8", "--stats", "stats.npz")),
    Case("samples as statistics", 2, "holds no statistics", ("--rank", "8", "--stats", "calib.npz", "--holdout", "0")),
    Case("plan into a missing folder", 2, "nowhere", ("--rank", "8", "--save-plan", "nowhere/plan.json")),
    Case("statistics over the samples", 2, "--save-stats calib.npz", ("--rank", "8", "--save-stats", "calib.npz")),
    Case("score in no file", 2, "missing.py", ("--score", "missing.py:score")),
    Case("rank for no layer", 2, "--rank 'fourth' matches no layer", ("--rank", "fourth=8")),
    Case("params below one", 2, "--params '0.4' is less than one", ("--params", "0.4")),
    Case("params out of reach", 3, "--params 1% cannot be reached", ("--params", "1%")),
    Case("every layer dense", 5, "every layer stays dense", ("--rank", "999")),
    Case("params of everything", 5, "the target is met without it", ("--params", "100%")),
    Case("file would grow", 5, "the file would have", ("--rank", "3"), "eight.onnx", "eight.npz", model_of_tiny_layers),
    # Names.
    Case("include of nothing", 2, "--include 'fourth' matches no layer", ("--include", "fourth")),
    Case("exclude of nothing", 2, "--exclude 'fourth' matches no layer", ("--exclude", "fourth")),
    Case("all excluded", 5, "no layer is eligible", ("--exclude", "*")),
    Case("ridge with dalr", 2, "--ridge means nothing to --method dalr", ("--ridge", "1e-3")),
    *(
        Case(f"ridge {text}", 2, f"--ridge '{text}' is not a ridge", ("--method", "dalr-2017", "--ridge", text))
        for text in ("", "abs:", "-1", "nan", "inf", "some")
    ),
    Case("unknown method", 2, "--method 'pca' is not known", ("--method", "pca")),
    Case("unknown task", 2, "--task 'guess' is not known", ("--task", "guess")),
    Case("unknown device", 2, "--device 'tpu' is not known", ("--device", "tpu")),
    # The output.
    Case("report into a missing folder", 2, "nowhere", ("--rank", "8", "--json", "nowhere/report.json")),
    Case("report into a folder", 2, "out", ("--rank", "8", "--json", "out")),
]


def invoke(run: Run, case: Case, *more: str) -> Outcome:
    case.arrange()
    return run("optimize", case.model, OUTPUT, "--calib", case.calib, *case.options, *more)


def expect(outcome: Outcome, code: int, fragment: str) -> None:
    """One line that holds the fragment, one hint, nothing on stdout, no traceback."""
    assert outcome.code == code, outcome.stderr
    assert len(outcome.errors) == 1, outcome.stderr
    assert fragment in outcome.errors[0]
    assert len(outcome.hints) == 1, f"no hint beside {outcome.errors[0]!r}"
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_invocation_says_what_is_wrong_and_leaves_nothing(run: Run, case: Case) -> None:
    outcome = invoke(run, case)
    assert list(Path("out").iterdir()) == []
    expect(outcome, case.code, case.fragment)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_invocation_leaves_an_existing_output_as_it_was(run: Run, case: Case) -> None:
    OUTPUT.write_bytes(b"precious")
    model = Path("model.onnx").read_bytes()
    assert invoke(run, case, "--force").code == case.code
    assert OUTPUT.read_bytes() == b"precious"
    assert [entry.name for entry in Path("out").iterdir()] == [OUTPUT.name]
    assert Path("model.onnx").read_bytes() == model


@pytest.mark.parametrize(
    ("options", "near"),
    [
        (("--include", "frist"), "first"),
        (("--exclude", "W22"), "W2"),
        (("--rank", "secnd=8"), "second"),
    ],
)
def test_a_pattern_that_matches_nothing_names_near_ones(run: Run, options: tuple[str, ...], near: str) -> None:
    outcome = run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", *options)
    assert outcome.code == 2
    assert near in outcome.hints[0].replace(",", "").split()


def test_unreachable_params_name_the_closest_and_that_one_can_be_reached(run: Run) -> None:
    refused = run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--params", "1%")
    closest = refused.hints[0].split("--params ")[1].split(";")[0]
    assert run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--params", closest).code == 0
    Path(OUTPUT).unlink()
    below = str(int(closest) - 1)
    assert run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--params", below).code == 3


def test_a_drop_that_cannot_be_kept_names_one_that_can(run: Run) -> None:
    onnx.save(tiny.mlp((16, 200, 200, 4)), "wide.onnx")
    text = ("optimize", "wide.onnx", OUTPUT, "--calib", "calib.npz", "--task", "regress", "--max-drop")
    refused = run(*text, "0%")
    assert refused.code == 3
    assert "candidates loses" in refused.errors[0]
    assert not OUTPUT.exists()
    offered = refused.hints[0].split("--max-drop ")[1].split(")")[0]
    assert run(*text, offered).code == 0


@pytest.mark.parametrize(
    "options",
    [("--holdout", "0"), ("--params", "1%"), ("--rank", "999"), ("--rank", "8", "--json", "nowhere/report.json")],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_before_the_samples_are_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """Minutes of capture before a sentence that could have come at once cost a user's patience."""
    captured = []

    def noted(*arguments: Any, **named: Any) -> object:
        captured.append(True)
        return learn(*arguments, **named)

    monkeypatch.setattr("onnx_dalr.commands.learning.learn", noted)
    assert run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", *options).code in (2, 3, 5)
    assert not captured


def test_an_existing_output_is_kept_without_force(run: Run) -> None:
    OUTPUT.write_bytes(b"precious")
    expect(run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz"), 2, "small.onnx exists already")
    assert OUTPUT.read_bytes() == b"precious"


@pytest.mark.parametrize("how", ["itself", "another spelling", "symbolic link", "hard link"])
def test_the_output_is_never_the_input(run: Run, how: str) -> None:
    before = Path("model.onnx").read_bytes()
    name = {"itself": "model.onnx", "another spelling": "out/../model.onnx"}.get(how, "link.onnx")
    if how == "symbolic link":
        Path(name).symlink_to("model.onnx")
    if how == "hard link":
        Path(name).hardlink_to("model.onnx")
    outcome = run("optimize", "model.onnx", name, "--calib", "calib.npz", "--rank", 8, "--force")
    expect(outcome, 2, "the output is the input")
    assert Path("model.onnx").read_bytes() == before
    assert Path(name).samefile("model.onnx")


@pytest.mark.parametrize("target", ["model.onnx", "out/small.onnx", "calib.npz"])
def test_the_json_report_never_replaces_a_model_or_the_samples(run: Run, target: str) -> None:
    before = Path(target).read_bytes() if Path(target).exists() else None
    outcome = run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--rank", 8, "--json", target)
    assert outcome.code == 2
    assert (Path(target).read_bytes() if Path(target).exists() else None) == before


def test_the_data_file_of_the_input_is_never_replaced(run: Run) -> None:
    """A model that was renamed still reads its weights from the old name: model.onnx.data."""
    onnx.save(tiny.mlp(), "big.onnx", save_as_external_data=True, location="small.onnx.data", size_threshold=0)
    before = Path("small.onnx.data").read_bytes()
    outcome = run("optimize", "big.onnx", "small.onnx", "--calib", "calib.npz", "--rank", 8, "--force")
    assert Path("small.onnx.data").read_bytes() == before
    expect(outcome, 2, "small.onnx.data")


def test_a_data_file_that_exists_is_kept_without_force(run: Run) -> None:
    onnx.save(tiny.mlp(), "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    Path("small.onnx.data").write_bytes(b"precious")
    outcome = run("optimize", "big.onnx", "small.onnx", "--calib", "calib.npz", "--rank", 8)
    assert Path("small.onnx.data").read_bytes() == b"precious"
    expect(outcome, 2, "small.onnx.data exists already")


def test_a_missing_data_file_is_named(run: Run) -> None:
    onnx.save(tiny.mlp(), "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    Path("big.data").unlink()
    expect(run("optimize", "big.onnx", OUTPUT, "--calib", "calib.npz", "--rank", 8), 2, "big.data")


def test_an_output_that_is_a_folder_is_refused(run: Run) -> None:
    expect(run("optimize", "model.onnx", "out", "--calib", "calib.npz"), 2, "out is a folder")
    assert list(Path("out").iterdir()) == []


def test_an_output_in_a_missing_folder_is_refused_and_the_folder_not_made(run: Run) -> None:
    expect(run("optimize", "model.onnx", "new/small.onnx", "--calib", "calib.npz"), 2, "no such folder: new")
    assert not Path("new").exists()


def test_without_an_output_it_says_what_is_missing(run: Run) -> None:
    expect(run("optimize", "model.onnx", "--calib", "calib.npz"), 2, "OUT.onnx is missing")


@pytest.mark.skipif(os.name != "posix", reason="named pipes of POSIX")
def test_an_output_that_is_no_file_is_refused_and_not_replaced(run: Run) -> None:
    """--force on a device or a pipe: for root, OUT.onnx = /dev/null replaced the device."""
    os.mkfifo("pipe.onnx")
    outcome = run("optimize", "model.onnx", "pipe.onnx", "--calib", "calib.npz", "--rank", 8, "--force")
    assert Path("pipe.onnx").is_fifo()
    expect(outcome, 2, "pipe.onnx")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission_is_refused(run: Run) -> None:
    Path("out").chmod(0o500)
    expect(run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz"), 2, "cannot write")


def test_calib_is_required(run: Run) -> None:
    outcome = run("optimize", "model.onnx", OUTPUT)
    assert outcome.code == 2
    assert "--calib" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_an_unknown_option_is_refused(run: Run) -> None:
    outcome = run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--ranks", "8")
    assert outcome.code == 2
    assert "--rank" in outcome.stderr


def test_cuda_that_is_not_there_is_an_error_and_no_silent_fallback(run: Run) -> None:
    if open_session(Path("model.onnx"), "auto").provider == "CUDAExecutionProvider":
        pytest.skip("CUDA works here")
    outcome = run("optimize", "model.onnx", OUTPUT, "--calib", "calib.npz", "--device", "cuda")
    expect(outcome, 2, "--device cuda")
    assert list(Path("out").iterdir()) == []


# What only goes wrong after the work.


@pytest.fixture(params=[False, True], ids=["new output", "existing output"])
def kept(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Options for the run; afterwards the output is as it was before, and nothing lies beside it."""
    if request.param:
        OUTPUT.write_bytes(b"precious")
    yield ("optimize", "model.onnx", str(OUTPUT), "--calib", "calib.npz", "--rank", "8", "--force")
    assert [entry.name for entry in Path("out").iterdir()] == ([OUTPUT.name] if request.param else [])
    assert not request.param or OUTPUT.read_bytes() == b"precious"


def altered(change: Callable[[onnx.ModelProto], None]) -> Callable[..., Candidate]:
    """`build` with a mistake in it."""

    def wrong(*arguments: Any) -> Candidate:
        made = build(*arguments)
        change(made.proto)
        return made

    return wrong


def make_nan(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("dalr_A"))
    tensor.raw_data = np.full(tuple(tensor.dims), np.nan, np.float32).tobytes()


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"


def break_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "fragment"),
    [(make_nan, "NaN or infinity"), (rename_output, "another signature"), (break_graph, "not valid")],
)
@pytest.mark.parametrize(
    "more",
    [(), ("--holdout", "0"), ("--save-plan", "out/plan.json", "--save-stats", "out/stats.npz")],
    ids=["held out", "nothing held out", "plan and statistics too"],
)
def test_a_written_model_that_misbehaves_is_not_kept(
    run: Run,
    kept: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[onnx.ModelProto], None],
    fragment: str,
    more: tuple[str, ...],
) -> None:
    monkeypatch.setattr("onnx_dalr.write.produce.build", altered(change))
    expect(run(*kept, *more), 4, fragment)


def test_a_full_disk_is_the_users_to_solve(run: Run, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("onnx_dalr.write.produce.save", full)
    expect(run(*kept), 2, "No space left on device")


def test_a_half_written_file_on_a_full_disk_goes_away(
    run: Run, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(proto: onnx.ModelProto, _folder: Path | None, path: Path) -> None:
        path.write_bytes(proto.SerializeToString()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("onnx_dalr.write.produce.save", full)
    expect(run(*kept), 2, "No space left on device")


def test_a_bug_of_ours_is_exit_one_with_a_traceback_and_where_to_report_it(
    run: Run, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_arguments: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("onnx_dalr.write.produce.verify", bug)
    outcome = run(*kept)
    assert outcome.code == 1
    assert outcome.errors == ["error: a bug in onnx-dalr 0.1.0: RuntimeError: boom"]
    assert "please report it" in outcome.hints[0]
    assert "Traceback" in outcome.stderr
    assert outcome.stdout == ""


def test_running_out_of_memory_is_said_with_what_helps(
    run: Run, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnx_dalr.commands.learning.learn", huge)
    expect(run(*kept), 2, "out of memory")


def test_an_interrupt_is_exit_130(run: Run, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnx_dalr.write.produce.verify", interrupted)
    outcome = run(*kept)
    assert outcome.code == 130
    assert outcome.errors == ["error: interrupted: nothing was written"]
