"""`--structures`: read, and applied to the layers that a pattern means."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.candidate.forms import at_rank, at_share, forms_of
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Form
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.request.selection import taken_apart_as_asked
from onnx_dalr.request.structures import StructureRule, read_structures, structures_for
from tests.graph.helpers import model

LAYERS, _ = find(
    Model(
        model(
            """g (float[N,16,8,8] x) => (float[N,10] y) {
                [wide] c = Conv (x, K)  [flat] d = Conv (c, L)  [point] e = Conv (d, P)
                p = GlobalAveragePool (e)  f = Flatten (p)  [head] y = MatMul (f, W)
            }""",
            K=(32, 16, 3, 3),
            L=(32, 32, 1, 3),
            P=(24, 32, 1, 1),
            W=(24, 10),
        )
    )
)


def kinds(given: str | list[str], name: str) -> set[str]:
    """What a layer may be taken apart in."""
    rules = read_structures(given)
    layer = next(taken_apart_as_asked(layer, rules) for layer in LAYERS if layer.name == name)
    return {form.structure for form in forms_of(layer, METHODS["dalr"])} - {"dense"}


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ("auto", [("*", ())]),
        ("spatial", [("*", ("pair", "v", "h"))]),
        ("out, in", [("*", ("out", "in"))]),
        (["out", "in"], [("*", ("out", "in"))]),
        (["spatial", "conv*=tucker,v"], [("*", ("pair", "v", "h")), ("conv*", ("tucker", "v"))]),
        (["out", "auto"], [("*", ())]),
        ("spatial,v", [("*", ("pair", "v", "h"))]),
    ],
)
def test_words_names_and_patterns_are_read(given: str | list[str], rules: list[tuple[str, tuple[str, ...]]]) -> None:
    assert read_structures(given) == tuple(StructureRule(*rule) for rule in rules)


def test_the_last_rule_that_matches_counts() -> None:
    rules = read_structures(["out", "a*=v", "ab=in"])
    assert [structures_for([name], rules) for name in ("x", "a", "ab")] == [("out",), ("v",), ("in",)]
    assert structures_for(["x"], ()) == ()


@pytest.mark.parametrize("given", ["uot", "out,", "", "=out", "conv*=", "out;in"])
def test_what_is_no_structure_is_refused_with_those_there_are(given: str) -> None:
    with pytest.raises(InputError, match="--structures") as error:
        read_structures(given)
    assert "auto, spatial, pair, out, in, v, h, tucker" in error.value.hint
    assert error.value.exit_code == 2


def test_left_to_itself_a_kernel_has_every_structure_that_applies() -> None:
    assert kinds("auto", "wide") == {"out", "in", "v", "h", "tucker"}
    assert kinds("auto", "flat") == {"out", "in", "tucker"}
    assert kinds("auto", "point") == kinds("auto", "head") == {"pair"}


def test_spatial_leaves_pairs_to_matrices() -> None:
    assert kinds("spatial", "wide") == {"v", "h"}
    assert kinds("spatial", "flat") == set()
    assert kinds("spatial", "point") == kinds("spatial", "head") == {"pair"}


def test_names_are_for_the_layers_of_the_pattern() -> None:
    assert kinds(["in", "wide=tucker"], "wide") == {"tucker"}
    assert kinds(["in", "wide=tucker"], "flat") == {"in"}
    assert kinds(["wide=tucker"], "flat") == {"out", "in", "tucker"}


def asked(given: str, name: str) -> Layer:
    return next(taken_apart_as_asked(layer, read_structures(given)) for layer in LAYERS if layer.name == name)


def test_a_layer_to_which_none_applies_stays_in_one_piece_and_says_why() -> None:
    layer = asked("v", "head")
    assert layer.in_one_piece
    assert layer.why_whole == "--structures v: none of these applies to it"
    assert not asked("spatial", "head").in_one_piece


def test_a_rank_is_of_the_first_structure_that_is_left() -> None:
    assert at_rank(asked("auto", "wide"), 8) == Form("out", (8,))
    assert at_rank(asked("v", "wide"), 8) == Form("v", (8,))
    assert at_rank(asked("tucker", "wide"), 8) == Form("tucker", (8, 8))
    assert asked("v", "wide").break_even(compensated=True) == int(np.ceil((32 * 144 - 32) / (3 * 48))) - 1


def test_a_rank_is_of_the_first_structure_that_can_save() -> None:
    """`out` has nothing to leave out where there is one output."""
    proto = model("g (float[N,64,9,9] x) => (float[N,1,7,7] y) { y = Conv (x, W) }", W=(1, 64, 3, 3))
    (layer,) = find(Model(proto))[0]
    assert at_rank(layer, 4) == Form("in", (4,))
    assert at_share(layer, 0.5) == Form("in", (3,))  # k·(64 + 9) of 64·9
    assert layer.break_even(compensated=False) == 7


def test_the_largest_rank_is_that_of_what_a_rank_stands_for() -> None:
    """`v` could have more, but is not what a rank alone makes of it."""
    layer = asked("auto", "wide")
    assert layer.break_even(compensated=False) == (32 * 144 - 1) // (32 + 144) == 26
    assert max(form.rank for form in forms_of(layer, METHODS["svd"]) if form.structure == "v") == (31,)
