"""Custom operators: their library reaches every session of a run, and where it is missing the message says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_dalr
from onnx_dalr.errors import InputError
from onnx_dalr.request.options import make_options
from onnx_dalr.session.session import Runtime, open_session, provider_line
from tests.cli import tiny
from tests.cli.conftest import Run

ACME = """
<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
acme (float[N,16] x) => (float[N,4] y) {
  [first] h = MatMul(x, W1)
  [act] r = com.acme.MyAct(h)
  [second] h2 = MatMul(r, W2)
  r2 = Relu(h2)
  y = MatMul(r2, W3)
}
"""
NEG_POS = ACME.replace("com.acme.MyAct", "ai.onnx.contrib.NegPos").replace("com.acme", "ai.onnx.contrib")
EMPTY = "void *RegisterCustomOps(void *options, const void *api) { (void)options; (void)api; return 0; }\n"


def acme(text: str = ACME) -> onnx.ModelProto:
    weights = tiny.mlp_weights()
    return tiny.with_weights(text, {f"W{n}": np.ascontiguousarray(weights[f"W{n}"].T) for n in (1, 2, 3)})


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that ONNX Runtime loads, and that brings no operator."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    source, made = tmp_path / "empty.c", tmp_path / "libempty.so"
    source.write_text(EMPTY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source], check=True, timeout=60)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The libraries that every session was given, in order of the sessions; none of them is loaded."""
    found: list[tuple[str, ...]] = []
    options, session = ort.SessionOptions, ort.InferenceSession

    class Options(options):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.libraries: list[str] = []

        def register_custom_ops_library(self, path: str) -> None:
            self.libraries.append(path)

    def opened(model: Any, given: Options, **more: Any) -> ort.InferenceSession:
        found.append(tuple(given.libraries))
        return session(model, given, **more)

    monkeypatch.setattr(ort, "SessionOptions", Options)
    monkeypatch.setattr(ort, "InferenceSession", opened)
    return found


def test_every_session_of_every_command_gets_every_library(tmp_path: Path, asked: list[tuple[str, ...]]) -> None:
    libraries = [tmp_path / "one.so", tmp_path / "two.so"]
    for file in libraries:
        file.touch()
    model, rows, small = tiny.mlp(), tiny.rows(), tmp_path / "small.onnx"
    onnx.save(model, tmp_path / "model.onnx")
    more: Any = {"device": "cpu", "ops_library": libraries}
    onnx_dalr.optimize(tmp_path / "model.onnx", small, calib=rows, max_drop=0.5, **more)
    onnx_dalr.optimize(model, calib=rows, params="50%", metric=False, **more)  # measures sensitivity instead
    with onnx_dalr.analyze(model, calib=rows, **more) as analysis:
        plan = analysis.plan(rank=4)
    onnx_dalr.apply(model, plan, calib=rows, **more)
    onnx_dalr.compare(tmp_path / "model.onnx", small, data=rows, **more)
    assert len(asked) > 20
    assert set(asked) == {tuple(map(str, libraries))}


def test_one_library_may_be_given_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "ops.so"
    file.touch()
    assert make_options(ops_library=file).runtime == make_options(ops_library=[str(file)]).runtime
    assert make_options(ops_library=str(file), device="cpu").runtime == Runtime("cpu", (file,))
    assert make_options().runtime == Runtime()


def test_a_library_is_loaded_from_where_it_is_and_not_from_where_the_system_looks(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library.parent)
    runtime = Runtime("cpu", (Path(library.name),))
    session = open_session(tiny.mlp().SerializeToString(), runtime)
    assert provider_line(session.provider, runtime) == "running on CPU"


@pytest.mark.parametrize("name", ["nowhere.so", "."])
def test_a_library_that_is_no_file_is_said_before_the_work(bench: Path, run: Run, name: str) -> None:
    done = run("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--ops-library", name)
    assert done.code == 2
    (error,) = done.errors
    assert error.startswith(f"error: --ops-library {name} is")
    assert "shared library" in done.hints[0]
    assert list((bench / "out").iterdir()) == []


def test_a_file_that_is_no_library_is_named(bench: Path, run: Run) -> None:
    done = run(
        *("compare", "model.onnx", "model.onnx", "--data", "calib.npz"),
        *("--ops-library", "model.onnx", "--device", "cpu"),
    )
    assert done.code == 2
    assert done.errors[0].startswith("error: --ops-library model.onnx cannot be loaded: ")
    assert f"ONNX Runtime {ort.__version__}" in done.hints[0]
    assert bench.exists()


def test_a_library_without_operators_is_no_library_of_operators(tmp_path: Path) -> None:
    other = next(Path(np.__file__).parent.rglob("_multiarray_umath*.so"), None)
    if other is None:
        pytest.skip("numpy's own library has another name here")
    with pytest.raises(InputError, match="it is no library of operators"):
        open_session(tiny.mlp().SerializeToString(), Runtime("cpu", (other,)))
    assert tmp_path.exists()


@pytest.mark.parametrize("imported", [True, False], ids=["opset imported", "opset not imported"])
def test_an_operator_nobody_brought_is_named_with_its_domain_and_the_way_out(imported: bool) -> None:
    model = acme()
    if not imported:
        model.opset_import[1].domain = "com.acme.other"
    with pytest.raises(InputError, match="cannot load the model") as caught:
        open_session(model.SerializeToString(), "cpu")
    if imported:
        assert "operator 'MyAct' of the domain 'com.acme'" in caught.value.message
        assert "custom" in caught.value.hint
        assert "--ops-library" in caught.value.hint


def test_a_library_that_does_not_bring_the_operator_is_named(library: Path) -> None:
    with pytest.raises(InputError, match="MyAct") as caught:
        open_session(acme().SerializeToString(), Runtime("cpu", (library,)))
    assert f"{library} does not hold it" in caught.value.hint


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_an_operator_of_onnxruntime_itself_is_no_custom_one(domain: str) -> None:
    model = tiny.mlp()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Relux", domain
    if domain:
        model.opset_import.add(domain=domain, version=1)
    with pytest.raises(InputError, match=f"'Relux' of the domain '{domain or 'ai.onnx'}'") as caught:
        open_session(model.SerializeToString(), "cpu")
    assert "--ops-library" not in caught.value.hint
    assert ort.__version__ in caught.value.hint


def test_the_command_says_what_to_do(bench: Path, run: Run) -> None:
    onnx.save(acme(), "acme.onnx")
    assert run("inspect", "acme.onnx").code == 0
    done = run("optimize", "acme.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", 4)
    assert done.code == 2
    assert "MyAct" in done.errors[0]
    assert "com.acme" in done.errors[0]
    assert "custom" in done.hints[0]
    assert list((bench / "out").iterdir()) == []


def test_a_model_of_onnxruntime_extensions(bench: Path, run: Run) -> None:
    extensions = pytest.importorskip("onnxruntime_extensions")
    text = NEG_POS.replace("[act] r =", "[act] n, r =")
    onnx.save(acme(text), "model.onnx")
    optimize = ("optimize", "model.onnx", "out/small.onnx", "--calib", "calib.npz", "--rank", "second=4", "-q")
    refused = run(*optimize)
    assert (refused.code, "get_library_path" in refused.hints[0]) == (2, True)
    library = ("--ops-library", extensions.get_library_path(), "--device", "cpu")
    assert run(*optimize, *library).code == 0
    assert run("compare", "model.onnx", "out/small.onnx", "--data", "calib.npz", *library).code == 0
    assert (bench / "out/small.onnx").exists()
