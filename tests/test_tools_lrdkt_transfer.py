"""tools/lrdkt_transfer.py: one start learns in several ways, the teacher stays as it is, and the page says how."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lrdkt_transfer
import numpy as np
import onnx
import pytest
from benchmark_data import ClassTest, outputs
from lrdkt_transfer_cases import CASES, TransferCase
from lrdkt_transfer_lesson import Samples, Transfer
from lrdkt_transfer_page import ORIGINAL, PART, START, TITLES, Means, TransferRecord, findings, made, table
from lrdkt_transfer_ways import ANSWERED, LABELS_ONLY, OURS, RECIPE, WAYS, of_answered, terms
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.special import log_softmax

from onnx_dalr.session.session import open_session
from tests.conftest import REPOSITORY

CLASSES, INPUTS = 4, 12
NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 12] x) => (float[N, 4] logits) {
    a = Gemm<transB: int = 1>(x, W1, b1)
    first = Relu(a)
    c = Gemm<transB: int = 1>(first, W2, b2)
    second = Relu(c)
    logits = Gemm<transB: int = 1>(second, W3, b3)
}"""


def samples(count: int, seed: int) -> Samples:
    """A cloud of points for every class, one label in eight unknown."""
    middles = np.random.default_rng(7).standard_normal((CLASSES, INPUTS))
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    points = (middles[labels] + 0.7 * random.standard_normal((count, INPUTS))).astype(np.float32)
    return Samples(points, np.where(random.random(count) < 0.125, -1, labels))


def net(path: Path, *, rank: int | None) -> None:
    """A net that tells the clouds apart; with a rank its second layer as two, the truncated SVD of the weights."""
    random = np.random.default_rng(11)
    values = {
        "W1": random.standard_normal((24, INPUTS)) / 3,
        "b1": 0.3 * random.standard_normal(24),
        "W2": random.standard_normal((24, 24)) / 4,
        "b2": 0.3 * random.standard_normal(24),
        "W3": random.standard_normal((CLASSES, 24)) / 2,
        "b3": np.zeros(CLASSES),
    }
    text = NET
    if rank is not None:
        U, s, V = np.linalg.svd(values.pop("W2"))
        values |= {"B": s[:rank, None] * V[:rank], "A": U[:, :rank]}
        one, two = "latent = Gemm<transB: int = 1>(first, B)", "c = Gemm<transB: int = 1>(latent, A, b2)"
        text = NET.replace("c = Gemm<transB: int = 1>(first, W2, b2)", f"{one}\n    {two}")
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items())
    onnx.save(model, path)


@pytest.fixture
def case(tmp_path: Path) -> TransferCase:
    teacher = tmp_path / "teacher.onnx"
    net(teacher, rank=None)
    unseen = samples(200, 2)
    feeds = {"x": unseen.images}
    reference = outputs(open_session(teacher, "cpu"), feeds)
    pool = samples(400, 1)

    def start(images: NDArray[np.float32], out: Path) -> None:
        assert len(images) == 300
        net(out, rank=2)

    return TransferCase(
        "mnist-3",
        teacher,
        start,
        pool,
        pool,
        samples=300,
        test=ClassTest(feeds, reference.argmax(axis=1), {}, reference),
        steps=120,
        draws=1,
        two=("first", "second"),
        mixed=True,
    )


def test_every_way_learns_from_one_start_and_rows_that_are_there_are_not_measured_again(case: TransferCase) -> None:
    teacher = case.teacher.read_bytes()
    rows = list(lrdkt_transfer.measured(case, 0, "now", {}))
    assert [row.way for row in rows] == [ORIGINAL, START, *WAYS]
    found = {row.way: row for row in rows}
    assert found[ORIGINAL].measures["kl"] == pytest.approx(0, abs=1e-6)
    assert found[OURS].measures["kl"] < 0.5 * found[START].measures["kl"]
    assert found[OURS].measures["kl"] < found[LABELS_ONLY].measures["kl"]
    for way in WAYS:
        assert found[way].after < found[way].before
        assert 0 < found[way].at <= found[way].steps == case.steps
        assert found[way].bytes == pytest.approx(found[START].bytes, abs=200)
    assert case.teacher.read_bytes() == teacher
    held = {row.cell: row for row in rows}
    assert list(lrdkt_transfer.measured(case, 0, "later", held)) == []
    del held[case.name, RECIPE, 0]
    (again,) = lrdkt_transfer.measured(case, 0, "later", held)
    assert again.measures["kl"] == pytest.approx(found[RECIPE].measures["kl"], rel=1e-2)


def test_the_loss_of_labels_is_their_cross_entropy_and_counts_only_those_that_are_known(case: TransferCase) -> None:
    student = case.teacher.with_name("student.onnx")
    case.start(case.shown.drawn(300, 0).images, student)
    taught = case.taught.drawn(300, 0)
    transfer = Transfer(case.teacher, onnx.load(student), taught, case.tensors, 0)
    learned = transfer.learned(case.terms(WAYS[LABELS_ONLY]), 5, mixed=False)
    order = np.random.default_rng(0).permutation(300)[:50]
    says = log_softmax(outputs(open_session(student, "cpu"), {"x": taught.images[order]}).astype(np.float64), axis=1)
    lost = [-row[label] for row, label in zip(says, taught.labels[order], strict=True) if label >= 0]
    assert 0 < len(lost) < 50
    assert learned.before == pytest.approx(sum(lost) / 50, rel=1e-4)


