"""`--weights` from the samples to the file: smaller, as good as it says, and the same to its callers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnx_dalr
from onnx_dalr import Plan, TargetError
from onnx_dalr.graph.storage.model import count_params
from onnx_dalr.session.session import open_session
from tests.cli import tiny

X = tiny.rows(120)
WIDE = (16, 96, 96, 4)


def outputs(model: ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    (found, *_) = open_session(model.SerializeToString(), "cpu").run(feed)
    return np.asarray(found)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("word", "share", "error"),
    [("float16", 0.55, 1e-3), ("int8", 0.33, 0.02), ("int4", 0.25, 0.2), ("auto", 0.33, 0.02)],
)
def test_the_file_is_smaller_and_has_as_many_numbers(word: str, share: float, error: float) -> None:
    model = tiny.mlp((16, 128, 128, 4))
    result = onnx_dalr.optimize(model, calib=X, weights=word, params="100%", task="regress")
    if word == "auto":
        assert {layer.form.format for layer in result.layers} == {"int8"}
    assert result.bytes_after < share * result.bytes_before
    assert result.params_after == result.params_before == count_params(result.model)
    assert result.quality is not None
    assert result.quality.error.value < error
    onnx.checker.check_model(result.model, full_check=True)
    assert result.model.opset_import == model.opset_import


def test_auto_is_never_worse_than_ranks_or_bits_alone_at_equal_bytes() -> None:
    model = tiny.mlp(WIDE)
    for size in ("45%", "33%"):
        errors = {}
        for word in ("keep", "auto"):
            result = onnx_dalr.optimize(model, calib=tiny.rows(400), weights=word, size=size, task="regress")
            assert result.quality is not None
            errors[word] = result.quality.error.value
        assert errors["auto"] < 0.5 * errors["keep"]


def test_a_plan_names_the_forms_and_makes_the_same_model_again(tmp_path: Path) -> None:
    model = tiny.mlp(WIDE)
    onnx.save(model, tmp_path / "m.onnx")
    first = onnx_dalr.optimize(
        tmp_path / "m.onnx",
        tmp_path / "one.onnx",
        calib=X,
        weights="auto",
        size="30%",
        task="regress",
        save_plan=tmp_path / "plan.json",
        save_stats=tmp_path / "stats.npz",
    )
    plan = Plan.load(tmp_path / "plan.json")
    assert [choice.form for choice in plan.choices] == [layer.form for layer in first.layers]
    again = onnx_dalr.optimize(tmp_path / "m.onnx", tmp_path / "two.onnx", plan=plan, stats=tmp_path / "stats.npz")
    assert (tmp_path / "two.onnx").read_bytes() == (tmp_path / "one.onnx").read_bytes()
    assert [layer.form for layer in again.layers] == [one.form for one in first.layers if not one.form.untouched]
    applied = plan.apply(tmp_path / "m.onnx", stats=tmp_path / "stats.npz")
    assert applied.graph == onnx.load(tmp_path / "one.onnx").graph


def test_a_plan_is_edited_by_hand(tmp_path: Path) -> None:
    model = tiny.mlp(WIDE)
    plan = onnx_dalr.analyze(model, calib=X, weights="int8", task="regress").plan(params="100%")
    plan.save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text().replace('"dense int8"', '"pair 6 int4/64"', 1)
    (tmp_path / "plan.json").write_text(text)
    result = onnx_dalr.optimize(model, calib=X, plan=tmp_path / "plan.json", task="regress")
    assert [str(layer.form) for layer in result.layers] == ["pair 6 int4/64", "dense int8", "dense int8"]


def test_statistics_that_know_nothing_of_rounding_do_all_the_same(tmp_path: Path) -> None:
    model = tiny.mlp(WIDE)
    onnx_dalr.optimize(model, calib=X, size="70%", task="regress", save_stats=tmp_path / "stats.npz")
    result = onnx_dalr.optimize(model, stats=tmp_path / "stats.npz", weights="int8", params="100%")
    assert {str(layer.form) for layer in result.layers} == {"dense int8"}


def test_a_format_for_some_layers_alone() -> None:
    result = onnx_dalr.optimize(tiny.mlp(WIDE), calib=X, weights="second=int8", size="60%", task="regress")
    formats = {layer.name: layer.form.format for layer in result.layers}
    assert (formats["first"], formats["third"]) == ("keep", "keep")
    assert formats["second"].startswith("int8")


# Weights in one piece


def tokens() -> ModelProto:
    random = np.random.default_rng(0)
    weights = {
        "table": random.standard_normal((300, 32)).astype(np.float32),
        "W": random.standard_normal((32, 24)).astype(np.float32),
        "b": np.zeros(24, np.float32),
    }
    text = tiny.TOKENS.replace("24] y", "24] y")
    return tiny.with_weights(text, weights)


def token_samples(count: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    ids = random.integers(0, 120, size=(count, 6))
    return {"ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.mark.parametrize("word", ["int8", "int4"])
def test_a_token_that_no_sample_has_is_still_close_to_what_it_was(word: str) -> None:
    model = tokens()
    result = onnx_dalr.optimize(model, calib=token_samples(), weights=word, params="100%", task="regress")
    unseen = np.arange(120, 300)[None]
    feed = {"ids": unseen, "attention_mask": np.ones_like(unseen)}
    before, after = outputs(model, feed)[0], outputs(result.model, feed)[0]
    cosines = np.sum(before * after, axis=1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > (0.999 if word == "int8" else 0.95)
    assert {layer.op for layer in result.layers} == {"Gather", "MatMul"}


def conv_net(groups: int) -> ModelProto:
    """Two kernels, of which the second is in groups anyway."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "K1"], ["h"], "one", pads=[1, 1, 1, 1], group=groups),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "K2"], ["y"], "two", group=4),
    ]
    graph = helper.make_graph(
        nodes,
        "convs",
        [helper.make_tensor_value_info("x", 1, ["N", 8, 6, 6])],
        [helper.make_tensor_value_info("y", 1, ["N", 32, 4, 4])],
        [
            numpy_helper.from_array(random.standard_normal((64, 8 // groups, 3, 3)).astype(np.float32), "K1"),
            numpy_helper.from_array(random.standard_normal((32, 16, 3, 3)).astype(np.float32), "K2"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_model_without_a_single_layer_to_factor_gets_smaller() -> None:
    x = np.random.default_rng(2).standard_normal((30, 8, 6, 6)).astype(np.float32)
    with pytest.raises(onnx_dalr.NothingToGainError):
        onnx_dalr.optimize(conv_net(2), calib=x)
    result = onnx_dalr.optimize(conv_net(2), calib=x, weights="int8", task="regress")
    assert result.bytes_after < 0.4 * result.bytes_before
    assert [layer.op for layer in result.layers] == ["Conv", "Conv"]
    assert result.quality is not None
    assert result.quality.error.value < 0.02
    assert "rounded to nearest 2 that no samples are captured for (two, one)" in str(result)  # kernels in groups


def test_a_kernel_is_rounded_by_what_enters_it() -> None:
    x = np.random.default_rng(2).standard_normal((30, 8, 6, 6)).astype(np.float32)
    result = onnx_dalr.optimize(conv_net(1), calib=x, weights="int8", params="100%", task="regress")
    assert [str(layer.form) for layer in result.layers] == ["dense int8", "dense int8"]
    assert [layer.rows for layer in result.layers] == [21 * 36, 0]
    assert "rounded to nearest 1 that no samples are captured for (two)" in str(result)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.quality is not None
    assert result.quality.error.value < 0.02


def test_where_nothing_may_be_smaller_it_says_why() -> None:
    with pytest.raises(onnx_dalr.NothingToGainError, match="no layer is eligible"):
        onnx_dalr.optimize(tiny.with_weights(tiny.NO_LAYERS, {}), calib=X, weights="int8")


def in_a_branch() -> ModelProto:
    """Both branches multiply by a weight of their own; the samples take one of them."""
    random = np.random.default_rng(0)

    def branch(name: str) -> onnx.GraphProto:
        W = numpy_helper.from_array(random.standard_normal((16, 96)).astype(np.float32), f"{name}_W")
        node = helper.make_node("MatMul", ["x", f"{name}_W"], [f"{name}_y"], name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_y", 1, None)], [W])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], "if", then_branch=branch("then"), else_branch=branch("else")),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", 1, ["N", 16])],
        [helper.make_tensor_value_info("y", 1, ["N", 96])],
        [numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_weights_inside_of_branches_are_rounded_too() -> None:
    model = in_a_branch()
    result = onnx_dalr.optimize(model, calib=X, weights="int8", task="regress")
    assert result.bytes_after < 0.5 * result.bytes_before
    for sign in (1, -1):
        x = sign * np.abs(X[:5])
        assert relative(outputs(result.model, {"x": x}), outputs(model, {"x": x})) < 0.02


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_weights_are_rounded(op: str) -> None:
    random, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    W, R = (random.standard_normal((1, gates * 48, n)).astype(np.float32) / 8 for n in (16, 48))
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "W", "R"], ["", "y"], "recurrent", hidden_size=48)],
        "net",
        [helper.make_tensor_value_info("x", 1, [5, "N", 16])],
        [helper.make_tensor_value_info("y", 1, [1, "N", 48])],
        [numpy_helper.from_array(W, "W"), numpy_helper.from_array(R, "R")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    feeds = [{"x": random.standard_normal((5, 1, 16)).astype(np.float32)} for _ in range(30)]
    result = onnx_dalr.optimize(model, calib=feeds, weights="int8", task="regress")
    assert len(result.layers) == (1 if gates == 1 and W.size < 1024 else 2)
    assert relative(outputs(result.model, feeds[0]), outputs(model, feeds[0])) < 0.02


def test_a_layer_that_no_row_reaches_is_rounded_plainly() -> None:
    """The mask leaves nothing of the padded half."""
    model = in_a_branch()
    result = onnx_dalr.optimize(model, calib=np.abs(X), weights="int8", task="regress")
    assert [layer.rows for layer in result.layers] == [0, 0]
    assert {str(layer.form) for layer in result.layers} <= {"dense int8", "dense int8/64"}


# What is said


def test_a_run_that_keeps_numbers_says_what_fewer_bits_would_do() -> None:
    x = tiny.rows(700)
    result = onnx_dalr.optimize(tiny.mlp(WIDE), calib=x, max_error=0.3, task="regress")
    assert result.bytes_with_formats is not None
    last = str(result).splitlines()[-1]
    assert last.startswith('with weights="auto": about ')
    assert last.endswith(" at the same error")
    with_formats = onnx_dalr.optimize(tiny.mlp(WIDE), calib=x, max_error=0.3, weights="auto", task="regress")
    assert with_formats.bytes_after < 1.5 * result.bytes_with_formats
    assert with_formats.bytes_with_formats is None
    assert "with weights" not in str(with_formats)


def test_a_tolerance_that_a_format_does_not_meet_is_refused() -> None:
    with pytest.raises(TargetError, match="stays within"):
        onnx_dalr.optimize(tiny.mlp(WIDE), calib=X, weights="int4/128", max_error=0.001, task="regress")
    result = onnx_dalr.optimize(tiny.mlp(WIDE), calib=X, weights="int4/128", task="regress")
    assert any("the target is not met" in note for note in result.notes)


def test_a_model_of_ours_is_recognised_when_it_is_given_again() -> None:
    first = onnx_dalr.optimize(tiny.mlp(WIDE), calib=X, weights="int8", params="100%", task="regress")
    with pytest.raises(onnx_dalr.NothingToGainError) as found:
        onnx_dalr.optimize(first.model, calib=X, weights="int8", task="regress")
    assert "int8" in str(found.value.hint)
