"""Functions of the user's own: "file.py:function", and what they raise in one line."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx_dalr.errors import InputError, one_line


def load_function(given: str, option: str) -> Callable[..., Any]:
    """The function that "file.py:function" names.

    Args:
        given: As typed.
        option: Named in the errors: "--preprocess".

    Raises:
        InputError: There is none, or its file cannot be run.
    """
    file, colon, name = given.rpartition(":")
    hint = spelling_hint(option)
    if not colon or not file or not name.isidentifier():
        raise InputError(f"{option} {given!r} does not name a function in a file", hint)
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{option} {given}: there is no file {file}", hint)
    module_name = f"onnx_dalr_{option.strip('-').replace('-', '_')}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"{option} {given}: {file} is no Python file", hint)
    module = importlib.util.module_from_spec(spec)
    # What a script finds when it is run: itself among the modules, and the files beside it.
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{option} {given}: the file cannot be run: {reason(error)}") from error
    finally:
        with contextlib.suppress(ValueError):  # the file may have taken it out itself
            sys.path.remove(str(path.resolve().parent))
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{option} {given}: {file} has no function {name}", f"it has {', '.join(there) or 'none'}")
    found: Callable[..., Any] = function
    return found


def spelling_hint(option: str) -> str:
    """How such an option is written."""
    return f"write {option} file.py:function"


def reason(error: BaseException) -> str:
    """An exception of the user's code in one line, with the place."""
    text = one_line(str(error).splitlines()[0]) if str(error) else ""
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    # The first frame is ours, and an import's are the machinery's.
    own = [frame for frame in frames[1:] if not frame.filename.startswith("<frozen")]
    return f"{said} (line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else said