def test_terms_are_those_of_the_way() -> None:
    named = {name: [term.tensor for term in terms(way, "y", ("h1", "h2"), ("own",))] for name, way in WAYS.items()}
    assert named[LABELS_ONLY] == [ANSWERED]
    assert named[RECIPE] == [ANSWERED, "y", "h1", "h2"]
    assert named[OURS] == ["y", "own"]
    weights = of_answered(np.array([[0, 1], [0, 0], [1, 0], [0.5, 0.5]], np.float32), 4, None)
    assert weights.ravel().tolist() == [0.25, 0, 0.25, 0.25]


def record(case: str, way: str, accuracy: float, kl: float, seed: int = 0, **fields: Any) -> TransferRecord:
    measures = {"kl": kl, "agreement": accuracy, "accuracy": accuracy}
    return TransferRecord(case, way, seed, "abc1234 (a day)", samples=500, steps=200, measures=measures, **fields)


RECORDS = [
    record("mnist-5", ORIGINAL, 0.99, 0.0),
    record("mnist-5", START, 0.80, 0.5),
    record("mnist-5", LABELS_ONLY, 0.84, 0.4),
    record("mnist-5", RECIPE, 0.90, 0.2),
    record("mnist-5", OURS, 0.94, 0.08),
    record("mnist-5", OURS, 0.96, 0.12, seed=1),
    record("domain-animals", START, 0.70, 0.3),
    record("domain-animals", LABELS_ONLY, 0.74, 0.3),
    record("domain-animals", RECIPE, 0.73, 0.15),
    record("domain-animals", OURS, 0.75, 0.1),
    record("domain-vehicles", START, 0.60, 0.6),
    record("domain-vehicles", OURS, 0.65, 0.4),
]


def test_a_table_has_a_line_for_every_start_its_best_in_bold_and_means_of_draws() -> None:
    means = Means(RECORDS)
    head, _, first, second, third = table(means, "accuracy")
    assert head == f"| start | images, steps | original | decomposed | labels | {RECIPE} | ours |"
    assert first == (f"| {TITLES['mnist-5']} | 500, 200 | 99.00 | 80.00 | 84.00 | 90.00 | **95.00 ±1.41** |")
    assert second.endswith("| – | 70.00 | 74.00 | 73.00 | **75.00** |")
    assert third.endswith("| – | 60.00 | – | – | **65.00** |")
    assert list(table(means, "kl"))[2].endswith("| 0.0 | 500.0 | 400.0 | 200.0 | **100.0 ±28.3** |")


def test_findings_are_of_the_lines_that_have_both() -> None:
    told = "\n".join(findings(Means(RECORDS)))
    assert "the control that the paper lacks: +2.50 points (−1.00 to +6.00), ahead in 1 of 2 lines" in told
    assert "0.50 times its KL (0.50 to 0.50)" in told
    assert "against the recipe**: +3.50 points (+2.00 to +5.00), ahead in 2 of 2 lines" in told
    assert "70.00 → 75.00 % on animals, 60.00 → 65.00 % on vehicles alone" in told
    assert "T = 1" not in told
    assert list(findings(Means([]))) == []


def test_the_page_keeps_what_stands_around_and_has_its_place() -> None:
    page = PART.put(f"before\n{PART.begin}\nold\n{PART.end}\nafter\n", made(RECORDS))
    assert page.startswith(f"before\n{PART.begin}\n\n`python tools/lrdkt_transfer.py")
    assert "old" not in page
    assert page.endswith(f"\n\n{PART.end}\nafter\n")
    with pytest.raises(SystemExit, match="has no lines"):
        PART.put("nothing", "")
    assert PART.put((REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8"), "new").count("\nnew\n") == 1


def test_rows_of_an_earlier_run_are_read_and_written(tmp_path: Path) -> None:
    first, docs = tmp_path / "first.json", tmp_path / "docs"
    docs.mkdir()
    (docs / "benchmarks.md").write_text(f"{PART.begin}\n{PART.end}\n", encoding="utf-8")
    held = {one.cell: one for one in RECORDS}
    lrdkt_transfer.write(first, held)
    assert lrdkt_transfer.read([first]) == held
    newer = tmp_path / "newer.json"
    lrdkt_transfer.write(newer, {RECORDS[1].cell: replace(RECORDS[1], made_by="later")})
    both = tmp_path / "both.json"
    lrdkt_transfer.main(["--again", str(first), str(newer), "--json", str(both), "--docs", str(docs)])
    rows = json.loads(both.read_text(encoding="utf-8"))["records"]
    assert len(rows) == len(RECORDS)
    assert rows[1]["made_by"] == "later"
    assert "**95.00 ±1.41**" in (docs / "benchmarks.md").read_text(encoding="utf-8")


def test_cases_have_titles_and_their_hints_are_tensors_of_the_networks(assets: Path) -> None:
    assert list(CASES) == list(TITLES)
    for name in ("mnist-2", "vgg-gap", "domain-vehicles"):
        case = CASES[name](assets)
        tensors = {output for node in onnx.load(case.teacher).graph.node for output in node.output}
        assert case.name == name
        assert set(case.tensors) <= tensors
    assert (CASES["domain-vehicles"](assets).taught.labels == -1).all()
