"""Which library multiplies: by name, or the fastest that passes its self-test here. It never alters a result.

Looking for a GPU imports nothing: a file of its driver has to be there first.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from memgen_eval.compute.products import NUMKONG, NUMPY, PRODUCTS, Products, installed
from memgen_eval.compute.resources import is_forked, num_threads, start_workers
from memgen_eval.errors import InputError

EngineName = Literal["auto", "numkong", "torch", "faiss", "numpy", "cuda"]
SMALL_WORK = 2e8  # operations below which threads and measurements cost more than they save
_WORTH_IMPORTING_TORCH = 2e11
WORTH_A_GPU = 2e11  # operations below which starting CUDA costs more than it saves
ENGINE_VARIABLE = "MEMGEN_ENGINE"
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, that of Windows seen from WSL, AMD's
_PROBE_QUERIES, _PROBE_REFERENCES = 512, 4096  # the shapes of a search: which library is faster depends on them
_PROBE_BYTES = 4 * 2**20  # of a tile of the probe, a third of one of a search
_PROBE_WIDTHS = (64, 256, 1024, 4096)  # those that are measured: one stands for all above the one before it
_PIECE_QUERIES, _PIECE_REFERENCES = 32, 512  # a piece of the probe, which rules out libraries that are
_HOPELESS = 8  # times slower than the fastest
_PROBE_TURNS, _PROBE_SECONDS = 5, 0.03  # the probe ends when it reaches either
_logger = logging.getLogger("memgen_eval.neighbours")


def chosen_engine(engine: str | None) -> EngineName:
    """The engine given; where none is, that of the environment's MEMGEN_ENGINE; else "auto".

    Raises
    ------
    InputError
        For a name that is unknown, or that of an engine which is not installed or finds no GPU.
    """
    variable = os.environ.get(ENGINE_VARIABLE, "") if engine is None else ""
    what = f"{ENGINE_VARIABLE}={variable!r}" if variable else f"engine={engine!r}"
    wanted = engine if engine is not None else variable or "auto"
    names: tuple[EngineName, ...] = get_args(EngineName)
    if wanted not in names:
        raise InputError(f"{what} is unknown: choose one of {', '.join(names)}")
    name = names[names.index(wanted)]
    if name == "cuda" and gpu() is None:
        raise InputError(f'{what} needs torch and a GPU that it can use, and finds none: use engine="auto"')
    if name not in ("auto", "cuda") and not installed(name):
        raise InputError(f'{what} needs the package {name}, which is not installed: install it or use engine="auto"')
    return name


def may_have_gpu() -> bool:
    """Whether a driver is there, and this process may see its GPUs. In a fork CUDA cannot be used."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and not is_forked() and any(Path(name).exists() for name in _DRIVERS)


