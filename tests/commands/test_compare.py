"""`compare`: two models on the same samples, every one of which counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

import onnx_dalr
from onnx_dalr import ModelComparison, compare
from tests.cli import tiny

LABELS = np.arange(64) % 4


def model(
    body: str = "y = Identity(x)",
    inputs: str = "float[N, 4] x",
    outputs: str = "float[N, 4] y",
) -> ModelProto:
    made = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}) {{ {body} }}'
    )
    onnx.checker.check_model(made, full_check=True)
    return made


SAME, DOUBLED = model(), model("y = Add(x, x)")
ROOT = model("y = Sqrt(x)")


def rows(count: int = 64, width: int = 4) -> Any:
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


def lines(found: ModelComparison) -> dict[str, str]:
    """The table by the first word of each line, where several have it the first of them."""
    return {line.split()[0]: line for line in reversed(str(found).splitlines()) if line.strip()}


# What it says


def test_a_model_compared_with_itself_has_not_moved() -> None:
    found = compare(SAME, SAME, data=rows())
    assert (found.quality.n, found.quality.error.value, found.quality.finite) == (64, 0.0, True)
    assert found.a == found.b
    assert found.notes == ()


def test_every_sample_counts() -> None:
    found = compare(SAME, DOUBLED, data=rows())
    assert (found.quality.n, found.available, len(found.samples)) == (64, 64, 64)
    assert found.quality.error.value == pytest.approx(1)
    assert found.quality.outputs[0].max_abs == pytest.approx(np.abs(rows()).max())


def test_fewer_samples_are_the_seeds_choice() -> None:
    one, again, other = (compare(SAME, DOUBLED, data=rows(), samples=10, seed=seed) for seed in (0, 0, 1))
    assert (one.quality.n, one.available) == (10, 64)
    assert one.samples == again.samples != other.samples
    assert "10 of them used (seed 0)" in lines(one)["samples"]


def test_size_and_parameters_are_those_of_the_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    onnx.save(tiny.mlp(), paths[0])
    onnx.save(tiny.mlp((16, 8, 8, 4)), paths[1])
    found = compare(*paths, data=tiny.rows())
    assert [each.path for each in (found.a, found.b)] == paths
    assert [each.bytes for each in (found.a, found.b)] == [path.stat().st_size for path in paths]
    assert [each.params for each in (found.a, found.b)] == [16 * 48 + 48 * 48 + 48 * 4 + 100, 16 * 8 + 64 + 32 + 20]
    assert "3,364 → 244 (7.3 %)" in lines(found)["parameters"]
    assert found.latency.before > 0
    assert found.latency.after > 0


def in_int8(proto: ModelProto, *weights: str) -> ModelProto:
    """The model with some weights, [m, n], as whole numbers and a scale."""
    made = ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        if (name := tensor.name) in weights:
            W = onnx.numpy_helper.to_array(tensor)
            scale = np.abs(W).max(axis=1, keepdims=True) / 127
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.rint(W / scale).astype(np.int8), f"{name}_q"))
            made.graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_s"))
    for name in weights:
        made.graph.node.insert(0, onnx.helper.make_node("Mul", [f"{name}_c", f"{name}_s"], [name]))
        made.graph.node.insert(0, onnx.helper.make_node("Cast", [f"{name}_q"], [f"{name}_c"], to=1))
    onnx.checker.check_model(made, full_check=True)
    return made


def test_formats_are_told_where_they_differ() -> None:
    a, b = tiny.mlp(), in_int8(tiny.mlp(), "W1", "W2")
    found = compare(a, b, data=tiny.rows())
    assert found.a.params == found.b.params
    rest = 4 * (48 * 4 + 100)
    assert found.a.formats == {"float32": 4 * (16 * 48 + 48 * 48) + rest}
    assert found.b.formats == {"int8": 16 * 48 + 48 * 48 + 4 * 96, "float32": rest}
    assert lines(found)["formats"].split(maxsplit=1)[1] == "float32 → int8 3.46 kB, float32 1.17 kB"
    assert json.loads(found.to_json())["b"]["formats"] == found.b.formats
    assert "formats" not in lines(compare(a, a, data=tiny.rows()))
    more = compare(b, in_int8(tiny.mlp(), "W1"), data=tiny.rows())
    assert lines(more)["formats"].split(maxsplit=1)[1] == "int8 3.46 kB, float32 1.17 kB → float32 10.4 kB, int8 960 B"


def test_labels_give_both_models_an_accuracy(tmp_path: Path) -> None:
    x = rows()
    labels = x.argmax(axis=1)
    np.save(tmp_path / "labels.npy", labels)
    found = compare(SAME, model("y = Neg(x)"), data=x, labels=tmp_path / "labels.npy")
    assert found.quality.drop == compare(SAME, model("y = Neg(x)"), data=x, labels=labels.tolist()).quality.drop
    assert found.quality.accuracy_before is not None
    assert found.quality.accuracy_after is not None
    assert (found.quality.accuracy_before.value, found.quality.accuracy_after.value) == (1, 0)
    assert "100.00 %" in lines(found)["accuracy"]
    assert "lost 100.00 points" in lines(found)["accuracy"]
    assert "(n=64)" in lines(found)["agreement"]


def test_a_score_of_ones_own_is_a_row_and_the_drop_is_its(tmp_path: Path) -> None:
    x = rows()
    np.save(tmp_path / "labels.npy", x.argmax(axis=1))

    def peak(outputs: Any, labels: Any) -> Any:
        assert len(labels) == len(outputs["y"])
        return outputs["y"].max(axis=1)

    found = compare(SAME, DOUBLED, data=x, labels=tmp_path / "labels.npy", score=peak)
    assert found.quality.score == "peak"
    assert found.quality.drop.value == pytest.approx(-x.max(axis=1).mean(), rel=1e-5)
    assert f"gained {-found.quality.drop.value:.4f}" in lines(found)["peak"]
    assert "lost" not in lines(found)["accuracy"]


def test_the_samples_reach_the_score_in_their_order() -> None:
    x, seen = rows(), dict[str, Any]()

    def keeping(outputs: Any, labels: Any) -> Any:
        seen.setdefault("y", outputs["y"])
        assert labels is None
        return np.zeros(len(outputs["y"]))

    compare(SAME, DOUBLED, data=x, score=keeping, batch_size=7)
    assert np.array_equal(seen["y"], x)


def test_a_model_that_gives_nan_is_said_to() -> None:
    both = "y = Identity(x) z = {}(x)"
    outputs = "float[N, 4] y, float[N, 4] z"
    found = compare(
        model(both.format("Abs"), outputs=outputs),
        model(both.format("Sqrt"), outputs=outputs),
        data=rows(),
        score=lambda given, labels: given["y"][:, 0],
    )
    assert found.quality.finite is False
    assert "no: B gives NaN or infinity where A does not" in lines(found)["finite"]
    assert "not scored" in str(found)
    assert json.loads(found.to_json())["quality"]["drop"]["value"] is None


def test_every_output_has_its_own_row() -> None:
    outputs = "float[N, 4] y, float[N, 4] z"
    found = compare(
        model("y = Identity(x) z = Identity(x)", outputs=outputs),
        model("z = Add(x, x) y = Identity(x)", outputs="float[N, 4] z, float[N, 4] y"),
        data=rows(),
    )
    largest = f"{np.abs(rows()).max():.4g}"
    assert lines(found)["y"].split() == ["y", "numbers", "0.00", "points", "0.0000", "0"]
    assert lines(found)["z"].split() == ["z", "(worst)", "numbers", "100.00", "points", "1.0000", largest]


def test_an_output_says_what_it_is_taken_for_and_whether_it_counts() -> None:
    ends, body = "float[N, 4] y, float[N, 4] z, int64[N] top", "y = Softmax(x) z = {}(x) top = ArgMax <axis = 1> (x)"
    ends = ends.replace("int64[N]", "int64[N, 1]")
    pair = [model(body.format(op), outputs=ends) for op in ("Identity", "Neg")]
    found = compare(*pair, data=rows(), outputs=["y", "top"])
    assert "classes, as probabilities" in lines(found)["y"]
    assert "numbers; not scored: not among outputs" in lines(found)["z"]
    assert "class numbers" in lines(found)["top"]
    assert "0.00 points" in lines(found)["top"]
    assert (found.quality.drop.value, found.quality.error.value) == (0, 0)
    assert found.notes == ("output 'z' loses 200 points of 1 − error, which the drop does not show: not among outputs",)


def test_an_output_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(onnx_dalr.InputError, match="outputs='w' is no output of the model") as error:
        compare(SAME, DOUBLED, data=rows(), outputs="w")
    assert error.value.hint == "its outputs: y"


def test_the_json_has_the_facts_of_the_table() -> None:
    facts = json.loads(compare(SAME, DOUBLED, data=rows()).to_json())
    assert {"schema", "a", "b", "quality", "latency", "samples", "available", "notes"} <= set(facts)
    assert facts["quality"]["error"]["value"] == pytest.approx(1)
    assert facts["a"]["path"] is None


def test_an_axis_that_one_model_fixes_is_fixed_for_both() -> None:
    one_at_a_time = model("y = Add(x, x)", "float[1, 4] x", "float[1, 4] y")
    for pair in ((SAME, one_at_a_time), (one_at_a_time, SAME)):
        assert compare(*pair, data=rows()).quality.n == 64
    in_threes = model("y = Add(x, x)", "float[3, 4] x", "float[3, 4] y")
    found = compare(SAME, in_threes, data=rows())
    assert found.quality.n == 63
    assert found.notes == ("1 samples are left out: they fill no batch of 3",)


def test_a_model_that_draws_random_numbers_is_told() -> None:
    noisy = model("r = RandomNormalLike(x) y = Add(x, r)")
    assert "it draws random numbers" in compare(noisy, noisy, data=rows()).notes[0]


def test_complete_feeds_say_what_they_cannot_show() -> None:
    found = compare(SAME, DOUBLED, data=rows().reshape(8, 8, 4))
    assert found.quality.n == 8
    assert "complete feeds" in found.notes[0]


# What cannot be compared


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            model("y = Identity(u)", "float[N, 4] u"),
            "the inputs differ: only the first model has 'x'; only the second model has 'u'",
        ),
        (
            model("y = Add(x, u)", "float[N, 4] x, float[N, 4] u"),
            "the inputs differ: only the second model has 'u'",
        ),
        (
            model("y = Identity(x) z = Neg(x)", outputs="float[N, 4] y, float[N, 4] z"),
            "the outputs differ: only the second model has 'z'",
        ),
        (
            model("y = Cast <to = 1> (x)", "int64[N, 4] x"),
            "the inputs differ: 'x' float32 [?, 4] in the first model, 'x' int64 [?, 4] in the second model",
        ),
        (
            model("y = Cast <to = 7> (x)", outputs="int64[N, 4] y"),
            "the outputs differ: 'y' is float32 [1, 4] in the first model, int64 [1, 4] in the second model",
        ),
        (
            model("y = Concat <axis = 1> (x, x)", outputs="float[N, M] y"),
            "the outputs differ: 'y' is float32 [1, 4] in the first model, float32 [1, 8] in the second model",
        ),
        (
            model("a = Constant <value = int64[1] {2}> () y = Unsqueeze(x, a)", outputs="float[N, 4, 1] y"),
            "the outputs differ: 'y' is float32 [1, 4] in the first model, float32 [1, 4, 1] in the second model",
        ),
        (model("y = Identity(x)", "float[N, 5] x", "float[N, 5] y"), "'x' float32 [?, 5] in the second model"),
        (model("y = Identity(x)", "float[N, 4, L] x", "float[N, 4, L] y"), "'x' float32 [?, 4, ?] in the second model"),
    ],
)
def test_models_with_other_ends_are_refused(other: ModelProto, said: str) -> None:
    with pytest.raises(onnx_dalr.InputError) as error:
        compare(SAME, other, data=rows())
    assert said in error.value.message
    assert error.value.hint.startswith("compare takes two models with the same inputs and outputs")


def test_a_name_that_may_mean_the_same_is_told() -> None:
    outputs = "float[N, 4] y_1, float[N, 4] other"
    for other, near in (
        (model("logits = Identity(x)", outputs="float[N, 4] logits"), "logits"),
        (model("y_1 = Identity(x) other = Neg(x)", outputs=outputs), "y_1"),
    ):
        with pytest.raises(onnx_dalr.InputError) as error:
            compare(SAME, other, data=rows())
        assert error.value.hint.endswith(
            f"; if {near!r} of the second model is 'y' of the first model, rename one of them"
        )


def test_a_model_in_half_precision_is_fed_in_it() -> None:
    half = model("y = Identity(x)", "float16[N, 4] x", "float16[N, 4] y")
    found = compare(SAME, half, data=rows())
    assert 1e-5 < found.quality.error.value < 1e-3
    assert found.notes == ("the second model is fed 'x' in float16, the other model in float32",)
    again = compare(half, SAME, data=rows())
    assert again.quality.error.value == pytest.approx(found.quality.error.value, rel=0.01)


def test_whole_numbers_are_read_in_what_both_can_hold() -> None:
    narrow, wide = (model("y = Cast <to = 1> (x)", f"{kind}[N, 4] x", "float[N, 4] y") for kind in ("int32", "int64"))
    tokens = np.arange(256).reshape(64, 4)
    assert compare(narrow, wide, data=tokens).quality.drop.value == 0
    assert compare(wide, narrow, data=tokens).quality.drop.value == 0
    with pytest.raises(onnx_dalr.InputError, match="int32"):
        compare(wide, narrow, data=tokens + 2**40)


def test_a_model_that_cannot_run_the_samples_is_named() -> None:
    squared = model("s = Constant <value = int64[2] {3, 3}> () y = Reshape(x, s)", outputs="float[3, 3] y")
    with pytest.raises(onnx_dalr.InputError, match="the second model: ONNX Runtime cannot run the model on x"):
        compare(SAME, squared, data=rows())


def test_text_is_compared_and_the_same_or_not() -> None:
    text, other = (model(f"z = {op}(x) y = Cast <to = 8> (z)", outputs="string[N, 4] y") for op in ("Identity", "Neg"))
    assert compare(text, text, data=rows()).quality.drop.value == 0
    found = compare(text, other, data=rows())
    assert (found.quality.score, found.quality.drop.value) == ("equal values", 1)
    assert lines(found)["y"].split()[-3:] == ["100.00", "points", "0"]


def test_models_without_arrays_cannot_be_compared() -> None:
    nothing = model("y = SequenceEmpty <dtype = 1> ()", outputs="seq(float[N]) y")
    with pytest.raises(onnx_dalr.InputError, match="no numeric output to compare"):
        compare(nothing, nothing, data=rows())


def test_an_original_without_numbers_is_the_users_to_mend() -> None:
    with pytest.raises(onnx_dalr.InputError, match="the first model gives NaN in output 'y' on these samples"):
        compare(ROOT, SAME, data=rows())
    with pytest.raises(onnx_dalr.InputError, match="the first model gives nothing but infinity in output 'y'"):
        compare(model("z = Sub(x, x) y = Reciprocal(z)"), SAME, data=rows())


def test_infinities_that_are_a_mask_are_compared_around() -> None:
    masked = "m = Constant <value = float[4] {inf, 0, 0, 0}> () y = Sub({}, m)"
    found = compare(model(masked.replace("{}", "x")), model(f"h = Neg(x) {masked.replace('{}', 'h')}"), data=rows())
    assert found.quality.error.value == pytest.approx(2)
    assert not any("random" in note for note in found.notes)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("task", "guess", "task='guess' is not known"),
        ("device", "tpu", "device='tpu' is not known"),
        ("samples", 0, "samples=0 leaves no samples"),
        ("batch_size", 0, "batch_size=0 must be at least 1"),
        ("score", 3, "score: a int is no function"),
        ("mean", 0.5, "mean: image options do nothing for an array"),
    ],
)
def test_options_that_mean_nothing_are_refused(option: str, value: Any, said: str) -> None:
    given: dict[str, Any] = {option: value}
    with pytest.raises(onnx_dalr.InputError, match=said):
        compare(SAME, DOUBLED, data=rows(), **given)


# Real models


def small(assets: Path, name: str, folder: Path, **options: Any) -> tuple[Path, Path]:
    """(a real model, a smaller one made of it)."""
    original, output = assets / "models" / f"{name}.onnx", folder / "small.onnx"
    onnx_dalr.optimize(original, output, **options)
    return original, output


def run(path: Path, feed: dict[str, Any]) -> Any:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)[0]


@pytest.mark.assets
def test_a_real_classifier_has_the_figures_of_onnx_runtime_alone(assets: Path, tmp_path: Path) -> None:
    data = assets / "data" / "mnist-calib.npz"
    pair = small(assets, "mnist-mlp", tmp_path, calib=data, samples=600, rank=24, method="svd-bc")
    found = compare(*pair, data=data, task="classify", device="cpu")
    y, y_new = (run(path, dict(np.load(data))) for path in pair)
    assert found.quality.n == len(y) == 2048
    assert found.quality.error.value == pytest.approx(np.linalg.norm(y - y_new) / np.linalg.norm(y), rel=1e-4)
    assert found.quality.outputs[0].max_abs == pytest.approx(np.abs(y - y_new).max(), rel=1e-3)
    assert found.quality.agreement is not None
    assert found.quality.agreement.value == pytest.approx(np.mean(y.argmax(axis=1) == y_new.argmax(axis=1)))
    assert found.b.bytes < found.a.bytes


@pytest.mark.assets
def test_images_come_with_their_classes(assets: Path, tmp_path: Path) -> None:
    images = assets / "data" / "cifar-animals-images"
    settings: dict[str, Any] = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
    pair = small(
        assets, "vgg-cifar-target", tmp_path, calib=images / "calib", samples=200, rank=48, method="svd-bc", **settings
    )
    seen = []

    def right(outputs: Any, labels: Any) -> Any:
        seen.append(labels)
        return outputs["logits"].argmax(axis=1) == labels

    found = compare(*pair, data=images / "test", score=right, **settings)
    assert found.quality.n == 600
    assert np.bincount(seen[0]).tolist() == [100] * 6
    assert found.quality.score_before == found.quality.accuracy_before
    assert found.quality.score_after == found.quality.accuracy_after
    assert found.quality.accuracy_before is not None
    assert found.quality.accuracy_before.value > 0.7
    assert abs(found.quality.drop.value) < 0.03


@pytest.mark.assets
def test_sentences_can_be_scored_by_how_well_they_are_found(assets: Path, tmp_path: Path) -> None:
    data = assets / "data"
    pair = small(
        assets, "minilm-l6-v2", tmp_path, calib=data / "banking77-train.npz", samples=20, rank=160, method="svd-bc"
    )

    def found_among_the_rest(outputs: Any, labels: Any) -> float:
        y = outputs["embedding"]
        nearness = y @ y.T
        np.fill_diagonal(nearness, -1)
        return float(np.mean(labels[nearness.argmax(axis=1)] == labels))

    found = compare(
        *pair,
        data=data / "banking77-test.npz",
        labels=data / "banking77-test-labels.npy",
        samples=150,
        score=found_among_the_rest,
    )
    assert found.quality.task == "embed"
    assert found.quality.score_before is not None
    assert found.quality.score_after is not None
    assert found.quality.score_before.value > 0.4
    assert found.quality.score_before.low < found.quality.score_before.value < found.quality.score_before.high
    assert found.quality.drop.value == pytest.approx(found.quality.score_before.value - found.quality.score_after.value)
