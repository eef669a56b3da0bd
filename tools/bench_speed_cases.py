"""What tools/bench_speed.py measures: the cases, what `optimize` is asked for in each, and what it is held to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SpeedCase:
    """One model with its samples.

    Attributes:
        name: On the command line.
        title: In words, at full scale.
        runs: What `optimize` is asked for: by the name of the row, the first one is what is compared.
        peers: The other tools that do a comparable part.
        assets: It needs real models and data.
    """

    name: str
    title: str
    runs: dict[str, tuple[str, ...]]
    peers: tuple[str, ...] = ()
    assets: bool = False


@dataclass(frozen=True)
class Prepared:
    """A case as it lies in a folder, for every process alike.

    Attributes:
        name: Of the case.
        title: With its real sizes.
        model: File name of the model in the folder, or a path.
        samples: File of all samples, an .npz by input name.
        calib: What `optimize` is given.
        options: Of `optimize`, in every run.
        count: Samples.
        batch: Samples of a run.
        model_bytes: Of the model, its external data included.
        layers: (m, n, p) of each that is taken apart; its rows and its weight lie beside, `x0.npy` and `w0.npy`.
        dense: Numbers of those that are matrices: the published formula knows no others.
        tools: Versions of what everything is made with, and the machine.
    """

    name: str
    title: str
    model: str
    samples: str
    calib: str
    options: tuple[str, ...]
    count: int
    batch: int
    model_bytes: int
    layers: tuple[tuple[int, int, int], ...]
    dense: tuple[int, ...]
    tools: str

    @property
    def moment_bytes(self) -> int:
        """Of the largest moment on the smaller side of a layer, in double precision."""
        return max((8 * min(m, n) ** 2 for m, n, _ in self.layers), default=0)

    @property
    def published_bytes(self) -> int:
        """About what the formula as published needs for its largest layer, in double precision."""
        sizes = (self.layers[at] for at in self.dense)
        return max((8 * (4 * n * n + 2 * n * p + 2 * m * (n + p)) for m, n, p in sizes), default=0)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Prepared:
        """What `to_json` gave."""
        tuples = {name: tuple(fields[name]) for name in ("options", "dense")}
        return Prepared(**fields | tuples | {"layers": tuple(tuple(each) for each in fields["layers"])})


QUANTIZERS = ("quantize_dynamic", "quantize_static")
TORCH = "torch SVD"
PEERS = (*QUANTIZERS, "onnxslim", TORCH)
LARGE = "large"
_HALF = ("--params", "50%")
_FIFTH = ("--params", "20%")

CASES = {
    case.name: case
    for case in (
        SpeedCase("head", "head of a VGG19", {"optimize --params 20%": _FIFTH}, PEERS),
        SpeedCase("block", "transformer block of an LLM", {"optimize --params 50%": _HALF}, PEERS),
        SpeedCase("minilm", "MiniLM-L6", {"optimize --params 70%": ("--params", "70%")}, PEERS, assets=True),
        SpeedCase(
            "vgg",
            "VGG of CIFAR, moved to six animals",
            {"optimize": (), "optimize --params 20%": _FIFTH},
            (*QUANTIZERS, "onnxslim"),
            assets=True,
        ),
        SpeedCase(
            "vgg-fc",
            "the same, its three fully connected layers alone",
            {"optimize": (), "optimize --params 40%": ("--params", "40%")},
            (TORCH,),
            assets=True,
        ),
        SpeedCase("demo", "the demo", {"optimize": (), "optimize --params 20%": _FIFTH}, (*QUANTIZERS, "onnxslim")),
        SpeedCase(
            LARGE,
            "layers of a model of 7 B parameters",
            {"optimize --params 50%": (*_HALF, "--samples", "16")},
        ),
    )
}
