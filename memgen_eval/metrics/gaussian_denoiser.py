"""How Gaussian the model's denoiser is: beside the Wiener denoiser, under mixing, and beside its best affine fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import single_thread
from memgen_eval.metrics.curves import floats, mean_curve, ratio_of_sums_curve, sigma_axis
from memgen_eval.metrics.denoiser import why_no_gaussian
from memgen_eval.metrics.gaussian_samples import subspace_overlap
from memgen_eval.results import Axis, Curve, Gaussian

if TYPE_CHECKING:  # its module imports torch
    from memgen_eval.diffusion.measurements import Probe, Projections

MIN_RMS = 0.01  # root mean square of D_G - mu below which no cosine is defined
NEEDS_SAMPLES = "needs samples: see `measure_gaussian`"
FEW_INPUTS = "needs 256 noisy inputs or more"
ALIGNED_DIRECTIONS = 32
RANK_ROUNDING = 1e-10  # of singular values, as a share of the largest
ROUNDING = 1e-7  # of outputs in float32: singular directions that differ by less are not told apart
Floats = NDArray[np.float64]


def measure_gaussian_curves(found: Probe, *, seed: int) -> Gaussian:
    """Distance from D_G, linearity and linear distillation against sigma, on noised training images [1]_.

    ``nmse = E|D - D_G|^2 / E|D|^2``: 0 at D_G. ``cosine`` between ``D - mu`` and ``D_G - mu``: 1 at D_G. ``linearity``:
    mean ``|cos|`` between D of a mixture and the mixture of D, 1 for linear D, below 1 for an affine one with a bias
    (see `gaussian_linearity`). ``distillation_r2``: 1 for affine D. ``distillation_alignment``: 1 at D_G, see
    `alignment`. Only middle sigma tell models apart.

    Parameters
    ----------
    found : Probe
        Of one denoiser.
    seed : int
        Of the bootstrap.

    References
    ----------
    .. [1] Li, Dai & Qu, "Understanding Generalizability of Diffusion Models Requires Rethinking the Hidden Gaussian
       Structure", NeurIPS 2024.
    """
    x, train = sigma_axis(found.sigmas), found.train
    if train.to_gaussian is None or train.energy is None or train.cosine is None or train.gaussian_energy is None:
        return Gaussian.undefined(why_no_gaussian(found))
    energetic = train.energy.mean(axis=1) > 0
    linearity = gaussian_linearity = Curve.undefined("needs two training images")
    if found.linearity is not None:
        pairs = ("over pairs of images",)
        linearity = mean_curve(found.linearity.model, x, notes=pairs)
        gaussian_linearity = mean_curve(found.linearity.gaussian, x, notes=pairs)
    return replace(
        Gaussian.undefined(NEEDS_SAMPLES),
        nmse=ratio_of_sums_curve(train.to_gaussian, train.energy, x, defined=energetic, seed=seed, notes=found.notes),
        cosine=_cosine(train.cosine, train.gaussian_energy, x),
        linearity=linearity,
        gaussian_linearity=gaussian_linearity,
        distillation_r2=_distillation(found.projections, x, seed=seed),
        distillation_alignment=_alignment(found.projections, x),
    )


def _cosine(cosines: Floats, gaussian_energy: Floats, x: Axis) -> Curve:
    defined = np.sqrt(gaussian_energy.mean(axis=1)) >= MIN_RMS
    note = f"None where the root mean square of D_G - mu is below {MIN_RMS:g}"
    # NaN, where D is the mean itself, makes the mean of that sigma None
    return mean_curve(np.where(defined[:, None], cosines, np.nan), x, notes=() if defined.all() else (note,))


def _distillation(projections: Projections | None, x: Axis, *, seed: int) -> Curve:
    """R^2 of the best affine map, see `distil`."""
    if projections is None:
        return Curve.undefined(FEW_INPUTS)
    missed, total = distil(projections)
    num_directions = projections.inputs.shape[-1]
    unexplained = ratio_of_sums_curve(missed, total, x, defined=total.mean(axis=1) > 0, seed=seed)
    notes = (f"{num_directions} directions, corrected for their number",)
    value, low, high = (
        None if side is None else tuple(None if missed is None else 1 - missed for missed in side)
        for side in (unexplained.value, unexplained.high, unexplained.low)
    )
    return replace(unexplained, value=value, low=low, high=high, notes=notes)


def distil(projections: Projections) -> tuple[Floats, Floats]:
    """Squared misfit of each image by the best affine map, and by the best constant; their means have no bias.

    Least squares with intercept in the leading K principal directions, at each sigma. An image is missed by too little
    in a fit that has seen it, and by too much in a fit to the other images, both the more the larger K is beside the
    number of images. The product of both misses, over its noise draws, has the mean of the square of neither: that of
    the best affine map, where misfits of different images are independent and of one covariance [1]_.

    Parameters
    ----------
    projections : Projections, (S, N, draws, K)

    Returns
    -------
    float64, (S, N) and (S, N)
        ``R^2 = 1 - sum(first) / sum(second)``. Single values may be negative.

    References
    ----------
    .. [1] Bell & McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples", Survey
       Methodology 28, 2002: the estimator CR2. For one draw an image it is HC2 of MacKinnon & White, 1985.
    """
    num_sigmas, num_images, num_draws, _ = projections.inputs.shape
    missed, total = np.empty((num_sigmas, num_images)), np.empty((num_sigmas, num_images))
    with single_thread():
        for number, (inputs, outputs) in enumerate(zip(projections.inputs, projections.outputs, strict=True)):
            known = np.ones((num_images * num_draws, 1))
            total[number] = _unseen_misfit(known, outputs)
            x = inputs.reshape(len(known), -1)
            missed[number] = _unseen_misfit(np.concatenate([known, x - x.mean(axis=0)], axis=1), outputs)
    return missed, total


def _unseen_misfit(known: Floats, outputs: Floats) -> Floats:
    """`distil`, (N,), of outputs (N, draws, K) as linear maps of what is known, (N draws, P)."""
    num_images, num_draws, width = outputs.shape
    basis, values, _ = np.linalg.svd(known, full_matrices=False)
    basis = basis[:, values > RANK_ROUNDING * values[0]]
    y = outputs.reshape(-1, width)
    seen = (y - basis @ (basis.T @ y)).reshape(outputs.shape)  # misfit by the fit to all images
    own = basis.reshape(num_images, num_draws, -1)
    free, turn = np.linalg.eigh(np.eye(num_draws) - own @ own.transpose(0, 2, 1))  # 0: an image that fixes a direction
    turned = (np.einsum("ndk,ndr->nrk", seen, turn) ** 2).sum(axis=2)  # (N, draws)
    return np.asarray(np.divide(turned, free, out=np.zeros_like(turned), where=free > RANK_ROUNDING).sum(axis=1))


def _affine_fit(inputs: Floats, outputs: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares with intercept, (N, draws, K) each: means of inputs and of outputs, (K,), and weights, (K, K)."""
    x, y = (rows.reshape(-1, rows.shape[-1]) for rows in (inputs, outputs))
    centre, target = x.mean(axis=0), y.mean(axis=0)
    weights, *_ = np.linalg.lstsq(x - centre, y - target, rcond=None)
    return centre, target, weights


