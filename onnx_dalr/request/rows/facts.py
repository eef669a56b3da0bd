"""What `inspect` is asked, and the files of facts; `rows/budgets.py` has what `check` is asked."""

from __future__ import annotations

from pathlib import Path

from onnx_dalr.request.option import Option
from onnx_dalr.request.rows.budgets import BUDGETS

FACTS = (
    Option(
        name="top",
        default=20,
        help="Show the N largest tensors; 0 for all.",
        commands=("inspect",),
        parsed=int,
        metavar="N",
        least=0,
    ),
    Option(
        name="all",
        default=False,
        help="Show all of every table, and all tensors but the small constants.",
        commands=("inspect",),
        parsed=bool,
        in_python="to_text(top=None)",
    ),
    *BUDGETS,
    Option(
        name="json",
        help="Write the facts as JSON; - for standard output.",
        commands=("inspect", "check"),
        parsed=Path,
        metavar="FILE",
    ),
    Option(
        name="markdown",
        help="Write the tables as Markdown, for a pull request; - for standard output.",
        commands=("inspect",),
        parsed=Path,
        metavar="FILE",
        in_python='render("markdown")',
    ),
)
