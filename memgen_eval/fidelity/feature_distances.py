"""FID and KID of features, by torch-fidelity's own functions, with intervals that it does not give.

torch-fidelity is optional, and is imported when it is used. Factorisations run on one thread, so that the threads of a
machine change no value.
"""

from __future__ import annotations

import importlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import single_thread
from memgen_eval.compute.rows import row_blocks
from memgen_eval.fidelity.jackknife import NO_SPREAD, Floats, LeftOut
from memgen_eval.results import Estimate, Z

NEEDS_TORCH_FIDELITY = "needs torch-fidelity, which cannot be imported here: pip install 'memgen-eval[fidelity]'"
FEWER_IMAGES = "no interval, and far too high: {:,} images have a covariance of {:,} features of lower rank"
OVERFLOWS = "the features are so large that their third powers overflow"
NUM_SUBSETS, SUBSET_SIZE = 100, 1000  # as published
FEATURE_ROWS = 1024  # that are held as float64
SMALLEST_EIGENVALUE = 1e-10  # as a share of the largest; smaller ones have no inverse
SUBSETS_METHOD = "delete-d jackknife over subsets, normal 95 %"
log = logging.getLogger("memgen_eval")


def torch_fidelity() -> Any | None:
    """The package, with its functions for features; None where it cannot be imported, whatever the reason."""
    try:
        with warnings.catch_warnings(action="ignore"):
            package = importlib.import_module("torch_fidelity")
            for name in ("metric_fid", "metric_kid"):
                importlib.import_module(f"torch_fidelity.{name}")
    except (
        ImportError,
        AttributeError,
        OSError,
        RuntimeError,
    ) as error:  # a torchvision of another torch raises the last
        log.warning("torch-fidelity cannot be imported: %s", str(error).partition("\n")[0])
        return None
    return package


@dataclass(frozen=True, eq=False)
class Moved:
    """FID with its values with one image left out, and the figure extrapolated to infinitely many images."""

    figure: LeftOut
    extrapolated: float | None


class _Law:
    """Mean (F,) and 1/(n - 1) covariance (F, F) of rows (M, F), which are never held as float64 at once."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows
        total = np.zeros(rows.shape[1])
        for _, block in row_blocks(rows, FEATURE_ROWS):
            total += block.sum(axis=0, dtype=np.float64)
        self.mean = total / len(rows)
        self.covariance: Floats = np.zeros((rows.shape[1], rows.shape[1]))
        for _, centred in self.centred():
            self.covariance += centred.T @ centred
        self.covariance /= max(len(rows) - 1, 1)

    def centred(self) -> Iterator[tuple[int, Floats]]:
        """Blocks of the rows less their mean, (B, F), each with the index of its first row."""
        for start, block in row_blocks(self.rows, FEATURE_ROWS):
            yield start, block.astype(np.float64) - self.mean

    def powers(self, *exponents: float) -> list[Floats]:
        """Powers of the covariance on the directions that vary, (F, F) each."""
        values, vectors = np.linalg.eigh(self.covariance)
        return [_power(values, vectors, exponent) for exponent in exponents]

    def squared_to(self, other: _Law, values: Floats) -> float:
        """The Frechet distance, given the eigenvalues of the product of both covariances."""
        traces = np.trace(self.covariance) + np.trace(other.covariance)
        return float(((self.mean - other.mean) ** 2).sum() + traces - 2 * np.sqrt(np.maximum(values, 0)).sum())

    def weights(self, to_other: Floats, offset: Floats) -> Floats:
        """How much each row weighs in the distance to another law, given the optimal map's matrix, (M,)."""
        found = np.empty(len(self.rows))
        for start, centred in self.centred():
            quadratic = np.einsum("ij,ij->i", centred - centred @ to_other, centred)
            found[start : start + len(centred)] = 2 * centred @ offset + quadratic
        return found


def _power(values: Floats, vectors: Floats, power: float) -> Floats:
    some = values > SMALLEST_EIGENVALUE * max(values[-1], 0.0)
    return np.asarray((vectors[:, some] * values[some] ** power) @ vectors[:, some].T)


