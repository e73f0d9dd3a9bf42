"""Pages in a real browser: silent, alone, inside every width, accessible, usable by keyboard and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memgen_eval.render.html import render_html
from memgen_eval.render.several.in_order import trajectory_page
from memgen_eval.render.several.members import Member
from memgen_eval.render.several.side_by_side import comparison_page
from memgen_eval.report import Report
from memgen_eval.results import Gallery
from render.browsing import chromium, opened

WIDTHS = (360, 768, 1280, 1920)
LONG = "a-name-without-any-place-to-break-" * 9


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, full_report: Report, empty_report: Report, undefined_report: Report
) -> dict[str, str]:
    """The addresses of pages: with everything, nothing, nothing measured, no pictures, long names."""
    names = {part: {str(i): LONG for i in range(400)} for part in ("samples", "train", "test")}
    long = replace(full_report.provenance, names=names, command=LONG, inputs={LONG: {LONG: LONG, "account": LONG}})
    noted = replace(
        full_report, provenance=long, skipped={LONG: LONG}, cautions=(LONG,), novelty=None, denoiser=None, gaussian=None
    )
    texts = {
        "full": render_html(full_report),
        "empty": render_html(empty_report),
        "undefined": render_html(undefined_report),
        "no-images": render_html(replace(full_report, denoiser=None, gaussian=None), images=False),
        "long": render_html(noted),
        "comparison": comparison_page([Member("first", full_report), Member(LONG, noted)]),
        "trajectory": trajectory_page([Member(name, noted) for name in ("1", "2", LONG)], "step", [1.0, 2.0, 3.0]),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


ALL = ["full", "empty", "undefined", "no-images", "long", "comparison", "trajectory"]


@pytest.mark.parametrize("name", ALL)
def test_a_page_says_nothing_and_asks_for_nothing(name: str, browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages[name]) as page:
        page.wait_for_load_state("networkidle")
        assert page.said == []
        assert [address for address in page.asked if not address.startswith("data:")] == [pages[name]]


def test_what_a_page_may_not_do_is_seen(browser: Any, pages: dict[str, str], tmp_path: Path) -> None:
    """The two lists above are filled where there is something to tell: a script that is not the page's own."""
    text = Path(pages["empty"].removeprefix("file://")).read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(text.replace("</main>", "<script>fetch('x.json')</script><img src='x.png' alt=''></main>"))
    with opened(browser, bad.as_uri()) as page:
        assert len(page.said) == 2 and all("Content Security Policy" in words for words in page.said)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ALL)
