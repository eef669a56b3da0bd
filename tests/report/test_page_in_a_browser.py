"""The HTML report in headless Chromium: it fits, it sorts, it prints, and nothing goes wrong in it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnx_dalr.choose.spectrum import Spectrum
from onnx_dalr.results.result import Result
from tests.report.made_results import CLASSIFIER

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
WIDTHS = (360, 800, 1600)

ASK = """
const found = {};
async function ask() {
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement;
    const shown = (one) => one.offsetParent !== null;
    const plots = [...page.querySelectorAll("svg")].filter((one) => one.getBoundingClientRect().width > 0);
    const layers = [...page.querySelectorAll("[role=region]")].find((one) => one.ariaLabel === "All layers");
    const first = () => layers.querySelector("tbody tr td").textContent;
    const press = (name) => [...layers.querySelectorAll("th button")].find((one) => one.textContent === name).click();
    const before = first();
    press("before"); const largest = first();
    press("before"); const smallest = first();
    press("layer"); const named = first();
    found[frame.width] = {
      scrolls: root.scrollWidth > root.clientWidth,
      beyond: [...page.querySelectorAll("main *")].filter((one) => !one.closest(".scroll, svg") && shown(one)
        && one.getBoundingClientRect().right > root.clientWidth + 1).map((one) => one.outerHTML.slice(0, 80)),
      plots: plots.length,
      drawn: [...page.querySelectorAll("svg")].length,
      smallest_text: Math.min(...plots.flatMap((one) => [...one.querySelectorAll("text")])
        .map((one) => one.getBoundingClientRect().height)),
      sorted: [before, largest, smallest, named],
      says: layers.querySelector("th[aria-sort]").ariaSort,
      background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      ink: frame.contentWindow.getComputedStyle(page.body).color,
    };
  }
  const said = document.createElement("pre");
  said.id = "said";
  said.textContent = JSON.stringify(found);
  document.body.append(said);
}
addEventListener("load", ask);
"""


@pytest.fixture(scope="module")
def result() -> Result:
    spectrum = Spectrum("pair", ("1", "8", "64"), (0.01, 0.1, 0.8), (0.9, 0.4, 0.05))
    names = ("encoder.layers.0.attention.self.query/MatMul_with_a_long_name", "b", "a")
    layers = tuple(
        replace(layer, name=name, spectrum=spectrum) for layer, name in zip(CLASSIFIER.layers, names, strict=True)
    )
    long = "/a/folder/with/a/name/that/is/much/longer/than/a/phone/is/wide/" * 3
    return replace(CLASSIFIER, layers=layers, command=f"onnx-dalr optimize {long}in.onnx", notes=(f"of {long}",))


Run = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("browser")

    def run(file: Path, *options: str) -> str:
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        command += ["--virtual-time-budget=5000", "--enable-logging=stderr", "--v=0", *options, file.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        said = done.stderr.decode(errors="replace")
        assert "CONSOLE" not in said, said
        return done.stdout.decode()

    return run


def asked(chromium: Run, page: str, folder: Path, *options: str) -> dict[str, Any]:
    """What the page is like in windows of all widths."""
    frames = "".join(
        f'<iframe width="{width}" height="2000" srcdoc="{html.escape(page, quote=True)}"></iframe>' for width in WIDTHS
    )
    file = folder / "frames.html"
    file.write_text(f'<!DOCTYPE html><meta charset="utf-8"><script>{ASK}</script>{frames}', encoding="utf-8")
    dom = chromium(file, "--dump-dom", *options)
    said = re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    assert said is not None, dom[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(said[1]))
    return found


def test_a_page_fits_phones_and_screens_and_its_tables_sort(chromium: Run, result: Result, tmp_path: Path) -> None:
    found = asked(chromium, result.render("page"), tmp_path)
    assert sorted(map(int, found)) == list(WIDTHS)
    for width, seen in found.items():
        assert not seen["scrolls"], width
        assert seen["beyond"] == [], width
        assert seen["drawn"] == 2 * seen["plots"] > 0, width  # one shape of each
        assert seen["smallest_text"] >= 8, width
        before, largest, smallest, named = seen["sorted"]
        assert largest == before == result.layers[0].name
        assert smallest == "a"
        assert named == "a"
        assert seen["says"] == "ascending"


def test_a_page_is_dark_where_that_is_wanted(chromium: Run, result: Result, tmp_path: Path) -> None:
    page = result.render("page")
    light = asked(chromium, page, tmp_path)["800"]
    dark = asked(chromium, page, tmp_path, "--blink-settings=preferredColorScheme=0")["800"]
    assert brightness(light["background"]) - brightness(light["ink"]) > 0.6
    assert brightness(dark["ink"]) - brightness(dark["background"]) > 0.6


def brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)


def test_a_page_prints(chromium: Run, result: Result, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(result.render("page"), encoding="utf-8")
    chromium(tmp_path / "page.html", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type /Page\b", printed)) <= 8
