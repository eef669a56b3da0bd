"""The result: its text is the table, its JSON has the same facts under the same names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_dalr
from onnx_dalr.results.json import SCHEMA, to_json
from tests.cli import tiny

RESULT = {
    "schema",
    "version",
    "versions",
    "command",
    "input",
    "output",
    "dry_run",
    "method",
    "factors",
    "target",
    "bytes_before",
    "bytes_after",
    "params_before",
    "params_after",
    "macs_before",
    "macs_after",
    "layers",
    "skipped",
    "samples",
    "quality",
    "latency",
    "memory",
    "promise",
    "device",
    "provider",
    "evaluations",
    "passes",
    "metric_passes",
    "curve",
    "seconds",
    "notes",
    "bytes_with_formats",
    "refitted",
    "tuning",
}
LAYER = {
    "name",
    "weight",
    "op",
    "nodes",
    "m",
    "n",
    "rank",
    "form",
    "break_even",
    "params_before",
    "params_after",
    "bytes_before",
    "bytes_after",
    "method",
    "calibration_error",
    "expected_error",
    "expected_distortion",
    "rows",
    "ridge",
    "shrinkage",
    "metric_shrinkage",
    "reason",
}
SKIPPED = {"name", "op", "reason", "weight", "shape"}
SAMPLES = {
    "description",
    "settings",
    "seed",
    "holdout",
    "fit",
    "select",
    "report",
    "report_description",
    "select_is_report",
    "proof",
    "fingerprint",
}
QUALITY = {
    "task",
    "n",
    "outputs",
    "error",
    "agreement",
    "accuracy_before",
    "accuracy_after",
    "expected_drop",
    "worst",
    "kl",
    "cosine",
    "score",
    "drop",
    "distortion",
    "finite",
    "score_before",
    "score_after",
    "notes",
}
OUTPUT = {"name", "kind", "describes", "counts", "why", "score", "value", "loss", "error", "max_abs", "kl"}
ESTIMATE = {"value", "low", "high", "n"}
POINT = {"allocation", "params", "bytes", "drop", "error", "distortion", "chosen"}
LATENCY = {"before", "after", "batch", "runs", "speedup"}
PHASES = {"load", "capture", "metric", "factorize", "decide", "rewrite", "save and verify"}


@pytest.fixture(scope="module")
def result(demo: Path) -> onnx_dalr.Result:
    return onnx_dalr.optimize(
        demo / "digits-target.onnx", calib=demo / "digits/calib", rank=["fc6=8", "fc7=300"], device="cpu"
    )


@pytest.fixture(scope="module")
def facts(result: onnx_dalr.Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.to_json())
    return found


def test_the_keys_of_the_json_are_a_contract(facts: dict[str, Any]) -> None:
    """Adding a key is fine and goes here; taking one away or renaming it is a new schema number."""
    assert facts["schema"] == SCHEMA == 2
    assert set(facts) == RESULT
    assert set(facts["layers"][0]) == LAYER
    assert facts["skipped"] == []
    assert set(facts["samples"]) == SAMPLES
    assert set(facts["quality"]) == QUALITY
    assert set(facts["quality"]["outputs"][0]) == OUTPUT
    for estimate in (facts["quality"]["error"], *(facts["quality"]["outputs"][0][name] for name in ("loss", "error"))):
        assert set(estimate) == ESTIMATE
    assert set(facts["curve"][0]) == POINT
    assert set(facts["latency"]) == LATENCY
    assert facts["memory"] is None  # its weights are kept: it is of no concern
    assert facts["promise"] is None
    assert set(facts["seconds"]) == PHASES


def test_what_was_skipped_has_these_keys() -> None:
    model = tiny.mlp()
    model.graph.node.append(helper.make_node("MatMul", ["y", "one"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 1), np.float32), "one"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 1]))
    found = onnx_dalr.optimize(model, calib=tiny.rows(), rank=8, device="cpu")
    (skipped,) = json.loads(found.to_json())["skipped"]
    assert set(skipped) == SKIPPED


def test_fields_and_json_agree(result: onnx_dalr.Result, facts: dict[str, Any]) -> None:
    for name in ("method", "target", "bytes_before", "bytes_after", "params_before", "params_after", "provider"):
        assert facts[name] == getattr(result, name)
    assert result.quality is not None
    assert facts["quality"]["accuracy_after"]["value"] == result.quality.accuracy_after.value  # type: ignore[union-attr]
    ranks = [None, None, None, None, 8, None, None]  # four kernels, then fc6, fc7 and fc8
    assert [layer["rank"] for layer in facts["layers"]] == [layer.rank for layer in result.layers] == ranks
    assert [layer["form"] for layer in facts["layers"]] == ["pair 8" if rank else "dense" for rank in ranks]
    assert facts["samples"]["fit"] == list(result.samples.fit)
    assert "model" not in facts


def test_the_layers_add_up_to_the_totals(result: onnx_dalr.Result) -> None:
    saved = sum(layer.params_before - layer.params_after for layer in result.layers)
    assert result.params_before - result.params_after == saved
    shed = sum(layer.bytes_before - layer.bytes_after for layer in result.layers)
    assert 0 <= shed - (result.bytes_before - result.bytes_after) < 1500


def test_every_printed_figure_of_quality_has_n_and_an_interval(result: onnx_dalr.Result) -> None:
    lines = {line.split()[0]: line for line in str(result).splitlines() if line.strip()}
    for figure in ("accuracy", "agreement", "error"):
        assert re.search(r"\[-?[\d.]+, -?[\d.]+\]", lines[figure]), lines[figure]
        assert "n=139" in lines[figure]


@pytest.mark.parametrize("figure", ["agreement", "accuracy_before", "accuracy_after", "error", "drop"])
def test_an_interval_holds_its_value(result: onnx_dalr.Result, figure: str) -> None:
    estimate = getattr(result.quality, figure)
    assert estimate.low <= estimate.value <= estimate.high


# How few samples there are is said first


def of_few(result: onnx_dalr.Result, n: int, score: str) -> str:
    """The first lines of the report as one, if so many samples had been held out."""
    assert result.quality is not None
    few = replace(result, quality=replace(result.quality, n=n, score=score))
    return " ".join(str(few).split("\n\n")[0].split())


@pytest.mark.parametrize(
    ("n", "shown"),
    [(29, "3/n = 10.3 points"), (12, "3/n = 25 points"), (3, "3/n = 100 points"), (1, "3/n = 100 points")],
)
@pytest.mark.parametrize("score", ["agreement", "accuracy"])
def test_few_samples_are_the_first_line_with_what_they_can_show(
    result: onnx_dalr.Result, n: int, score: str, shown: str
) -> None:
    said = f"few samples: {n} held out; with no answer changed in {n}, the 95 % bound of the drop is {shown}."
    assert of_few(result, n, score) == f"{said} A drop of 1 point takes about 300 to see."


@pytest.mark.parametrize("score", ["1 − error", "cosine", "balanced agreement", "mine"])
def test_of_a_score_that_counts_no_answers_only_their_number_is_said(result: onnx_dalr.Result, score: str) -> None:
    said = "few samples: 12 held out; the figures are of these 12, and may be far off on others."
    assert of_few(result, 12, score) == f"{said} A drop of 1 point takes about 300 to see."


def test_thirty_are_enough_to_begin_with_what_came_out(result: onnx_dalr.Result) -> None:
    assert of_few(result, 30, "agreement").startswith("written ")
    assert str(replace(result, quality=None)).startswith("written ")


# Every output


def test_of_several_outputs_each_has_a_line_and_the_worst_is_named() -> None:
    x = tiny.rows(300)
    found = onnx_dalr.optimize(two_outputs(), calib=x, rank=8, device="cpu")
    assert found.quality is not None
    text = str(found)
    lines = text[text.index("output  ") :].splitlines()[1:3]
    assert [line.split()[0] for line in lines] == ["y", "p"]
    assert found.quality.worst in ("y", "p")
    (worst,) = [line for line in lines if " (worst) " in line]
    assert worst.split()[0] == found.quality.worst


def test_an_output_that_is_not_scored_says_why() -> None:
    found = onnx_dalr.optimize(two_outputs(), calib=tiny.rows(300), rank=8, outputs="p", device="cpu")
    assert found.quality is not None
    assert (found.quality.worst, found.quality.task) == ("p", "classify")
    assert "not scored: not among outputs" in " ".join(str(found).split())


def two_outputs() -> ModelProto:
    model = tiny.mlp()
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["p"], axis=-1))
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 4]))
    return model


# The table


TABLE = """\
layer  op      shape  rank              bytes   kept  own error
fc6    Gemm  512×512     8  1.05 MB → 32.8 kB  3.1 %  #
why rank 300 would not make it smaller: 255 is the largest (fc7)
as it was 6 eligible (conv1_1, conv1_2, conv2_1 and 3 more)
"""


def test_the_table_is_this_one(result: onnx_dalr.Result) -> None:
    """All but the error, whose last digits may depend on the machine."""
    text = re.sub(r"(3\.1 %) +0\.\d{4}$", r"\1  #", str(result), flags=re.MULTILINE)
    assert TABLE in text


def test_the_totals_are_these(result: onnx_dalr.Result) -> None:
    text = str(result)
    assert "written        nothing: the model is in memory" in text
    assert re.search(r"^size           2\.18 MB → 1\.16 MB \(53\.\d %, 1\.9× smaller\)$", text, re.MULTILINE)
    assert re.search(r"^parameters     543,732 → 289,780 \(53\.3 %\)$", text, re.MULTILINE)
    assert re.search(r"^multiply-adds  2\.04M → 1\.78M a sample \(87\.5 %\)$", text, re.MULTILINE)
    assert re.search(r"^asked for      rank fc6=8, fc7=300; method dalr$", text, re.MULTILINE)


def test_the_text_is_plain_and_has_no_trailing_blanks(result: onnx_dalr.Result) -> None:
    text = str(result)
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_width_loses_a_name_or_a_number(result: onnx_dalr.Result, width: int) -> None:
    text = result.to_text(width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for shown in ("fc6", "fc7", "conv1_1", "and 3 more", "512×512", "255 is the largest"):
        assert shown in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_long_names_fold_and_leave_the_numbers_whole(width: int) -> None:
    model = tiny.mlp()
    name = "/encoder/layer.0/attention/self/query/a/rather/long/name/of/an/exporter/MatMul"
    model.graph.node[0].name = name
    text = onnx_dalr.optimize(model, calib=tiny.rows(), rank=8).to_text(width=width)
    assert max(map(len, text.splitlines())) <= width
    for number in ("48×16", "3.07 kB → 2.05 kB", "0."):
        assert number in text
    table = text[text.index("layer ") :]
    assert name in "".join(line.split("  ")[0].strip() for line in table.splitlines())


def test_names_with_brackets_are_no_markup() -> None:
    model = tiny.mlp()
    model.graph.node[0].name = "block[red]/[bold]first[/bold]"
    text = str(onnx_dalr.optimize(model, calib=tiny.rows(), rank=8))
    assert "block[red]/[bold]first[/bold]" in "".join(text.split())


def test_what_is_not_a_number_becomes_null() -> None:
    """JSON has no NaN; a file with one in it is read by nothing but Python."""
    result = onnx_dalr.optimize(tiny.mlp(), calib=np.ones((20, 16), np.float32), rank=8, device="cpu")
    json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_inspection_text_and_json_agree(demo: Path) -> None:
    found = onnx_dalr.inspect(demo / "digits-target.onnx")
    facts = json.loads(found.to_json())
    assert facts["schema"] == SCHEMA
    assert [layer["name"] for layer in facts["layers"]] == [layer.name for layer in found.layers]
    for layer in found.layers:
        assert layer.name in str(found)
    assert facts == json.loads(to_json(found))
