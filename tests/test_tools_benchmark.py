"""tools/benchmark.py: every method gets the same samples and the same bytes, and the tables say what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
from benchmark_data import Case, ClassTest, after, outputs
from benchmark_methods import CONTENDERS, Bench
from benchmark_pages import PART, RESULTS_PAGE, TABLES_PAGE, headline, merged
from benchmark_report import LOST, ORIGINAL, OUTDONE, Record, draw, markdown

from onnx_dalr.factorize import METHODS
from onnx_dalr.graph.layers import find
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import load
from onnx_dalr.learn.capture import capture
from onnx_dalr.session.session import open_session

CELL = Record(
    table="mnist",
    model="net",
    title="A net",
    samples=16,
    seed=0,
    unit="rank",
    method="svd",
    allocation="equal",
    amount=8.0,
    kept=0.5,
    params=100,
    bytes=2_000_000,
    seconds=1.0,
    test_seconds=1.0,
    measures={"kl": 0.01, "agreement": 0.9, "accuracy": 0.8},
    note="",
)
WHOLE = replace(CELL, samples=0, method=ORIGINAL, amount=0.0, bytes=4_000_000)


def kls(method: str, *values: float, **fields: Any) -> list[Record]:
    """One cell of a method, by seed."""
    return [
        replace(CELL, method=method, seed=seed, measures=CELL.measures | {"kl": value}, **fields)
        for seed, value in enumerate(values)
    ]


def lost(text: str, head: str = LOST) -> list[str]:
    """The cells listed under a heading."""
    section = text.partition(f"## {head}\n")[2].partition("\n## ")[0]
    return section.strip().splitlines()[2:]


@pytest.fixture(scope="module")
def case(demo: Path) -> Case:
    """The layers of the demo net behind its convolutions, on made-up features."""
    whole = load(demo / "digits-target.onnx")
    part = load(after(whole, "flatten.out"))
    pool, seen = (np.random.default_rng(seed).random((60, 512), np.float32) for seed in (1, 2))
    feeds = {"flatten.out": seen}
    reference = outputs(open_session(part.source()), feeds)
    test = ClassTest(feeds, reference.argmax(axis=-1), {}, reference)
    return Case(
        table="mnist",
        model="digits-target",
        title="Digits",
        whole=whole,
        part=part,
        include=("fc6", "fc7"),
        task="classify",
        pool={"flatten.out": pool},
        test=test,
        sizes=(40,),
        extra=0,
        amounts=(0.5, 0.1),
        unit="share",
    )


def test_what_follows_a_tensor_computes_what_the_whole_model_does(demo: Path) -> None:
    whole = load(demo / "digits-target.onnx")
    image = np.random.default_rng(0).random((3, 1, 16, 16), np.float32)
    logits = open_session(whole.source()).run({"image": image})[0]
    entering = open_session(probe(whole.proto, ["flatten.out"]).SerializeToString()).run({"image": image})[0]
    part = open_session(after(whole, "flatten.out").SerializeToString())
    np.testing.assert_allclose(part.run({"flatten.out": entering})[0], logits, rtol=0, atol=1e-5 * np.abs(logits).max())


def test_every_method_gets_the_same_parameters(case: Case) -> None:
    with Bench(case, 40, 0) as bench:
        budget = case.whole.params - 0.9 * bench.inside
        step = 2 * 1024  # the smallest of both layers
        for name in CONTENDERS:
            made = bench.make(name, "equal", 0.1)
            assert budget - step <= made.params <= budget, name
            assert made.bytes == pytest.approx(case.whole.size - 4 * (case.whole.params - made.params), abs=2000)


def test_the_figures_of_the_original_are_perfect_and_those_of_half_the_size_are_not_far(case: Case) -> None:
    assert case.test(open_session(case.part.source())) == {"kl": 0.0, "agreement": 1.0, "accuracy": 1.0}
    with Bench(case, 40, 0) as bench:
        half, tenth = (
            case.test(open_session(bench.make("dalr", "effect", amount).proto.SerializeToString()))
            for amount in (0.5, 0.1)
        )
    assert 0 < half["kl"] < tenth["kl"]


def test_a_method_reads_what_it_would_have_gathered_alone(case: Case) -> None:
    layers = [layer for layer in find(case.part)[0] if layer.name == "fc6"]
    drawn = case.drawn(40, 0)
    alone = capture(case.part, layers, METHODS["dalr"], [drawn], metric=True).statistics["fc6"].to_arrays()
    with Bench(case, 40, 0) as bench:
        own = bench._all.own(METHODS["dalr"])["fc6"].to_arrays()
    assert own.keys() == alone.keys()
    assert own["needs"] == alone["needs"]
    np.testing.assert_allclose(own["output"], alone["output"], rtol=1e-6)


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(case: Case) -> None:
    np.testing.assert_array_equal(case.drawn(16, 3)["flatten.out"], case.drawn(40, 3)["flatten.out"][:16])
    assert not np.array_equal(case.drawn(16, 3)["flatten.out"], case.drawn(16, 4)["flatten.out"])


def test_a_cell_is_the_mean_and_spread_over_the_seeds_and_the_best_is_bold() -> None:
    text = markdown([WHOLE, *kls("svd", 0.02, 0.04), *kls("optimize", 0.001, 0.003, allocation="chosen")])
    assert "| KL, 10⁻³ nats | k = 8 | seconds |" in text
    assert "| svd | 30.0 ±14.1 | 1.0 |" in text
    assert "| optimize | **2.00 ±1.41** | 1.0 |" in text
    assert "| *model, MB* | *2.00* | |" in text
    assert lost(text) == ["None."]


@pytest.mark.parametrize(("theirs", "better"), [((0.010, 0.012, 0.014), False), ((0.009, 0.0112, 0.013), True)])
def test_a_cell_is_lost_only_beyond_noise(theirs: tuple[float, ...], better: bool) -> None:
    ours = kls("optimize", 0.0101, 0.0120, 0.0141, allocation="chosen")
    text = markdown([WHOLE, *ours, *kls("svd-bc", *theirs)])
    listed = "- A net, 16 samples, k = 8: 12.1 ±2.0 against 11.1 ±2.0 of *svd-bc*"
    assert lost(text) == [listed if better else "None."]


def test_a_cell_lost_to_a_variant_of_ours_is_listed_apart() -> None:
    records = [WHOLE, *kls("optimize", 0.2, allocation="chosen"), *kls("dalr", 0.1)]
    assert lost(markdown(records)) == ["None."]
    assert lost(markdown(records), OUTDONE) == ["- A net, 16 samples, k = 8: 200 against 100 of *dalr*"]


def test_with_little_kept_only_what_is_lost_to_other_methods_is_listed() -> None:
    records = [
        WHOLE,
        *kls("optimize", 0.2, kept=0.05, allocation="chosen"),
        *kls("svd", 0.1, kept=0.05),
        *kls("dalr", 0.1, kept=0.05),
    ]
    assert lost(markdown(records)) == ["- A net, 16 samples, k = 8: 200 against 100 of *svd*"]
    assert lost(markdown(records), OUTDONE) == ["None."]


def test_tables_are_made_again_from_the_files_of_earlier_runs(tmp_path: Path) -> None:
    for name, record in (("one", CELL), ("two", replace(CELL, measures=CELL.measures | {"kl": 0.5}))):
        (tmp_path / name).write_text(json.dumps({"records": [asdict(WHOLE), asdict(record)]}), encoding="utf-8")
    out = tmp_path / "out.md"
    benchmark.main(["--again", str(tmp_path / "one"), str(tmp_path / "two"), "--markdown", str(out)])
    assert "| svd | **500** | 1.0 |" in out.read_text(encoding="utf-8")  # the later file's


def test_a_plot_is_drawn_for_every_table_and_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    both = [WHOLE, *kls("svd", 0.02, 0.04), *kls("svd", 0.1, amount=4.0, kept=0.25)]
    draw([*both, *(replace(record, model="vgg-cifar-source") for record in both)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnist-source.png", "mnist.png"]


PAGE = """# Tables

