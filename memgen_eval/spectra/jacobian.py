"""The Jacobian of a denoiser at noisy images, from its products with vectors: what of the images is kept there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.calling import call_denoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import draw_noises
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.errors import InputError, check_count
from memgen_eval.metrics.curves import mean_curve, sigma_axis
from memgen_eval.metrics.gaussian_samples import subspace_overlap
from memgen_eval.results import Estimate
from memgen_eval.runtime import foreign

STEP = 0.02  # of a difference quotient, in units of sigma
EXTRA = 8  # directions beyond those wanted
TURNS = 3  # more of them tell close singular values better apart
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JacobianSpectrum:
    """Of B Jacobians: singular values (B, K), descending, left singular vectors (B, D, K), trace, effective rank."""

    values: Floats
    directions: Floats
    trace: Estimate
    effective_rank: Estimate


def jacobian_spectrum(
    denoiser: Any, x: Tensor, sigma: float, *, num_values: int = 8, num_probes: int = 16, seed: int = 0
) -> JacobianSpectrum:
    """Leading singular values, trace and effective rank of ``dD(x; sigma)/dx`` at each noisy image.

    A direction with a value near 1 is kept by the denoiser, one near 0 is replaced by what it knows. For D* the
    Jacobian is ``Cov(x0 | x) / sigma^2``, symmetric with values of 0 and more, and all are 0 where it has collapsed
    onto one training image; for D_G it is ``l / (l + sigma^2)`` in the principal directions. ``trace`` is the number of
    directions kept; ``effective_rank = tr(J)^2 / |J|_F^2``, at most D.

    Parameters
    ----------
    denoiser : Denoiser
        Of torch operations that can be differentiated; an OptimalDenoiser or GaussianDenoiser, whose Jacobians are
        symmetric, are differenced with steps of 0.02 sigma instead, to about 1e-3 of the largest value.
    x : float32, (B, ...)
        Noisy images, data in [-1, 1].
    sigma : float
        Their noise level.
    num_values : int
        K, at most D.
    num_probes : int
        Random signs for trace and rank of each image (Hutchinson) [1]_.
    seed : int
        Of all directions drawn.

    Returns
    -------
    JacobianSpectrum
        Means over images with Student's intervals, which hold the chance of the probes too.

    Raises
    ------
    InputError
        For a denoiser that gives no gradients, or anything but finite images of the shape of x.

    Notes
    -----
    Randomized subspace iteration [2]_: values that fall slowly are too small by up to 0.3 %. Cost of an image: 8
    products with K + 8 vectors and one with the probes, each about twice a call of the denoiser for as many images.

    References
    ----------
    .. [1] Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1989.
    .. [2] Halko, Martinsson & Tropp, "Finding structure with randomness", SIAM Review 53, 2011, algorithm 4.4.
    """
    num_probes, dimension = check_count("num_probes", num_probes), math.prod(x.shape[1:])
    num_values = min(check_count("num_values", num_values), dimension)
    width = min(num_values + EXTRA, dimension)
    starts = draw_noises((dimension, width + num_probes), np.arange(len(x)), seed=seed, name="jacobian")
    found = []
    with foreign(denoiser):
        for image, start in zip(x, starts, strict=True):
            given = torch.from_numpy(start).to(image.device)
            map_ = _Jacobian(denoiser, image, float(sigma))
            found.append(_decomposed(map_, given[:, :width], given[:, width:].sign(), num_values))
    values, directions, traces, squares = (np.stack(part) for part in zip(*found, strict=True))
    ranks = np.divide(traces**2, squares, out=np.zeros_like(traces), where=squares > 0)
    axis = sigma_axis(np.array([float(sigma)]))
    trace, rank = (mean_curve(part[None], axis).at(0) for part in (traces, ranks))
    return JacobianSpectrum(values, directions, trace, rank)


def direction_overlap(first: JacobianSpectrum, second: JacobianSpectrum) -> Estimate:
    """Overlap of the leading left singular directions of two denoisers at the same images, the mean over images.

    Mean squared cosine of the principal angles between both spans of K directions. 1: both write into the same ones;
    K/D: into any.

    Returns
    -------
    Estimate
        In [0, 1], with Student's interval over images.

    Raises
    ------
    InputError
        If they are not of the same images and number of directions.
    """
    if first.directions.shape != second.directions.shape:
        raise InputError(
            f"the directions have shapes {first.directions.shape} and {second.directions.shape}: "
            "give spectra at the same images with the same num_values"
        )
    pairs = zip(first.directions, second.directions, strict=True)
    overlaps = np.array([[subspace_overlap(one, other) for one, other in pairs]])
    return mean_curve(overlaps, sigma_axis(np.array([1.0]))).at(0)


class _Jacobian:
    """Products of one image's Jacobian and of its transpose with vectors (D, Q)."""

    def __init__(self, denoiser: Any, image: Tensor, sigma: float) -> None:
        self.denoiser, self.image, self.sigma = denoiser, image, sigma
        self.symmetric = isinstance(denoiser, OptimalDenoiser | GaussianDenoiser)

    def _clean(self, x: Tensor) -> Tensor:
        levels = torch.full((len(x),), self.sigma, dtype=x.dtype, device=x.device)
        return call_denoiser(self.denoiser, x, levels)

    def times(self, vectors: Tensor) -> Tensor:
        """``J v``."""
        tangents = vectors.T.reshape(-1, *self.image.shape)
        if self.symmetric:
            step = STEP * self.sigma / vectors.norm(dim=0).clamp(min=1e-30)
            step = step.reshape(-1, *[1] * self.image.ndim)
            ahead, behind = (self._clean(self.image + sign * step * tangents) for sign in (1, -1))
            products: Tensor = ((ahead.double() - behind.double()) / (2 * step)).flatten(1).T.float()
            return products
        x = self.image.expand_as(tangents).contiguous()
        with torch.enable_grad():
            dual = torch.zeros_like(tangents, requires_grad=True)
            back = self._pulled(x, dual)
            (ahead,) = torch.autograd.grad(back, dual, tangents)  # the derivative of J^T u in u, transposed, is J
        return ahead.flatten(1).T

    def transposed_times(self, vectors: Tensor) -> Tensor:
        """``J^T u``."""
        if self.symmetric:
            return self.times(vectors)
        cotangents = vectors.T.reshape(-1, *self.image.shape)
        with torch.enable_grad():
            return self._pulled(self.image.expand_as(cotangents).contiguous(), cotangents).detach().flatten(1).T

    def _pulled(self, x: Tensor, cotangents: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        clean = self._clean(x)
        if not clean.requires_grad:
            raise InputError("denoiser gives no gradients: compute D(x, sigma) by torch operations, not in no_grad")
        (back,) = torch.autograd.grad(clean, x, cotangents, create_graph=cotangents.requires_grad)
        return back


def _decomposed(
    jacobian: _Jacobian, start: Tensor, signs: Tensor, num_values: int
) -> tuple[Floats, Floats, np.float64, np.float64]:
    """Singular values (K,), left directions (D, K), trace and squared Frobenius norm."""
    basis = torch.linalg.qr(jacobian.times(start)).Q
    for _ in range(TURNS):
        basis = torch.linalg.qr(jacobian.times(torch.linalg.qr(jacobian.transposed_times(basis)).Q)).Q
    inner = jacobian.transposed_times(basis).double().cpu().numpy().T  # (Q, D)
    left, values, _ = np.linalg.svd(inner, full_matrices=False)
    directions = basis.double().cpu().numpy() @ left[:, :num_values]
    kept = jacobian.times(signs).double()
    trace = (kept * signs).sum(dim=0).mean().item()
    return values[:num_values], directions, np.float64(trace), np.float64(kept.square().sum(dim=0).mean().item())
