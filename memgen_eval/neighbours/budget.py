"""How much memory a search may hold at once, and the block shapes that follow from it."""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass
from fractions import Fraction

from memgen_eval.errors import InputError

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
class Plan:
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


def plan_blocks(*, dimension: int, value_bytes: int, keep: int, budget: int) -> Plan:
    """Block shapes for rows of `dimension` values of `value_bytes` bytes, keeping `keep` candidates a query."""
    row_bytes = dimension * value_bytes
    tile_rows = min(_MAX_TILE_ROWS, _TILE_BYTES // dimension, budget // (8 * row_bytes))
    tile_rows = max(MIN_ROWS, tile_rows // 64 * 64)
    products = budget // (32 * tile_rows)  # int32, twice as much in passing, and room for other threads
    block_rows = max(MIN_ROWS, min(_MAX_BLOCK_ROWS, products, budget // (4 * row_bytes)))
    resident_rows = max(block_rows, budget // 2 // (row_bytes + 32 * keep))
    return Plan(tile_rows, block_rows, resident_rows)
