"""Ranking keys ``|y|^2 - 2 q.y`` of blocks of prepared queries against tiles of prepared references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.arrays import chunk_rows, dimension, rows
from memgen_eval.neighbours.frames import FloatFrame, Frame
from memgen_eval.neighbours.products import SLICE, Products
from memgen_eval.neighbours.threads import Share


@dataclass(frozen=True)
class Tile:
    """References ready to meet queries.

    Attributes
    ----------
    norms : squared norms in the type of the keys, (T,); discounted for floats, see `FloatFrame`
    packed : prepared values, packed in slices of `SLICE` values a row
    """

    norms: NDArray[Any]
    packed: list[Any]


def prepare(array: NDArray[Any], start: int, stop: int, frame: Frame) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows start to stop converted, (B, D), and their squared norms, (B,); only a chunk of rows is held as float64."""
    converted = np.empty((stop - start, dimension(array)), dtype=frame.dtype)
    norms = []
    for first in range(start, stop, chunk_rows(array)):
        last = min(first + chunk_rows(array), stop)
        converted[first - start : last - start] = frame.convert(rows(array, first, last))
        norms.append(frame.norms(converted[first - start : last - start]))
    return converted, np.concatenate(norms)


def make_tile(references: NDArray[Any], start: int, stop: int, frame: Frame, products: Products) -> Tile:
    """References start to stop as a tile."""
    converted, norms = prepare(references, start, stop, frame)
    if isinstance(frame, FloatFrame):
        return Tile(((1 - frame.discount) * norms).astype(np.float32), [products.pack(converted)])
    return Tile(norms.astype(key_dtype(frame, converted.shape[1])), pack_slices(products, converted))


def pack_slices(products: Products, rows: NDArray[np.int8]) -> list[Any]:
    """Rows (T, D) packed for products over D, in slices whose sums int32 holds."""
    starts = range(0, rows.shape[1], SLICE)
    return [products.pack(np.ascontiguousarray(rows[:, start : start + SLICE])) for start in starts]


def multiply_slices(products: Products, queries: NDArray[Any], packed: list[Any]) -> NDArray[Any]:
    """Products (B, T) of queries (B, D) with packed slices of (T, D); int64 where there are several."""
    if len(packed) == 1:
        return products.multiply(queries, packed[0])
    total: Any = 0
    for number, part in enumerate(packed):
        columns = np.ascontiguousarray(queries[:, number * SLICE : (number + 1) * SLICE])
        total = total + products.multiply(columns, part).astype(np.int64)
    return np.asarray(total)


def key_dtype(frame: Frame, width: int) -> Any:
    """Type of the keys: float32, or the smaller integer that holds them."""
    if isinstance(frame, FloatFrame):
        return np.float32
    return np.int32 if width <= SLICE else np.int64


def for_keys(
    products: Products,
    share: Share,
    queries: NDArray[Any],
    tile: Tile,
    consume: Callable[[int, NDArray[Any]], None],
) -> None:
    """Call ``consume(start, keys)`` for chunks of rows of the keys (B, T) of prepared queries (B, D)."""
    for_products(products, share, queries, tile.packed, lambda start, found: consume(start, _keys(found, tile)))


def for_products(
    products: Products,
    share: Share,
    queries: NDArray[Any],
    packed: list[Any],
    consume: Callable[[int, NDArray[Any]], None],
) -> None:
    """Call ``consume(start, products)`` for chunks of rows of the products of prepared queries (B, D) with a tile."""
    if products.own_threads:
        whole = multiply_slices(products, queries, packed)
        share(lambda start, stop: consume(start, whole[start:stop]), len(queries))
    else:
        share(lambda start, stop: consume(start, multiply_slices(products, queries[start:stop], packed)), len(queries))


def _keys(products: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """Keys in place of their products."""
    np.multiply(products, -2, out=products)
    np.add(products, tile.norms, out=products)
    return products
