"""Moments against whole numbers, directions against numpy, and the same bytes for any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval.diffusion import moments as module
from memgen_eval.diffusion.moments import (
    _none_larger,
    leading_by_krylov,
    leading_directions,
    moments,
    principal,
    project,
)
from memgen_eval.errors import InputError
from memgen_eval.metrics.data_copying import partition

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("num_images", [1, 2, 1023, 1024, 1025, 3000])
def test_sums_of_uint8_images_are_whole_numbers(num_images: int) -> None:
    images = np.random.default_rng(num_images).integers(0, 256, (num_images, 2, 3, 4), dtype=np.uint8)
    rows = images.reshape(num_images, -1).astype(np.int64)
    found = moments(images)
    assert found.count == num_images
    shifted = rows - 128  # the covariance does not know where zero is; n^2 times it is a whole number
    whole = num_images * (shifted.T @ shifted) - np.outer(shifted.sum(axis=0), shifted.sum(axis=0))
    assert np.abs(found.mean - rows.sum(axis=0) / num_images).max() <= 1e-13
    assert np.abs(found.covariance - whole / num_images**2).max() <= 1e-11
    assert found.covariance.tobytes() == found.covariance.T.copy().tobytes()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (255, 256), (0, 256)])
def test_the_worst_sums_are_still_exact(low: int, high: int) -> None:
    """All black, all white, and both: 1,024 products of 128 x 128 are 2**24, the last whole number of float32."""
    images = np.random.default_rng(0).choice([low, high - 1], (2048, 40)).astype(np.uint8)
    rows = images.astype(np.int64)
    expected = 2048 * (rows.T @ rows) - np.outer(rows.sum(axis=0), rows.sum(axis=0))
    assert (moments(images).covariance * 2048**2 == expected).all()


def test_the_blocks_do_not_show() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2500, 17), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(2500)
    assert moments(images[order]).covariance.tobytes() == moments(images).covariance.tobytes()


def test_floats_are_centred_before_they_are_squared() -> None:
    rng = np.random.default_rng(0)
    images = (rng.standard_normal((3000, 5, 2)) * 1e-3 + 1e4).astype(np.float64)
    found = moments(images)
    expected = np.cov(images.reshape(3000, -1).T, ddof=0)
    assert np.abs(found.covariance - expected).max() < 1e-12
    assert found.covariance.diagonal() == pytest.approx(np.full(10, 1e-6), rel=0.2)


def test_uint8_and_float64_agree() -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 30), dtype=np.uint8)
    whole, floats = moments(images), moments(images.astype(np.float64))
    assert whole.mean == pytest.approx(floats.mean, rel=1e-13)
    assert np.abs(whole.covariance - floats.covariance).max() < 1e-9


def test_images_too_large_for_a_covariance_are_refused() -> None:
    assert module.MAX_DIMENSION == 64 * 64 * 3
    with pytest.raises(InputError, match=r"images hold 12,291 values each: .*12,288"):
        moments(np.zeros((2, 3, 64 * 64 + 1), dtype=np.uint8))


@pytest.mark.parametrize("num_directions", [1, 5, 24])
def test_directions_are_eigenvectors_largest_first(num_directions: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 24), dtype=np.uint8)
    covariance = moments(images).covariance
    values, vectors = leading_directions(covariance, num_directions)
    assert values == pytest.approx(np.linalg.eigvalsh(covariance)[::-1][:num_directions], rel=1e-10)
    assert vectors.shape == (24, num_directions)
    assert vectors.T @ vectors == pytest.approx(np.eye(num_directions), abs=1e-12)
    assert covariance @ vectors == pytest.approx(vectors * values, abs=1e-8)


def test_no_eigenvalue_is_negative() -> None:
    values, _ = leading_directions(moments(np.full((50, 12), 7.0)).covariance, 12)
    assert (values == 0).all()
    values, _ = leading_directions(moments(np.random.default_rng(0).random((3, 12))).covariance, 12)
    assert (values >= 0).all() and (values[2:] < 1e-12).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_projection_splits_a_norm_in_two(dtype: type) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1500, 3, 4)).astype(dtype)
    known = moments(images)
    _, directions = leading_directions(known.covariance, 5)
    inside, outside = project(images, known.mean, directions)
    centred = images.reshape(1500, -1).astype(np.float64) - known.mean
    assert inside == pytest.approx(np.einsum("nd,dk->nk", centred, directions), abs=1e-9)
    rest = centred - inside @ directions.T
    assert outside == pytest.approx((rest**2).sum(axis=1), rel=1e-9)
    _, nothing = project(images, known.mean, np.eye(12))
    assert (nothing >= 0).all() and nothing.max() < 1e-9


THREADS = """
import hashlib, numpy as np
from memgen_eval.diffusion.moments import leading_directions, moments, principal, project
from memgen_eval.metrics.data_copying import partition
images = np.random.default_rng(0).integers(0, 256, (2100, 300), dtype=np.uint8)
known, floats = moments(images), moments(images.astype(np.float32) / 7)
values, directions = leading_directions(known.covariance, 40)
inside, outside = project(images, known.mean, directions)
cells = partition(images, reference_moments=principal(images))
large = np.random.default_rng(0).integers(0, 256, (3000, 1100), dtype=np.uint8) // np.arange(1, 1101, dtype=np.uint16)
large = large.astype(np.uint8)
wide, few = principal(large).directions(40), principal(large[:200]).kept
coordinates, rest = project(large, np.zeros(1100), wide)  # shared out among threads
more = (cells.centres, wide, few, coordinates, rest)
parts = (known.mean, known.covariance, floats.covariance, values, directions, inside, outside, *more)
print(hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())
"""


def test_the_same_bytes_for_one_thread_and_two() -> None:
    digests = set()
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads)
        command = [sys.executable, "-c", THREADS]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        digests.add(run.stdout.strip())
    assert len(digests) == 1 and len(digests.pop()) == 64


def spectrum_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A covariance with these eigenvalues and eigenvectors that are no axes: two reflections turn them."""
    turned = np.diag(values)
    for seed in (0, 1):
        normal = np.random.default_rng(seed).standard_normal(len(values))
        normal /= np.linalg.norm(normal)
        turned -= 2 * np.outer(normal, normal @ turned)
        turned -= 2 * np.outer(turned @ normal, normal)
    return (turned + turned.T) / 2


