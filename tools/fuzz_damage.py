"""Ways to spoil a model for tools/fuzz.py: in its fields, and in the bytes of its file."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from typing import Any

from fuzz_models import EDGES, ODD_NAMES, ODD_OPS
from onnx import ModelProto


def damage_fields(proto: ModelProto, rng: random.Random) -> None:
    """Changes a few fields anywhere in a message to something else, valid or not."""
    for _ in range(rng.randint(1, 4)):
        message: Any = proto.graph if rng.random() < 0.8 else proto
        while True:
            nested = [(f, v) for f, v in message.ListFields() if f.message_type]
            if not nested or rng.random() < 0.25:
                break
            field, value = rng.choice(nested)
            message = rng.choice(list(value)) if field.is_repeated else value
        with suppress(ValueError, TypeError):
            _damage_field(message, rng)


def _damage_field(message: Any, rng: random.Random) -> None:
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.8 else list(message.DESCRIPTOR.fields))
    if not field.is_repeated:
        if field.message_type or rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _other_value(field, rng))
        return
    values = getattr(message, field.name)
    position = rng.randrange(len(values)) if values else 0
    way = rng.choice(["drop", "double", "swap", "change", "clear"])
    if way == "clear":
        message.ClearField(field.name)
    elif way == "drop" and values:
        del values[position]
    elif field.message_type:
        made = values.add()
        if values:
            made.CopyFrom(values[position])
    elif way == "change" and values:
        values[position] = _other_value(field, rng)
    else:
        values.append(values[position] if values and way == "double" else _other_value(field, rng))


def _other_value(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice([*ODD_NAMES, *ODD_OPS, *(f"{base}{number}" for base in "tWn" for number in range(9))])
    if field.type == field.TYPE_BYTES:
        return rng.randbytes(rng.choice([0, 1, 7, 64]))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    if field.enum_type:
        return rng.choice(field.enum_type.values).number
    return rng.choice([*EDGES, rng.randint(0, 30)])


def damage_bytes(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, splices, doubles or blanks bytes of a file."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        # Structure lies at the beginnings and ends of files more than in the middle of weights.
        at = rng.choice([rng.randrange(len(made) + 1), rng.randrange(min(len(made), 400) + 1)])
        length = rng.choice([1, 1, 2, 5, 40])
        way = rng.choice(["flip", "flip", "random", "insert", "delete", "splice", "cut", "blank", "bad utf-8"])
        if way == "flip" and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif way in ("random", "blank"):
            made[at : at + length] = rng.randbytes(length) if way == "random" else rng.choice([b"\0", b"\xff"]) * length
        elif way == "insert":
            made[at:at] = rng.randbytes(length)
        elif way == "delete":
            del made[at : at + length]
        elif way == "splice":
            start = rng.randrange(len(other) + 1)
            made[at:at] = other[start : start + rng.choice([4, 40, 400])]
        elif way == "cut" and rng.random() < 0.3:
            del made[at:]
        elif way == "bad utf-8":
            _spoil_text(made, rng)
    return bytes(made)


def _spoil_text(made: bytearray, rng: random.Random) -> None:
    words = [found.span() for found in re.finditer(rb"[a-zA-Z_][\w./]{1,20}", bytes(made[:20000]))]
    if words:
        made[rng.randrange(*rng.choice(words))] = rng.choice([0xFF, 0xC3, 0x80, 0])
