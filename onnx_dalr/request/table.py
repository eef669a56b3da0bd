"""The table of options. A new one is a row here, a parameter where it is public, and the code that uses it.

The order is that of the command line's help. Nothing heavy is imported: `onnx-dalr --help` reads this.
"""

from __future__ import annotations

from onnx_dalr.request.option import Option
from onnx_dalr.request.rows.facts import FACTS
from onnx_dalr.request.rows.given import GIVEN
from onnx_dalr.request.rows.images import IMAGES
from onnx_dalr.request.rows.layers import LAYERS
from onnx_dalr.request.rows.output import OUTPUT
from onnx_dalr.request.rows.samples import SAMPLES
from onnx_dalr.request.rows.target import TARGET

OPTIONS = (*GIVEN, *TARGET, *LAYERS, *SAMPLES, *IMAGES, *OUTPUT, *FACTS)

COMMANDS = tuple(dict.fromkeys(command for option in OPTIONS for command in option.commands))
"""Every command, which is a function of the same name."""


def of_command(command: str) -> dict[str, Option]:
    """What a command of the command line takes, by name."""
    return {option.name: option for option in OPTIONS if command in option.commands}


def of_function(function: str) -> dict[str, Option]:
    """What a Python function takes, by name."""
    return {option.name: option for option in OPTIONS if function in option.functions}
