"""A headless Chromium for tests of pages; they skip, with the reason, where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AS_ROOT = ("--no-sandbox",)


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's browser, or the one that playwright has installed."""
    api = pytest.importorskip("playwright.sync_api", reason="pages are opened in a browser by playwright")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        arguments = AS_ROOT if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        try:
            browser = playwright.chromium.launch(executable_path=found, args=arguments)
        except api.Error as error:
            pytest.skip(f"no Chromium that starts: {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Iterator[Any]:
    """A page in a context of its own; `said` and `asked` on it are what it told the console and asked for."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
