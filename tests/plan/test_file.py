"""A plan is a text file that people edit: it comes back as it was, and what is wrong in it is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr import InputError, Plan, __version__
from onnx_dalr.graph.storage.model import load
from onnx_dalr.plan import file
from onnx_dalr.plan.choice import Choice, Point
from onnx_dalr.plan.file import SCHEMA
from tests.forms import UNTOUCHED, form, pair

MODEL = "0123456789abcdef" * 2
PLAN = Plan(
    method="dalr",
    choices=(
        Choice("fc6", pair(12), "one keep ratio for all layers", 0.125, 1e-6, 255),
        Choice("fc7", UNTOUCHED, "dense: the target is met without it", largest_rank=255),
        Choice("fc8", pair(1), "as asked", 0.5),
    ),
    evaluations=7,
    passes=3,
    curve=(
        Point("one keep ratio for all layers", 1000, 4321, 0.0, 0.01, 1e-6, chosen=True),
        Point("ranks by the error of each layer", 1001, 4325, math.inf, math.inf, math.inf),
    ),
    target="size 40%",
    factors="cautious",
    settings={"shrinkage": "0.1"},
    model=MODEL,
    version="0.1.0",
)

Edit = Callable[[dict[str, Any]], object]
to_json = Plan.to_json


def from_json(text: str, name: str = "the plan") -> Plan:
    return Plan(**file.from_json(text, name))


def edited(edit: Edit) -> str:
    """The text of the plan after an edit of what is in it."""
    facts = json.loads(to_json(PLAN))
    edit(facts)
    return json.dumps(facts)


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        from_json(text, "plan.json")
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith("plan.json")
    assert caught.value.hint
    return caught.value


# There and back.


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert Plan.load(str(tmp_path / "plan.json")).to_json() == PLAN.to_json()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
errors = st.floats(0, 10) | st.just(math.inf)
shares = st.none() | st.floats(0, 10)
points = st.builds(Point, texts, st.integers(0), st.integers(0), errors, errors, errors, st.booleans())
choices = st.builds(
    Choice, texts, st.builds(form, st.none() | st.integers(1)), texts, shares, shares, st.none() | st.integers(0)
)


@given(st.lists(choices, min_size=1, unique_by=lambda choice: choice.layer), st.lists(points), texts)
def test_any_plan_comes_back_as_it_was(some: list[Choice], curve: list[Point], target: str) -> None:
    plan = Plan("svd", tuple(some), curve=tuple(curve), target=target, model=MODEL, version="1")
    assert from_json(to_json(plan)) == plan


def test_forms_are_text() -> None:
    layers = json.loads(PLAN.to_json())["layers"]
    assert [layer["form"] for layer in layers] == ["pair 12", "dense", "pair 1"]


def test_the_text_is_json_without_infinity_in_lines_that_a_review_can_read() -> None:
    text = PLAN.to_json()
    facts = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert facts["schema"] == SCHEMA == 3
    assert facts["curve"][1]["drop"] is None
    assert '      "form": "pair 12",\n' in text
    assert text.endswith("}\n")


def test_a_plan_without_a_version_is_of_this_one() -> None:
    assert json.loads(Plan("svd", (Choice("a", pair(1), ""),), model=MODEL).to_json())["version"] == __version__


def test_model_method_and_layers_with_their_forms_are_enough() -> None:
    least = {"schema": 2, "model": MODEL, "method": "svd", "layers": [{"layer": "a", "form": "pair 3"}]}
    plan = from_json(json.dumps(least))
    assert plan == Plan("svd", (Choice("a", pair(3), "as the plan says"),), model=MODEL)


def test_an_editor_may_find_the_schema() -> None:
    plan = from_json(edited(lambda facts: facts.update({"$schema": "https://example.org/plan.schema.json"})))
    assert plan == PLAN


def test_whole_numbers_with_a_point_are_whole_numbers() -> None:
    plan = from_json(edited(lambda facts: facts["layers"][0].update(largest_rank=255.0)))
    assert repr(plan.choices[0].largest_rank) == "255"


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(to_json(PLAN), encoding="utf-8-sig")
    assert Plan.load(tmp_path / "plan.json") == PLAN


def test_the_compressed_layers_of_a_plan_are_those_that_change() -> None:
    assert [choice.layer for choice in PLAN.compressed] == ["fc6", "fc8"]


# What is wrong is named.


def without(name: str) -> Edit:
    return lambda facts: facts.pop(name)


def with_(name: str, value: Any) -> Edit:
    return lambda facts: facts.update({name: value})


def layer(**changes: Any) -> Edit:
    return lambda facts: facts["layers"][1].update(changes)


def point(**changes: Any) -> Edit:
    return lambda facts: facts["curve"][1].update(changes)


@pytest.mark.parametrize("name", ["schema", "model", "method", "layers"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    assert f"'{name}' is a required property" in refused(edited(without(name))).message


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (with_("schema", 0), "schema: "),
        (with_("schema", "1"), "schema: "),
        (with_("schema", True), "schema: "),
        (with_("model", None), "model: "),
        (with_("model", "the old one"), "model: 'the old one'"),
        (with_("model", 7), "model: 7"),
        (with_("method", "pca"), "method: 'pca'"),
        (with_("method", None), "method: "),
        (with_("factors", "some"), "factors: 'some'"),
        (with_("target", 40), "target: 40"),
        (with_("version", 1), "version: 1"),
        (with_("settings", "none"), "settings: 'none'"),
        (with_("settings", {"ridge": 1e-3}), "settings.ridge: 0.001"),
        (with_("settings", {"rigde": "1e-3"}), "'rigde'"),
        (with_("settings", {"metric": "all"}), "settings.metric: "),
        (with_("evaluations", -1), "evaluations: -1"),
        (with_("evaluations", 1.5), "evaluations: 1.5"),
        (with_("passes", "3"), "passes: '3'"),
        (with_("layers", []), "layers: "),
        (with_("layers", {"fc6": 8}), "layers: "),
        (with_("layers", ["fc6"]), "layers[0]: 'fc6'"),
        (with_("ranks", {"fc6": 8}), "'ranks'"),
        (layer(form="64"), "layers[1].form: '64'"),
        (layer(form="pair"), "layers[1].form: 'pair' has 0 ranks"),
        (layer(form="pair 0"), "layers[1].form: 'pair 0'"),
        (layer(form="pair -4"), "layers[1].form: 'pair -4'"),
        (layer(form="pair 2.5"), "layers[1].form: 'pair 2.5'"),
        (layer(form="pair 8x8"), "layers[1].form: 'pair 8x8' has 2 ranks"),
        (layer(form="dense 8"), "layers[1].form: 'dense 8' has 1 ranks"),
        (layer(form="pear 8"), "layers[1].form: 'pear 8' has an unknown structure"),
        (layer(form="pair 8 int3"), "layers[1].form: 'pair 8 int3' has an unknown format"),
        (layer(form=True), "layers[1].form: True"),
        (layer(form=None), "layers[1].form: None"),
        (layer(form=8), "layers[1].form: 8"),
        (layer(layer=7), "layers[1].layer: 7"),
        (layer(rnak=8), "'rnak'"),
        (layer(largest_rank="all"), "layers[1].largest_rank: 'all'"),
        (layer(expected_error="small"), "layers[1].expected_error: 'small'"),
        (layer(expected_distortion=[]), "layers[1].expected_distortion: []"),
        (layer(reason=None), "layers[1].reason: None"),
        (lambda facts: facts["layers"][2].pop("form"), "layers[2]: 'form'"),
        (lambda facts: facts["layers"][2].pop("layer"), "layers[2]: 'layer'"),
        (with_("curve", {}), "curve: "),
        (point(params="many"), "curve[1].params: 'many'"),
        (point(params=None), "curve[1].params: None"),
        (point(chosen=1), "curve[1].chosen: 1"),
        (lambda facts: facts["curve"][0].pop("drop"), "curve[0]: 'drop'"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_place_and_value(edit: Edit, where: str) -> None:
    error = refused(edited(edit))
    assert where in error.message
    assert "\n" not in error.message


def test_a_wrong_form_is_told_what_a_form_is() -> None:
    for wrong in ("64", "pair 0", 2.5):
        assert '"pair 64" is two thin matrices of rank 64' in refused(edited(layer(form=wrong))).hint


# Plans of before.


def older(**changes: Any) -> str:
    """A plan as the first schema had it."""
    facts = json.loads(to_json(PLAN)) | {"schema": 1}
    del facts["tuning"]
    for entry, choice in zip(facts["layers"], PLAN.choices, strict=True):
        del entry["form"]
        entry["rank"] = "keep" if choice.form.untouched else choice.form.rank[0]
    facts["layers"][1].update(changes)
    return json.dumps(facts)


def test_a_plan_of_the_first_schema_is_read() -> None:
    assert from_json(older()) == PLAN
    assert from_json(older(rank=8.0)).choices[1].form == pair(8)
    assert from_json(older().replace('"schema": 1', '"schema": 1.0')) == PLAN


def test_a_plan_of_the_second_schema_is_read() -> None:
    facts = json.loads(to_json(PLAN)) | {"schema": 2}
    del facts["tuning"]
    assert from_json(json.dumps(facts)) == PLAN


@pytest.mark.parametrize("rank", ["x", "Keep", "8", 0, -4, 2.5, True, None, [8]])
def test_its_ranks_are_checked_as_they_were(rank: Any) -> None:
    error = refused(older(rank=rank))
    assert "layers[1].rank: " in error.message
    assert error.hint == 'A rank is a whole number from 1 on, or "keep" to leave the layer as it is.'


def test_a_newer_schema_asks_for_an_update() -> None:
    error = refused(edited(with_("schema", 4)))
    assert error.message == "plan.json: schema 4 is newer than this onnx-dalr reads (3)"
    assert error.hint == "update onnx-dalr"


def test_a_layer_that_is_there_twice_is_named() -> None:
    error = refused(edited(lambda facts: facts["layers"].append(facts["layers"][0])))
    assert "layers[3].layer 'fc6' is there twice" in error.message


def test_a_key_that_is_there_twice_is_named() -> None:
    """The last of the two would count, and nobody would know."""
    error = refused(to_json(PLAN).replace('"form": "pair 12",', '"form": "pair 12", "form": "dense",'))
    assert "'form' is there twice" in error.message


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_named(name: str) -> None:
    error = refused(to_json(PLAN).replace("0.125", name))
    assert f"{name} is no number of JSON" in error.message


@pytest.mark.parametrize(
    "text", ["", "rank: 8", "{", "[" * 100_000, '{"schema": 1,}', '{"schema": ' + "1" * 5000 + "}"]
)
def test_what_is_no_json_says_so(text: str) -> None:
    assert "is not JSON: " in refused(text).message


@pytest.mark.parametrize("text", ["[]", "null", "7", '"plan"', "{}"])
def test_json_of_another_kind_is_refused(text: str) -> None:
    refused(text)


def test_a_plan_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such plan: ") as caught:
        Plan.load(tmp_path / "plan.json")
    assert "onnx_dalr.analyze(" in caught.value.hint


@pytest.mark.parametrize("content", ["a folder", b"\x89PNG\r\n\xff\xfe"])
def test_what_cannot_be_read_as_text_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "plan.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.mkdir()
    with pytest.raises(InputError, match=r"cannot read .*plan\.json"):
        Plan.load(path)


def test_a_plan_that_cannot_be_written_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        PLAN.save(tmp_path / "nowhere" / "plan.json")
    assert list(tmp_path.iterdir()) == []


# The page that describes it.


def page() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_is_a_plan_for_the_demo_model(demo: Path) -> None:
    example = page().split("```json\n")[1].split("```")[0]
    plan = from_json(example)
    assert plan.model == load(demo / "digits-target.onnx").content_hash
    kernels = ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    assert [choice.layer for choice in plan.choices] == [*kernels, "fc6", "fc7", "fc8"]
    assert plan.to_json() == example


def test_the_page_describes_every_field() -> None:
    schema = json.loads(files("onnx_dalr.plan").joinpath("plan.schema.json").read_text(encoding="utf-8"))
    fields = schema["properties"]
    names = {*fields, *fields["layers"]["items"]["properties"], *fields["curve"]["items"]["properties"]}
    assert not [name for name in names if f"`{name}`" not in page()]
