"""Option values that are more than a word: sizes, crops and lists of numbers."""

from __future__ import annotations

from typing import Literal

from onnx_dalr.errors import InputError


def image_size(option: str, text: str) -> tuple[int, int] | int:
    """Reads "224x192" as (height, width), "224" as a number.

    Raises:
        InputError: It is neither.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) not in (1, 2) or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"{option} {text!r} is not a size", "write height x width in pixels, as in 224x224")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def image_crop(option: str, text: str) -> tuple[int, int] | float | Literal["center"]:
    """Reads "224x192" as (height, width), "224" as a square, "0.875" or "1" as a fraction, "center" as itself.

    Raises:
        InputError: It is none of these.
    """
    if text == "center":
        return "center"
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) <= 2 and all(side.strip().isdecimal() for side in sides) and sides != ["1"]:
        return int(sides[0]), int(sides[-1])
    try:
        return _number(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{option} {text!r} is no crop",
            "write height x width in pixels, as in 224x224, center for the model's size, or a fraction, as in 0.875",
        ) from error


def numbers(option: str, text: str) -> list[float]:
    """Reads ".485,.456,.406", fractions such as 1/255 among them.

    Raises:
        InputError: Something in it is no number.
    """
    try:
        return [_number(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{option} {text!r} is not a number or a list of them", f"{option} .485,.456,.406") from error


def number(option: str, text: str) -> float:
    """Reads one number, or a fraction such as 1/255.

    Raises:
        InputError: It is none.
    """
    found = numbers(option, text)
    if len(found) != 1:
        raise InputError(f"{option} {text!r} is not one number", f"{option} 1/255")
    return found[0]


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)
