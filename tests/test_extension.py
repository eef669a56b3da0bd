"""Something new is one new file and a line in a table: each test adds a toy and runs it from end to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr import Analysis, Plan, TargetError
from onnx_dalr.candidate.candidate import Candidate
from onnx_dalr.candidate.forms import params_of
from onnx_dalr.choose.costs import COSTS
from onnx_dalr.choose.costs.additive import Params
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.factorize import METHODS, UNTOUCHED, Form, Method, Rank, Settings, Shape, Statistics
from onnx_dalr.factorize.formats import FORMATS, Decoding, Encoded
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.structures import STRUCTURES, Piece, Pieces, Slot
from onnx_dalr.factorize.structures.pair import Pair, PairSpectrum
from onnx_dalr.graph.layers import Layer
from onnx_dalr.report.renderers import RENDERERS
from onnx_dalr.report.views import view
from onnx_dalr.request.target import LIMITS, make_target
from onnx_dalr.request.weights import WORDS
from onnx_dalr.results.result import Result
from onnx_dalr.session.session import open_session
from onnx_dalr.tune import STEPS
from onnx_dalr.units import parse_amount
from tests.cli import tiny

X = tiny.rows(200)


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return tiny.mlp()


@pytest.fixture(scope="module")
def planned(model: ModelProto) -> Plan:
    with onnx_dalr.analyze(model, calib=X, task="regress") as analysis:
        return analysis.plan(rank=["second=8"])


def with_form(plan: Plan, form: Form) -> Plan:
    """The plan with this form for every layer that changes."""
    choices = (choice if choice.form.untouched else replace(choice, form=form) for choice in plan.choices)
    return replace(plan, choices=tuple(choices))


def applied(model: ModelProto, plan: Plan) -> Result:
    """The plan as it comes back from its file, applied to the samples again."""
    text = json.loads(plan.to_json())
    assert text["layers"][1]["form"] == str(plan.choices[1].form)
    return onnx_dalr.apply(model, plan, calib=X, task="regress")


def answers(model: ModelProto) -> NDArray[Any]:
    (y,) = open_session(model.SerializeToString(), "cpu").run({"x": X})
    return np.asarray(y)


# A structure.


@dataclass(frozen=True, eq=False)
class InTwo(PairSpectrum):
    """The pair with an orthogonal k×k matrix and its inverse in between: three matrices that come to the same."""

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        made = super().pieces(rank, swept=swept)
        B, A = (piece.values for piece in made.pieces)
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(B), len(B))))
        return Pieces((Piece("B", turn @ B), Piece("T", turn.T), Piece("A", A)), made.shift)


@dataclass(frozen=True)
class Triple(Pair):
    """Three thin matrices."""

    name: str = "triple"

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        first, last = super().slots(shape, rank)
        return first, Slot("T", Shape(rank[0], rank[0])), last

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        every = ((rank,) for rank in range(1, min(shape.m, shape.n)))
        return [rank for rank in every if sum(slot.shape.params for slot in self.slots(shape, rank)) < room]

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        B, T, A = (piece.values for piece in pieces)
        return np.asarray(A @ T @ B)

    def decompose(self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings) -> InTwo:
        del shape
        return InTwo(method.spectrum(W, stats, settings))


def test_a_structure(model: ModelProto, planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = applied(model, planned)
    monkeypatch.setitem(STRUCTURES, "triple", Triple())
    result = applied(model, with_form(planned, Form("triple", (8,))))
    assert result.model is not None
    assert pair.model is not None
    names = [tensor.name for tensor in result.model.graph.initializer]
    assert [name for name in names if ".dalr_" in name] == ["W2.dalr_B", "W2.dalr_T", "W2.dalr_A"]
    np.testing.assert_allclose(answers(result.model), answers(pair.model), atol=1e-4)
    (layer,) = result.layers
    assert (str(layer.form), layer.params_after) == ("triple 8", 8 * 48 + 8 * 8 + 48 * 8)
    assert "triple 8" in str(result)
    assert json.loads(result.model.metadata_props[0].value)["ranks"] == {"second": "triple 8"}


def test_structures_and_formats_are_searched_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another form beats at its price is not taken, however much of a budget is left."""
    monkeypatch.setitem(STRUCTURES, "triple", Triple())
    monkeypatch.setitem(FORMATS, "half", Half())
    monkeypatch.setitem(WORDS, "both", (("keep", "half"), "half"))
    wide = tiny.mlp((16, 96, 96, 4))
    errors = []
    for size in ("30%", "45%", "60%"):
        result = onnx_dalr.optimize(wide, calib=X, size=size, weights="both", task="regress")
        assert result.bytes_after <= float(size[:-1]) / 100 * result.bytes_before
        assert {layer.form.structure for layer in result.layers} <= {"pair", "dense"}
        assert result.quality is not None
        errors.append(result.quality.error.value)
    assert errors[0] > errors[1]
    assert errors[2] < 1e-3  # all of it in half the bytes
    within = onnx_dalr.optimize(wide, calib=X, max_error=0.02, weights="both", task="regress")
    assert within.bytes_after < within.bytes_before