def _alignment(projections: Projections | None, x: Axis) -> Curve:
    if projections is None:
        return Curve.undefined(FEW_INPUTS)
    _, num_images, _, width = projections.inputs.shape
    if width <= ALIGNED_DIRECTIONS:
        return Curve.undefined(f"all of the {width} directions span the same space")
    overlaps = alignment(projections, num_directions=ALIGNED_DIRECTIONS)
    notes = [f"{ALIGNED_DIRECTIONS} of {width} directions: chance gives {ALIGNED_DIRECTIONS / width:.3g}"]
    if not np.isfinite(overlaps).all():
        notes.append(f"None where the fit does not tell its {ALIGNED_DIRECTIONS} leading directions from the next")
    return Curve(floats(overlaps), method="no interval", count=num_images, notes=tuple(notes), x=x)


def alignment(projections: Projections, *, num_directions: int) -> Floats:
    """Overlap of the affine fit's leading left singular directions with the leading principal directions of train.

    Mean squared cosine of the principal angles between both spans of r directions, the fit made to all images in K
    directions. 1: the fit writes most strongly into the directions in which the data vary most, as D_G does; r/K: into
    any. Single singular vectors are not compared: where singular values are close, noise turns them into each other.

    Parameters
    ----------
    projections : Projections, (S, N, draws, K)
    num_directions : int
        r < K.

    Returns
    -------
    float64, (S,)
        NaN where the rth singular value is not told from the next: outputs would differ by less than their rounding.
    """
    width = projections.inputs.shape[-1]
    leading, overlaps = np.eye(width)[:, :num_directions], np.full(len(projections.inputs), np.nan)
    with single_thread():
        for number, (inputs, outputs) in enumerate(zip(projections.inputs, projections.outputs, strict=True)):
            _, _, weights = _affine_fit(inputs, outputs)
            left, values, _ = np.linalg.svd(weights.T)
            apart = (values[num_directions - 1] - values[num_directions]) * np.sqrt((inputs**2).mean())
            if apart > ROUNDING:
                overlaps[number] = subspace_overlap(left[:, :num_directions], leading)
    return overlaps
