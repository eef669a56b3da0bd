"""Statistics on disk: exact, written in one move, and refused where they are damaged."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_dalr._version import __version__
from onnx_dalr.errors import InputError
from onnx_dalr.factorize import METHODS, Need, Statistics
from onnx_dalr.graph.layers import Layer, find
from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.learn.capture import capture
from onnx_dalr.learn.gathering import gathered
from onnx_dalr.learn.lazy_layers import StatisticsFacts
from onnx_dalr.learn.statistics_set import StatisticsSet, load_statistics, save_statistics
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
)


@pytest.fixture
def model() -> Model:
    return two_layers()


@pytest.fixture
def layers(model: Model) -> list[Layer]:
    return find(model)[0]


# Round trips


@pytest.mark.parametrize("rows", [1, 7, 90])
@pytest.mark.parametrize(("m", "n"), [(12, 40), (30, 12), (1, 9), (9, 1), (64, 64)])
@pytest.mark.parametrize("method", METHODS)
def test_every_methods_statistics_come_back_to_the_last_bit(
    method: str, m: int, n: int, rows: int, tmp_path: Path
) -> None:
    kept = statistics(m, n, METHODS[method].needs(m, n), rows)
    back = load_statistics(saved(a_set({"fc": kept}), tmp_path / "s.npz"))
    assert list(back.layers) == ["fc"]
    assert_equal(back.layers["fc"], kept)


@pytest.mark.parametrize("needs", [Need.NONE, EVERYTHING, EVERYTHING | Need.INPUT])
@pytest.mark.parametrize("rows", [5, 50])
def test_other_needs_come_back_too(needs: Need, rows: int, tmp_path: Path) -> None:
    kept = statistics(12, 20, needs, rows)
    assert_equal(load_statistics(saved(a_set({"fc": kept}), tmp_path / "s.npz")).layers["fc"], kept)


def test_everything_else_of_a_set_comes_back(tmp_path: Path) -> None:
    given = a_set(
        {"a/b": statistics(3, 4, Need.INPUT, 5), "ö \n": statistics(4, 3, Need.OUTPUT, 6)},
        settings={"mean": "[0.5, 0.4]", "größe": ""},
        notes=("one", "two"),
    )
    back = load_statistics(saved(given, tmp_path / "s.npz"))
    for name in ("model", "method", "settings", "version", "samples", "notes"):
        assert getattr(back, name) == getattr(given, name), name
    assert list(back.layers) == list(given.layers)
    assert [back.facts(name) for name in back.layers] == [given.facts(name) for name in given.layers]


def test_a_layer_that_no_row_reached_is_left_out(tmp_path: Path) -> None:
    given = a_set({"a": statistics(3, 4, Need.INPUT, 5), "b": Statistics(3, 4, Need.INPUT)})
    assert list(load_statistics(saved(given, tmp_path / "s.npz")).layers) == ["a"]


def test_many_layers_keep_their_own_sums(tmp_path: Path) -> None:
    given = a_set({f"fc{i}": statistics(2, 3, Need.INPUT, 5, seed=i) for i in range(23)})
    back = load_statistics(saved(given, tmp_path / "s.npz"))
    for name in given.layers:
        assert_equal(back.layers[name], given.layers[name])


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    given = a_set({"fc": statistics(3, 4, EVERYTHING, 5)}, samples="abcdefgh")
    one, two = (saved(given, tmp_path / name).read_bytes() for name in ("1.npz", "2.npz"))
    assert one == two


def test_a_file_is_an_npz_whose_header_can_be_read_by_anyone(tmp_path: Path) -> None:
    kept = statistics(3, 4, Need.INPUT, 5)
    with np.load(saved(a_set({"fc": kept}), tmp_path / "s.npz"), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["0/total"], kept.total)
        header = json.loads(archive["header.json"])
    assert header == {
        "schema": 1,
        "version": __version__,
        "model": "m" * 32,
        "method": "dalr",
        "settings": SETTINGS,
        "samples": ["a", "b", "c"],
        "notes": [],
        "layers": [{"name": "fc", "m": 3, "n": 4, "rows": 5, "needs": ["INPUT"]}],
    }


def test_a_set_from_a_file_can_be_saved_again(tmp_path: Path) -> None:
    first = saved(a_set({"fc": statistics(3, 4, Need.ROWS, 3)}), tmp_path / "1.npz")
    before = first.read_bytes()
    assert saved(load_statistics(first), tmp_path / "2.npz").read_bytes() == before
    assert saved(load_statistics(first), first).read_bytes() == before


# From the files to the run


def test_files_are_gathered_into_what_the_run_would_have_captured(
    model: Model, layers: list[Layer], tmp_path: Path
) -> None:
    x, run = inputs(90), {"model": model.content_hash, "settings": SETTINGS, "layers": layers}
    paths = [
        saved(captured(model, layers, "dalr", x[:40], "ab"), tmp_path / "a.npz"),
        saved(captured(model, layers[:1], "dalr", x[40:], "bc"), tmp_path / "b.npz"),
    ]
    total, notes = gathered(paths, method=METHODS["svd"], **run)
    whole = captured(model, layers, "svd", x, "abc")
    assert notes == (f"1 sample is in both {paths[0]} and {paths[1]}: it counts twice",)
    assert_close(total.layers["down"], whole.layers["down"])
    assert_close(total.layers["up"], captured(model, layers, "svd", x[:40], "ab").layers["up"])
    assert total.samples == whole.samples


def test_gradient_sums_are_kept_for_a_run_that_reads_them(model: Model, layers: list[Layer], tmp_path: Path) -> None:
    def needs(layer: Layer) -> Need:
        return METHODS["dalr"].needs(layer.m, layer.n) | Need.METRIC

    run: dict[str, Any] = {"model": model.content_hash, "method": METHODS["dalr"], "settings": SETTINGS}
    kept = {layer.name: statistics(layer.m, layer.n, needs(layer), 9) for layer in layers}
    paths = [saved(a_set(kept, samples=part, model=run["model"]), tmp_path / part) for part in "ab"]
    with_them, without = (gathered(paths, layers=layers, **run, **other)[0] for other in ({"needs": needs}, {}))
    for layer in layers:
        assert_equal(with_them.layers[layer.name], kept[layer.name] + kept[layer.name])
        assert without.layers[layer.name].metric is None


def test_a_layer_that_a_file_has_no_metric_of_goes_without_and_the_others_keep_theirs(
    model: Model, layers: list[Layer], tmp_path: Path
) -> None:
    """Memory had no room for its gradients, say: the run that captured it went without, and so does every other."""

    def needs(layer: Layer) -> Need:
        return METHODS["dalr"].needs(layer.m, layer.n) | Need.METRIC

    run: dict[str, Any] = {"model": model.content_hash, "method": METHODS["dalr"], "settings": SETTINGS}
    kept = {layer.name: statistics(layer.m, layer.n, needs(layer), 9) for layer in layers}
    poorer = kept | {"down": kept["down"].restricted(needs(layers[0]) & ~Need.METRIC)}
    half, whole = (
        saved(a_set(part, samples=name, model=run["model"]), tmp_path / name)
        for name, part in (("a", poorer), ("b", kept))
    )
    total, notes = gathered([half], layers=layers, needs=needs, **run)
    assert notes == ()
    for layer in layers:
        assert_equal(total.layers[layer.name], poorer[layer.name])
    total, notes = gathered([half, whole], layers=layers, needs=needs, **run)
    assert notes == (f"no output metric for 'down': {half} keeps none",)
    assert_equal(total.layers["down"], poorer["down"] + poorer["down"])
    assert_equal(total.layers["up"], kept["up"] + kept["up"])
    assert total.facts("down") == StatisticsFacts(12, 40, needs(layers[0]) & ~Need.METRIC, 18)


def test_a_file_that_does_not_fit_is_named(model: Model, layers: list[Layer], tmp_path: Path) -> None:
    run = {"model": model.content_hash, "settings": SETTINGS, "layers": layers}
    paths = [
        saved(captured(model, layers, method, inputs(20, seed), method), tmp_path / f"{method}.npz")
        for seed, method in enumerate(("dalr", "svd"))
    ]
    with pytest.raises(InputError, match=r"svd\.npz was made for --method svd and keeps no sketch sums"):
        gathered(paths, method=METHODS["dalr"], **run)


@pytest.mark.assets
def test_shards_of_a_real_model(assets: Path, tmp_path: Path) -> None:
    model = load(assets / "models" / "mnist-mlp.onnx")
    found, _ = find(model)
    spec = model.proto.graph.input[0]
    shape = [axis.dim_value or 1 for axis in spec.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((60, *shape)).astype(np.float32)
    method = METHODS["dalr"]

    def made(rows: Any, samples: str) -> StatisticsSet:
        kept = capture(model, found, method, [{spec.name: rows}], device="cpu").statistics
        return a_set(kept, samples=samples, model=model.content_hash)

    thirds = zip(np.split(x, 3), "abc", strict=True)
    paths = [saved(made(rows, name), tmp_path / f"{name}.npz") for rows, name in thirds]
    total, notes = gathered(paths, model=load(model.proto).content_hash, method=method, settings=SETTINGS, layers=found)
    whole = made(x, "abc")
    assert notes == ()
    assert len(total.layers) == len(found) > 3
    for name in whole.layers:
        assert total.facts(name) == whole.facts(name)
        assert_close(total.layers[name], whole.layers[name])


# Damaged files


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return saved(a_set({"fc": statistics(3, 4, Need.OUTPUT, 5), "in": statistics(5, 4, Need.INPUT, 9)}), tmp_path / "s")


def everything(path: Path) -> list[Statistics]:
    stats = load_statistics(path)
    return [stats.layers[name] for name in stats.layers]


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def with_header(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = members(path)
    header = json.loads(content["header.json"])
    change(header)
    return write(path, content | {"header.json": json.dumps(header).encode()})


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*none\.npz \(--stats takes what --save-stats wrote\)"):
        load_statistics(tmp_path / "none.npz")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no regular file"):
        load_statistics(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"garbage" * 99, pickle.dumps({"a": 1}), npy(np.zeros(3))])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"s\.npz is no \.npz file, or it is cut off"):
        load_statistics(tmp_path / "s.npz")


def test_an_npz_of_samples_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="holds no statistics of onnx-dalr"):
        load_statistics(tmp_path / "s.npz")


def test_a_file_cut_off_anywhere_is_refused(good: Path) -> None:
    content = good.read_bytes()
    for length in range(0, len(content), 97):
        good.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut off|damaged"):
            everything(good)


def test_a_flipped_byte_is_noticed_or_harmless(good: Path) -> None:
    content, expected = good.read_bytes(), everything(good)
    noticed = 0
    for position in range(0, len(content), 13):
        good.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            found = everything(good)
        except InputError:
            noticed += 1
        else:
            for one, other in zip(found, expected, strict=True):
                assert_equal(one, other)
    assert noticed > 50


def set_layer(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["layers"][0].update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(schema="1"),
        lambda header: header.update(schema=0),
        lambda header: header.update(schema=True),
        lambda header: header.update(model=7),
        lambda header: header.update(settings=["mean"]),
        lambda header: header.update(settings={"mean": 0.5}),
        lambda header: header.update(samples=[1, 2]),
        lambda header: header.update(samples=None),
        lambda header: header.update(notes=[[]]),
        lambda header: header.update(layers={}.fromkeys("ab")),
        lambda header: header.pop("layers"),
        lambda header: header.pop("version"),
        lambda header: header["layers"].append(header["layers"][0]),
        set_layer("name", None),
        set_layer("m", 0),
        set_layer("m", -3),
        set_layer("m", 4),
        set_layer("n", 3.0),
        set_layer("rows", 6),
        set_layer("rows", 0),
        set_layer("needs", ["INPUT"]),
        set_layer("needs", ["NOTHING KNOWN"]),
        set_layer("needs", 3),
        set_layer("m", 10**9),
        set_layer("n", 10**30),
        lambda header: header["layers"].reverse(),
    ],
)
def test_a_header_that_says_nonsense_is_refused(change: Callable[[dict[str, Any]], object], good: Path) -> None:
    with pytest.raises(InputError, match=r"is damaged: .*write it again with --save-stats"):
        everything(with_header(good, change))


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{"])
def test_a_header_that_is_none_is_refused(header: bytes, good: Path) -> None:
    with pytest.raises(InputError, match="is damaged"):
        load_statistics(write(good, members(good) | {"header.json": header}))


def test_a_newer_schema_is_refused_with_its_version(good: Path) -> None:
    with_header(good, lambda header: header.update(schema=2, version="9.1", layers="other"))
    with pytest.raises(InputError, match=rf"written by a newer onnx-dalr, 9\.1; this is {__version__} \(update"):
        load_statistics(good)


def test_control_characters_in_notes_are_written_out(good: Path) -> None:
    with_header(good, lambda header: header.update(notes=["a\x1b[31mb\nc"]))
    assert load_statistics(good).notes == ("a\\x1b[31mb\\nc",)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("0/total", np.zeros(5)),
        ("0/total", np.zeros((4, 4))),
        ("0/total", np.zeros(4, np.int64)),
        ("0/total", np.full(4, np.nan)),
        ("0/output", np.full((3, 3), np.inf)),
        ("0/output", np.zeros(())),
        ("0/count", np.array(6)),
        ("0/count", np.array(5.0)),
        ("0/needs", np.array(2)),
        ("0/needs", np.array(1 << 20)),
        ("0/metric_rows", np.array(-1)),
        ("0/more", np.zeros(1)),
    ],
)
def test_arrays_that_are_not_those_of_the_layer_are_refused(name: str, array: Any, good: Path) -> None:
    stats = load_statistics(write(good, members(good) | {f"{name}.npy": npy(array)}))
    assert stats.layers["in"].count == 9
    with pytest.raises(InputError, match="is damaged"):
        _ = stats.layers["fc"]


@pytest.mark.parametrize("name", ["0/total", "0/output", "0/count", "0/needs"])
def test_an_array_that_is_missing_is_refused(name: str, good: Path) -> None:
    content = members(good)
    del content[f"{name}.npy"]
    with pytest.raises(InputError, match="is damaged"):
        everything(write(good, content))


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_arrays_are_refused_and_never_run(good: Path, tmp_path: Path) -> None:
    for where in ("0/total", "0/more", "header"):
        content = members(good) | {f"{where}.npy": npy(np.array([Trap(tmp_path / "sprung")], object))}
        if where == "header":
            content["header.json"] = content.pop("header.npy")
        with pytest.raises(InputError, match="is damaged"):
            everything(write(good, content))
    assert not (tmp_path / "sprung").exists()


def test_an_array_that_claims_more_than_it_holds_is_refused(good: Path) -> None:
    header = npy(np.zeros((3, 3))).replace(b"(3, 3)", b"(9999999, 999999)")
    with pytest.raises(InputError, match="claims to be an array of"):
        load_statistics(write(good, members(good) | {"0/output.npy": header}))


def test_a_decompression_bomb_is_refused_before_it_goes_off(good: Path) -> None:
    content = members(good) | {"0/output.npy": npy(np.zeros((4000, 4000)))}
    stats = load_statistics(write(good, content, zipfile.ZIP_DEFLATED))
    assert good.stat().st_size < 1_000_000
    with pytest.raises(InputError, match="are not those of a layer of 3x4"):
        _ = stats.layers["fc"]


def test_a_compression_that_numpy_does_not_write_is_refused(good: Path) -> None:
    with pytest.raises(InputError, match=r"compressed as numpy does not write it \(write it again with --save-stats"):
        load_statistics(write(good, members(good), zipfile.ZIP_BZIP2))


def test_a_deflated_copy_is_read(good: Path) -> None:
    expected = everything(good)
    for one, other in zip(everything(write(good, members(good), zipfile.ZIP_DEFLATED)), expected, strict=True):
        assert_equal(one, other)


def test_a_file_that_is_gone_by_the_time_a_layer_is_asked_for_is_an_error(good: Path) -> None:
    stats = load_statistics(good)
    good.unlink()
    with pytest.raises(InputError, match="no such file"):
        _ = stats.layers["fc"]


def test_a_layer_that_is_not_there_is_a_key_error(good: Path) -> None:
    stats = load_statistics(good)
    assert "other" not in stats.layers
    with pytest.raises(KeyError):
        _ = stats.layers["other"]


# Writing


class Breaks(Statistics):
    """Interrupts whoever stores it."""

    def to_arrays(self) -> dict[str, Any]:
        raise KeyboardInterrupt


def test_a_failure_leaves_the_existing_file_and_nothing_else(good: Path) -> None:
    before = good.read_bytes()
    breaks = Breaks(3, 4, Need.INPUT)
    breaks.update(np.ones((1, 4)))
    with pytest.raises(KeyboardInterrupt):
        save_statistics(a_set({"a": statistics(3, 4, Need.INPUT, 5), "b": breaks}), good)
    assert good.read_bytes() == before
    assert list(good.parent.iterdir()) == [good]


def test_a_set_whose_own_file_is_damaged_leaves_the_target_alone(good: Path, tmp_path: Path) -> None:
    target = saved(a_set({"fc": statistics(3, 4, Need.INPUT, 5)}), tmp_path / "target.npz")
    before = target.read_bytes()
    stats = load_statistics(write(good, members(good) | {"1/total.npy": b""}))
    with pytest.raises(InputError, match="is damaged"):
        save_statistics(stats, target)
    assert target.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([good, target])


def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*s\.npz: No such file or directory"):
        save_statistics(a_set({}), tmp_path / "none" / "s.npz")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "s.npz").mkdir()
    with pytest.raises(InputError, match=r"s\.npz is a folder"):
        save_statistics(a_set({}), tmp_path / "s.npz")
    assert list(tmp_path.iterdir()) == [tmp_path / "s.npz"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_the_file_that_is_replaced(good: Path) -> None:
    good.chmod(0o640)
    save_statistics(a_set({}), good)
    assert stat.S_IMODE(good.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_new_file_can_be_read_as_any_other_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    new = saved(a_set({}), tmp_path / "s.npz")
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
