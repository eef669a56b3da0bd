"""tools/lrdkt.py: the published ranks give the published numbers, in the file that is written, a truncated SVD."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lrdkt
import numpy as np
import onnx
import pytest
from lrdkt_count import count, planned
from lrdkt_head import NoHeadError, find_head, fitted, with_pooled_head
from lrdkt_nets import CLASSES, PUBLISHED, build
from lrdkt_plan import by_energy, by_ratio, forms_of, plan
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_dalr
from onnx_dalr import Plan
from onnx_dalr.factorize import Form
from onnx_dalr.session.session import open_session
from tests.conftest import REPOSITORY

NARROW = {"vgg16": {"side": 32, "width": 32}, "alexnet": {"side": 224, "width": 32}}


def images(side: int, many: int = 3) -> NDArray[Any]:
    return np.random.default_rng(3).standard_normal((many, 3, side, side), np.float32)


def run(model: ModelProto | Path, data: NDArray[Any]) -> NDArray[Any]:
    session = open_session(model if isinstance(model, Path) else model.SerializeToString(), "cpu")
    return np.asarray(session.run({"image": data})[0])


def values(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    ("name", "weights", "macs"),
    [
        ("vgg16-0.7-fc", 30_501_179, 2_414_582_432),
        ("vgg16-0.5-fc", 9_566_538, 1_301_717_688),
        ("vgg16-0.7-gap", 3_353_243, 2_387_434_496),
        ("alexnet-0.7-fc", 18_768_242, 273_824_352),
        ("alexnet-0.7-gap", 1_120_626, 256_176_736),
    ],
)
def test_the_published_ranks_give_the_published_numbers(name: str, weights: int, macs: int) -> None:
    (published,) = [one for one in PUBLISHED if str(one) == name]
    model = lrdkt.source_of(published, valued=False)
    counts = planned(model, forms_of(model, published.kept))
    assert counts == (weights, macs)
    assert lrdkt.shown(counts) == (published.weights, published.macs)


def test_the_numbers_are_those_that_the_issue_asks_for() -> None:
    assert [(one.weights, one.macs) for one in PUBLISHED if one.head == "fc"] == [
        ("30.50", "2.415"),
        ("9.57", "1.302"),
        ("18.77", "0.274"),
    ]


@pytest.mark.parametrize(
    ("network", "weights", "macs"), [("vgg16", 138_344_128, 15.47), ("alexnet", 62_367_776, 1.135)]
)
def test_the_networks_have_the_sizes_they_are_known_for(network: str, weights: int, macs: float) -> None:
    counts = count(build(network, valued=False))
    assert counts.weights == weights
    assert counts.macs / 1e9 == pytest.approx(macs, abs=5e-4 if network == "alexnet" else 5e-3)


@pytest.mark.parametrize("network", NARROW)
@pytest.mark.parametrize("head", ["fc", "gap"])
def test_the_file_of_a_plan_counts_what_its_ranks_say(network: str, head: str, tmp_path: Path) -> None:
    first = next(one for one in PUBLISHED if one.network == network)
    one = replace(first, head=head, ranks={name: 1 if "1" in name else 2 for name in first.ranks})
    model = lrdkt.source_of(one, **NARROW[network])
    forms = forms_of(model, one.kept)
    source, file, out = (tmp_path / name for name in ("source.onnx", "plan.json", "out.onnx"))
    onnx.save(model, source)
    plan(model, forms).save(file)
    entries = {entry["layer"]: entry["form"] for entry in json.loads(file.read_text(encoding="utf-8"))["layers"]}
    assert entries == {name: f"{'v' if 'conv' in name else 'pair'} {rank}" for name, rank in one.kept.items()}
    data = images(NARROW[network]["side"])
    onnx_dalr.apply(source, Plan.load(file), out, calib=data, task="regress")
    made = onnx.load(out)
    assert count(made) == planned(model, forms)
    assert run(out, data).shape == (3, CLASSES)
    held = values(made)
    for name, form in forms.items():
        W = values(model)[f"{name}.weight"].astype(np.float64)
        B, A = (held[f"{name}.weight.dalr_{role}"].astype(np.float64) for role in "BA")
        B, A = (B, A) if B.ndim == 4 else (B.T, A.T)  # a MatMul's are [in, out]
        N, C, kh, kw = (*W.shape, 1, 1)[:4]
        product = np.einsum("kci,nkj->ncij", B.reshape(-1, C, kh), A.reshape(N, -1, kw))
        sigma = np.linalg.svd(unfolded(W), compute_uv=False)
        lost = ((product - W.reshape(N, C, kh, kw)) ** 2).sum()
        assert lost == pytest.approx((sigma[form.rank[0] :] ** 2).sum(), rel=1e-3)  # nothing of that rank is nearer


def unfolded(W: NDArray[Any]) -> NDArray[Any]:
    """The kernel as LRDKT reads it: a row for every channel and height, a column for every filter and width."""
    N, C, kh, kw = (*W.shape, 1, 1)[:4]
    kernel = W.reshape(N, C, kh, kw)
    rows = [[kernel[n, c, i, j] for n in range(N) for j in range(kw)] for c in range(C) for i in range(kh)]
    return np.array(rows)


def test_a_head_becomes_a_mean_and_one_layer_and_the_rest_stays() -> None:
    model = build("vgg16", side=64, width=32)
    made = with_pooled_head(model)
    onnx.checker.check_model(made, full_check=True)
    assert [node.op_type for node in made.graph.node][-4:] == ["MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]
    before, after = list(model.graph.node), list(made.graph.node)
    assert after[:-3] == before[: len(after) - 3]
    assert not [name for name in values(made) if name.startswith("fc")]
    assert run(made, images(64)).shape == (3, CLASSES)
    assert values(made)["head.weight"].std() == pytest.approx(16**-0.5, rel=0.05)


def small_net() -> ModelProto:
    """A head of one layer behind a mean, written as other exporters do, and a Softmax."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[N,3,8,8] image) => (float[N,4] probabilities) {
            map = Conv <pads = [1,1,1,1]> (image, K)
            mean = GlobalAveragePool (map)
            rows = Reshape (mean, shape)
            product = MatMul (rows, W)
            logits = Add (product, b)
            probabilities = Softmax (logits)
        }
    """)
    draw = np.random.default_rng(4)
    arrays: dict[str, NDArray[Any]] = {"shape": np.array([-1, 6])}
    for name, dims in {"K": (6, 3, 3, 3), "W": (6, 4), "b": (4,)}.items():
        arrays[name] = draw.standard_normal(dims, np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def test_a_head_that_is_fitted_to_samples_finds_the_layer_that_was_there() -> None:
    model = small_net()
    data = np.random.default_rng(5).standard_normal((200, 3, 8, 8), np.float32)
    made = with_pooled_head(model, data)
    assert [node.op_type for node in made.graph.node][-2:] == ["Gemm", "Softmax"]
    np.testing.assert_allclose(run(made, data), run(model, data), rtol=0, atol=5e-3)
    assert np.abs(run(with_pooled_head(model), data) - run(model, data)).max() > 0.1  # a random one does not


def test_the_fit_is_the_ridge_regression() -> None:
    draw = np.random.default_rng(6)
    X, Y = draw.standard_normal((50, 5)), draw.standard_normal((50, 3))
    W, b = fitted(X, Y)
    ridge = 1e-3 * X.var(axis=0).mean() * len(X)
    rows = np.vstack([X - X.mean(axis=0), np.sqrt(ridge) * np.eye(5)])
    wanted, *_ = np.linalg.lstsq(rows, np.vstack([Y - Y.mean(axis=0), np.zeros((5, 3))]), rcond=None)
    np.testing.assert_allclose(W, wanted.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(W @ X.mean(axis=0) + b, Y.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [("Reshape", "Tile"), ("MatMul", "Max")])
def test_a_model_without_such_a_head_is_refused(old: str, new: str) -> None:
    model = small_net()
    (node,) = [node for node in model.graph.node if node.op_type == old]
    node.op_type = new
    with pytest.raises(NoHeadError, match="is no part of a head"):
        find_head(model)


def test_the_command_writes_a_model_with_the_other_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(build("vgg16", side=32, width=32), source)
    np.save(tmp_path / "images.npy", images(32, 70))
    lrdkt.main(["write", str(source), str(out), "--head", "gap", "--samples", str(tmp_path / "images.npy")])
    assert run(out, images(32)).shape == (3, CLASSES)
    assert f"{count(onnx.load(out)).weights / 1e6:.2f} million weights" in capsys.readouterr().out


@pytest.mark.parametrize("ranks", [by_energy, by_ratio])
def test_ranks_by_one_share_fill_the_multiply_adds(ranks: Callable[[ModelProto, int], dict[str, Form]]) -> None:
    model = build("vgg16", side=32, width=8)
    limit = count(model).macs // 2
    forms = ranks(model, limit)
    assert len(forms) == 13
    assert 0.9 * limit < planned(model, forms).macs <= limit


def test_ranks_by_energy_are_the_smallest_that_keep_more_than_one_share() -> None:
    model = build("vgg16", side=32, width=16)
    kept, before = [], []
    for name, form in by_energy(model, count(model).macs // 2).items():
        energy = np.linalg.svd(unfolded(values(model)[f"{name}.weight"]), compute_uv=False) ** 2
        kept.append(energy[: form.rank[0]].sum() / energy.sum())
        before.append(energy[: form.rank[0] - 1].sum() / energy.sum())
    assert max(before) <= min(kept) + 1e-6


def test_the_table_goes_into_its_place_on_the_page() -> None:
    page = (REPOSITORY / "docs" / lrdkt.PAGE).read_text(encoding="utf-8")
    part = lrdkt.part("numbers")
    made = page.partition(part.begin)[2].partition(part.end)[0]
    for one in PUBLISHED:
        assert made.count(f"| {one.weights}, {one.macs} | {one.weights}, {one.macs} |") == 1
