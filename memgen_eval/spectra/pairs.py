"""Two models from the same noise: how far apart their samples are, and how often they are the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memgen_eval.diffusion.sampling import Solver, sample
from memgen_eval.errors import InputError
from memgen_eval.metrics.statistics import proportion
from memgen_eval.results import LEVEL, Estimate

Floats = NDArray[np.float64]


def probability_flow_distance(
    first: Any,
    second: Any,
    shape: tuple[int, ...],
    *,
    num_samples: int = 256,
    seed: int = 0,
    num_steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    solver: Solver = "heun",
    batch_size: int = 64,
    device: Any = None,
) -> Estimate:
    """How far apart two denoisers lead the same noise, the root mean square Euclidean distance of their samples [1]_.

    ``PFD = sqrt(E |Phi_1(x_T) - Phi_2(x_T)|^2)``, Phi the end of the probability-flow equation, data in [-1, 1]. 0: the
    same model. Against ``D*`` it is small for a model that memorizes, against the denoiser of the true distribution for
    one that generalizes. For Gaussians with commuting covariances and ``sigma_max`` large it is their W2 distance.

    Parameters
    ----------
    first, second : Denoiser
        ``D(x, sigma)``, ``x`` float32, (B, ...), sigma (B,).
    shape : tuple of int
        Of an image, such as (3, 32, 32).
    num_samples : int
        N, at least 2 for an interval.
    seed, num_steps, sigma_min, sigma_max, rho, batch_size, device
        As in `sample`.
    solver : "heun" or "euler"
        As in `sample`; ancestral steps follow no probability flow.

    Returns
    -------
    Estimate
        At least 0; see `pair_distance`.

    Raises
    ------
    InputError
        As `sample`, and for ancestral steps.

    Notes
    -----
    Cost: ``2 N (2 num_steps - 1)`` calls of a denoiser for one image, with Heun's steps.

    References
    ----------
    .. [1] Zhang et al., "Understanding Generalization in Diffusion Models via Probability Flow Distance", 2025.
    """
    if solver == "ancestral":
        raise InputError("solver is 'ancestral', which follows no probability flow: give heun or euler")
    drawn = [
        sample(
            denoiser,
            num_samples,
            shape,
            seed=seed,
            num_steps=num_steps,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            rho=rho,
            solver=solver,
            batch_size=batch_size,
            device=device,
        )
        for denoiser in (first, second)
    ]
    return pair_distance(*drawn)


def pair_distance(first: ArrayLike, second: ArrayLike) -> Estimate:
    """The root mean square Euclidean distance between row i of both sets, in the units of the rows.

    0: the same rows. Of samples from the same noise it is the probability flow distance, of their features the one with
    that descriptor.

    Parameters
    ----------
    first, second : float, (N, ...)
        Samples, or features, of two models from the same noise.

    Returns
    -------
    Estimate
        Student's interval of the mean square, its root taken; ``count`` is N.

    Raises
    ------
    InputError
        If the sets are not of one shape, are empty, or hold NaN or infinity.
    """
    from scipy.stats import t

    rows, others = _matched(first, second)
    squares, count = ((rows - others) ** 2).sum(axis=1), len(rows)
    mean = float(squares.mean())
    if count < 2:
        return Estimate(math.sqrt(mean), method="no interval", count=count, notes=("an interval needs two images",))
    half = float(t.ppf((1 + LEVEL) / 2, count - 1) * squares.std(ddof=1) / math.sqrt(count))
    ends = math.sqrt(max(mean - half, 0.0)), math.sqrt(mean + half)
    return Estimate(math.sqrt(mean), *ends, "Student's t over images, 95 % of the square", count)


def reproducibility(first: ArrayLike, second: ArrayLike, *, threshold: float = 0.6) -> Estimate:
    """Share of pairs, row i of both sets, whose cosine similarity exceeds `threshold`, strictly: the RP score [1]_.

    1: both models make the same of the same noise, because both generalize, or because both memorize one training set;
    read it beside the copies of each. Unrelated images may be similar too: the first note gives the share among pairs
    that do not belong together, each row with the next one's partner.

    Parameters
    ----------
    first, second : float, (N, F)
        Features of samples of two models from the same noise; the published score takes SSCD's, whose threshold is 0.6.
    threshold : float
        Of the cosine similarity.

    Returns
    -------
    Estimate
        In [0, 1], with the interval of a share; ``count`` is N.

    Raises
    ------
    InputError
        If the sets are not of one shape, are empty, hold NaN or infinity, or a row of zeros.

    References
    ----------
    .. [1] Zhang et al., "The Emergence of Reproducibility and Consistency in Diffusion Models", ICML 2024.
    """
    rows, others = (_directions(part) for part in _matched(first, second))
    alike = np.einsum("nf,nf->n", rows, others) > threshold
    apart = np.einsum("nf,nf->n", rows, np.roll(others, -1, axis=0)) > threshold
    notes = (f"{apart.mean():.4g} of pairs that do not belong together",) if len(rows) > 1 else ()
    return proportion(alike, notes=notes)


def _matched(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Both sets as float64 rows (N, D)."""
    rows, others = (np.asarray(given, dtype=np.float64) for given in (first, second))
    if rows.shape != others.shape or rows.ndim < 2 or rows.size == 0:
        raise InputError(
            f"first and second have shapes {rows.shape} and {others.shape}: give one row of each for the same noise"
        )
    if not (np.isfinite(rows).all() and np.isfinite(others).all()):
        raise InputError("first or second holds NaN or infinity: give finite rows")
    return rows.reshape(len(rows), -1), others.reshape(len(others), -1)


def _directions(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"row {int(np.argmin(norms))} is all zero: no cosine similarity is defined")
    return np.asarray(rows / norms)