def frechet(samples: NDArray[Any], references: NDArray[Any], *, package: Any) -> Moved:
    """The Frechet distance of the Gaussians with both sets' moments [1]_, (M, F) each; 0: equal moments.

    It is too high for finite sets, by about 1/M: compare sets of one size only, or what it is extrapolated to from the
    sets and their halves [2]_. The values with one image left out are those of the derivative by its weight.

    References
    ----------
    .. [1] Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.
    .. [2] Chong & Forsyth, "Effectively Unbiased FID and Inception Score", CVPR 2020.
    """
    functions = package.metric_fid
    with single_thread():
        laws = _Law(samples), _Law(references)
        moments = [{"mu": law.mean, "sigma": law.covariance} for law in laws]
        value = functions.fid_statistics_to_metric(*moments, False)[functions.KEY_METRIC_FID]
        value = max(float(value), 0.0)
        if len(samples) <= samples.shape[1]:
            return Moved(LeftOut(value, None, None, FEWER_IMAGES.format(*samples.shape)), None)
        whole, influences = _influences(*laws)
        del laws, moments  # a covariance of 2,048 features takes 32 MiB
        halves = _of_halves(samples, references)
    figure = LeftOut.of_influences(value, *influences)
    return Moved(figure, None if halves is None else 2 * whole - halves)


def _influences(first: _Law, second: _Law) -> tuple[float, tuple[Floats, Floats]]:
    """The distance, and how much each row of both sets weighs in it: (M,) and (M,).

    With T the optimal map's matrix, the derivative by the covariance S1 is I - T, by S2 it is I - T^-1.
    """
    root, inverse = first.powers(0.5, -0.5)
    values, vectors = np.linalg.eigh(root @ second.covariance @ root)
    to_second = inverse @ _power(values, vectors, 0.5) @ inverse
    to_first = root @ _power(values, vectors, -0.5) @ root
    offset = first.mean - second.mean
    weights = first.weights(to_second, offset), second.weights(to_first, -offset)
    return first.squared_to(second, values), weights


def _of_halves(x: NDArray[Any], y: NDArray[Any]) -> float | None:
    """The mean distance of the first halves and of the second ones; None where these are too small."""
    half = len(x) // 2
    if half <= x.shape[1]:
        return None
    found = []
    for rows in (slice(0, half), slice(half, 2 * half)):
        first, second = _Law(x[rows]), _Law(y[rows])
        (root,) = first.powers(0.5)
        values = np.linalg.eigvalsh(root @ second.covariance @ root)
        found.append(first.squared_to(second, np.asarray(values, dtype=np.float64)))
    return sum(found) / 2


@dataclass(frozen=True, eq=False)
class Subsets:
    """KID of subsets, (S,), of `size` images each; those of one number are of the same samples always."""

    values: Floats
    size: int

    def estimate(self, *, count: int, notes: tuple[str, ...]) -> Estimate:
        """The mean over subsets.

        Its variance is ``s^2 (m / (n - m) + 1 / S)``: s is the spread over S subsets of m of n images, the first part
        the delete-d jackknife's, the second that of the subsets that were drawn. It is right where the sets differ, and
        too large where they hardly do, for the kernel distance of equal laws varies less.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            spread, value = float(self.values.std(ddof=1)), float(self.values.mean())
        if not math.isfinite(spread):
            return Estimate.undefined(OVERFLOWS, count=count)
        told = (f"{len(self.values)} subsets of {self.size:,} images, spread over them {spread:.3g}", *notes)
        if spread == 0:
            return Estimate(value, method="no interval", count=count, notes=(NO_SPREAD, *told))
        half = Z * spread * math.sqrt(self.size / (count - self.size) + 1 / len(self.values))
        return Estimate(value, value - half, value + half, SUBSETS_METHOD, count, told)

    def less(self, other: Subsets) -> Subsets:
        """The difference, subset by subset."""
        return Subsets(self.values - other.values, self.size)


def kernel_subsets(samples: NDArray[Any], references: NDArray[Any], *, package: Any, seed: int) -> Subsets:
    """The unbiased squared MMD with the kernel ``(x.y / F + 1)^3`` of 100 subsets of (M, F) and (M, F).

    Of 1,000 images each as published, of half of them in sets of fewer than 2,000. 0 in expectation for equal laws,
    whatever the size; a value may lie below.

    References
    ----------
    .. [1] Binkowski, Sutherland, Arbel & Gretton, "Demystifying MMD GANs", ICLR 2018.
    """
    size, values = min(SUBSET_SIZE, len(samples) // 2), []
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    with single_thread():
        for one in np.random.SeedSequence(seed).generate_state(NUM_SUBSETS):
            rng = np.random.default_rng(int(one))  # the samples first: the same against every set of references
            drawn = [
                rows[rng.choice(len(rows), size, replace=False)].astype(np.float64) for rows in (samples, references)
            ]
            values.append(package.metric_kid.kernel_mmd(*drawn, **kernel, kid_kernel_poly_coef0=1))
    return Subsets(np.array(values), size)
