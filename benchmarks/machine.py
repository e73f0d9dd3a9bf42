"""What this machine can do at best, measured in the run itself, and the least time a computation can take on it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGES = ("memgen-eval", "numpy", "torch", "numkong", "faiss-cpu", "faiss-gpu", "scikit-learn", "scipy")
ROWS, COLUMNS, DEPTH = 4096, 4096, 3072  # 10^11 operations: large enough to run at the processor's rate
COPIED = 2**28
NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
OF_INTEREST = {"avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "i8mm", "sve"} | NATIVE_BFLOAT16
CPU_INFO = Path("/proc/cpuinfo")
GPUS = ("H100", "H200")
GPU_PEAKS = {"int8": 1.979e15, "bfloat16": 9.89e14, "tf32": 4.95e14}
"""Dense operations a second of each of `GPUS`, from NVIDIA's data sheets."""


@dataclass(frozen=True)
class Processor:
    """Its name, and what it says it can do (nothing, where there is no /proc)."""

    name: str
    flags: frozenset[str]

    @property
    def flags_of_interest(self) -> list[str]:
        """Those that decide how fast products are."""
        return sorted(self.flags & OF_INTEREST)


def processor() -> Processor:
    """The processor of this machine."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", ""))
    return Processor(facts.get("model name", platform.processor() or platform.machine()), frozenset(flags.split()))


@dataclass(frozen=True)
class Peaks:
    """The best of several runs, all threads together.

    Attributes
    ----------
    int8, bfloat16, float32 : operations a second of a large product; bfloat16 is 0 where the processor lacks it
    bandwidth : bytes a second, read or written, of a large copy
    """

    int8: float
    bfloat16: float
    float32: float
    bandwidth: float

    def floor(self, *, integer: float = 0, floating: float = 0, num_bytes: float = 0) -> float:
        """The least seconds for these numbers of integer and floating operations, and of bytes read once."""
        arithmetic = integer / self.int8 + floating / max(self.bfloat16, self.float32)
        return max(arithmetic, num_bytes / self.bandwidth)


def gpu_floor(gpu: str, arithmetic: str, num_operations: float) -> float | None:
    """The least seconds on a GPU of this name, in an arithmetic of `GPU_PEAKS`; None for one that is not known."""
    return num_operations / GPU_PEAKS[arithmetic] if any(known in gpu for known in GPUS) else None


def measured_peaks(flags: frozenset[str]) -> Peaks:
    """Peaks of this machine, given what its processor says it can do."""
    operations = 2 * ROWS * COLUMNS * DEPTH
    generator = np.random.default_rng(0)
    queries, references = (generator.integers(-128, 128, (count, DEPTH), dtype=np.int8) for count in (ROWS, COLUMNS))
    floats = torch.from_numpy(queries).float(), torch.from_numpy(references).float().T.contiguous()
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    seconds = {
        "int8": min(_torch_int8(queries, references), _numkong_int8(queries, references)),
        "float32": _best(lambda: torch.mm(*floats)),
        "copy": _best(lambda: np.copyto(target, source)),
    }
    if flags & NATIVE_BFLOAT16:
        halves = floats[0].bfloat16(), floats[1].bfloat16()
        seconds["bfloat16"] = _best(lambda: torch.mm(*halves))
    return Peaks(
        int8=operations / seconds["int8"],
        bfloat16=operations / seconds["bfloat16"] if "bfloat16" in seconds else 0.0,
        float32=operations / seconds["float32"],
        bandwidth=2 * source.nbytes / seconds["copy"],
    )


def num_threads() -> int:
    """Processors this process may run on, at most OMP_NUM_THREADS."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(wanted)) if wanted.isdecimal() else allowed


def _best(action: Callable[[], object], *, repeats: int = 5) -> float:
    action()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _torch_int8(queries: NDArray[np.int8], references: NDArray[np.int8]) -> float:
    left, right = torch.from_numpy(queries), torch.from_numpy(references).T.contiguous()
    return _best(lambda: torch._int_mm(left, right))


def _numkong_int8(queries: NDArray[np.int8], references: NDArray[np.int8]) -> float:
    import numkong

    packed = numkong.dots_pack(references)
    threads = num_threads()
    parts = np.array_split(queries, threads)
    with ThreadPoolExecutor(threads) as pool:
        return _best(lambda: list(pool.map(lambda part: numkong.dots_packed(part, packed), parts)))
