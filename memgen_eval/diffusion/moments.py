"""Mean, covariance and principal directions of a set of images, the same to the byte for any number of threads.

Products of uint8 images are sums of integers; factorisations, and products of blocks of rows, run on one thread each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.krylov import leading_by_krylov
from memgen_eval.errors import InputError
from memgen_eval.neighbours.engines import integer_products, threads_for
from memgen_eval.neighbours.products import Products
from memgen_eval.neighbours.threads import Share, sharing, single_thread, workers

MAX_DIMENSION = 12_288  # 64 x 64 x 3: beyond it a d x d covariance costs more than it tells
TOO_LARGE = f"images of more than {MAX_DIMENSION:,} values (64 x 64 x 3) would need a covariance of their square"
EXACT_ROWS = 8192  # (u8 - 128)^2 <= 2^14: sums of 8,192 stay far below 2^31
FLOAT_ROWS = 1024
PANEL = 768
KEPT_DIRECTIONS = 256
LARGE_DIMENSION = 1024  # below it LAPACK finds a few directions as fast
LARGE_SHARE = 1 / 8  # of all directions: beyond it LAPACK is as fast

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of `count` images: mean (D,) and covariance (D, D) divided by the count, in the units of the images."""

    count: int
    mean: Floats
    covariance: Floats

    def directions(self, num_directions: int) -> Floats:
        """The leading directions, (D, K): up to 256 from one decomposition, kept."""
        if num_directions > self._kept.shape[1]:
            return leading_directions(self.covariance, num_directions)[1]
        return np.ascontiguousarray(self._kept[:, :num_directions])

    @cached_property
    def _kept(self) -> Floats:
        return leading_directions(self.covariance, min(KEPT_DIRECTIONS, len(self.mean)))[1]


def moments(images: NDArray[Any]) -> Moments:
    """Mean and 1/n covariance of images, (N, ...) uint8 or float, N >= 1.

    Sums over uint8 images are exact. Cost: N D^2 multiplications; D^2 float64 of memory.

    Raises
    ------
    InputError
        For more than 12,288 values an image.
    """
    dimension = int(np.prod(images.shape[1:]))
    if dimension > MAX_DIMENSION:
        raise InputError(f"images hold {dimension:,} values each: {TOO_LARGE}")
    if images.dtype == np.uint8:
        return _exact_moments(images, dimension)
    with single_thread():
        return _float_moments(images, dimension)


def _exact_moments(images: NDArray[Any], dimension: int) -> Moments:
    """Only what lies on and above the diagonal is multiplied, a panel of columns at a time."""
    total, squares = np.zeros(dimension), np.zeros((dimension, dimension))
    work = 1.0 * len(images) * dimension**2
    products = integer_products("auto", work=work, width=EXACT_ROWS)
    panels = [slice(start, min(start + PANEL, dimension)) for start in range(0, dimension, PANEL)]
    with sharing(threads_for(work)) as share:
        for rows in _blocks(images, EXACT_ROWS):
            shifted = np.ascontiguousarray(np.bitwise_xor(rows, 128).view(np.int8).T)  # (D, B), u8 - 128
            total += shifted.sum(axis=1, dtype=np.int64)
            for panel in panels:
                _add_products(squares[: panel.stop, panel], shifted, panel, products, share)
    mean = total / len(images)
    for panel in panels:
        upper = squares[: panel.stop, panel]
        upper /= len(images)
        upper -= np.outer(mean[: panel.stop], mean[panel])
        squares[panel, : panel.start] = upper[: panel.start].T
    return Moments(len(images), mean + 128, squares)


def _add_products(
    sums: NDArray[np.float64], shifted: NDArray[np.int8], panel: slice, products: Products, share: Share
) -> None:
    """Add to sums (E, P) the products of the first E rows of (D, B) with those of the panel, whose last row is E."""
    packed = products.pack(shifted[panel])

    def add(start: int, stop: int) -> None:
        sums[start:stop] += products.multiply(shifted[start:stop], packed)

    if products.own_threads:
        add(0, len(sums))
    else:
        share(add, len(sums))


def _float_moments(images: NDArray[Any], dimension: int) -> Moments:
    sums = (rows.astype(np.float64).sum(axis=0) for rows in _blocks(images, FLOAT_ROWS))
    mean = sum(sums, np.zeros(dimension)) / len(images)
    squares = np.zeros((dimension, dimension))
    for rows in _blocks(images, FLOAT_ROWS):
        centred = rows.astype(np.float64) - mean  # centred first: features far from zero would cancel
        squares += centred.T @ centred
    return Moments(len(images), mean, squares / len(images))


def _blocks(images: NDArray[Any], num_rows: int) -> Iterator[NDArray[Any]]:
    """At most `num_rows` images at a time, flattened: (B, D)."""
    for start in range(0, len(images), num_rows):
        block = images[start : start + num_rows]
        yield block.reshape(len(block), -1)


def leading_directions(covariance: Floats, num_directions: int) -> tuple[Floats, Floats]:
    """The largest eigenvalues, descending, and their directions: (D, D) -> (K,), (D, K).

    The same to the byte whatever ran before: Lanczos's method as ARPACK has it restarts from random vectors.
    """
    from scipy.linalg import eigh

    dimension, threads = len(covariance), threads_for(2.0 * num_directions * covariance.size)
    with single_thread():
        found = None
        if dimension >= LARGE_DIMENSION and num_directions <= LARGE_SHARE * dimension:
            found = leading_by_krylov(covariance, num_directions, threads=threads)
        values, vectors = found or eigh(covariance, subset_by_index=[dimension - num_directions, dimension - 1])
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1])


def project(images: NDArray[Any], mean: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Coordinates of centred images, and what lies outside: (N, ...), (D,), (D, K) -> (N, K), (N,) squared norms."""
    coordinates, outside = np.empty((len(images), directions.shape[1])), np.empty(len(images))

    def fill(start: int) -> None:
        mine = slice(start, start + FLOAT_ROWS)
        rows = images[mine]
        centred = rows.reshape(len(rows), -1).astype(np.float64) - mean  # (B, D)
        inside = coordinates[mine] = centred @ directions  # (B, K)
        rest = np.einsum("bd,bd->b", centred, centred) - np.einsum("bk,bk->b", inside, inside)
        outside[mine] = np.maximum(rest, 0.0)

    threads = threads_for(2.0 * len(images) * directions.size)
    with single_thread(), workers(threads) as pool:
        for _ in pool.map(fill, range(0, len(images), FLOAT_ROWS)):
            pass
    return coordinates, outside