def test_nothing_is_wider_than_the_window(name: str, width: int, browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages[name], width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.evaluate("document.querySelectorAll('.pictures input').forEach((one) => { one.checked = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
@pytest.mark.parametrize("name", ["full", "empty", "no-images", "comparison", "trajectory"])
def test_axe_finds_no_violation(name: str, scheme: str, width: int, browser: Any, pages: dict[str, str]) -> None:
    judge_with_axe(browser, pages[name], scheme, width)


@pytest.mark.parametrize(("scheme", "width"), [("dark", 360), ("light", 1280)])
def test_axe_finds_no_violation_the_other_way_round(
    scheme: str, width: int, browser: Any, pages: dict[str, str]
) -> None:
    judge_with_axe(browser, pages["full"], scheme, width)


def judge_with_axe(browser: Any, address: str, scheme: str, width: int) -> None:
    """Everything but the strokes of charts, which are pictures with a name."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core judges how accessible pages are"
    )
    with opened(browser, address, width=width, color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('.values').forEach((one) => { one.open = true; })")
        found = axe.Axe().run(page, context={"exclude": [[".chart > g"]]})
        assert found.violations_count == 0, found.generate_report()
        assert len(found.response["passes"]) > 20


def box(page: Any, selector: str) -> dict[str, float]:
    found: dict[str, float] = page.locator(selector).first.bounding_box()
    return found


def test_a_wide_window_is_used(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"], width=1280) as page:
        verdict, glimpse = box(page, ".verdict"), box(page, ".glimpse")
        assert glimpse["x"] >= verdict["x"] + verdict["width"] and glimpse["y"] <= verdict["y"]
        assert glimpse["x"] + glimpse["width"] > 1200
        first, second = (figure.bounding_box() for figure in page.locator("#denoiser figure").all()[:2])
        assert first["y"] == second["y"] and second["x"] >= first["x"] + first["width"]
        page.evaluate("scrollTo(0, 5000)")
        contents = box(page, "nav ul")
        assert contents["y"] >= 0 and contents["y"] + contents["height"] <= 900
        assert contents["x"] + contents["width"] <= verdict["x"]


def test_a_narrow_window_has_one_column(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"], width=360) as page:
        verdict, glimpse = box(page, ".verdict"), box(page, ".glimpse")
        assert glimpse["y"] >= verdict["y"] + verdict["height"]
        first, second = (figure.bounding_box() for figure in page.locator("#denoiser figure").all()[:2])
        assert second["y"] >= first["y"] + first["height"]
        page.evaluate("scrollTo(0, 5000)")
        assert box(page, "nav")["y"] == 0


def test_paper_is_a4_without_what_only_a_screen_can_do(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"], width=680) as page:  # the width of A4 less its margins
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 680
        hidden = ["nav", ".skip", ".tools", ".values"]
        assert not any(page.locator(selector).first.is_visible() for selector in hidden)
        assert page.locator("#closest details .pair").first.is_visible()  # what is folded away on a screen
        assert b"/MediaBox [0 0 594.9" in page.pdf(prefer_css_page_size=True)


FOCUSED = """() => {
  const one = document.activeElement;
  return [one.tagName, one.getAttribute("href") || one.textContent.trim() || one.type];
}"""


def test_the_keyboard_goes_through_the_page_in_its_order(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"]) as page:
        links = page.eval_on_selector_all("nav a", "(all) => all.map((one) => one.getAttribute('href'))")
        order = []
        for _ in range(2 + len(links)):
            page.keyboard.press("Tab")
            order.append(page.evaluate(FOCUSED)[1])
        assert order[0] == "#content" and order[1:-1] == links and order[-1] == "#closest"  # all pairs, larger
        places = page.eval_on_selector_all(
            "main a, main summary, main input, main button, main [tabindex]",
            "(all) => all.filter((one) => one.checkVisibility()).map((one) => one.tabIndex)",
        )
        assert set(places) == {0} and len(places) > 60  # the order of the page itself


def test_the_space_bar_enlarges_pictures(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"]) as page:
        page.locator("#closest .pictures input").first.focus()
        image = "#closest .pictures img"
        before = box(page, image)["width"]
        page.keyboard.press("Space")
        assert box(page, image)["width"] > 1.5 * before
        page.keyboard.press("Space")
        assert box(page, image)["width"] == before
        page.locator(image).first.click()
        assert box(page, image)["width"] > 1.5 * before


def test_enter_opens_the_table_of_a_chart(browser: Any, pages: dict[str, str]) -> None:
    with opened(browser, pages["full"]) as page:
        page.locator("#novelty figure summary").focus()
        page.keyboard.press("Enter")
        assert page.locator("#novelty figure td").first.is_visible()


ROWS = "#figures tbody:not([hidden]) > tr:not(.group, [hidden]) code"


def paths(page: Any) -> list[str]:
    return [str(path) for path in page.locator(ROWS).all_inner_texts()]


def test_figures_are_filtered(browser: Any, pages: dict[str, str], full_report: Report) -> None:
    with opened(browser, pages["full"]) as page:
        everything = paths(page)
        assert len(everything) == len(list(full_report.figures()))
        assert page.locator("#figures output").inner_text() == f"{len(everything)} of {len(everything)} figures"
        page.get_by_label("measured only").check()
        assert "gaussian.distillation_r2" not in paths(page) and len(paths(page)) < len(everything)
        page.get_by_label("Filter").fill("FID test")
        found = paths(page)
        assert "fidelity.test_fid" in found and "memorization.ratio" not in found
        assert page.locator("#figures .group:visible").count() == len({path.partition(".")[0] for path in found})
        page.get_by_label("Filter").fill("<img src=x onerror=alert(1)>")
        assert paths(page) == [] and page.said == []


def test_figures_are_sorted_within_their_family(browser: Any, pages: dict[str, str], full_report: Report) -> None:
    with opened(browser, pages["full"]) as page:
        listed = paths(page)
        head = page.locator("#figures thead th", has_text="value").first
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        rising = [path for path in paths(page) if path.startswith("novelty.")]
        values = [figure.value for path in rising if (figure := full_report.figure(path)) is not None]
        order = [max(v for v in value if v is not None) if isinstance(value, tuple) else value for value in values]
        assert order == sorted(order, key=float)
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        falling = [path for path in paths(page) if path.startswith("gaussian.")]
        assert falling[-1] == "gaussian.distillation_r2"  # not measured: last both ways
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") is None and paths(page) == listed


def test_without_scripts_the_page_is_complete(browser: Any, pages: dict[str, str], full_report: Report) -> None:
    with opened(browser, pages["full"], java_script_enabled=False) as page:
        assert page.locator(ROWS).count() == len(list(full_report.figures()))
        assert page.locator(".tools, thead button").count() == 0
        page.locator("#closest .pictures").first.click()
        assert box(page, "#closest .pictures img")["width"] > 150


def test_a_page_of_many_samples_is_light_and_opens_in_a_second(
    browser: Any, full_report: Report, tmp_path: Path
) -> None:
    """The gallery of 256 pixels is the heaviest part; the number of samples hardly matters."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8).repeat(8, 2).repeat(8, 3)
    noise = random.integers(-8, 9, (8, 3, 256, 256))
    photos = (coarse + noise).clip(0, 255).astype(np.uint8)
    parts = [{i: photos[i % 8] for i in part} for part in vars(full_report.gallery).values()]
    settings = replace(full_report.settings, num_samples=50_000)
    text = render_html(replace(full_report, gallery=Gallery(*parts), settings=settings))
    assert 2_000_000 < len(text.encode()) < 5_000_000
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    with opened(browser, "about:blank") as page:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the page alone, however busy the machine
        page.goto((tmp_path / "page.html").as_uri())
        seconds = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < seconds["TaskDuration"] < 1
