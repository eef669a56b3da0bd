"""The two streams of the command, as rich sees them."""

from __future__ import annotations

import shutil

from rich.console import Console, ConsoleDimensions

from onnx_dalr.shown import PLAIN_WIDTH

out = Console(highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)
for _console in (out, err):
    if not _console.is_terminal or _console.width < 1:  # COLUMNS=0: nothing would be shown at all
        _console.width = PLAIN_WIDTH
    elif _console.is_dumb_terminal:  # which rich takes for 80 characters wide, whatever it says
        _console.size = ConsoleDimensions(*shutil.get_terminal_size((80, 25)))