# A format.


@dataclass(frozen=True)
class Half:
    """Two bytes a number, and a Cast before it is used."""

    name: str = "half"
    reads_moment: bool = False

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:  # noqa: ARG002
        return 2 * shape.params

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        del dtype, moment
        return Encoded(
            {"": values.astype(np.float16)}, values.astype(np.float16), (Decoding("Cast", attributes={"to": None}),)
        )


@pytest.mark.parametrize(
    ("form", "size", "names"),
    [
        (Form("pair", (8,), "half"), 2 * 2 * 8 * 48, ["W2.dalr_B", "W2.dalr_A"]),
        (Form("dense", (), "half"), 2 * 48 * 48, ["W2.dalr_W"]),
    ],
)
def test_a_format(
    model: ModelProto, planned: Plan, monkeypatch: pytest.MonkeyPatch, form: Form, size: int, names: list[str]
) -> None:
    monkeypatch.setitem(FORMATS, "half", Half())
    result = applied(model, with_form(planned, form))
    assert result.model is not None
    onnx.checker.check_model(result.model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in result.model.graph.initializer}
    assert [name for name in stored if ".dalr_" in name] == names
    assert {stored[name] for name in names} == {onnx.TensorProto.FLOAT16}
    assert result.layers[0].bytes_after == size
    assert result.quality is not None
    assert result.quality.error.value < 1e-3 or form.structure == "pair"


# A cost that a target limits.


@dataclass(frozen=True)
class Seen(Params):
    """What the layers multiply by on the fit samples, once they were run."""

    name: str = "seen"
    measure: str = "numbers seen"
    needs_samples: bool = True

    def price(self, space: SearchSpace, layer: Layer, form: Form) -> float:
        return space.rows(layer) * super().price(space, layer, form)

    def whole(self, space: SearchSpace) -> int:
        return int(sum(self.price(space, layer, UNTOUCHED) for layer in space.layers))


def test_a_cost(model: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COSTS, "seen", Seen())
    monkeypatch.setitem(LIMITS, "seen", parse_amount)
    with onnx_dalr.analyze(model, calib=X, task="regress", target=make_target(seen="60%")) as analysis:
        plan = analysis.plan_for(make_target(seen="60%"))
        spent = sum(
            params_of(layer, form, METHODS["dalr"]) for layer, form in zip(analysis.layers, plan.forms, strict=True)
        )
        assert 0.5 < spent / sum(layer.params for layer in analysis.layers) <= 0.6
        assert plan.target == "seen 60%"
        with pytest.raises(TargetError, match=r"--seen 0.1% cannot be reached: .* .the closest is --seen "):
            analysis.plan_for(make_target(seen="0.1%"))


# What renders a report.


def test_a_renderer(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENDERERS, "loud", lambda result: str(view(result, 80)).upper() + "!")  # type: ignore[attr-defined]
    assert planned.render("loud").endswith("!")


# A step of tuning.


def test_a_step_of_tuning(model: ModelProto, planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []

    def nothing_but_zeros(candidate: Candidate, plan: Plan, analysis: Analysis) -> Candidate:
        assert plan.compressed
        assert analysis.sets is not None
        names = candidate.tensors["second"]
        seen.append(names)
        proto = ModelProto()
        proto.CopyFrom(candidate.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in names:
                zeros = np.zeros_like(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
        return Candidate(proto, candidate.tensors)

    before = applied(model, planned)
    monkeypatch.setitem(STEPS, "zeros", nothing_but_zeros)
    after = applied(model, planned)
    assert seen
    assert {"W2.dalr_B", "W2.dalr_A"} <= set(seen[0])
    assert after.quality is not None
    assert before.quality is not None
    assert after.quality.error.value > before.quality.error.value
