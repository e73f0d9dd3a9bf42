"""Threads and memory: rows shared out among the threads that the process may use, and block shapes within a budget.

Global thread settings are read, never changed.
"""

from __future__ import annotations

import multiprocessing
import numbers
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from memgen_eval.errors import InputError

CHUNK_ROWS = 256
_PROCESS = os.getpid()  # that imported this
RowTask = Callable[[int, int], None]
_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("", 1024), ("IB", 1024), ("B", 1000))
}
_MOST_BYTES = 2**60  # so that no product of sizes overflows
MIN_ROWS = 16
_TILE_BYTES = 12 * 2**20  # a tile of references stays in the shared cache of most processors
_MAX_TILE_ROWS = 8192
_MAX_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Workers:
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
def start_workers(count: int) -> Iterator[Workers]:
    """Rows shared out among `count` threads, which live as long as the context."""
    if count == 1:
        yield Workers(count, map)
    else:
        with ThreadPoolExecutor(count, initializer=_multiply_alone) as pool:
            yield Workers(count, pool.map)


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


def single_thread_pool(count: int) -> ThreadPoolExecutor:
    """Threads that each compute alone, to be used within `single_thread`: OpenMP knows a limit for each thread."""
    return ThreadPoolExecutor(count, initializer=single_thread)


def budget_bytes(memory_budget: str | int) -> int:
    """Number of bytes that a budget such as ``"512MiB"``, ``"1.5 GB"`` or ``2**30`` stands for.

    Raises
    ------
    InputError
        If it is not a number of bytes from 1 to 2**60, or a number with one of the units B, KB, MB, GB, TB (powers of
        1,000), KiB, MiB, GiB, TiB, K, M, G, T (powers of 1,024).
    """
    if isinstance(memory_budget, numbers.Integral) and not isinstance(memory_budget, bool):
        size = int(memory_budget)
    else:
        match = re.fullmatch(r"(\d{1,30}(?:\.\d{1,30})?)\s*([A-Za-z]*)", str(memory_budget).strip(), flags=re.ASCII)
        if match is None or match[2].upper() not in _UNITS:
            raise InputError(
                f'memory_budget={memory_budget!r} is not a size: give bytes or a size such as "512MiB" or "1GiB"'
            )
        size = int(Fraction(match[1]) * _UNITS[match[2].upper()])
    if not 1 <= size <= _MOST_BYTES:
        raise InputError(f'memory_budget={memory_budget!r} is not from one byte to 2**60: give a size such as "512MiB"')
    return size


@dataclass(frozen=True)
class BlockPlan:
    """Block shapes of a search, in rows: never fewer than 16, whatever the budget.

    Attributes
    ----------
    tile_rows : references that are prepared together
    block_rows : queries that meet a tile at once
    resident_rows : queries that stay prepared while all tiles pass
    """

    tile_rows: int
    block_rows: int
    resident_rows: int


def plan_blocks(*, dimension: int, value_bytes: int, keep: int, budget: int) -> BlockPlan:
    """Block shapes for rows of `dimension` values of `value_bytes` bytes, keeping `keep` candidates a query."""
    row_bytes = dimension * value_bytes
    tile_rows = min(_MAX_TILE_ROWS, _TILE_BYTES // dimension, budget // (8 * row_bytes))
    tile_rows = max(MIN_ROWS, tile_rows // 64 * 64)
    products = budget // (32 * tile_rows)  # int32, twice as much in passing, and room for other threads
    block_rows = max(MIN_ROWS, min(_MAX_BLOCK_ROWS, products, budget // (4 * row_bytes)))
    resident_rows = max(block_rows, budget // 2 // (row_bytes + 32 * keep))
    return BlockPlan(tile_rows, block_rows, resident_rows)
