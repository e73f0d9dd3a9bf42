"""The script that makes the documentation's pictures works, and the pictures there are of its making."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from render.browsing import chromium

ROOT = Path(__file__).parents[2]
NAMES = ("report.png", "comparison.png")


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_small(name: str) -> None:
    picture = ROOT / "docs" / "images" / name
    with Image.open(picture) as image:
        assert image.size == (1280, 860)
    assert picture.stat().st_size < 120_000


def test_the_script_makes_both(tmp_path: Path) -> None:
    with chromium():  # skips where there is none
        pass
    command = [sys.executable, str(ROOT / "docs" / "screenshots.py"), str(tmp_path)]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    for name in NAMES:
        with Image.open(tmp_path / name) as image:
            assert image.size == (1280, 860) and len(image.convert("RGB").getcolors(1 << 20) or []) > 50
