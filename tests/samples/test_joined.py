"""The samples of a run: the mask among them, and how they are joined into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import Mask
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import SampleSet, Sets, opened
from tests.samples.conftest import spec

IDS, NUMBERS = spec(None, None, name="ids", dtype="int64"), spec(None, None, name="bias")
LENGTHS = np.random.default_rng(0).integers(1, 9, 100)
REAL = np.arange(8) < LENGTHS[:, None]
BIAS = np.where(REAL, 0, -1e4).astype(np.float32)
FEED = {"ids": np.arange(800).reshape(100, 8), "bias": BIAS}


def sets_of(feed: Any = FEED, specs: Any = (IDS, NUMBERS), **options: Any) -> Sets:
    with opened(SampleOptions(feed, **options), specs) as sets:
        return sets


def sizes(samples: SampleSet) -> list[int]:
    return [len(indices) for indices, _ in samples]


# The mask


def test_a_mask_is_found_in_the_samples() -> None:
    assert sets_of().mask == Mask("bias", additive=True, length=8)
    assert sets_of().mask_input == "bias"


def test_without_one_there_is_none() -> None:
    assert sets_of(FEED | {"bias": 0 * BIAS}).mask_input is None


def test_the_mask_asked_for_is_taken() -> None:
    ones = {"ids": np.maximum(FEED["ids"] * REAL, 0), "bias": REAL.astype(np.float32)}
    assert sets_of(ones).mask is None
    assert sets_of(ones, mask_input="bias").mask == Mask("bias", additive=False, length=8)


@pytest.mark.parametrize(
    ("asked", "says"), [("mask", "is no input of the model"), ("text", "holds no numbers")], ids=["unknown", "text"]
)
def test_a_mask_that_can_be_none_is_refused(asked: str, says: str) -> None:
    text = spec(None, name="text", dtype="object")
    with pytest.raises(InputError, match=f"--mask-input '{asked}' {says}"):
        sets_of({"ids": FEED["ids"], "text": np.array(["a"] * 100)}, (IDS, text), mask_input=asked)


# How samples are joined


@pytest.mark.parametrize(("asked", "expected"), [(8, 7), (9, 9), (23, 22), (32, 32), (92, 91), (100, 100), (1, 1)])
def test_never_as_many_samples_are_joined_as_the_mask_has_positions(asked: int, expected: int) -> None:
    """[8, 8] could be samples and positions, or the other way round. 100 is 4 · 23 + 8, and 92 + 8."""
    fit = sets_of(batch_size=asked, holdout=0.0).fit
    assert sizes(fit)[0] == expected
    assert 8 not in sizes(fit)
    assert sum(sizes(fit)) == 100


def test_as_few_samples_as_positions_are_divided() -> None:
    fit = sets_of(samples=8, holdout=0.0).fit
    assert sizes(fit) == [7, 1]


def test_a_report_set_of_its_own_may_have_its_own_length() -> None:
    short = {"ids": FEED["ids"][:, :6], "bias": BIAS[:, :6]}
    sets = sets_of(eval=short, batch_size=6)
    assert (sizes(sets.fit)[0], sizes(sets.report)[0]) == (6, 5)


def test_other_samples_are_joined_as_asked() -> None:
    assert sizes(sets_of({"ids": FEED["ids"]}, (IDS,), batch_size=8, holdout=0.0).fit) == [8] * 12 + [4]
