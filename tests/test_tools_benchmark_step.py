"""tools/benchmark_step.py: what is timed is half as large and computes the same on both sides; the page says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark_step
import numpy as np
import pytest
from benchmark_step_cases import BATCH, StepCase, case_of, halved
from benchmark_step_page import PART, StepRecord, digits, table
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_dalr.graph.storage.model import Model, count_params
from onnx_dalr.quality.measures import Classes, Embedding, Measure
from tests.conftest import REPOSITORY
from tests.graph.helpers import initializers, model, values

RECORD = StepRecord(
    "minilm", "MiniLM-L6, 32 texts", 1, 5_301_504, 0.2525, 0.3939, 0.641, 0.6, 0.66, 21, 1e-6, 1.2e-6, "abc (1 May)"
)
TEXT = """g (float[N,6,24] x) => (float[N,6,32] y) {
    a = MatMul(x, A)  b = Add(bias, a)
    c = Div(b, root)  d = Erf(c)  e = Add(d, one)  f = Mul(b, e)  h = Mul(f, half)
    i = LayerNormalization <axis = -1> (h, scale, shift)
    j = MatMul(i, B)  k = Add(j, last)  s = Softmax <axis = -1> (k)  y = Mul(s, k)
}"""
IMAGES = """g (float[N,3,8,8] x) => (float[N,6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, W1, b1)  r = Relu(a)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    b = Conv <pads = [0, 1, 0, 1]> (p, W2, b2)  f = Flatten(b)  y = Gemm <transB = 1> (f, W3, b3)
}"""


def text() -> tuple[Model, dict[str, NDArray[Any]], Measure]:
    numbers = {name: np.float32(value) for name, value in {"root": 2**0.5, "one": 1.0, "half": 0.5}.items()}
    constants = {name: np.asarray(value) for name, value in numbers.items()}
    shapes = {"A": (24, 40), "bias": (40,), "scale": (40,), "shift": (40,), "B": (40, 32), "last": (32,)}
    made = model(TEXT, **constants, **{name: values(name, shape) / 5 for name, shape in shapes.items()})
    return Model(made), {"x": values("x", (BATCH, 6, 24))}, Embedding()


def images() -> tuple[Model, dict[str, NDArray[Any]], Measure]:
    shapes = {"W1": (16, 3, 3, 3), "b1": (16,), "W2": (20, 16, 3, 3), "b2": (20,), "W3": (6, 160), "b3": (6,)}
    made = model(IMAGES, **{name: values(name, shape) / 5 for name, shape in shapes.items()})
    return Model(made), {"x": values("x", (BATCH, 3, 8, 8))}, Classes()


MODELS = pytest.mark.parametrize("made", [text, images])


def case(made: Any) -> StepCase:
    original, feed, measure = made()
    return case_of("tiny", "a tiny one", original, feed, "y", measure)


# What is timed


@MODELS
def test_layers_have_half_of_their_numbers(made: Any) -> None:
    original = made()[0]
    rewritten = halved(original)
    new = initializers(rewritten.proto)
    assert rewritten.tensors
    for names in rewritten.tensors.values():
        held = {name: new[name].size for name in names if name in new}
        weight = initializers(original.proto)[next(iter(held)).split(".dalr")[0]]
        assert 0.25 * weight.size < sum(held.values()) <= 0.5 * weight.size + 40  # a bias may be new
    assert count_params(rewritten.proto) < 0.7 * count_params(original.proto)


def test_kernels_are_a_column_before_a_row_of_the_truncated_svd() -> None:
    original = images()[0]
    new, W = initializers(halved(original).proto), initializers(original.proto)["W2"].astype(np.float64)
    B, A = (new[f"W2.dalr_{role}"].astype(np.float64) for role in "BA")
    rank = len(B)
    assert (B.shape, A.shape) == ((rank, 16, 3, 1), (20, rank, 1, 3))
    rows = [[W[m, n, i, j] for n in range(16) for i in range(3)] for m in range(20) for j in range(3)]
    sigma = np.linalg.svd(np.array(rows), compute_uv=False)
    lost = ((np.einsum("kni,mkj->mnij", B[..., 0], A[:, :, 0]) - W) ** 2).sum()
    assert lost == pytest.approx((sigma[rank:] ** 2).sum(), rel=1e-3)


@MODELS
def test_a_case_tunes_factors_and_biases_and_norms(made: Any) -> None:
    tiny = case(made)
    assert tiny.graph.ended == ()
    assert list(tiny.start) == list(tiny.graph.gradients)
    names = {name for name in tiny.start if ".dalr_" not in name}
    assert names == ({"bias", "scale", "shift", "last"} if made is text else {"b1", "b2", "b3"})
    assert tiny.target.shape == ((BATCH, 6, 32) if made is text else (BATCH, 6))
    assert isinstance(tiny.student, ModelProto)
    assert tiny.classes == (made is images)


def test_steps_of_ours_go_downhill() -> None:
    ours = benchmark_step.Ours(case(images), 1)
    before, _ = ours.gradients()
    for _ in range(20):
        ours.step()
    after, _ = ours._stepper.gradients(ours._case.feed, ours._tensors)
    assert after < before
    assert ours.gradients()[0] == before  # the start is left as it is


def test_what_differs_is_found() -> None:
    tiny = case(images)
    ours = benchmark_step.Ours(tiny, 1)
    says, (_, own) = ours.says(), ours.gradients()
    assert benchmark_step.differences(tiny, ours, says, own) == (0.0, 0.0)
    wrong = {name: g * np.float32(1.01 if name == "b2" else 1) for name, g in own.items()}
    answers, gradients = benchmark_step.differences(tiny, ours, says + np.float32(0.02) * np.abs(says).max(), wrong)
    assert answers == pytest.approx(0.02, rel=1e-3)
    assert gradients == pytest.approx(0.01, rel=1e-3)


def test_each_is_first_every_other_round() -> None:
    order: list[str] = []
    clock = iter([0.0, 1.0, 10.0, 13.0] * 2)
    for swapped in (False, True):
        seconds = benchmark_step._round(
            lambda: order.append("ours"), lambda: order.append("torch"), lambda: next(clock), swapped=swapped
        )
        assert seconds == ((3.0, 1.0) if swapped else (1.0, 3.0))
    assert order == ["ours", "torch", "torch", "ours"]


@MODELS
def test_pytorch_computes_the_same(made: Any) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmark_step_torch import TorchModel, TorchSteps

    tiny = case(made)
    other, ours = TorchSteps(tiny, 1), benchmark_step.Ours(tiny, 1)
    answers, gradients = benchmark_step.differences(tiny, ours, *other.found())
    assert max(answers, gradients) < 1e-4
    calls = [call.op for call in TorchModel(tiny.student, tiny.start, tiny.feed)._calls]
    if made is text:
        assert calls == ["MatMul", "Linear", "Gelu", "LayerNormalization", "MatMul", "Linear", "Softmax", "Mul"]
    else:
        assert calls.count("Conv") == 4
    other.step()


# The page


def test_a_row_says_what_was_measured() -> None:
    made = table([RECORD, replace(RECORD, threads=2, ratio=1.2, torch=0.00512)])
    assert made.count("abc (1 May)") == 1
    rows = made.splitlines()[-2:]
    wanted = "| MiniLM-L6, 32 texts | 5,301,504 | 1 | 394 | 252 | **0.64** (0.60 to 0.66) | 1e-06 |"
    assert rows[0] == wanted
    assert rows[1].startswith("| MiniLM-L6, 32 texts | 5,301,504 | 2 | 5.12 | 252 | **1.20** (0.60")
    assert [digits(value) for value in (0.123, 9.876, 12.34, 123.4)] == ["0.12", "9.88", "12.3", "123"]
    assert RECORD.line() == (
        "minilm, 1 thread: PyTorch 393.9 ms, ours 252.5 ms, 0.64 of it (0.60 to 0.66), gradients within 1e-06"
    )


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"before\n{PART.begin}\nold\n{PART.end}\nafter"
    assert PART.put(page, "new") == f"before\n{PART.begin}\n\nnew\n\n{PART.end}\nafter"
    assert PART.put(PART.put(page, "new"), "newer") == f"before\n{PART.begin}\n\nnewer\n\n{PART.end}\nafter"
    with pytest.raises(SystemExit, match=r"benchmarks\.md has no lines"):
        PART.put("nothing", "new")


def test_records_are_read_back_and_a_page_is_made_of_them_without_measuring(tmp_path: Path) -> None:
    other = replace(RECORD, threads=2)
    file, again = tmp_path / "step.json", tmp_path / "again.json"
    benchmark_step.write(file, {one.cell: one for one in (RECORD, other)})
    assert benchmark_step.read(file) == {("minilm", 1): RECORD, ("minilm", 2): other}
    (tmp_path / PART.page).write_text(f"x\n{PART.begin}\n{PART.end}\ny\n", encoding="utf-8")
    benchmark_step.main(["--again", str(file), "--json", str(again), "--docs", str(tmp_path)])
    assert again.read_bytes() == file.read_bytes()
    assert table([RECORD, other]) in (tmp_path / PART.page).read_text(encoding="utf-8")


def test_without_models_and_records_it_says_what_it_wants(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONNX_DALR_ASSETS", raising=False)
    with pytest.raises(SystemExit):
        benchmark_step.main([])
    assert "give ASSETS, or --again FILE" in capsys.readouterr().err


def test_the_page_of_the_docs_has_its_marks() -> None:
    page = (REPOSITORY / "docs" / PART.page).read_text(encoding="utf-8")
    assert PART.put(page, "new").count("new") > 0
    assert page.count(PART.begin) == page.count(PART.end) == 1
