"""The page: whole without network, nothing missing, nothing acting, pictures only where they may be."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memgen_eval.render import gallery
from memgen_eval.render.contents import COMPARED
from memgen_eval.render.html import render_html
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, AlteredMatch, Curve, Estimate, Gallery, Match, Verdict

VOID = {"meta", "img", "br", "link", "input"}
CSS = Path(gallery.__file__).with_name("report.css")


class Page(HTMLParser):
    """What a browser would see: elements in order, text, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


FIRST = 2 * (4 + 2)  # pictures on the first screen
ALL = ["full_report", "empty_report", "undefined_report"]


@pytest.fixture(params=ALL)
def any_report(request: pytest.FixtureRequest) -> Report:
    report: Report = request.getfixturevalue(request.param)
    return report


def test_pages_nest_and_ask_for_nothing(any_report: Report) -> None:
    text = render_html(any_report)
    page = Page(text)
    assert page.all("script") == [{}] and page.all("iframe") == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    sources = [value for _, a in page.elements for key, value in a.items() if key in ("src", "href", "xlink:href")]
    assert all(value and value.startswith(("data:image/png;base64,", "data:,", "#")) for value in sources)
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    targets = [value[1:] for value in sources if value and value.startswith("#")]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert set(targets) <= set(ids)


def test_nothing_is_blank_none_or_nan(any_report: Report) -> None:
    text = render_html(any_report)
    assert not re.search(r"<(td|th|dd|dt|p|li|h\d)\b[^>]*>\s*(None|nan|-?inf|True|False|\(\)|\[\]|\{\})?\s*</\1>", text)


def test_the_order_of_the_page(full_page: str) -> None:
    text = Page(full_page).text
    places = [
        text.index(words)
        for words in (
            "Copies found",
            "The samples hold copies of training images",
            "32 of 1,000 samples 11 of 10,000 test images",
            "near-identical to a training image",
            "ratio rule, pictures counted once",
            "near-identical samples",
            "Samples, smallest d1/d2 first",
            "Test images, smallest d1/d2 first",
            "Flagged images against the threshold c",
            "but still fooled",
            "Distance to the nearest training image",
            "none of them sees copying",
            "Gap to the optimal denoiser D*",
            "Distance from the Gaussian model",
            "Every figure All that was measured",
            "Skipped, and why",
            "memgen-eval samples.npz --train cifar10",
            "Glossary Samples, training images, test images",
        )
    ]
    assert places == sorted(places)
    assert "(sample 17 is out/00017.png)" in text


@pytest.mark.parametrize(
    ("label", "heading"),
    [("copies", "Copies found"), ("no copying found", "No copying found"), ("undecided", "Undecided")],
)
def test_the_verdict_is_in_words(label: str, heading: str, short_report: Report) -> None:
    assert isinstance(short_report.verdict, Verdict)
    text = render_html(replace(short_report, verdict=replace(short_report.verdict, label=label)))
    assert f"<h1>{heading}</h1>" in text
    assert f'<div class="verdict {label.replace(" ", "-")}">' in text


def test_every_figure_is_in_the_last_table(full_report: Report, full_page: str) -> None:
    table = full_page[full_page.index('<section id="figures">') : full_page.index('<section id="skipped">')]
    rows = {}
    for row in table.split('<tr role="row"'):
        if (path := re.search(r"<code>([\w.]+)</code>", row)) is not None:
            rows[path[1]] = row
    assert set(rows) == {path for path, _ in full_report.figures()} == set(CAPTIONS)
    for path, figure in full_report.figures():
        words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", rows[path])).split())
        assert CAPTIONS[path].label in words and figure.method in words
        assert figure.count is None or f"{figure.count:,}" in words
        assert all(note in words for note in figure.notes)
        if figure.value is None:
            assert f"not measured {figure.notes[0]}" in words
        if isinstance(figure, Curve) and figure.value is not None:
            assert rows[path].count("<tr><td>") == len(figure.value)
            assert rows[path].count("not measured") == figure.value.count(None)


def test_what_was_not_measured_says_why(undefined_report: Report) -> None:
    text = Page(render_html(undefined_report)).text
    shown = [(family, name) for family, names in COMPARED.items() for name in names]
    paths = [f"{family}.{name}" for family, name in shown if not name.startswith("calibrated_")]
    beside = [name for path in paths for name in (path, *CAPTIONS[path].beside)]
    assert text.count("not measured one image is too few") == len(CAPTIONS) + len(beside) + 6  # headlines


