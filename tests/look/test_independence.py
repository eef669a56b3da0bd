"""Samples that must not share a batch are found out and run one by one; all others stay together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr.graph.storage.model import input_specs, load
from onnx_dalr.look.independence import Independence, check_independence, without_influence
from onnx_dalr.progress import Silent
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened
from onnx_dalr.session.session import open_session

X = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
STEPS = np.random.default_rng(1).standard_normal((12, 5, 16)).astype(np.float32)  # time, batch, F
ENDS = "(float[N, 16] x) => (float[N, M] y)"
FREE = "(float[A, B, 16] x) => (float[A, B, 4] y)"
MLP = "[one] h = MatMul(x, W) r = Relu(h) [two] y = MatMul(r, V)"
LSTM = """s, last, cell = LSTM <hidden_size = 16> (x, Win, Wrec) axes = Constant <value_ints = [1]> ()
r = Squeeze(s, axes) [two] y = MatMul(r, V)"""
WEIGHTS = {"Wide": (16, 64), "Back": (64, 4), "W": (16, 16), "V": (16, 4), "Win": (1, 64, 16), "Wrec": (1, 64, 16)}


def model(body: str, ends: str = ENDS) -> ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> net {ends} {{ {body} }}')
    for name, shape in WEIGHTS.items():
        if f"{name})" in body or f"{name}," in body:
            values = np.random.default_rng(len(name)).standard_normal(shape) / 4
            made.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return made


@contextmanager
def sets_of(made: ModelProto, samples: Any = X, **options: Any) -> Iterator[Sets]:
    with opened(SampleOptions(samples, **options), input_specs(made)) as sets:
        yield sets


def found(made: ModelProto, samples: Any = X, **options: Any) -> Independence:
    with sets_of(made, samples, **options) as sets:
        return check_independence(open_session(load(made).source(), "cpu"), sets.fit)


# What stays together


ORDINARY = {
    "mlp": MLP,
    "a constant beside it": MLP + " k = Constant <value_floats = [1.0, 2.0, 3.0]> ()",
    "an answer": MLP + " k = ArgMax <axis = 1, keepdims = 0> (y)",
    "answers of their own scale": MLP + " k = Mul(y, y)",
    "random numbers": "[one] h = MatMul(x, W) u = RandomUniformLike(h) [two] y = MatMul(u, V)",
    "probabilities": "[one] h = MatMul(x, W) y = Softmax <axis = 1> (h)",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_samples_that_do_not_influence_each_other_stay_together(name: str) -> None:
    made = model(ORDINARY[name])
    if " k = " in ORDINARY[name]:
        made.graph.output.append(onnx.ValueInfoProto(name="k"))
    assert found(made) == Independence(independent=True, why="")
    with sets_of(made) as sets:
        same, _ = without_influence(open_session(load(made).source(), "cpu"), sets)
        assert same is sets


def test_a_model_of_answers_alone_stays_together() -> None:
    made = model(
        MLP.replace("y =", "s =") + " y = ArgMax <axis = 1, keepdims = 0> (s)", ENDS.replace("float[N, M]", "int64[N]")
    )
    assert found(made).independent


def test_a_recurrent_model_with_its_samples_on_axis_0_stays_together() -> None:
    body = "t = Transpose <perm = [1, 0, 2]> (x) " + LSTM.replace("(x,", "(t,").replace("y =", "u =")
    made = model(body + " y = Transpose <perm = [1, 0, 2]> (u)", FREE)
    assert found(made, STEPS).independent


# What is run one by one


@pytest.mark.parametrize("shape", ["1, 16", "1, 2, 8"])
def test_a_batch_that_is_baked_in(shape: str) -> None:
    body = f"s = Constant <value_ints = [{shape}]> () t = Reshape(x, s) f = Flatten(t) [two] y = MatMul(f, V)"
    result = found(model(body))
    assert result.why == "two samples together cannot be run: the model has a batch size baked in"
    assert result.note == f"{result.why}; samples are run one by one"


INFLUENCED = {
    "softmax over samples": "[one] h = MatMul(x, W) y = Softmax <axis = 0> (h)",
    "less the mean": "[one] h = MatMul(x, W) m = ReduceMean <axes = [0]> (h) d = Sub(h, m) y = Identity(d)",
    "one scale": "q, s, z = DynamicQuantizeLinear(x) f = DequantizeLinear(q, s, z) g = Mul(f, s) y = MatMul(g, W)",
    "batch norm": """[one] h = MatMul(x, W) m = ReduceMean <axes = [0]> (h) d = Sub(h, m) s = Mul(d, d)
