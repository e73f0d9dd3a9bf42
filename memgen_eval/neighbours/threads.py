"""Rows shared out among as many threads as the process may use; global thread settings are read, never changed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CHUNK_ROWS = 256
_PROCESS = os.getpid()  # that imported this
RowTask = Callable[[int, int], None]


@dataclass(frozen=True)
class Share:
    """Calls ``task(start, stop)`` for chunks of rows on `count` threads; each call writes its own rows."""

    count: int
    apply: Callable[..., Iterable[None]]

    def __call__(self, task: RowTask, num_rows: int, chunk_rows: int | None = None) -> None:
        """Chunks of `chunk_rows` rows; by default of at most 256, whose results stay in the cache."""
        size = chunk_rows or min(CHUNK_ROWS, max(16, -(-num_rows // self.count)))
        for _ in self.apply(lambda start: task(start, min(start + size, num_rows)), range(0, num_rows, size)):
            pass


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
    """Rows shared out among `count` threads, which live as long as the context."""
    if count == 1:
        yield Share(count, map)
    else:
        with ThreadPoolExecutor(count, initializer=_multiply_alone) as pool:
            yield Share(count, pool.map)


def _multiply_alone() -> None:
    """Let products of torch use no other threads where this one calls them: OpenMP counts for each thread by itself."""
    torch = sys.modules.get("torch")
    if torch is not None:
        import threadpoolctl

        torch.get_num_threads()  # else torch would set the count later
        threadpoolctl.threadpool_limits(1, user_api="openmp")


def is_forked() -> bool:
    """Whether this process is a fork of one that may have used threads: those are lost, and OpenMP waits for them."""
    return os.getpid() != _PROCESS or (
        multiprocessing.parent_process() is not None and "multiprocessing.popen_fork" in sys.modules
    )


@contextmanager
def unforked_threads() -> Iterator[None]:
    """In a forked process, let OpenMP (torch's too) use this thread alone; elsewhere nothing changes."""
    if not is_forked():
        yield
        return
    import threadpoolctl

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.get_num_threads()  # else torch would set the count later
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        yield


def single_thread() -> Any:
    """A context in which BLAS and OpenMP use one thread: their sums depend on how many there are."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def workers(count: int) -> ThreadPoolExecutor:
    """Threads that each compute alone, to be used within `single_thread`: OpenMP knows a limit for each thread."""
    return ThreadPoolExecutor(count, initializer=single_thread)