LARGE = 1.0 / np.arange(1, 1101) ** 1.3


@pytest.mark.parametrize("num_directions", [1, 32, 130])
def test_a_large_covariance_is_decomposed_as_lapack_does(num_directions: int) -> None:
    covariance = spectrum_of(1e5 * LARGE)
    assert leading_by_krylov(covariance, num_directions) is not None
    values, vectors = leading_directions(covariance, num_directions)
    assert np.abs(values / (1e5 * LARGE[:num_directions]) - 1).max() < 1e-10
    assert np.abs(vectors.T @ vectors - np.eye(num_directions)).max() < 1e-13
    assert np.linalg.norm(covariance @ vectors - vectors * values, axis=0).max() < 1e-8
    _, expected = np.linalg.eigh(covariance)
    cosines = np.abs((vectors * expected[:, ::-1][:, :num_directions]).sum(axis=0))
    assert np.abs(cosines - 1).max() < 1e-12


REPEATED = np.concatenate([np.full(40, 5.0), LARGE[:1060]])  # more often than the start has columns
UNDECIDED = {
    "repeated": REPEATED,
    "few": np.concatenate([[4.0, 3.0, 2.0], np.zeros(1097)]),
    "none": np.zeros(1100),
    "flat": np.ones(1100),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_spectra_that_no_small_space_tells_are_decomposed_all_the_same(name: str) -> None:
    covariance = spectrum_of(UNDECIDED[name])
    values, vectors = leading_directions(covariance, 48)
    assert values == pytest.approx(UNDECIDED[name][:48], abs=1e-12)
    assert np.abs(vectors.T @ vectors - np.eye(48)).max() < 1e-12
    assert np.abs(covariance @ vectors - vectors * values).max() < 1e-12


def test_a_direction_that_was_missed_is_seen() -> None:
    """What the proof is for: eigenpairs, of which each is right and one is not the largest left."""
    covariance = spectrum_of(LARGE)
    _, vectors = np.linalg.eigh(covariance)
    ascending = vectors[:, ::-1][:, [5, 3, 2, 1, 0]]
    assert not _none_larger(covariance, LARGE[[5, 3, 2, 1, 0]], ascending)
    whole = vectors[:, ::-1][:, [4, 3, 2, 1, 0]]
    assert _none_larger(covariance, LARGE[[4, 3, 2, 1, 0]], whole)


def test_directions_kept_are_those_asked_for() -> None:
    images = np.random.default_rng(0).integers(0, 256, (900, 300), dtype=np.uint8)
    widest = leading_directions(moments(images).covariance, 300)[1]
    for num_directions in (3, 256):
        found = principal(images).directions(num_directions)
        assert found.shape == (300, num_directions) and found.flags.c_contiguous
        assert np.abs(np.abs((found * widest[:, :num_directions]).sum(axis=0)) - 1).max() < 1e-9
    assert principal(images, 300).kept.shape == partition(images, num_components=300).directions.shape == (300, 300)
    with pytest.raises(AssertionError):
        principal(images).directions(300)


def decaying(num_images: int, dtype: type, *, far: float = 0.0) -> NDArray[Any]:
    """Images of 1,200 values whose variances fall from a thousand to one."""
    deviations = np.geomspace(30, 1, 1200)
    images = np.random.default_rng(2).standard_normal((num_images, 1200)) * deviations + 128 + far
    return np.clip(np.rint(images), 0, 255).astype(dtype) if dtype is np.uint8 else images.astype(dtype)


@pytest.mark.parametrize("num_directions", [1, 60, 256])
@pytest.mark.parametrize("num_images", [2, 3, 200, 599, 600])
@pytest.mark.parametrize(("dtype", "far"), [(np.uint8, 0.0), (np.float32, 0.0), (np.float64, 1e4)])
def test_few_large_images_have_the_directions_of_their_covariance(
    dtype: type, far: float, num_images: int, num_directions: int
) -> None:
    images = decaying(num_images, dtype, far=far)
    centred = images.astype(np.float64) - images.astype(np.float64).mean(axis=0)
    _, _, expected = np.linalg.svd(centred, full_matrices=False)
    found = principal(images, num_directions)
    few = num_images < 600
    assert found.kept.shape == (1200, min(num_directions, num_images - 1) if few else num_directions)
    assert found.mean == pytest.approx(images.astype(np.float64).mean(axis=0), rel=1e-12)
    assert np.abs(found.kept.T @ found.kept - np.eye(found.kept.shape[1])).max() < 1e-13
    sure = min(found.kept.shape[1], num_images - 1)
    assert np.abs(np.abs((found.kept[:, :sure] * expected[:sure].T).sum(axis=0)) - 1).max() < 1e-8


def test_directions_of_small_variances_are_orthogonal_too() -> None:
    images = np.random.default_rng(0).standard_normal((100, 1100)) * np.geomspace(1, 1e-6, 100)[:, None]
    found = principal(images)
    assert found.kept.shape == (1100, 99)
    assert np.abs(found.kept.T @ found.kept - np.eye(99)).max() < 1e-13


@pytest.mark.parametrize(
    "images", [np.full((9, 1100), 7, np.uint8), np.eye(1, 1100), np.eye(2, 1100).repeat(5, axis=0)]
)
def test_images_that_vary_in_fewer_directions_have_as_many_all_the_same(images: NDArray[Any]) -> None:
    found = principal(images, 4)
    assert found.kept.shape == (1100, 4)
    assert np.abs(found.kept.T @ found.kept - np.eye(4)).max() < 1e-12