v = ReduceMean <axes = [0]> (s) e = Constant <value_float = 1.0> () w = Add(v, e) r = Sqrt(w) y = Div(d, r)""",
}


@pytest.mark.parametrize("name", INFLUENCED)
def test_samples_that_influence_each_other(name: str) -> None:
    result = found(model(INFLUENCED[name]))
    assert not result.independent
    assert result.why.startswith("samples influence each other: output 'y' says something else where two are run")


def test_samples_that_are_the_same_are_passed_over_for_two_that_differ() -> None:
    """Two equal samples are their own mean."""
    mixed = model("[one] h = MatMul(x, W) m = ReduceMean <axes = [0]> (h) d = Mul(m, m) y = Add(h, d)")
    assert found(mixed, np.repeat(X[:1], 20, axis=0)).independent
    assert not found(mixed, np.concatenate([X[:1]] * 4 + [X]), holdout=0.0).independent


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "[one] h = MatMul(x, W) y = ReduceMean <axes = [0]> (h)",
            r"output 'y' is \[1, 16\] for two .* and \[1, 16\] ",
        ),
        ("[one] h = MatMul(x, W) y = ReduceSum <keepdims = 0> (h)", r"output 'y' is \[\] for two samples and \[\] for"),
        ("[one] h = MatMul(x, W) y = Transpose <perm = [1, 0]> (h)", r"output 'y' is \[16, 2\] for two"),
        ("[one] h = MatMul(x, W) y = NonZero(h)", r"output 'y' is \[2, 32\] for two samples and \[2, 16\] for one"),
    ],
    ids=["mean", "sum", "transposed", "positions"],
)
def test_an_output_without_a_row_for_each_sample(body: str, says: str) -> None:
    result = found(model(body, "(float[N, 16] x) => (y)"))
    assert not result.independent
    assert re.search(says, result.why)


def test_time_on_axis_0_shows_in_what_the_model_says() -> None:
    result = found(model(LSTM, FREE), STEPS)
    assert result.why.startswith("samples influence each other")
    assert "axis 0 is not that of samples" in result.why


@pytest.mark.parametrize("axes", ["time, batch", "seq_len, batch_size", "T, N", "L, B", "n_frames, bs", "Steps, BATCH"])
def test_time_on_axis_0_shows_in_the_names_of_the_axes(axes: str) -> None:
    result = found(model(MLP, FREE.replace("A, B", axes)), STEPS)
    assert result.why == (
        f"axis 0 of input 'x' [{axes}, 16] does not count samples (give complete feeds, arrays with one axis more than "
        "the inputs)"
    )


@pytest.mark.parametrize("axes", ["batch, time", "N, T", "A, B", "batch_of_frames, batch", "lines, b", "t, channels"])
def test_other_names_say_nothing(axes: str) -> None:
    assert found(model(MLP, FREE.replace("A, B", axes)), STEPS).independent


# Where there is nothing to find out


def test_complete_feeds_a_fixed_batch_and_single_samples_are_left_alone() -> None:
    odd = model(INFLUENCED["softmax over samples"])
    assert found(odd, X[:1], holdout=0.0).independent  # a single sample
    assert found(odd, batch_size=1).independent
    assert found(model(INFLUENCED["softmax over samples"], ENDS.replace("N", "2"))).independent
    assert found(model(LSTM, FREE.replace("A, B", "time, batch")), STEPS[None], holdout=0.0).independent


def test_samples_of_different_lengths_are_never_together() -> None:
    feeds = [{"x": STEPS[:1, :length]} for length in (1, 2, 3, 4, 5)]
    softmax = "[one] h = MatMul(x, W) [two] s = MatMul(h, V) y = Softmax <axis = 0> (s)"
    assert found(model(softmax, FREE), feeds, holdout=0.0).independent
    assert not found(model(softmax, FREE), [*feeds, feeds[4]], holdout=0.0).independent


def test_samples_that_cannot_be_run_are_not_judged() -> None:
    made = model(MLP, ENDS.replace("16", "K"))
    assert found(made, X[:, :9]).independent


# What comes of it


class Lines(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


BAKED = (
    "s = Constant <value_ints = [1, 16]> () t = Reshape(x, s) [one] h = MatMul(t, W) r = Relu(h) [two] y = MatMul(r, V)"
)


@pytest.mark.parametrize("size", [None, 8])
def test_the_whole_run_takes_them_one_by_one_and_says_so(tmp_path: Path, size: int | None) -> None:
    progress, whole = Lines(), model(MLP)
    result = onnx_dalr.optimize(
        model(BAKED), tmp_path / "small.onnx", calib=X, rank=3, batch_size=size, device="cpu", progress=progress
    )
    note = "two samples together cannot be run: the model has a batch size baked in; samples are run one by one"
    assert note in result.notes
    assert f"note: {note}" in progress.said
    assert result.quality is not None
    assert result.quality.n == result.quality.error.n == 12
    together = onnx_dalr.optimize(whole, calib=X, rank=3, batch_size=size, device="cpu")
    assert together.quality is not None
    assert result.quality.error.value == pytest.approx(together.quality.error.value, rel=0.2)
    assert [layer.rows for layer in result.layers] == [layer.rows for layer in together.layers] == [28, 28]


def test_a_sequence_counts_once_wherever_its_time_is(tmp_path: Path) -> None:
    """As complete feeds, each with its time on axis 0."""
    made = model(
        LSTM.replace("y = MatMul(r, V)", "q = MatMul(r, Wide) [three] y = MatMul(q, Back)"),
        FREE.replace("A, B", "time, batch"),
    )
    feeds = np.random.default_rng(2).standard_normal((20, 7, 1, 16)).astype(np.float32)
    result = onnx_dalr.optimize(made, tmp_path / "small.onnx", calib=feeds, rank=3, device="cpu")
    assert result.quality is not None
    assert result.quality.n == result.quality.error.n == 6
    assert not any("one by one" in note for note in result.notes)
    session = ort.InferenceSession((tmp_path / "small.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": feeds[0]})[0].shape == (7, 1, 4)


def test_every_sample_counts_where_the_samples_of_an_output_are_on_another_axis(tmp_path: Path) -> None:
    """A hidden state of [1, N, H]."""
    body = "t = Transpose <perm = [1, 0, 2]> (x) " + LSTM.replace("(x,", "(t,").partition(" axes")[0]
    made = model(
        body + " [one] q = MatMul(last, Wide) [two] h = MatMul(q, Back)", "(float[N, T, 16] x) => (float[1, N, 4] h)"
    )
    x = np.random.default_rng(3).standard_normal((40, 5, 16)).astype(np.float32)
    result = onnx_dalr.optimize(made, tmp_path / "small.onnx", calib=x, rank=3, device="cpu")
    why = "output 'h' is [1, 2, 4] for two samples and [1, 1, 4] for one: it has no row for each"
    assert f"{why}; samples are run one by one" in result.notes
    assert result.quality is not None
    assert result.quality.n == result.quality.error.n == 12


def test_compare_runs_them_one_by_one_where_one_of_the_models_wants_it() -> None:
    progress = Lines()
    compared = onnx_dalr.compare(model(MLP), model(BAKED), data=X, device="cpu", progress=progress)
    assert compared.quality.n == 40
    assert compared.quality.error.value == pytest.approx(0, abs=1e-6)
    note = "the second model: two samples together cannot be run: the model has a batch size baked in"
    assert compared.notes[0].startswith(note)
    assert any(line.startswith(f"note: {note}") for line in progress.said)
    assert not onnx_dalr.compare(model(MLP), model(MLP), data=X, device="cpu").notes
