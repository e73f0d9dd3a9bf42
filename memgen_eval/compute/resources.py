"""Threads and memory: workers that share rows among them, and shapes of blocks within a budget.

Global thread settings are read, never changed.
"""

from __future__ import annotations

import functools
import multiprocessing
import numbers
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from memgen_eval.errors import InputError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

CHUNK_ROWS = 256
_PROCESS = os.getpid()  # the process that imported this file
_beside: list[tuple[Thread, int]] = []  # threads that `shared_with` shares the processors with, and for how many
_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("", 1024), ("IB", 1024), ("B", 1000))
}
_MOST_BYTES = 2**60  # so that no product of sizes overflows
# What glibc's mallopt is told: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (at most 32 MiB) and M_MMAP_MAX
_KEEPING = {-1: 2**30, -2: 2**26, -3: 2**25, -4: 0}
MIN_BLOCK_ROWS = 16
TILE_BYTES = 12 * 2**20  # a tile of references stays in the shared cache of most processors
_MAX_TILE_ROWS = 8192
_MAX_BLOCK_ROWS = 1024

Result = TypeVar("Result")


def blocks(stop: int, size: int, *, start: int = 0) -> Iterator[slice]:
    """Rows `start` to `stop`, in order, as slices of at most `size` rows."""
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


