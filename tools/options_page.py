"""Writes docs/options.md from the table of options: `python tools/options_page.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnx_dalr.request.option import GROUPS, REQUIRED, SHARED, Option
from onnx_dalr.request.table import OPTIONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"

_TARGET = "Target: "  # as docstrings say, where no heading does

HEAD = """\
# Options

What every command, and the function of its name in Python, takes. What is written in capitals stands for a value. A
target is also what `plan` of an analysis takes. This page is written from the table of options
(`onnx_dalr/request/table.py`) by `tools/options_page.py`.
"""


def page() -> str:
    """The page."""
    parts = [HEAD]
    for group in ("", *GROUPS):
        rows = [option for option in OPTIONS if option.group == group and option.commands]
        parts.append(f"## {group.partition(' (')[0] or 'Arguments, and options of `inspect` and `check`'}\n")
        if "(" in group:
            said = group[group.index("(") + 1 : -1].capitalize()
            parts.append(f"{said.replace('--max-drop 1%', '`--max-drop 1%`')}.\n")
        parts.append("| command line | of | Python | default | |\n|---|---|---|---|---|\n" + "".join(map(_row, rows)))
    parts.append("## Only in Python\n")
    parts.append("| | of | default | |\n|---|---|---|---|\n" + "".join(_only_in_python()))
    return "\n".join(parts)


def _row(option: Option) -> str:
    if option.positional:
        written = option.metavar or option.name.upper()
    else:
        value = "" if option.parsed is bool else f" {option.metavar or f'<{option.parsed.__name__}>'}"
        written = option.flag + value
    also = "".join(f", `{flag}`" for flag in option.flags[1:])
    repeatable = " (repeatable)" if option.many and not option.positional else ""
    name = f"`{option.name}`" if option.functions else f"`{option.in_python}`" if option.in_python else ""
    cells = (
        f"`{written}`{also}{repeatable}".replace("|", "\\|"),
        ", ".join(option.commands),
        name,
        _default(option),
        _said(option),
    )
    return f"| {' | '.join(cells)} |\n"


def _said(option: Option) -> str:
    text = (option.text or option.help).removeprefix(_TARGET).replace("|", "\\|")
    return text[0].upper() + text[1:] if option.text.startswith(_TARGET) else text


def _only_in_python() -> Iterator[str]:
    named = {(option.name, command) for option in OPTIONS for command in option.commands}
    for option in OPTIONS:
        of = [name for name in option.functions if name != SHARED and (option.name, name) not in named]
        if of and not option.commands:
            yield f"| `{option.name}` | {', '.join(of)} | {_default(option)} | {option.text} |\n"


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "required"
    return "" if option.default in (None, ()) or not option.functions else f"`{option.default!r}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
