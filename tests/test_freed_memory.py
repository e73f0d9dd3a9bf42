"""Memory that a process frees: kept for what comes next where the process is a training's own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PAGES_TOUCHED_ANEW = """
import resource, sys
import numpy as np
from memgen_eval.compute.resources import keep_freed_memory

def step():
    return sum(array[0] for array in [np.ones(2**17) for _ in range(64)])  # 64 MiB

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(how: str) -> int:
    """Pages that ten steps of one process had to be given anew."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PAGES_TOUCHED_ANEW, how], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone has the options"
)
def test_steps_ask_for_no_new_pages_where_freed_memory_is_kept() -> None:
    assert pages("kept") < 0.01 * pages("given back")
