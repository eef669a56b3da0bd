"""Which samples, how they are divided and how they are run."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.option import RUNS, SHARED, Option
from onnx_dalr.request.option import SAMPLES as GROUP

_RUN = ("optimize", SHARED)
_ANY = ("optimize", SHARED, "compare", "check")
_ANY_COMMAND = (*RUNS, "compare", "check")

SAMPLES = (
    Option(
        name="labels",
        type="GivenLabels | None",
        text="Class per sample, where they come in no class folders: a `.npy`, a file with one integer a line, or "
        "integers [N]; [N, …] are classes of tokens or pixels, -100 says that there is none.",
        functions=("compare", "check"),
        help="Classes of the samples: .npy, or one integer a line.",
        commands=("compare", "check"),
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="stats",
        type="PathLike | Sequence[PathLike]",
        default=(),
        text="Files written by `save_stats`, in place of running the fit samples; several are added up. Without "
        "`calib` nothing is chosen on samples, and `eval` is what quality is measured on.",
        functions=RUNS,
        help="Statistics of --save-stats, in place of running fit samples; repeatable: they add up.",
        commands=RUNS,
        group=GROUP,
        parsed=Path,
        many=True,
        metavar="FILE",
    ),
    Option(
        name="samples",
        type="int | None",
        text="Use so many samples at most, drawn by `seed`.",
        functions=_ANY,
        help="Use at most so many.",
        commands=_ANY_COMMAND,
        group=GROUP,
        parsed=int,
        metavar="N",
    ),
    Option(
        name="seed",
        type="int",
        default=0,
        text="Of the split, and of what `samples` draws.",
        functions=_ANY,
        help="Of the split.",
        commands=_ANY_COMMAND,
        group=GROUP,
        parsed=int,
    ),
    Option(
        name="batch_size",
        type="int | None",
        text="Samples run at a time.",
        functions=_ANY,
        help="Run so many at a time [default: 32].",
        commands=_ANY_COMMAND,
        group=GROUP,
        parsed=int,
        metavar="B",
    ),
    Option(
        name="holdout",
        type="float",
        default=0.3,
        text="Fraction of the samples kept out of the statistics; 0 for none, and no quality figure.",
        functions=_RUN,
        help="Fraction kept out of the statistics; 0: no quality figure.",
        commands=RUNS,
        group=GROUP,
        parsed=float,
    ),
    Option(
        name="eval",
        type="Any",
        text="Report samples of their own, in any form `calib` takes.",
        functions=_RUN,
        help="Report quality on these samples.",
        commands=("optimize", "apply"),
        group=GROUP,
        parsed=Path,
        metavar="PATH",
    ),
    Option(
        name="labels",
        type="GivenLabels | None",
        text="Class per sample of `calib`, where they come in no class folders: a `.npy`, a file with one integer a "
        "line, or integers [N]; [N, …] are classes of tokens or pixels, -100 says that there is none.",
        functions=_RUN,
        help="Classes of the samples: .npy, or one integer a line.",
        commands=RUNS,
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="eval_labels",
        type="GivenLabels | None",
        text="Class per sample of `eval`, in any form `labels` takes.",
        functions=_RUN,
        help="Classes of --eval.",
        commands=("optimize", "apply"),
        group=GROUP,
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="mask_input",
        type="str | None",
        text="Model input that marks padding, by zeros or, added to attention scores, by large negative values; found "
        "by its name (attention_mask, input_mask) or, where it is additive, by its values.",
        functions=_RUN,
        help="Input that marks padding [default: told by its name or values].",
        commands=RUNS,
        group=GROUP,
        metavar="NAME",
    ),
    Option(
        name="device",
        type="str",
        default="auto",
        text='"auto", "cpu" or "cuda".',
        functions=_ANY,
        help="auto, cpu or cuda.",
        commands=_ANY_COMMAND,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.session.session:DeviceName",
        completes=("auto", "cpu", "cuda"),
    ),
    Option(
        name="ops_library",
        type="PathLike | Sequence[PathLike]",
        default=(),
        text="Shared libraries of custom operators that the model uses, for ONNX Runtime to load; one or more.",
        functions=_ANY,
        help="Library of custom operators the model uses; repeatable.",
        commands=_ANY_COMMAND,
        group=GROUP,
        parsed=Path,
        many=True,
        metavar="FILE.so",
    ),
)
