"""`--size` is what the file on disk weighs: never more than asked, and no rank could be one higher."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_dalr
from onnx_dalr import Analysis, Plan, Result, TargetError
from onnx_dalr.candidate.candidate import build
from onnx_dalr.graph.storage.model import artifact_size, save
from onnx_dalr.plan.fit import fitted_to
from tests.cli import tiny


@dataclass(frozen=True)
class Bench:
    """A model, samples for it, and a folder to write into."""

    model: Path
    calib: Any
    folder: Path
    options: dict[str, Any]

    @property
    def size(self) -> int:
        return artifact_size(self.model)

    def optimize(self, size: str | int, output: str = "small.onnx", **more: Any) -> Result:
        return onnx_dalr.optimize(
            self.model,
            self.folder / output,
            calib=self.calib,
            size=size,
            force=True,
            device="cpu",
            **self.options | more,
        )

    def closest(self) -> int:
        """The size that the refusal of an impossible one names."""
        with pytest.raises(TargetError) as caught:
            self.optimize(1)
        assert caught.value.exit_code == 3
        named = re.match(r"the closest is size=(\d+);", caught.value.hint)
        assert named, caught.value.hint
        return int(named[1])

    def expect_used_up(self, size: str | int, limit: float, output: str = "small.onnx", **more: Any) -> Result:
        """The file is within the limit; with any one rank raised by one it is not."""
        extras = {"save_plan": self.folder / "plan.json", "save_stats": self.folder / "stats.npz"}
        result = self.optimize(size, output, **extras, **more)
        assert result.bytes_after == artifact_size(self.folder / output) <= limit
        plan = Plan.load(extras["save_plan"])
        with onnx_dalr.analyze(self.model, stats=extras["save_stats"], method=plan.method) as analysis:
            assert self.weigh(analysis, plan, output) == result.bytes_after
            for position, choice in enumerate(plan.choices):
                if len(choice.form.rank) == 1:
                    raised = replace(choice, form=choice.form._replace(rank=(choice.form.rank[0] + 1,)))
                    others = replace(plan, choices=(*plan.choices[:position], raised, *plan.choices[position + 1 :]))
                    assert self.weigh(analysis, others, output) > limit, f"{choice.layer} could have {raised.form}"
        return result

    def weigh(self, analysis: Analysis, plan: Plan, output: str) -> int:
        """Bytes of the model that an edited plan makes; as `Plan.apply`, but it factorizes once for all plans."""
        context, learned = analysis.context, analysis.learned
        choices, _ = fitted_to(plan.choices, plan.curve, context, analysis.layers)
        small = build(context, analysis.layers, learned, [choice.form for choice in choices], plan.factors).proto
        again = self.folder / "again"
        again.mkdir(exist_ok=True)
        save(small, context.original, again / output)
        return artifact_size(again / output)


def tiny_bench(tmp_path: Path, *, external: bool = False, widths: tuple[int, int, int, int] = (16, 64, 64, 4)) -> Bench:
    place: dict[str, Any] = {"save_as_external_data": True, "location": "data.bin", "size_threshold": 0}
    onnx.save(tiny.mlp(widths), tmp_path / "model.onnx", **place if external else {})
    return Bench(tmp_path / "model.onnx", tiny.rows(100, widths[0]), tmp_path, {})


STORED = pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])


@STORED
@pytest.mark.parametrize("share", [25, 40, 60, 75, 90, 97])
def test_a_share_of_the_file_is_met_and_used_up(tmp_path: Path, share: int, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external)
    result = bench.expect_used_up(f"{share}%", share / 100 * bench.size)
    assert result.target == f"size {share}%"


@STORED
def test_bytes_are_met_and_used_up_without_held_out_samples(tmp_path: Path, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external)
    bench.expect_used_up("12.5kB", 12_500, holdout=0)


@STORED
@pytest.mark.parametrize("method", ["dalr-2017", "svd-bc", "svd"])
def test_every_method_meets_it(tmp_path: Path, method: str, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external)
    bench.expect_used_up("60%", 0.6 * bench.size, method=method)


@STORED
def test_the_name_of_the_file_counts_where_tensors_refer_to_it(tmp_path: Path, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external)
    bench.expect_used_up("50%", 0.5 * bench.size, output=f"{'a-long-name-' * 15}.onnx")
    bench.expect_used_up("50%", 0.5 * bench.size, output="s.onnx")


@STORED
def test_what_cannot_be_reached_names_the_closest_and_that_can(tmp_path: Path, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external)
    closest = bench.closest()
    assert bench.optimize(closest).bytes_after == closest
    (bench.folder / "small.onnx").unlink()
    with pytest.raises(TargetError):
        bench.optimize(closest - 1)
    assert not (bench.folder / "small.onnx").exists()


@STORED
def test_halfway_between_the_closest_and_all_of_it(tmp_path: Path, external: bool) -> None:
    bench = tiny_bench(tmp_path, external=external, widths=(24, 96, 80, 10))
    middle = (bench.closest() + bench.size) // 2
    bench.expect_used_up(middle, middle)


def test_a_model_in_memory_is_met_too() -> None:
    model = tiny.mlp((16, 64, 64, 4))
    limit = 0.5 * model.ByteSize()
    small = onnx_dalr.optimize(model, calib=tiny.rows(100), size=0.5).model
    assert 0.95 * limit < small.ByteSize() <= limit


def test_pinned_layers_are_as_asked_and_the_others_meet_the_size(tmp_path: Path) -> None:
    bench = tiny_bench(tmp_path)
    result = bench.optimize("50%", rank=["first=7", "third=keep"])
    assert result.bytes_after <= 0.5 * bench.size
    found = {layer.name: layer for layer in result.layers}
    assert (found["first"].rank, found["third"].rank) == (7, None)
    assert found["first"].reason == found["third"].reason == "as asked"
    assert found["second"].rank is not None


def test_ranks_are_multiples_where_asked(tmp_path: Path) -> None:
    bench = tiny_bench(tmp_path, widths=(64, 96, 96, 64))
    result = bench.optimize("50%", rank_multiple=8, min_rank=16)
    assert result.bytes_after <= 0.5 * bench.size
    ranks = [layer.rank for layer in result.layers if layer.rank is not None]
    assert ranks
    assert all(rank % 8 == 0 and rank >= 16 for rank in ranks)


# Real models.


def real_bench(assets: Path, tmp_path: Path, name: str, calib: str, **options: Any) -> Bench:
    return Bench(assets / "models" / f"{name}.onnx", assets / "data" / calib, tmp_path, options)


MNIST = ("mnist-mlp", "mnist-calib.npz", {"samples": 300})
DTLN = ("dtln-2", "dtln-2-feeds.npz", {"samples": 100})
MAGIKA = ("magika-standard-v3_3", "magika-calib.npz", {"samples": 30})
VGG = (
    "vgg-cifar-target",
    "cifar-animals-images/calib",
    {"samples": 60, "method": "svd-bc", "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)},
)


@pytest.mark.assets
@pytest.mark.parametrize("which", [MNIST, VGG], ids=lambda which: which[0])
def test_real_models_at_two_fifths(assets: Path, tmp_path: Path, which: tuple[str, str, dict[str, Any]]) -> None:
    name, calib, options = which
    bench = real_bench(assets, tmp_path, name, calib, **options)
    bench.expect_used_up("40%", 0.4 * bench.size)


@pytest.mark.assets
@pytest.mark.parametrize("which", [MNIST, DTLN, MAGIKA], ids=lambda which: which[0])
def test_real_models_halfway(assets: Path, tmp_path: Path, which: tuple[str, str, dict[str, Any]]) -> None:
    name, calib, options = which
    bench = real_bench(assets, tmp_path, name, calib, **options)
    closest = bench.closest()
    middle = (closest + bench.size) // 2
    bench.expect_used_up(middle, middle)
    assert bench.optimize(closest).bytes_after == closest


@pytest.mark.assets
def test_a_real_model_with_its_data_beside(assets: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(assets / "models/mnist-mlp.onnx"), tmp_path / "m.onnx", save_as_external_data=True)
    x = np.load(assets / "data/mnist-calib.npz")["image"][:300]
    bench = Bench(tmp_path / "m.onnx", x, tmp_path, {})
    bench.expect_used_up("40%", 0.4 * bench.size, output="a-name-of-its-own.onnx")