@dataclass(frozen=True)
class Workers:
    """Threads that share rows among them: each does all the work of its rows, and writes to no others."""

    count: int
    _map: Callable[..., Iterable[Any]]
    chunk_rows: int = CHUNK_ROWS

    def __call__(
        self, task: Callable[[slice], Any], num_rows: int, *, chunk_rows: int | None = None, block_rows: int = 2**62
    ) -> None:
        """Call ``task(rows)`` for slices of at most `chunk_rows` rows, so few that their results stay in the cache.

        At most `block_rows` rows are in work at a time.
        """
        for block in blocks(num_rows, block_rows):
            size = min(chunk_rows or self.chunk_rows, max(MIN_BLOCK_ROWS, -(-(block.stop - block.start) // self.count)))
            self.map(task, blocks(block.stop, size, start=block.start))

    def map(self, function: Callable[[Any], Result], items: Iterable[Any]) -> list[Result]:
        """The results for all items, in order."""
        return list(self._map(function, items))


def num_threads() -> int:
    """Processors for this thread: those of the process, divided among the threads that share them."""
    return max(1, _num_processors() // (1 + sum(thread.is_alive() for thread, _ in _beside)))


def _num_processors() -> int:
    """Processors this process may run on, at most OMP_NUM_THREADS, at most what BLAS is limited to (threadpoolctl)."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        limits.append(int(wanted))
    if _beside:  # they limit BLAS
        return min(*limits, _beside[0][1])
    limits += [pool["num_threads"] for pool in thread_pools().info() if pool["user_api"] == "blas"]
    return min(limits)


def thread_pools() -> ThreadpoolController:
    """The libraries with threads of their own that this process has loaded by now."""
    return _thread_pools(len(sys.modules))  # what loads a library adds a module


@functools.lru_cache(maxsize=1)
def _thread_pools(num_modules: int) -> ThreadpoolController:
    """Looked for when there are other modules than before: that takes 3 ms."""
    from threadpoolctl import ThreadpoolController

    del num_modules
    return ThreadpoolController()


def processor_name() -> str:
    """As the system calls it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """`count` threads, which live as long as the context; a single one is the caller's."""
    if count == 1:
        yield Workers(count, map)
    else:
        with ThreadPoolExecutor(count, initializer=_multiply_alone) as pool:
            yield Workers(count, pool.map)


def _multiply_alone() -> None:
    if "torch" in sys.modules:
        _single_openmp_thread()


def _single_openmp_thread() -> Any:
    """Keep OpenMP, torch's too, from using more threads when this one calls it; a context that undoes it."""
    if "torch" in sys.modules:
        sys.modules["torch"].get_num_threads()  # else torch would set the count later
    return thread_pools().limit(limits=1, user_api="openmp")


def is_forked() -> bool:
    """Whether this is a fork of a process that may have used threads: a fork loses them, and OpenMP waits for them."""
    return os.getpid() != _PROCESS or (
        multiprocessing.parent_process() is not None and "multiprocessing.popen_fork" in sys.modules
    )


@contextmanager
def unforked_threads() -> Iterator[None]:
    """In a forked process, let OpenMP (torch's too) use this thread alone; elsewhere nothing changes."""
    with _single_openmp_thread() if is_forked() else nullcontext():
        yield


def give_memory_back() -> None:
    """Let the system have what was freed: glibc keeps arrays of up to 32 MiB for itself, 100 MiB after some stages."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Let this process keep what it frees until `give_memory_back`, unless its environment says what glibc is to do.

    A network frees on each batch what it asks for on the next one. By default glibc gives most of it to the system in
    between, which clears every page again when it is first written to. For a process that is the caller's own.
    """
    set_option = _of_libc("mallopt")
    told = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if set_option is None or told:
        return
    for option, value in _KEEPING.items():
        set_option(option, value)


def _of_libc(name: str) -> Any:
    """A function of the C library; None where it has none of this name."""
    import ctypes

    return None if sys.platform == "win32" else getattr(ctypes.CDLL(None), name, None)


def single_thread() -> Any:
    """A context in which BLAS and OpenMP use one thread, since their sums depend on the number of threads."""
    return thread_pools().limit(limits=1)


@contextmanager
def shared_with(thread: Thread) -> Iterator[None]:
    """Share the processors with a thread as long as it lives, and keep BLAS at one thread meanwhile.

    BLAS has one limit for the process: of two threads within `single_thread` the first to leave would give both more.
    """
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own, which could be limited by this thread alone later

    count = _num_processors()
    with single_thread():
        _beside.append((thread, count))
        try:
            yield
        finally:
            _beside.remove((thread, count))


def single_thread_pool(count: int) -> ThreadPoolExecutor:
    """Threads that each compute alone, to be used within `single_thread`: OpenMP has a limit for each thread."""
    return ThreadPoolExecutor(count, initializer=single_thread)


def budget_bytes(memory_budget: str | int, *, name: str = "memory_budget") -> int:
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
                f'{name}={memory_budget!r:.80} is not a size: give bytes or a size such as "512MiB" or "1GiB"'
            )
        size = int(Fraction(match[1]) * _UNITS[match[2].upper()])
    if not 1 <= size <= _MOST_BYTES:
        raise InputError(f'{name}={memory_budget!r:.80} is not from one byte to 2**60: give a size such as "512MiB"')
    return size


@dataclass(frozen=True)
class BlockPlan:
    """Block shapes of a search, in rows: never fewer than 16, whatever the budget.

    Attributes
    ----------
    tile_rows : references that are prepared together
    block_rows : queries that are multiplied with a tile at once
    resident_rows : queries that stay prepared until all tiles have been read
    """

    tile_rows: int
    block_rows: int
    resident_rows: int


def plan_blocks(*, dimension: int, value_bytes: int, keep: int, budget: int) -> BlockPlan:
    """Block shapes for rows of `dimension` values of `value_bytes` bytes, keeping `keep` candidates a query."""
    row_bytes = dimension * value_bytes
    tile_rows = min(_MAX_TILE_ROWS, TILE_BYTES // dimension, budget // (8 * row_bytes))
    tile_rows = max(MIN_BLOCK_ROWS, tile_rows // 64 * 64)
    products = budget // (32 * tile_rows)  # rows of int32 products, of temporaries twice as large, and a margin
    block_rows = max(MIN_BLOCK_ROWS, min(_MAX_BLOCK_ROWS, products, budget // (4 * row_bytes)))
    resident_rows = max(block_rows, budget // 2 // (row_bytes + 32 * keep))
    return BlockPlan(tile_rows, block_rows, resident_rows)
