"""Results with fixed figures: what is printed of them depends on no machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnx_dalr.graph.layers import Skipped
from onnx_dalr.plan.choice import Choice, Point
from onnx_dalr.plan.plan import Plan
from onnx_dalr.quality.drift import Drift, TensorDrift
from onnx_dalr.quality.evaluate import Latency, OutputQuality, Quality
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.results.compare import ModelComparison, ModelFacts, WorstSample
from onnx_dalr.results.result import LayerResult, Result
from onnx_dalr.samples.sets import SampleSets
from tests.forms import UNTOUCHED, form, pair

BY_EFFECT = "ranks by what each layer does to the output, the smallest model that stays within the drop"
DENSE = "dense: its parameters are worth more than what leaving them out would save"


def layer(name: str, m: int, n: int, rank: int | None, *, error: float = 0.2, op: str = "Gemm") -> LayerResult:
    after = m * n if rank is None else rank * (m + n)
    return LayerResult(
        name=name,
        weight=f"{name}.weight",
        op=op,
        nodes=(name,),
        m=m,
        n=n,
        rank=rank,
        form=form(rank),
        break_even=m * n // (m + n),
        params_before=m * n,
        params_after=after,
        bytes_before=4 * m * n,
        bytes_after=4 * after,
        method=None if rank is None else "dalr",
        calibration_error=None if rank is None else error,
        expected_error=None if rank is None else 1.1 * error,
        expected_distortion=None if rank is None else error / 100,
        rows=336,
        ridge=None,
        shrinkage=0.02,
        metric_shrinkage=0.3,
        reason=DENSE if rank is None else BY_EFFECT,
    )


def output(name: str, kind: str, describes: str, loss: Estimate, *, score: str, error: float) -> OutputQuality:
    value = Estimate(1 - loss.value, 1 - loss.high, 1 - loss.low, loss.n)
    return OutputQuality(
        name=name,
        kind=kind,
        describes=describes,
        counts=True,
        why="",
        score=score,
        value=loss if score == "1 − error" else value,
        loss=loss,
        error=Estimate(error, 0.9 * error, 1.1 * error, loss.n),
        max_abs=0.5,
    )


DROP = Estimate(0.0079, -0.0054, 0.0211, 253)
ACCURATE = Quality(
    task="classify",
    n=253,
    outputs=(output("logits", "classes", "classes, as logits", DROP, score="accuracy", error=0.05),),
    error=Estimate(0.0512, 0.0480, 0.0551, 253),
    agreement=Estimate(0.9881, 0.9657, 0.9960, 253),
    accuracy_before=Estimate(0.9881, 0.9657, 0.9960, 253),
    accuracy_after=Estimate(0.9802, 0.9546, 0.9915, 253),
    expected_drop=Estimate(0.0011, 0.0004, 0.0021, 253),
    kl=0.0033,
    cosine=None,
    score="accuracy",
    worst="logits",
    drop=DROP,
    distortion=0.0033,
    finite=True,
    notes=(),
)
CLASSIFIER = Result(
    version="0.0",
    input=Path("in.onnx"),
    output=Path("digits-small.onnx"),
    dry_run=False,
    method="dalr",
    factors="cautious",
    target="max-drop 1% (default)",
    bytes_before=20_137_000,
    bytes_after=3_515_000,
    params_before=5_033_606,
    params_after=878_214,
    layers=(layer("fc6", 1024, 3072, 7), layer("fc7", 1024, 1024, 5), layer("fc8", 6, 1024, None)),
    skipped=tuple(Skipped(f"/features/{i}/Conv", "Conv", "3×3 convolution: only 1×1 is supported") for i in range(7)),
    samples=SampleSets(
        "calib: 480 images", {}, 0, 0.3, ("a",) * 336, ("b",) * 144, ("c",) * 253, "test", False, "0" * 16
    ),
    quality=ACCURATE,
    latency=Latency(1.07, 0.551, 1, 58, Estimate(1.942, 1.91, 1.975, 58)),
    device="auto",
    provider="CPUExecutionProvider",
    evaluations=3,
    passes=0,
    metric_passes=7,
    curve=(
        Point("one keep ratio for all layers", 866_000, 3_470_000, 0.1528, 0.36, 0.176),
        Point("ranks by what each layer does to the output", 878_214, 3_515_000, 0.0, 0.0754, 0.0033, chosen=True),
        Point("ranks by the own error of each layer", 1_010_000, 4_030_000, float("inf"), 0.0144, 0.0002),
    ),
    seconds={"load": 0.2, "capture": 0.7, "factorize": 1.7, "decide": 2.4},
    notes=(),
    macs_before=42_244_096,
    macs_after=38_107_136,
)

LOST = Estimate(0.0250, 0.0201, 0.0312, 12)
DETECTOR = replace(
    CLASSIFIER,
    output=Path("detector-small.onnx"),
    factors="default",
    target="params 60%",
    layers=tuple(layer(f"/neck/blocks.{i}/a/rather/long/name/of/an/exporter/Conv", 128, 64, 12) for i in range(13)),
    skipped=(),
    latency=Latency(4.33, 5.13, 1, 40, Estimate(0.844, 0.80, 0.88, 40)),
    quality=replace(
        ACCURATE,
        n=12,
        outputs=(
            output("scores", "dense", "dense: classes by position", LOST, score="balanced agreement", error=0.01),
            output("boxes", "numbers", "numbers", Estimate(0.011, 0.01, 0.012, 12), score="1 − error", error=0.011),
        ),
        error=Estimate(0.0112, 0.0101, 0.0123, 12),
        agreement=Estimate(0.9999, 0.9998, 1.0, 12),
        accuracy_before=None,
        accuracy_after=None,
        expected_drop=None,
        score="balanced agreement",
        worst="scores",
        drop=LOST,
    ),
    notes=("slower: 5.13 ms instead of 4.33 ms a run (batch 1)",),
)


def tensor(name: str, op: str, shape: tuple[int, ...], entering: float, error: float, op_b: str = "") -> TensorDrift:
    return TensorDrift(name, f"node of {name}", op, op_b or op, shape, error, entering, True, name == "logits")


CONV = tensor("/features/features.0/Conv_output_0", "Conv", (1, 32, 32, 32), 0.0, 3.1e-7)
RELU = tensor("/features/features.2/Relu_output_0", "Relu", (1, 32, 32, 32), 3.1e-7, 0.0021)
FC6 = tensor("/fc6/Gemm_output_0", "Gemm", (1, 1024), 0.0021, 0.0817, "Add")
LOGITS = tensor("logits", "Gemm", (1, 6), 0.06, 0.0512)

COMPARED = ModelComparison(
    version="0.0",
    a=ModelFacts(Path("in.onnx"), 20_137_000, 5_033_606, {"float32": 20_134_424}, 42_200_000),
    b=ModelFacts(Path("out.onnx"), 3_515_000, 878_214, {"float32": 3_420_000, "int8": 90_000}, 17_900_000),
    description="images: 253 images in 6 classes",
    settings={"scale": "1/255", "color": "rgb"},
    available=300,
    seed=0,
    samples=("a",) * 253,
    quality=ACCURATE,
    latency=CLASSIFIER.latency,  # type: ignore[arg-type]
    device="auto",
    provider="CPUExecutionProvider",
    notes=("47 samples are left out: they fill no batch of 100",),
    worst=(
        WorstSample("2-deer/036.png", "logits", 1.0, 2.1, "2-deer", "1-cat", "2-deer"),
        WorstSample("1-cat/a picture of a cat, asleep.png", "logits", 1.0, 0.31, "1-cat", "3-dog", "1-cat"),
        WorstSample("5-horse/012.png", "logits", 0.0, 0.0042, "5-horse", "5-horse", "5-horse"),
    ),
    drift=Drift(
        samples=16,
        computed_a=23,
        computed_b=31,
        tensors=(CONV, RELU, FC6, LOGITS),
        first=RELU,
        before=3.1e-7,
        jump=FC6,
    ),
)

PLAN = Plan(
    method="dalr",
    choices=(
        Choice("fc6", pair(7), BY_EFFECT, 0.2345, 0.0014, 768),
        Choice("fc7", pair(5), BY_EFFECT, 0.2165, 0.0009, 512),
        Choice("fc8", UNTOUCHED, DENSE, largest_rank=5),
    ),
    evaluations=3,
    curve=CLASSIFIER.curve,
    target="max-drop 1% (default)",
)
