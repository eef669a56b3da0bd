"""The docs site is built with nothing to warn of: no link leads nowhere, no page is lost, no public name is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

import onnx_dalr
from onnx_dalr.request.table import OPTIONS
from tests.conftest import REPOSITORY

NEEDED = ("sphinx", "myst_parser", "furo")
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(page for kind in ("*.md", "*.rst") for page in DOCS.glob(kind)), REPOSITORY / "models" / "README.md"]
missing = [name for name in NEEDED if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: pip install '.[docs]'")


class Elements(HTMLParser):
    """What a page says in attributes: its anchors, links, images and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.described = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = dict(attrs)
        self.ids |= {have["id"]} if have.get("id") else set()
        self.links += [have["href"]] if tag == "a" and have.get("href") else []
        self.images += [have] if tag == "img" else []
        source = have.get("src") if tag in ("script", "img", "iframe") else have.get("href") if tag == "link" else None
        self.loaded += [source] if source else []
        self.described |= tag == "meta" and have.get("name") == "description" and bool(have.get("content"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-c", str(DOCS)]
    command += ["-d", str(folder / "doctrees"), str(REPOSITORY), str(folder / "html")]
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | closed)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def page_of(site: Path, source: Path) -> Path:
    return site / source.relative_to(REPOSITORY).with_suffix(".html")


def test_every_page_is_built_and_is_in_the_navigation(site: Path) -> None:
    home = Elements((site / "docs" / "index.html").read_text(encoding="utf-8"))
    reached = {(site / "docs" / link.partition("#")[0]).resolve() for link in home.links if "://" not in link}
    assert [page.name for page in PAGES if page_of(site, page).resolve() not in reached] == ["index.md"]


def test_the_root_of_the_site_leads_to_the_first_page(site: Path) -> None:
    assert "docs/index.html" in Elements((site / "index.html").read_text(encoding="utf-8")).links


def test_no_page_loads_from_elsewhere_and_every_link_leads_somewhere(site: Path) -> None:
    read = {page_of(site, source): Elements(page_of(site, source).read_text(encoding="utf-8")) for source in PAGES}
    wrong = []
    for page, found in read.items():
        wrong += [f"{page.name} loads {each}" for each in found.loaded if re.match(r"(\w+:)?//", each)]
        wrong += [f"{page.name} shows {image}" for image in found.images if not image.get("alt")]
        wrong += [] if found.described else [f"{page.name} has no description"]
        for link in (one for one in found.links if not re.match(r"\w+:", one)):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            there = read.get(target)
            if not target.exists() or (anchor and there is not None and anchor not in there.ids):
                wrong.append(f"{page.name} links to {link}")
    assert wrong == []


def test_every_public_name_is_in_the_reference_with_what_its_docstring_says(site: Path) -> None:
    text = (site / "docs" / "api.html").read_text(encoding="utf-8")
    assert [name for name in onnx_dalr.__all__ if f"onnx_dalr.{name}" not in Elements(text).ids] == []
    assert "TypeAliasForwardRef" not in text
    assert text.count("Makes a model smaller for the data it will see.") == 1


def test_every_option_is_on_the_page_of_options(site: Path) -> None:
    text = (site / "docs" / "options.html").read_text(encoding="utf-8")
    words = set(re.findall(r"--[\w-]+", text))
    assert [one.flag for one in OPTIONS if one.commands and not one.positional and one.flag not in words] == []