def test_a_skipped_family_says_why(empty_report: Report) -> None:
    report = replace(empty_report, skipped={"denoiser": "no denoiser was given"})
    text = Page(render_html(report)).text
    assert "the whole family not measured no denoiser was given" in text
    assert "the whole family not measured no reason was given" in text
    assert "No verdict" in text
    nothing = Page(render_html(replace(report, skipped={}))).text
    assert "Skipped, and why Nothing." in nothing


def pixels(source: str | None) -> np.ndarray:
    assert source is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(";base64,")[2]))))


def test_the_gallery_shows_the_pixels_it_names(full_report: Report, full_page: str) -> None:
    assert isinstance(full_report.gallery, Gallery) and full_report.memorization is not None
    images = Page(full_page).all("img")[FIRST:]
    matches = (*full_report.memorization.closest, *full_report.memorization.test_closest)
    altered = full_report.memorization.altered
    assert (len(matches), len(images)) == (64, 2 * (64 + len(altered)))
    for position, match in enumerate(matches):
        image, train = images[2 * position : 2 * position + 2]
        of = full_report.gallery.samples if position < 32 else full_report.gallery.baseline
        np.testing.assert_array_equal(pixels(image["src"]), of[match.sample_index].transpose(1, 2, 0))
        np.testing.assert_array_equal(
            pixels(train["src"]), full_report.gallery.train[match.train_index].transpose(1, 2, 0)
        )
        noun = "sample" if position < 32 else "test image"
        assert image["alt"] == f"{noun} {match.sample_index}"
        assert train["alt"] == f"training image {match.train_index}" + (", mirrored" if match.flipped else "")
        assert ("mirrored" in (train["class"] or "")) == match.flipped
        assert "pixelated" in (image["class"] or "")


def test_grey_images(short_report: Report) -> None:
    grey = Gallery(*({i: picture[:1] for i, picture in part.items()} for part in vars(short_report.gallery).values()))
    (first, *_) = Page(render_html(replace(short_report, gallery=grey))).all("img")
    np.testing.assert_array_equal(pixels(first["src"]), grey.samples[0][0])


def test_pairs_say_distance_ratio_flag_and_names(short_report: Report) -> None:
    assert short_report.memorization is not None
    one = (Match(17, 117, 1 / 255, 1.0, 0.04, True),)
    three = (Match(3, 4, 0.1, 25.5, 0.5, False),)
    family = replace(short_report.memorization, closest=one, test_closest=three)
    text = Page(render_html(replace(short_report, memorization=family))).text
    assert (
        "sample 17 out/00017.png training image 117, mirrored 1.00 grey levels (0.0039); d1/d2 = 0.040; flagged" in text
    )
    assert "test image 3 test/00003.png training image 4 25.50 grey levels (0.1000); d1/d2 = 0.500; not flagged" in text


def test_left_out_training_images_are_called_so(short_report: Report) -> None:
    settings = replace(short_report.settings, baseline="train, leave one out")
    names = {"train": {"5": "train/five.png", "300": "train/300.png"}}
    report = replace(short_report, settings=settings, provenance=replace(short_report.provenance, names=names))
    text = Page(render_html(report)).text
    assert "training image 5 train/five.png" in text
    assert "Training images left out, smallest d1/d2 first" in text
    assert "each compared with all the others, since no test set was given" in text


def test_without_a_baseline(short_report: Report) -> None:
    assert short_report.memorization is not None
    report = replace(
        short_report,
        settings=replace(short_report.settings, baseline="none", num_baseline=0),
        memorization=replace(short_report.memorization, test_closest=(), test_ratio=Estimate.undefined("one image")),
    )
    text = Page(render_html(report)).text
    assert "There is no baseline: neither test images nor several training images were given." in text


def test_no_images_means_no_pixel(full_report: Report) -> None:
    text = render_html(full_report, images=False)
    assert "data:image" not in text and "<img" not in text and "base64" not in text and "<image" not in text
    assert "All pictures were left out of this page on request." in text
    assert "out/00017.png" in text and "0.083" in text


def test_pictures_are_not_in_json(full_report: Report) -> None:
    text = render_html(Report.from_dict(full_report.to_dict()))
    assert "data:image" not in text
    assert "This report was read from JSON, which does not hold the pictures" in text