def own_gpus(count: int) -> list[int]:
    """Those of the `count` GPUs that are this process's: its share of them, where torchrun started several here."""
    place, size = (os.environ.get(name, "") for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if not (place.isdecimal() and size.isdecimal() and count):
        return list(range(count))
    return list(range(count))[int(place) :: max(1, int(size))] or [int(place) % count]


def gpu() -> Any:
    """The torch device of ``engine="cuda"``; None where there is none."""
    if not installed("torch"):
        return None
    import torch

    try:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
    except RuntimeError:  # a driver that does not fit
        return None


def integer_products(engine: str, *, work: float, width: int) -> Products:
    """The library that multiplies rows of `width` int8 values exactly, in `work` operations."""
    if engine == "torch" and is_forked():
        _logger.warning("torch cannot use threads in a forked process; engine auto is used instead")
        engine = "auto"
    if engine == "auto":
        chosen = _automatic(work, width)
    elif is_exact(PRODUCTS[engine]):
        chosen = PRODUCTS[engine]
    else:
        _logger.warning("engine %s gives wrong integer products on this machine; numpy is used instead", engine)
        chosen = NUMPY
    _logger.debug("integer products: %s", chosen.name)
    return chosen


def threads_for(work: float) -> int:
    """Threads for `work` operations: one where starting more would cost more than it saves."""
    return 1 if work < SMALL_WORK else num_threads()


def float_products(engine: str) -> Products:
    """The library that multiplies float32 values, for proposals."""
    chosen = PRODUCTS["numpy" if engine == "auto" or is_forked() else engine]
    if not is_float32(chosen):
        _logger.warning("engine %s is set to multiply float32 in lower precision; numpy is used instead", engine)
        chosen = NUMPY
    _logger.debug("float products: %s", chosen.name)
    return chosen


def describe_engine(dtype: DTypeLike, width: int, *, library: str = "auto") -> str:
    """Name and version of the library that multiplies large arrays of this type, (N, width), on the processor."""
    integers = np.dtype(dtype) == np.uint8
    products = integer_products(library, work=SMALL_WORK, width=width) if integers else float_products(library)
    return f"{products.name} {importlib.metadata.version(products.name)}"


@functools.cache
def is_exact(products: Products) -> bool:
    """Self-test on random full-range int8 data, a round and an odd shape: constants pass where 16-bit sums saturate."""
    generator = np.random.default_rng(0)
    return all(
        _is_right(products, *(generator.integers(-128, 128, (count, width), dtype=np.int8) for count in counts))
        for counts, width in (((64, 128), 3072), ((17, 33), 67))
    )


def is_float32(products: Products) -> bool:
    """Self-test on integers of 12 bits, which bfloat16 and TF32 would round; settings can change from call to call."""
    generator = np.random.default_rng(0)
    queries = generator.integers(-(2**12), 2**12, (64, 256)).astype(np.float32)
    return _is_right(products, queries, generator.integers(-1, 2, (64, 256)).astype(np.float32))


def _is_right(products: Products, queries: NDArray[Any], references: NDArray[Any]) -> bool:
    expected = queries.astype(np.float64) @ references.T.astype(np.float64)
    return np.array_equal(products.multiply(queries, products.pack(references)), expected)


def _automatic(work: float, width: int) -> Products:
    width = next((wider for wider in _PROBE_WIDTHS if wider >= width), _PROBE_WIDTHS[-1])
    if not installed("numkong") or not is_exact(NUMKONG):
        return NUMPY if work < SMALL_WORK or is_forked() else _fastest(("numpy", "torch"), width)
    if work < SMALL_WORK or is_forked() or ("torch" not in sys.modules and work < _WORTH_IMPORTING_TORCH):
        return NUMKONG
    return _fastest(("numkong", "torch"), width)


@functools.cache
def _fastest(names: tuple[str, ...], width: int) -> Products:
    """The fastest of the libraries that are installed and exact, measured once in a process for each width."""
    usable = [PRODUCTS[name] for name in names if installed(name) and is_exact(PRODUCTS[name])]
    if len(usable) > 1:  # torch takes a minute for the whole probe where it has no kernel for this processor
        seconds = _seconds(usable, width, _PIECE_QUERIES, _PIECE_REFERENCES)
        usable = [products for products in usable if seconds[products.name] < _HOPELESS * min(seconds.values())]
    if len(usable) == 1:
        return usable[0]
    seconds = _seconds(usable, width, _PROBE_QUERIES, min(_PROBE_REFERENCES, _PROBE_BYTES // width))
    _logger.debug("seconds per probe of width %d: %s", width, seconds)
    return min(usable, key=lambda products: seconds[products.name])


def _seconds(candidates: list[Products], width: int, num_queries: int, num_references: int) -> dict[str, float]:
    """The shortest time of a product on all threads; libraries take turns, so that a busy spell slows all of them."""
    generator = np.random.default_rng(0)
    queries, references = (
        generator.integers(-128, 128, (count, width), dtype=np.int8) for count in (num_queries, num_references)
    )
    packed = {products.name: products.pack(references) for products in candidates}
    seconds = dict.fromkeys(packed, math.inf)
    with start_workers(num_threads()) as workers:
        stop, turns = time.perf_counter() + _PROBE_SECONDS, 0
        while turns == 0 or (turns < _PROBE_TURNS and time.perf_counter() < stop):
            for products in candidates:
                start = time.perf_counter()
                multiply = functools.partial(_multiply_rows, products, queries, packed[products.name])
                products.callers(workers)(multiply, len(queries))
                seconds[products.name] = min(seconds[products.name], time.perf_counter() - start)
            turns += 1
    return seconds


def _multiply_rows(products: Products, queries: NDArray[np.int8], packed: Any, rows: slice) -> None:
    products.multiply(queries[rows], packed)