## A net

Original (`net`): 4.00 MB, accuracy 98.00 %.

### 16 samples, 2 draws

| KL, 10⁻³ nats | k = 8 | k = 4 | seconds |
|---|---:|---:|---:|
| *model, MB* | *2.00* | *1.00* | |
| svd | 30.0 ±1.0 | 40.0 ±1.0 | 1.0 |
| optimize | **20.0 ±1.0** | **10.0 ±1.0** | 1.0 |

## By hand

Stays.
"""


def test_a_part_that_is_measured_again_takes_its_places_on_the_page_and_the_rest_stays() -> None:
    made = markdown([WHOLE, *kls("optimize", 0.034, 0.036, allocation="chosen")])
    page = merged(PAGE, made)
    assert "| svd | **30.0 ±1.0** | 40.0 ±1.0 | 1.0 |" in page
    assert "| optimize | 35.0 ±1.4 | **10.0 ±1.0** | 1.0 |" in page
    assert page.endswith("## By hand\n\nStays.\n")


def test_a_page_is_not_changed_by_its_own_tables() -> None:
    assert merged(PAGE, PAGE) == PAGE


def test_cells_that_are_listed_are_listed_again_only_for_what_was_measured() -> None:
    head = f"\n## {LOST}\n\nBeyond noise.\n\n- Another net, 16 samples, k = 8: old\n- A net, 16 samples, k = 8: old\n"
    made = markdown([WHOLE, *kls("optimize", 0.2, allocation="chosen"), *kls("svd", 0.1)])
    listed = [line.partition(":")[2] for line in lost(merged(PAGE + head, made, (LOST,)))]
    assert listed == [" old", " 200 against 100 of *svd*"]


def test_a_network_that_the_page_does_not_have_yet_is_added_to_it() -> None:
    page = merged(PAGE, markdown([replace(each, title="New") for each in (WHOLE, *kls("svd", 0.1))]))
    assert page.startswith(PAGE.rstrip())
    assert page.partition("## New\n")[2].count("| svd |") == 2


def test_the_table_at_the_head_of_the_results_is_what_the_page_of_tables_says() -> None:
    docs = Path(__file__).resolve().parent.parent / "docs"
    results, page = ((docs / name).read_text(encoding="utf-8") for name in (RESULTS_PAGE, TABLES_PAGE))
    assert PART.put(results, headline(page)) == results
    assert len(headline(page).splitlines()) > 20


def test_the_docs_are_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / TABLES_PAGE).write_text(PAGE, encoding="utf-8")
    (tmp_path / RESULTS_PAGE).write_text(f"# Results\n\n{PART.begin}\nold\n{PART.end}\n\nText.\n", encoding="utf-8")
    (tmp_path / "run.json").write_text(json.dumps({"records": [asdict(WHOLE), asdict(CELL)]}), encoding="utf-8")
    benchmark.main(["--again", str(tmp_path / "run.json"), "--docs", str(tmp_path)])
    assert "| svd | **10.0** | 40.0 ±1.0 | 1.0 |" in (tmp_path / TABLES_PAGE).read_text(encoding="utf-8")
    results = (tmp_path / RESULTS_PAGE).read_text(encoding="utf-8")
    assert "old" not in results
    assert results.endswith(f"{PART.end}\n\nText.\n")
