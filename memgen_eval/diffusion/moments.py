"""Mean, covariance and principal directions of a set of images, the same to the byte for any number of threads.

Products of uint8 images are sums of integers; factorisations, and products of blocks of rows, run on one thread each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import integer_products, threads_for
from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import (
    Workers,
    blocks,
    give_memory_back,
    single_thread,
    single_thread_pool,
    start_workers,
)
from memgen_eval.compute.rows import row_blocks
from memgen_eval.errors import InputError

MAX_DIMENSION = 12_288  # 64 x 64 x 3: beyond it a d x d covariance costs more than it tells
TOO_LARGE = f"images of more than {MAX_DIMENSION:,} values (64 x 64 x 3) would need a covariance of their square"
EXACT_ROWS = 8192  # (u8 - 128)^2 <= 2^14: sums of 8,192 stay far below 2^31
FLOAT_ROWS = 1024
PANEL = 512
SMALL_SUM = 128  # images
KEPT_DIRECTIONS = 256
MIN_EIGENVALUE = 1e-12  # eigenvalues below this share of the largest are rounding
LARGE_DIMENSION = 1024  # below it LAPACK finds a few directions as fast
LARGE_SHARE = 1 / 8  # of all directions: beyond it LAPACK is as fast
Floats = NDArray[np.float64]
BLOCK = 16  # columns that are multiplied with the matrix together
PART_ROWS = 512  # rows of the matrix for one thread at a time
FIRST_LOOK = 200  # columns of the basis, beyond twice the number wanted, before convergence is first tested
GROWTH = 1.15  # of the basis between two tests of convergence, each of which decomposes the projected matrix
MAX_RESIDUAL = 2.0**-46  # as a share of the largest eigenvalue; LAPACK leaves as much
EIGENVALUE_SLACK = 2.0**-40  # as a share of the largest: an eigenvalue that was missed exceeds the last by less


@dataclass(frozen=True, eq=False)
class Moments:
    """Of `count` images: mean (D,) and covariance (D, D) divided by the count, in the units of the images."""

    count: int
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class Principal:
    """Mean (D,) of a set of images and its leading directions, (D, R), as `principal` finds them."""

    mean: Floats
    kept: Floats

    def directions(self, num_directions: int) -> Floats:
        """The leading directions, (D, K), up to 256 or those kept; all where few images vary in fewer."""
        assert num_directions <= max(KEPT_DIRECTIONS, self.kept.shape[1])
        return np.ascontiguousarray(self.kept[:, :num_directions])


def principal(images: NDArray[Any], num_directions: int = KEPT_DIRECTIONS) -> Principal:
    """Mean and leading directions of images, (N, ...) uint8 or float, N >= 1.

    From the products of the images where these are few and large, N < D / 2: 2 N^2 D + 4 N^3 operations. They vary in
    at most N - 1 directions, which are all there are then. Else from the covariance, as for `moments`.

    Raises
    ------
    InputError
        For more than 12,288 values an image.
    """
    dimension = int(np.prod(images.shape[1:]))
    if 1 < len(images) < dimension / 2 and LARGE_DIMENSION <= dimension <= MAX_DIMENSION:
        wanted = min(num_directions, len(images) - 1)
        mean, _, directions = decompose(images.reshape(len(images), dimension).astype(np.float64), wanted)
        if directions.shape[1] == wanted:
            with single_thread():  # those of small eigenvalues are orthogonal to few digits only
                return Principal(mean, np.linalg.qr(directions)[0])
    known = moments(images)
    give_memory_back()  # what its products have freed, before other arrays of this size
    return Principal(known.mean, leading_directions(known.covariance, min(num_directions, dimension))[1])


def decompose(rows: Floats, num_directions: int | None = None) -> tuple[Floats, Floats, Floats]:
    """Mean, eigenvalues of the 1/n covariance above rounding, descending, and directions: (N, D) -> (D,), (R,), (D, R).

    From the N x N products of the centred rows, which share all eigenvalues but zeros with it; of a number given, the
    largest. The rows are overwritten.
    """
    from scipy.linalg import eigh

    number, mean = len(rows), rows.mean(axis=0)
    rows -= mean
    with single_thread():
        products = rows @ rows.T / number
        if num_directions is None:
            found = eigh(products, driver="evd")
        else:
            found = eigh(products, subset_by_index=[number - num_directions, number - 1])
        values, vectors = descending(*found)
        return mean, values, rows.T @ vectors / np.sqrt(values * number)


def descending(values: Floats, vectors: Floats) -> tuple[Floats, Floats]:
    """Ascending eigenvalues and their vectors the other way round, without those that are rounding."""
    kept = values > MIN_EIGENVALUE * max(float(values[-1]), 0.0)
    # copies: torch takes no negative strides
    return values[kept][::-1].copy(), vectors[:, kept][:, ::-1].copy()


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
    with start_workers(threads_for(work)) as workers:
        for _, rows in row_blocks(images, EXACT_ROWS):
            shifted = np.bitwise_xor(rows, 128).view(np.int8).T  # (D, B), u8 - 128
            total += _row_sums(shifted)
            shifted = shifted if products.any_strides else np.ascontiguousarray(shifted)
            for panel in panels:
                _add_products(squares[: panel.stop, panel], shifted, panel, products, workers)
    mean = total / len(images)
    for panel in panels:
        upper = squares[: panel.stop, panel]
        upper /= len(images)
        upper -= np.outer(mean[: panel.stop], mean[panel])
        squares[panel, : panel.start] = upper[: panel.start].T
    return Moments(len(images), mean + 128, squares)


def _row_sums(shifted: NDArray[np.int8]) -> NDArray[np.int64]:
    """Sums over the images, (D, B) -> (D,): those of 128 int8 values fit int16, in which they are added fast."""
    parts = [shifted[:, columns].sum(axis=1, dtype=np.int16) for columns in blocks(shifted.shape[1], SMALL_SUM)]
    return np.asarray(np.sum(parts, axis=0, dtype=np.int64))


def _add_products(
    sums: NDArray[np.float64], shifted: NDArray[np.int8], panel: slice, products: Products, workers: Workers
) -> None:
    """Add to sums (E, P) the products of the first E rows of (D, B) with those of the panel, whose last row is E."""
    packed = products.pack(shifted[panel])

    def add(rows: slice) -> None:
        sums[rows] += products.multiply(shifted[rows], packed)

    products.callers(workers)(add, len(sums), chunk_rows=PANEL)


def _float_moments(images: NDArray[Any], dimension: int) -> Moments:
    sums = (rows.astype(np.float64).sum(axis=0) for _, rows in row_blocks(images, FLOAT_ROWS))
    mean = sum(sums, np.zeros(dimension)) / len(images)
    squares = np.zeros((dimension, dimension))
    for _, rows in row_blocks(images, FLOAT_ROWS):
        centred = rows.astype(np.float64) - mean  # centred first: features far from zero would cancel
        squares += centred.T @ centred
    return Moments(len(images), mean, squares / len(images))


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
        centred = rows.reshape(len(rows), -1).astype(np.float64)  # (B, D)
        centred -= mean
        inside = coordinates[mine] = centred @ directions  # (B, K)
        rest = np.einsum("bd,bd->b", centred, centred) - np.einsum("bk,bk->b", inside, inside)
        outside[mine] = np.maximum(rest, 0.0)

    threads = threads_for(2.0 * len(images) * directions.size)
    with single_thread(), single_thread_pool(threads) as pool:
        for _ in pool.map(fill, range(0, len(images), FLOAT_ROWS)):
            pass
    return coordinates, outside


def leading_by_krylov(covariance: Floats, num_directions: int, *, threads: int = 1) -> tuple[Floats, Floats] | None:
    """The largest eigenvalues, ascending, and orthonormal eigenvectors: (D, D) -> (K,), (D, K); None without a proof.

    ``|C v - l v|`` is at most 2**-46 of the largest eigenvalue, and no other one exceeds the K-th by more than 2**-40
    of it: else, as with a K-th eigenvalue of zero or one repeated more often than the start has columns, None. The
    start is fixed, so that the result is the same every time, on any number of threads; BLAS must use one. Cost: some
    10 products of the matrix with K vectors, and D^3 / 3 for the proof; a decomposition takes four times that and more.

    References
    ----------
    .. [1] Golub & Underwood, "The block Lanczos method for computing eigenvalues", Mathematical Software III, 1977.
    """
    with single_thread_pool(threads) as pool:
        found = _ritz_pairs(covariance, num_directions, pool)
    if found is None or not _none_larger(covariance, *found):
        return None
    return found


def _ritz_pairs(covariance: Floats, num_directions: int, pool: ThreadPoolExecutor) -> tuple[Floats, Floats] | None:
    """Eigenpairs in the space of C X, C^2 X, ..., kept orthonormal in full; None if it would get too large."""
    from scipy.linalg import eigh

    dimension = len(covariance)
    most = min(dimension // 2, 2 * (2 * num_directions + FIRST_LOOK)) // BLOCK * BLOCK
    basis, projected = np.empty((dimension, most), order="F"), np.zeros((most, most))
    start = covariance @ np.random.default_rng(0).standard_normal((dimension, BLOCK))
    block, _ = np.linalg.qr(start)
    parts = [covariance[first : first + PART_ROWS] for first in range(0, dimension, PART_ROWS)]
    look = min(2 * num_directions + FIRST_LOOK, most - BLOCK)
    for width in range(BLOCK, most + 1, BLOCK):
        new, seen = slice(width - BLOCK, width), basis[:, :width]
        basis[:, new] = block
        image = np.concatenate(list(pool.map(lambda rows, block=block: rows @ block, parts)))  # (D, B)
        inner = seen.T @ image
        projected[:width, new] = inner
        projected[new, :width] = inner.T
        image -= seen @ inner
        image -= seen @ (seen.T @ image)
        block, rest = np.linalg.qr(image)
        if width >= look:
            values, vectors = eigh(projected[:width, :width], subset_by_index=[width - num_directions, width - 1])
            residuals = np.linalg.norm(rest @ vectors[new], axis=0)  # of C v - l v
            if residuals.max() <= MAX_RESIDUAL * values[-1]:
                return values, seen @ vectors
            look = min(int(GROWTH * width), most)
        block -= seen @ (seen.T @ block)  # what was nearly zero may have been nearly parallel
        block, _ = np.linalg.qr(block)
    return None


def _none_larger(covariance: Floats, values: Floats, vectors: Floats) -> bool:
    """Whether ``l_K + slack - C``, with the directions found taken out of C, is positive definite: it has a root."""
    from scipy.linalg.lapack import dpotrf

    scaled = vectors * np.sqrt(np.maximum(values, 0.0))
    rest = scaled @ scaled.T
    rest -= covariance
    rest[np.diag_indices(len(rest))] += values[0] + EIGENVALUE_SLACK * values[-1]
    _, failed = dpotrf(rest.T, overwrite_a=1, clean=0)
    return bool(failed == 0)
