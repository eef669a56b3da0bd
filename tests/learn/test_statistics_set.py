"""Statistics of a model add up, fit a run or are refused with the reason, and know their model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Need, Settings, Statistics
from onnx_dalr.factorize.gram import symmetric
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn.gathering import check_fits, merged
from onnx_dalr.learn.statistics_set import StatisticsSet, load_statistics
from tests.learn.stats_cases import (
    EVERYTHING,
    SETTINGS,
    a_set,
    assert_close,
    assert_equal,
    captured,
    inputs,
    saved,
    statistics,
    two_layers,
    weight,
)


@pytest.fixture
def model() -> Model:
    return two_layers()


@pytest.fixture
def layers(model: Model) -> list[Layer]:
    return find(model)[0]


# Sums


def halves(method: str, count: int, model: Model, layers: list[Layer], folder: Path) -> list[tuple[str, StatisticsSet]]:
    x = inputs(count)
    parts = ((x[: count // 3], "ab"), (x[count // 3 :], "cd"))
    sets = [captured(model, layers, method, rows, samples) for rows, samples in parts]
    return [(str(i), load_statistics(saved(part, folder / f"{i}.npz"))) for i, part in enumerate(sets)]


# Of `down` and its 40 inputs, dalr-2017 keeps rows in both parts and in the sum; in both parts, but not in the sum; in
# the first alone; in none.
@pytest.mark.parametrize("count", [30, 50, 90, 150])
@pytest.mark.parametrize("method", METHODS)
def test_two_halves_add_up_to_the_whole(
    method: str, count: int, model: Model, layers: list[Layer], tmp_path: Path
) -> None:
    whole = captured(model, layers, method, inputs(count), "abcd")
    total, notes = merged(halves(method, count, model, layers, tmp_path))
    assert notes == ()
    assert total.samples == whole.samples
    assert (total.model, total.method, total.settings) == (whole.model, method, SETTINGS)
    assert list(total.layers) == ["down", "up"]
    for layer in layers:
        assert_close(total.layers[layer.name], whole.layers[layer.name])
        assert total.facts(layer.name) == whole.facts(layer.name)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_makes_the_same_of_the_sum_as_of_the_whole(
    method: str, model: Model, layers: list[Layer], tmp_path: Path
) -> None:
    whole = captured(model, layers, method, inputs(90), "abcd")
    total, _ = merged(halves(method, 90, model, layers, tmp_path))
    made = [METHODS[method].spectrum(weight("A").T, part.layers["down"], Settings()) for part in (total, whole)]
    np.testing.assert_allclose(made[0].errors, made[1].errors, rtol=1e-6, atol=1e-6 * made[1].power)


def test_rows_fold_into_the_moment_where_the_sum_has_enough_of_them(
    model: Model, layers: list[Layer], tmp_path: Path
) -> None:
    parts = halves("dalr-2017", 50, model, layers, tmp_path)
    assert [part.layers["down"].rows is not None for _, part in parts] == [True, True]
    down = merged(parts)[0].layers["down"]
    assert down.rows is None
    assert down.input is not None
    np.testing.assert_allclose(symmetric(down.input), inputs(50).T.astype(float) @ inputs(50), atol=1e-4)


def test_a_sum_can_be_saved_and_added_to(model: Model, layers: list[Layer], tmp_path: Path) -> None:
    x = inputs(90)
    a, b, c = (captured(model, layers, "dalr", x[i : i + 30], str(i)) for i in (0, 30, 60))
    ab = load_statistics(saved(merged([("a", a), ("b", b)])[0], tmp_path / "ab.npz"))
    total, _ = merged([("ab", ab), ("c", c)])
    assert_close(total.layers["up"], captured(model, layers, "dalr", x, "all").layers["up"])
    assert total.samples == a.samples | b.samples | c.samples


def test_one_part_is_its_own_sum() -> None:
    part = a_set({"fc": statistics(3, 4, Need.INPUT, 5)}, version="0.0.9", notes=("note",))
    total, notes = merged([("a.npz", part)])
    assert notes == ()
    assert (total.version, total.notes) == ("0.0.9", ("note",))
    assert_equal(total.layers["fc"], part.layers["fc"])


def test_a_layer_that_rows_reached_in_one_part_alone_is_that_parts() -> None:
    a, b = statistics(3, 4, Need.INPUT, 5), statistics(3, 4, Need.INPUT, 6, seed=1)
    total, _ = merged([("a", a_set({"x": a})), ("b", a_set({"x": b, "y": b}, samples="def"))])
    assert_equal(total.layers["x"], a + b)
    assert_equal(total.layers["y"], b)


def test_parts_that_keep_different_sums_add_up_to_what_both_keep() -> None:
    a = statistics(3, 4, Need.OUTPUT | Need.SKETCH | Need.METRIC, 5)
    b = statistics(3, 4, Need.OUTPUT | Need.ROWS, 6, seed=1)
    parts = [("a", a_set({"fc": a})), ("b", a_set({"fc": b}, samples="def", method="svd"))]
    total, _ = merged(parts)
    assert total.method == "dalr+svd"
    assert_equal(total.layers["fc"], a.restricted(Need.OUTPUT) + b.restricted(Need.OUTPUT))
    assert total.facts("fc").needs == Need.OUTPUT


def test_notes_of_the_parts_are_kept_once() -> None:
    layer = {"fc": statistics(3, 4, Need.INPUT, 5)}
    sets = [a_set(layer, samples=s, notes=n) for s, n in (("a", ("x", "y")), ("b", ("y", "z")))]
    assert merged([("a", sets[0]), ("b", sets[1])])[0].notes == ("x", "y", "z")


def test_samples_that_several_parts_hold_are_noticed() -> None:
    layer = {"fc": statistics(3, 4, Need.INPUT, 5)}
    parts = [(name, a_set(layer, samples=held)) for name, held in (("a", "1234"), ("b", "3456"), ("c", "67"))]
    assert merged(parts)[1] == (
        "2 samples are in both a and b: they count twice",
        "1 sample is in both b and c: it counts twice",
    )


def test_the_same_samples_twice_are_refused() -> None:
    layer = {"fc": statistics(3, 4, Need.INPUT, 5)}
    parts = [(name, a_set(layer, samples=held)) for name, held in (("a.npz", "12"), ("b.npz", "3"), ("c.npz", "12"))]
    with pytest.raises(InputError, match=r"a\.npz and c\.npz hold the same samples"):
        merged(parts)


def test_the_same_samples_may_have_been_shown_to_different_layers() -> None:
    one, two = statistics(3, 4, Need.INPUT, 5), statistics(5, 6, Need.INPUT, 5)
    total, notes = merged([("a", a_set({"x": one})), ("b", a_set({"y": two}))])
    assert notes == ()
    assert_equal(total.layers["x"], one)
    assert_equal(total.layers["y"], two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "n" * 32}, "a and b are of different models: mmmmmmmm and nnnnnnnn"),
        ({"settings": SETTINGS | {"mean": "0.4"}}, "a has mean 0.5, b has mean 0.4"),
        ({"settings": {"mask input": "none"}}, "a has mean 0.5, b has no mean"),
        ({"layers": {"fc": statistics(4, 3, Need.INPUT, 5)}}, "layer 'fc' is 3x4 in a and 4x3 in b"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(change: dict[str, Any], message: str) -> None:
    one = a_set({"fc": statistics(3, 4, Need.INPUT, 5)})
    with pytest.raises(InputError) as caught:
        merged([("a", one), ("b", replace(one, samples=frozenset("xyz"), **change))])
    assert caught.value.message == message


def test_one_layer_at_a_time_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: statistics(3, 4, Need.INPUT, 5) for name in ("x", "y")}
    parts = [(s, load_statistics(saved(a_set(given, samples=s), tmp_path / f"{s}.npz"))) for s in "ab"]
    made: list[int] = []
    read = Statistics.from_arrays
    monkeypatch.setattr(Statistics, "from_arrays", lambda arrays: made.append(1) or read(arrays))
    total, _ = merged(parts)
    assert (len(total.layers), total.facts("x").rows, made) == (2, 10, [])
    assert total.layers["y"].count == 10
    assert len(made) == 2


# Fewer sums


@pytest.mark.parametrize("rows", [5, 50])
@pytest.mark.parametrize("needs", [Need.NONE, Need.OUTPUT, Need.OUTPUT | Need.SKETCH, Need.ROWS, Need.METRIC])
def test_restricted_statistics_are_those_that_keep_less_from_the_start(needs: Need, rows: int) -> None:
    found = statistics(12, 20, EVERYTHING, rows).restricted(needs)
    expected = statistics(12, 20, needs, rows)
    if Need.METRIC in needs:  # drawn after the rows, and so the same
        assert found.metric_probes == rows
    assert_equal(found, expected)


def test_rows_are_restricted_to_their_moment_where_that_is_all_there_is() -> None:
    found = statistics(12, 20, Need.INPUT | Need.ROWS, 5).restricted(Need.ROWS)
    assert found.rows is None
    np.testing.assert_array_equal(found.input, statistics(12, 20, Need.INPUT, 5).input)


def test_sums_that_were_not_kept_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="do not hold"):
        statistics(3, 4, Need.OUTPUT, 5).restricted(Need.OUTPUT | Need.SKETCH)


# Fitting a run


def fits(stats: StatisticsSet, model: Model, layers: list[Layer], method: str = "dalr", **other: Any) -> None:
    given: dict[str, Any] = {"model": model.content_hash, "settings": SETTINGS} | other
    check_fits(stats, "s.npz", method=METHODS[method], layers=layers, **given)


def test_a_run_may_use_what_it_would_have_captured_itself(model: Model, layers: list[Layer]) -> None:
    for method in METHODS:
        fits(captured(model, layers, method, inputs(20), "a"), model, layers, method)


def test_layers_that_the_run_does_not_want_may_be_there(model: Model, layers: list[Layer]) -> None:
    fits(captured(model, layers, "dalr", inputs(20), "a"), model, layers[:1])


@pytest.mark.parametrize(("made", "wanted"), [("dalr", "svd-bc"), ("dalr", "svd"), ("svd", "svd-bc")])
def test_a_method_that_needs_no_more_may_use_them(made: str, wanted: str, model: Model, layers: list[Layer]) -> None:
    fits(captured(model, layers, made, inputs(20), "a"), model, layers, wanted)


@pytest.mark.parametrize(
    ("made", "wanted", "what"),
    [("svd", "dalr", "sketch"), ("dalr-2017", "dalr", "output and sketch"), ("dalr", "dalr-2017", "rows")],
)
def test_a_method_that_needs_more_is_told_so(
    made: str, wanted: str, what: str, model: Model, layers: list[Layer]
) -> None:
    with pytest.raises(InputError) as caught:
        fits(captured(model, layers, made, inputs(20), "a"), model, layers, wanted)
    assert caught.value.message == (
        f"s.npz was made for --method {made} and keeps no {what} sums of layer 'down', "
        f"which --method {wanted} reads here"
    )
    assert caught.value.hint == f"calibrate again with --method {wanted}"


def test_another_model_is_refused_and_both_are_named(model: Model, layers: list[Layer]) -> None:
    with pytest.raises(InputError, match=r"s\.npz belongs to another model: it is of mmmmmmmm, this is [0-9a-f]{8} "):
        fits(a_set({}), model, layers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SETTINGS | {"mean": "0.4"}, "s.npz has mean 0.5, this run has mean 0.4"),
        (SETTINGS | {"std": "1"}, "s.npz has no std, this run has std 1"),
        ({"mask input": "none"}, "s.npz has mean 0.5, this run has no mean"),
    ],
)
def test_another_setting_is_refused_with_both_values(
    settings: dict[str, str], message: str, model: Model, layers: list[Layer]
) -> None:
    with pytest.raises(InputError) as caught:
        fits(captured(model, layers, "dalr", inputs(20), "a"), model, layers, settings=settings)
    assert caught.value.message == message


def test_a_missing_layer_is_refused_unless_other_shards_may_have_it(model: Model, layers: list[Layer]) -> None:
    stats = captured(model, layers[:1], "dalr", inputs(20), "a")
    fits(stats, model, layers, complete=False)
    with pytest.raises(InputError, match=r"s\.npz knows nothing of layer 'up' \(--exclude 'up'"):
        fits(stats, model, layers)


def test_a_layer_of_another_shape_is_refused(model: Model, layers: list[Layer]) -> None:
    with pytest.raises(InputError, match=r"s\.npz has layer 'down' as 3x4, the model as 12x40"):
        fits(a_set({"down": statistics(3, 4, Need.INPUT, 5)}, model=model.content_hash), model, layers)


# The hash of a model


def stored(model: Model, path: Path, **external: Any) -> Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    onnx.save(proto, path, **external)
    return load(path)


def copies(model: Model, folder: Path) -> Iterator[Model]:
    """The model in memory and on disk, values inside and beside it, in one file and in several."""
    external: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 0}
    yield model
    yield stored(model, folder / "inline.onnx")
    yield stored(model, folder / "one.onnx", **external, location="values.bin")
    yield stored(model, folder / "other.onnx", **external, location="elsewhere.data")
    yield stored(model, folder / "many.onnx", **external, all_tensors_to_one_file=False)
    mixed = stored(model, folder / "mixed.onnx", **(external | {"size_threshold": 1600}), location="mixed.bin")
    assert len(mixed.data_files) == 1
    yield mixed


def test_the_hash_does_not_depend_on_where_values_lie(model: Model, tmp_path: Path) -> None:
    hashes = {copy.content_hash for copy in copies(model, tmp_path)}
    assert len(hashes) == 1
    assert {len(found) for found in hashes} == {32}


def test_the_hash_of_a_model_is_the_same_everywhere_and_in_every_version() -> None:
    """Another hash here means that the statistics users keep are refused as those of another model."""
    proto = onnx.ModelProto(ir_version=8, producer_name="by hand")
    proto.opset_import.add(domain="", version=17)
    proto.graph.name = "net"
    proto.graph.node.add(op_type="Identity", input=["w"], output=["y"])
    proto.graph.initializer.add(name="w", data_type=1, dims=[2], raw_data=bytes(range(8)))
    proto.graph.output.add(name="y")
    assert Model(proto).content_hash == "695c1ce5a1971a2e581884669b5bad44"


def test_the_hash_leaves_the_model_as_it_was(model: Model, tmp_path: Path) -> None:
    for copy in copies(model, tmp_path):
        before = copy.proto.SerializeToString()
        assert copy.content_hash
        assert copy.proto.SerializeToString() == before


def test_offsets_do_not_matter(model: Model, tmp_path: Path) -> None:
    moved = stored(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.bin")
    data, expected = tmp_path / "m.bin", moved.content_hash
    data.write_bytes(bytes(4096) + data.read_bytes())
    for tensor in moved.proto.graph.initializer:
        offset = next(entry for entry in tensor.external_data if entry.key == "offset")
        offset.value = str(int(offset.value) + 4096)
    assert Model(moved.proto, moved.path).content_hash == expected


def test_one_weight_value_makes_another_model_inline_and_beside(model: Model, tmp_path: Path) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    values = weight("B").copy()
    values[3, 4] = np.nextafter(values[3, 4], np.float32(9))
    changed.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(values, "B"))
    hashes = {copy.content_hash for copy in copies(load(changed), tmp_path)}
    assert len(hashes) == 1
    assert model.content_hash not in hashes


@pytest.mark.parametrize(
    "change",
    [
        lambda proto: proto.metadata_props.add(key="a", value="b"),
        lambda proto: setattr(proto, "doc_string", "other"),
        lambda proto: setattr(proto.graph.node[1], "op_type", "Tanh"),
        lambda proto: setattr(proto.graph.node[0], "name", "other"),
        lambda proto: setattr(proto.opset_import[0], "version", 18),
        lambda proto: proto.graph.initializer[0].dims.reverse(),
        lambda proto: proto.graph.initializer.reverse(),
    ],
)
def test_anything_else_that_changes_makes_another_model(change: Callable[[Any], object], model: Model) -> None:
    before = model.content_hash
    change(model.proto)
    assert Model(model.proto).content_hash != before


def test_values_in_attributes_and_bodies_count(parse: Callable[[str], onnx.ModelProto]) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = one () => (float[2] a) { k = Constant <value = float[2] {1, VALUE}> () a = Add(x, k) },
            else_branch = two () => (float[2] b) { b = Relu(x) }
        >
    }"""
    one, two = (load(parse(text.replace("VALUE", value))).content_hash for value in ("2", "3"))
    assert one != two


def test_external_values_that_are_missing_are_an_input_error(model: Model, tmp_path: Path) -> None:
    found = stored(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.bin")
    (tmp_path / "m.bin").unlink()
    with pytest.raises(InputError, match="is missing"):
        _ = found.content_hash
