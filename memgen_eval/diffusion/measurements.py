"""What the probe found, as float64 arrays: all that the families denoiser and gaussian ever see of a model.

S sigmas, N images, P pairs of images. Squares and products are means over an image's values and over its noise draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Index:
    """Where D lies between D_G and an optimal denoiser D*, (S, N) each.

    Attributes
    ----------
    projection : ``<D - D_G, D* - D_G>``
    span : ``|D* - D_G|^2``
    """

    projection: Floats
    span: Floats


@dataclass(frozen=True, eq=False)
class AgainstGaussian:
    """D beside the Wiener denoiser D_G, (S, N) each.

    Attributes
    ----------
    index : on the line to D* of the whole training set
    matched : on the line to D* of as many images as test has, the noised one among them; None without a test set
    departure : ``|D - D_G|^2``
    gaussian_error : ``|D_G - x0|^2``
    energy : ``|D|^2``
    cosine : between ``D - mu`` and ``D_G - mu``; NaN where one of them is zero
    gaussian_energy : ``|D_G - mu|^2``
    """

    index: Index
    matched: Index | None
    departure: Floats
    gaussian_error: Floats
    energy: Floats
    cosine: Floats
    gaussian_energy: Floats


@dataclass(frozen=True, eq=False)
class AgainstOptimal:
    """D beside D* of the training set and the clean image x0, (S, N) each.

    Attributes
    ----------
    error : ``|D - x0|^2``
    gap : ``|D - D*|^2``
    residual : ``2 <D - D*, D* - x0>``, which is error - gap - optimal_error
    residual_variance : of the residual, were x0 drawn again from what x leaves possible: the square of the residual, as
        many times as the posterior variance exceeds ``|D* - x0|^2``. Rare events that no draw has met are in it.
    """

    error: Floats
    gap: Floats
    residual: Floats
    residual_variance: Floats


@dataclass(frozen=True, eq=False)
class NoisedSet:
    """What was measured on noised images of one set, (S, N) each; the model's parts are None where not measured.

    Attributes
    ----------
    optimal_error : ``|D* - x0|^2``
    effective_neighbours : ``exp(entropy of w)``
    model : D beside D*
    gaussian : D beside D_G
    """

    optimal_error: Floats
    effective_neighbours: Floats
    model: AgainstOptimal | None
    gaussian: AgainstGaussian | None


@dataclass(frozen=True, eq=False)
class Linearity:
    """``|cos|`` between D of a mixture of two noisy images and the mixture of D of each, (S, P); the same for D_G."""

    model: Floats
    gaussian: Floats


@dataclass(frozen=True, eq=False)
class Projections:
    """Noisy inputs x and D(x) about the training mean, in the leading K principal directions, (S, N, draws, K)."""

    inputs: Floats
    outputs: Floats


@dataclass(frozen=True, eq=False)
class Path:
    """``|D - D*|^2`` on the sampler's own path: sigmas increasing (T,), gap (T, N)."""

    sigmas: Floats
    gap: Floats


@dataclass(frozen=True, eq=False)
class Probe:
    """Everything measured around one denoiser, or around the data alone.

    Attributes
    ----------
    sigmas : increasing, (S,)
    num_train : images that D* holds
    num_draws : noise draws of each image
    train, test : measured on noised images of the training set and of the test set
    num_matched : images that each D* of `matched` holds
    collapse : for each training image the sigma at which the weight of itself and its duplicates falls through 1/2, to
        1 %; 0 where that lies below the grid, infinite above it; (N,)
    spectrum : eigenvalues of the training set's covariance, data in [-1, 1]; None without D_G
    linearity, projections, path : see there; None where they were not measured
    no_gaussian : why there is no D_G
    notes : what was found odd about the denoiser
    """

    sigmas: Floats
    num_train: int
    num_draws: int
    train: NoisedSet
    test: NoisedSet | None
    num_matched: int | None
    collapse: Floats
    spectrum: Floats | None
    linearity: Linearity | None
    projections: Projections | None
    path: Path | None
    no_gaussian: str | None
    notes: tuple[str, ...]
