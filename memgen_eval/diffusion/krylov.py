"""The leading eigenvectors of a large covariance: from a block Krylov space, with a proof that none is missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.threads import workers

BLOCK = 16
PART_ROWS = 512  # of the matrix, for one thread at a time
FIRST_LOOK = 200  # columns beyond twice the number wanted before the first look at what has converged
GROWTH = 1.15  # of the space between two looks, each of which decomposes its projection
RESIDUAL = 2.0**-46  # of the largest eigenvalue: what LAPACK leaves too
SLACK = 2.0**-40  # of the largest eigenvalue: by how much one that was missed could be larger than the last one found

Floats = NDArray[np.float64]


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
    with workers(threads) as pool:
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
            if residuals.max() <= RESIDUAL * values[-1]:
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
    rest[np.diag_indices(len(rest))] += values[0] + SLACK * values[-1]
    _, failed = dpotrf(rest.T, overwrite_a=1, clean=0)
    return bool(failed == 0)
