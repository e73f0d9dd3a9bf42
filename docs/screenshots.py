"""The pictures of pages that the documentation shows: a report, and reports side by side. Needs a Chromium.

    python docs/screenshots.py [FOLDER]

Writes report.png and comparison.png to FOLDER, docs/images by default. The images are scikit-learn's digits.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from memgen_eval import Report, evaluate
from memgen_eval.render.html import render_html
from memgen_eval.render.several.members import Member
from memgen_eval.render.several.side_by_side import comparison_page

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 860
COLOURS = 128  # of a palette: a third of the bytes, and nobody sees it
NUM_TRAIN, NUM_TEST = 700, 500
NUM_COPIES = {"step 10,000": 0, "step 40,000": 24, "step 160,000": 60}  # of the samples of each checkpoint
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

Pixels = NDArray[np.uint8]


def digits() -> tuple[Pixels, Pixels, Pixels]:
    """Training images, test images and others, each (N, 8, 8)."""
    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    train, test, others = np.split(np.random.default_rng(0).permutation(images), [NUM_TRAIN, NUM_TRAIN + NUM_TEST])
    return train, test, others


def copying(train: Pixels, others: Pixels, num_copies: int) -> Pixels:
    """Unseen digits, and among them training images with a little noise."""
    noise = np.random.default_rng(1).normal(0, 6, (num_copies, *train.shape[1:]))
    copies = np.rint(train[:num_copies] + noise).clip(0, 255).astype(np.uint8)
    return np.concatenate([copies, others[num_copies:]])


def reports() -> dict[str, Report]:
    """A report of each checkpoint."""
    train, test, others = digits()
    families = ["memorization", "novelty", "fidelity"]
    return {
        name: evaluate(copying(train, others, number), train=train, test=test, metrics=families)
        for name, number in NUM_COPIES.items()
    }


def pictures(pages: dict[str, str]) -> dict[str, bytes]:
    """What the top of each page looks like, as PNG."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        return {name: _picture(page, text, Path(folder) / f"{name}.html") for name, text in pages.items()}


def _picture(page: Any, text: str, path: Path) -> bytes:
    path.write_text(text, encoding="utf-8")
    page.goto(path.as_uri())
    small, stream = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=0), io.BytesIO()
    small.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def main(folder: Path = IMAGES) -> None:
    """Write both pictures."""
    made = reports()
    members = [Member(name, report) for name, report in made.items()]
    pages = {"report": render_html(list(made.values())[-1]), "comparison": comparison_page(members)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(pages).items():
        (folder / f"{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
