"""A search in a process of its own, with the memory it holds watched: ``python -m benchmarks.memory_probe``."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import numpy as np

from benchmarks.peers import SEARCHES

STATUS = Path("/proc/self/status")
IMPORTED = ("faiss", "numkong", "threadpoolctl", "torch")  # by the searches, on first use
INTERVAL = 0.002  # seconds
Result = TypeVar("Result")


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind: RssAnon."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


def watched(action: Callable[[], Result]) -> tuple[Result, int]:
    """The result of `action`, and the most bytes it held beyond what was held before."""
    gc.collect()
    before, done = anonymous_bytes(), Event()
    most = [before]

    def watch() -> None:
        while not done.wait(INTERVAL):
            most[0] = max(most[0], anonymous_bytes())

    watcher = Thread(target=watch)
    watcher.start()
    try:
        result = action()
        most[0] = max(most[0], anonymous_bytes())
    finally:
        done.set()
        watcher.join()
    return result, most[0] - before


def main(method: str, references: str, queries: str, k: str, output: str) -> None:
    """Search .npy files that stay on disk; write indices, squared distances and peak to an npz file."""
    for name in IMPORTED:
        importlib.import_module(name)
    arrays = [np.load(path, mmap_mode="r") for path in (queries, references)]
    found, peak = watched(lambda: SEARCHES[method](arrays[0], arrays[1], int(k)))
    np.savez(output, squared=found.squared, indices=found.indices, peak=peak)


if __name__ == "__main__":
    main(*sys.argv[1:])
