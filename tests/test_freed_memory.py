"""Memory that a process frees: kept for what comes next in processes of our own, the commands."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PAGES_TOUCHED_ANEW = """
import resource, sys
import numpy as np
from memgen_eval.compute.resources import give_memory_back, keep_freed_memory

def step():
    return sum(array[0] for array in [np.ones(count) for count in (2**23, *[2**17] * 64)])  # 64 MiB and 64 of 1 MiB

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    step()
of_a_step = pages()
give_memory_back()
print(of_a_step, pages())
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the options are those of glibc"
)


def pages(how: str, **variables: str) -> list[int]:
    """Pages that a step of a process is given anew: after steps like it, and after memory was given back."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PAGES_TOUCHED_ANEW, how]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_a_step_is_given_no_new_pages_where_freed_memory_is_kept() -> None:
    (kept, once_given_back), (given_back, _) = pages("kept"), pages("as usual")
    assert kept < 0.1 * given_back  # which are few where the system gives huge pages
    assert once_given_back > 0.5 * given_back


@pytest.mark.parametrize(
    "variables", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_what_the_environment_says_counts(variables: dict[str, str]) -> None:
    (kept, _), (given_back, _) = pages("kept", **variables), pages("as usual")
    assert kept > 0.5 * given_back


@pytest.mark.parametrize("program", ["memgen_eval.cli", "reference_models.train_cli", "reference_models.sample_cli"])
def test_commands_keep_it(program: str) -> None:
    code = f"""
import {program} as command
order = []
command.keep_freed_memory = lambda: order.append("kept")
command.whole_process = lambda *arguments: order.append("begun")
command.entry()
print(order)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['kept', 'begun']"
