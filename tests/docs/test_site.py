"""The site: built without a warning as `make docs` builds it, complete, and loading nothing from a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import memgen_eval
from docs.pages import PAGES, ROOT

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
SHEETS = {"stylesheet", "preload", "prefetch", "icon", "preconnect", "dns-prefetch", "modulepreload"}


@dataclass
class Page(HTMLParser):
    """What a page loads, where it leads, and the places that links can lead to."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        self.ids.add(held.get("id", ""))
        if LOADED.get(tag, "") in held:
            self.loads.append(held[LOADED[tag]])
        if tag == "link" and SHEETS & set(held.get("rel", "").split()):
            self.loads.append(held["href"])
        if tag == "a" and "href" in held:
            self.links.append(held["href"])


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sphinx", "furo", "myst_nb", "numpydoc", "ipykernel", "pandas"):
        pytest.importorskip(package, reason="builds the documentation, with the extra docs")
    recipe = re.search(r"^docs:.*\n\t\$\(BIN\)/python (-m sphinx .*) docs build/docs$", makefile(), re.MULTILINE)
    assert recipe is not None
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, *recipe[1].split(), "-d", str(folder / "kept"), "docs", str(folder / "html")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, [line for line in run.stderr.splitlines() if "WARNING: " in line]) == (0, []), run.stderr
    return folder / "html"


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: read(path) for path in sorted(site.rglob("*.html"))}


def test_warnings_are_errors() -> None:
    recipe = re.search(r"^\t.*-m sphinx.*$", makefile(), re.MULTILINE)
    assert recipe is not None and "--fail-on-warning" in recipe[0] and "--nitpicky" in recipe[0]


def test_every_page_is_there(site: Path) -> None:
    for page in PAGES:
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    assert (site / "notebooks" / "first-look.html").is_file()


def test_nothing_is_loaded_from_a_network(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > len(PAGES)
    foreign = [f"{path.name}: {url}" for path, page in pages.items() for url in page.loads if urlsplit(url).netloc]
    assert foreign == []
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\"')]+", text) == [], sheet.name
    for script in site.rglob("*.js"):  # none that the pages load asks for more
        assert "googleapis" not in script.read_text(encoding="utf-8", errors="replace")


def test_what_is_loaded_from_a_network_is_seen() -> None:
    page = Page()
    page.feed('<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/x.css">')
    page.feed('<link rel="canonical" href="https://example/"><a href="https://example/">')
    assert [urlsplit(url).netloc for url in page.loads] == ["cdn.example", "cdn.example"]


def test_every_link_leads_to_a_place(pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for url in [*page.links, *page.loads]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.is_file() or (parts.fragment and known and unquote(parts.fragment) not in known.ids):
                lost.append(f"{path.name}: {url}")
    assert lost == []


def test_every_public_name_has_its_docstring_there(pages: dict[Path, Page]) -> None:
    ids = next(page.ids for path, page in pages.items() if path.name == "reference.html")
    assert {f"memgen_eval.{name}" for name in memgen_eval.__all__} <= ids


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / "mathematics.html").read_text(encoding="utf-8")
    assert text.count("<math") > 40
    assert not re.search(r"<script[^>]*mathjax", text, flags=re.IGNORECASE)


def test_the_notebook_was_executed(site: Path) -> None:
    text = (site / "notebooks" / "first-look.html").read_text(encoding="utf-8")
    assert "The samples hold copies of training images: 20 of 400 samples" in text  # the report as a cell's value
    assert "required &#39;verdict != copies&#39;" in text or "required 'verdict != copies'" in text
    assert len(re.findall(r'<img alt="[^"]*" src="../_images/\w+\.png"', text)) == 2  # two plots


def test_search_has_every_page(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"{page.relative_to(ROOT / "docs").with_suffix("").as_posix()}"' in index for page in PAGES)
    assert "carlini" in index


def test_search_works_without_a_network(site: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("searches in Chromium, which is not installed")
    url = f"{(site / 'search.html').as_uri()}?q=carlini"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [browser, *flags, "--virtual-time-budget=10000", "--dump-dom", url]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert re.search(r'<li[^>]*><a href="mathematics\.html', found)
