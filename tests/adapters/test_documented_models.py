"""The page on foreign models runs as it stands: five kinds of models, three lines each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memgen_eval.adapters.schedulers import SUPPORTED

PAGE = Path(__file__).parent.parent.parent / "docs" / "foreign-models.md"


def test_python_of_the_page_runs(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="runs models of diffusers, of the extra diffusers")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    evaluated = [block for block in blocks if "evaluate(Model(" in block]
    assert len(evaluated) == 5
    assert all(len(block.strip().splitlines()) == 3 for block in evaluated if "class " not in block)
    shown = "print(report.denoiser.gap_train.value[0] > 0, report.memorization.ratio.count, report.skipped.keys())\n"
    code = "\n".join(block + shown if block in evaluated else block for block in blocks)
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 5 and all(line.startswith("True 64 ") for line in lines)


def test_the_page_names_every_scheduler() -> None:
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    listed = words[words.index("**Schedulers**") :]
    assert re.findall(r"`(\w+)`", listed[: listed.index(". A pipeline")]) == [
        name.removesuffix("Scheduler") for name in SUPPORTED
    ]
