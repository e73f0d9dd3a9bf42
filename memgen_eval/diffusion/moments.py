"""Mean, covariance and principal directions of a set of images, the same to the byte for any number of threads.

Products of uint8 images are sums of integers; factorisations run in scipy on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError
from memgen_eval.neighbours.engines import integer_products, threads_for
from memgen_eval.neighbours.threads import sharing

MAX_DIMENSION = 12_288  # 64 x 64 x 3: beyond it a d x d covariance costs more than it tells
TOO_LARGE = f"images of more than {MAX_DIMENSION:,} values (64 x 64 x 3) would need a covariance of their square"
EXACT_ROWS = 8192  # (u8 - 128)^2 <= 2^14: sums of 8,192 stay far below 2^31
FLOAT_ROWS = 1024

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of `count` images: mean (D,) and covariance (D, D) divided by the count, in the units of the images."""

    count: int
    mean: Floats
    covariance: Floats


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
    total, squares = np.zeros(dimension), np.zeros((dimension, dimension))
    work = 2.0 * len(images) * dimension**2
    products = integer_products("auto", work=work)
    with sharing(threads_for(work)) as share:
        for rows in _blocks(images, EXACT_ROWS):
            shifted = np.ascontiguousarray(np.bitwise_xor(rows, 128).view(np.int8).T)  # (D, B), u8 - 128
            total += shifted.sum(axis=1, dtype=np.int64)
            packed = products.pack(shifted)

            def add(start: int, stop: int, shifted: NDArray[Any] = shifted, packed: Any = packed) -> None:
                squares[start:stop] += products.multiply(shifted[start:stop], packed)

            if products.own_threads:
                add(0, dimension)
            else:
                share(add, dimension)
    mean = total / len(images)
    return Moments(len(images), mean + 128, squares / len(images) - np.outer(mean, mean))


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

    By LAPACK, whose answer depends on nothing else: Lanczos's method restarts from random vectors where ranks are low.
    """
    from scipy.linalg import eigh

    dimension = len(covariance)
    with single_thread():
        values, vectors = eigh(covariance, subset_by_index=[dimension - num_directions, dimension - 1])
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1])


def project(images: NDArray[Any], mean: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Coordinates of centred images, and what lies outside: (N, ...), (D,), (D, K) -> (N, K), (N,) squared norms."""
    coordinates, outside = [], []
    with single_thread():
        for rows in _blocks(images, FLOAT_ROWS):
            centred = rows.astype(np.float64) - mean  # (B, D)
            inside = centred @ directions  # (B, K)
            coordinates.append(inside)
            outside.append(np.maximum((centred**2).sum(axis=1) - (inside**2).sum(axis=1), 0.0))
    return np.concatenate(coordinates), np.concatenate(outside)


def single_thread() -> Any:
    """A context in which BLAS and OpenMP use one thread: their sums depend on how many there are."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)
