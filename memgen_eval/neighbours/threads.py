"""Rows shared out among as many threads as the process may use; global thread settings are read, never changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

CHUNK_ROWS = 256
RowTask = Callable[[int, int], None]
Share = Callable[[RowTask, int], None]


def num_threads() -> int:
    """Processors this process may run on, at most OMP_NUM_THREADS, at most what BLAS is limited to (threadpoolctl)."""
    import threadpoolctl

    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        limits.append(int(wanted))
    limits += [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    return min(limits)


@contextmanager
def sharing(count: int) -> Iterator[Share]:
    """A function that calls ``task(start, stop)`` for chunks of rows on `count` threads; each writes its own rows."""
    if count == 1:
        yield lambda task, num_rows: _run(task, num_rows, count, map)
    else:
        with ThreadPoolExecutor(count, initializer=_multiply_alone) as pool:
            yield lambda task, num_rows: _run(task, num_rows, count, pool.map)


def _multiply_alone() -> None:
    """Let products of torch use no other threads where this one calls them: OpenMP counts for each thread by itself."""
    torch = sys.modules.get("torch")
    if torch is not None:
        import threadpoolctl

        torch.get_num_threads()  # else torch would set the count later
        threadpoolctl.threadpool_limits(1, user_api="openmp")


def _run(task: RowTask, num_rows: int, count: int, apply: Callable[..., Iterable[None]]) -> None:
    size = min(CHUNK_ROWS, max(16, -(-num_rows // count)))
    starts = range(0, num_rows, size)
    for _ in apply(lambda start: task(start, min(start + size, num_rows)), starts):
        pass