def test_large_noisy_pictures_stay_under_five_megabytes(short_report: Report) -> None:
    random = np.random.default_rng(0)
    parts = [
        {i: random.integers(0, 256, (3, 256, 256), dtype=np.uint8) for i in part}
        for part in vars(short_report.gallery).values()
    ]
    page = render_html(replace(short_report, gallery=Gallery(*parts)))
    assert len(page.encode()) < 4_000_000  # and at most a million for charts and tables
    first = Page(page).all("img")[FIRST]
    assert pixels(first["src"]).shape == (128, 128, 3)
    assert "pixelated" not in (first["class"] or "")


HOSTILE = {
    '"><img src=x onerror=alert(1)>.png': "&gt;&lt;img src=x onerror=alert(1)&gt;.png",
    "a\x1b[31mred.png": r"a\x1b[31mred.png",
    "two\nlines.png": r"two\nlines.png",
    "</script><script>alert(1)</script>": "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}": "{{ 7 * 7 }}",
    "\u202egnp.exe": r"\u202egnp.exe",
    "byte\udcff.png": r"byte\udcff.png",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_words(name: str, short_report: Report) -> None:
    everywhere = replace(
        short_report.provenance,
        names={"samples": {"17": name}, "train": {"117": name}, "test": {"1": name}},
        inputs={name: {name: [name, {name: name}]}},
        command=name,
        versions={name: name},
    )
    memorization = short_report.memorization
    assert memorization is not None
    noted = replace(memorization, ratio=replace(memorization.ratio, notes=(name,), method=name))
    settings = replace(short_report.settings, features=name)
    report = replace(short_report, provenance=everywhere, memorization=noted, skipped={name: name}, settings=settings)
    text = render_html(report)
    page = Page(text)
    assert HOSTILE[name] in text
    assert name not in text or name == "{{ 7 * 7 }}"
    assert page.all("script") == [{}]
    assert len(page.all("img")) == 134 + FIRST
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    text.encode("utf-8")


def test_settings_under_their_own_names(short_report: Report) -> None:
    text = Page(render_html(short_report)).text
    for words in (
        "metrics all",
        "threshold 1/3",
        "duplicate_tolerance 0.0447 (11.4 grey levels)",
        "flip yes",
        "seed 0",
    ):
        assert words in text
    assert f"checksum of samples {short_report.settings.checksums['samples']} checksum of train" in text


def test_the_same_report_gives_the_same_page(full_report: Report, full_page: str) -> None:
    assert render_html(full_report) == full_page


def test_tables_and_headings_are_accessible(full_page: str) -> None:
    page = Page(full_page)
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert all("scope" in attributes for attributes in page.all("th"))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_curves_stand_out(theme: int) -> None:
    """WCAG AA: at least 4.5 to 1 against the paper for every colour that text or curves have."""
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(encoding="utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[theme]))
    paper = luminance(colours.pop("paper"))
    del colours["rule"]
    assert len(colours) == 8
    for name, colour in colours.items():
        low, high = sorted((paper, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_altered_copies_stand_beside_the_training_image_altered_likewise(full_report: Report) -> None:
    """One grey level per column: a place in the picture shown is known by its value."""
    assert full_report.gallery is not None and full_report.memorization is not None
    columns = np.broadcast_to(np.arange(40, 72, dtype=np.uint8), (3, 32, 32))
    altered = AlteredMatch(10, 110, True, 3, 0, 0.0, 1.0, 1.0, 20.0, 0.5, 0.1, "mirrored, shifted 3 right (pixels)")
    report = replace(
        full_report,
        gallery=replace(full_report.gallery, train={**full_report.gallery.train, 110: columns}),
        memorization=replace(full_report.memorization, altered=(altered,)),
    )
    page = render_html(report)
    text = Page(page).text
    assert "Samples that fit a training image once aligned" in text
    assert "mirrored, shifted 3 right (pixels); 0.50 grey levels apart otherwise; d1/d2 = 0.100" in text
    shown = pixels(Page(page).all("img")[-1]["src"]).astype(int)
    np.testing.assert_allclose(shown[5, 8:28, 0] - shown[5, 8, 0], -np.arange(20), atol=1)  # mirrored
    assert shown[5, 20, 0] == pytest.approx(71 - (20 - 3) + 20, abs=4)  # moved by 3, and 20 grey levels brighter
