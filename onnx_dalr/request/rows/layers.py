"""Which layers, by which method, and what is scored."""

from __future__ import annotations

from onnx_dalr.request.option import LAYERS as GROUP
from onnx_dalr.request.option import RUNS, SHARED, Option

_COMMANDS = ("optimize", "analyze")
_FUNCTIONS = ("optimize", SHARED)
_SCORED = (*RUNS, "compare")
_SCORING = ("optimize", SHARED, "compare")

LAYERS = (
    Option(
        name="method",
        type="str",
        default="dalr",
        text='"dalr", "dalr-2017", "svd-bc" or "svd".',
        functions=_FUNCTIONS,
        help="dalr, dalr-2017, svd-bc or svd.",
        commands=_COMMANDS,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.factorize:METHODS",
    ),
    Option(
        name="ridge",
        type="str | float | None",
        text='λ of dalr-2017: relative, 1e-3, or "abs:1000".',
        functions=_FUNCTIONS,
        help="λ of dalr-2017 [default: 1e-3].",
        commands=_COMMANDS,
        group=GROUP,
        metavar="1e-3|abs:1000",
    ),
    Option(
        name="shrinkage",
        type="str | float | None",
        text="How far `dalr` shrinks the covariance, 0 to 1; None for OAS, and a choice where samples are few.",
        functions=_FUNCTIONS,
        help="How far dalr shrinks the covariance, 0 to 1 [default: OAS].",
        commands=_COMMANDS,
        group=GROUP,
        metavar="A",
    ),
    Option(
        name="metric",
        type="bool",
        default=True,
        text="Whether `dalr` weighs a layer's outputs by what they do to the network's, from gradients.",
        functions=_FUNCTIONS,
        help="Do not weigh outputs by what they do to the network's.",
        commands=_COMMANDS,
        group=GROUP,
        parsed=bool,
        flags=("--no-metric",),
    ),
    Option(
        name="weights",
        type="str | Iterable[str]",
        default="keep",
        text='How numbers are stored: "keep" for the element type they have, "float16", "int8", "int4", or "auto" for '
        'any of them, layer by layer; "GLOB=int8" for some layers (one or a list).',
        functions=_FUNCTIONS,
        help="How numbers are stored: keep, float16, int8, int4 or auto; repeatable [default: keep].",
        commands=_COMMANDS,
        group=GROUP,
        many=True,
        metavar="WORD|GLOB=WORD",
        words="onnx_dalr.request.weights:WORDS",
    ),
    Option(
        name="include",
        type="str | Iterable[str]",
        default=(),
        text="Globs on layer, node or weight names; only these layers.",
        functions=_FUNCTIONS,
        help="Only layers with such a node or weight name.",
        commands=_COMMANDS,
        group=GROUP,
        many=True,
        metavar="GLOB",
    ),
    Option(
        name="exclude",
        type="str | Iterable[str]",
        default=(),
        text="Globs; not these layers.",
        functions=_FUNCTIONS,
        help="Leave these layers alone.",
        commands=_COMMANDS,
        group=GROUP,
        many=True,
        metavar="GLOB",
    ),
    Option(
        name="task",
        type="str",
        default="auto",
        text='"auto", "classify", "regress" or "embed": what the score is.',
        functions=_SCORING,
        help="auto, classify, regress or embed: what is scored.",
        commands=_SCORED,
        group=GROUP,
        metavar="NAME",
        words="onnx_dalr.quality.task:TaskName",
    ),
    Option(
        name="outputs",
        type="str | Iterable[str]",
        default=(),
        text="Names of the outputs whose loss counts; all that are the model's answer where left out.",
        functions=_SCORING,
        help="Outputs that count; repeatable [default: all that answer].",
        commands=_SCORED,
        group=GROUP,
        many=True,
        metavar="NAME",
        flags=("--output",),
    ),
    Option(
        name="score",
        type="str | Callable[..., Any] | None",
        text="A score of your own, higher is better: a function (outputs, labels) → number or one per sample, or "
        '"file.py:function". One that takes a third argument is given the original\'s outputs too.',
        functions=_SCORING,
        help="Your own score: (outputs, labels) → a number, or one per sample.",
        commands=_SCORED,
        group=GROUP,
        metavar="FILE.py:FUNCTION",
    ),
)
