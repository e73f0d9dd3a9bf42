"""Whether a denoiser is plausible as one: what ignores sigma, is of another range, or of another parametrisation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.denoiser import ConvertedDenoiser
from memgen_eval.diffusion.inputs import NoisedImages
from memgen_eval.diffusion.measurements import Floats, Run, cosine, dot, float64_rows

IMPLAUSIBLE = 25.0  # times the error of the best multiple of x: no trained denoiser
ODD = 1.5  # times that error: reason enough to look at other conversions
NEGLIGIBLE_ERROR = 0.01  # error per value
TRAINED = 0.7  # times that error: what no multiple of x has, and every trained denoiser at some sigma
BETTER = 0.1  # by which the cosine with another conversion's target has to be larger
NUM_COMPARED = 5  # noise levels at which conversions are compared


def odd_sigma(run: Run, inputs: NoisedImages) -> tuple[str, ...]:
    """A warning where D gives the same for the same x, whatever sigma is, while D* does not."""
    if run.denoiser is None or len(run.sigmas) < 2:
        return ()
    low, high = run.sigmas[0], run.sigmas[-1]
    x0, eps = inputs.take(np.arange(min(run.batch_size, len(inputs))))
    x = inputs.in_model_units(x0) + high * eps.reshape(len(eps), -1)
    given = torch.from_numpy(x.astype(np.float32)).reshape(x0.shape)
    if not np.array_equal(run.denoise(x, low), run.denoise(x, high)) or torch.equal(
        run.optimal(given, low), run.optimal(given, high)
    ):
        return ()
    return _warned(f"the denoiser's output is the same for sigma = {low:.4g} and {high:.4g}: it ignores sigma")


def odd_error(run: Run, inputs: NoisedImages, error: Floats) -> tuple[str, ...]:
    """A warning where the errors (S, T) are far above those of the best multiple of x, ``s^2 v / (s^2 + v)``.

    v is the variance of the images' values: at small sigma this is the error of returning x, at large sigma that of
    returning the mean. Of a conversion the warning names another one where that fits the network better.
    """
    x0, _ = inputs.take(np.arange(len(inputs.indices)))
    variance, squares = float(inputs.in_model_units(x0).var()), run.sigmas**2
    plain, errors = squares * variance / (squares + variance), error.mean(axis=1)
    shares = errors / np.maximum(plain, NEGLIGIBLE_ERROR / IMPLAUSIBLE)
    worst = int(np.argmax(shares))
    if shares[worst] <= ODD:
        return ()
    better = _better_conversion(run, inputs, plain) if isinstance(run.denoiser, ConvertedDenoiser) else None
    if better is not None:
        return _warned(better)
    if shares[worst] <= IMPLAUSIBLE:
        return ()
    sigma = run.sigmas[worst]
    if sigma**2 < variance:
        beside = f"returning x gives {sigma**2:.3g}"
        reason = "it may have been trained on another range than [-1, 1], or be untrained"
    else:
        beside = f"returning the mean gives {variance:.3g}"
        reason = "its network may predict something else, or be untrained"
    return _warned(
        f"the denoiser's error at sigma = {sigma:.4g} is {errors[worst]:.3g} per value, where {beside}: {reason}"
    )


def note_variance(run: Run, inputs: NoisedImages) -> tuple[str, ...]:
    """A note where a network predicts a variance too, of which nothing is used."""
    if not isinstance(run.denoiser, ConvertedDenoiser):
        return ()
    x0, x, sigma = _noisy(run, inputs, float(run.sigmas[-1]))
    num_channels, wanted = run.denoiser.predict(x, sigma).shape[1], x0.shape[1]
    if num_channels == wanted:
        return ()
    return (f"the network returns {num_channels} channels for {wanted}: the first {wanted} are its prediction",)


@dataclass(frozen=True, eq=False)
class _Fit:
    """How a network's outputs agree with what a conversion asks of it, and the errors per value, one a sigma."""

    name: str
    cosine: float
    errors: Floats


def _better_conversion(run: Run, inputs: NoisedImages, plain: Floats) -> str | None:
    """A sentence naming the conversion whose targets the network's outputs point to, if it is plausibly another one.

    Directions tell conversions apart early in training too, when a smaller output has the smaller error everywhere.
    """
    places = np.unique(np.linspace(0, len(run.sigmas) - 1, NUM_COMPARED).astype(int))
    own = _fit(run, inputs, run.denoiser, places)
    best = max((_fit(run, inputs, other, places) for other in run.denoiser.others()), key=lambda fit: fit.cosine)
    shares = best.errors / np.maximum(plain[places], NEGLIGIBLE_ERROR / IMPLAUSIBLE)
    if best.cosine < own.cosine + BETTER or shares.max() > IMPLAUSIBLE or shares.min() > TRAINED:
        return None
    gains = own.errors / np.maximum(best.errors, NEGLIGIBLE_ERROR * plain[places])
    most = int(np.argmax(gains))
    if gains[most] < ODD:
        return None
    return (
        f"the denoiser's error at sigma = {run.sigmas[places[most]]:.4g} is {own.errors[most]:.3g} per value; as "
        f"{best.name} it would be {best.errors[most]:.3g}: its network seems to predict something else"
    )


def _fit(run: Run, inputs: NoisedImages, denoiser: ConvertedDenoiser, places: NDArray[np.int64]) -> _Fit:
    cosines, errors = [], []
    for sigma in run.sigmas[places].tolist():
        x0, x, level = _noisy(run, inputs, sigma)
        prediction = denoiser.predict(x, level)
        target, clean = denoiser.target(x, level, x0), denoiser.clean(x, level, prediction)
        found = cosine(float64_rows(prediction[:, : x0.shape[1]]), float64_rows(target))
        cosines.append(float(np.nan_to_num(found).mean()))
        missed = float64_rows(clean - x0)
        errors.append(float(dot(missed, missed).mean()))
    return _Fit(denoiser.name, float(np.mean(cosines)), np.array(errors))


def _noisy(run: Run, inputs: NoisedImages, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of clean images, the same with noise, and sigma (B,), as the denoiser is given them."""
    images, eps = inputs.take(np.resize(np.arange(len(inputs)), run.batch_size))
    rows = inputs.in_model_units(images).reshape(eps.shape)
    x0, x = (torch.from_numpy(given.astype(np.float32)).to(run.device) for given in (rows, rows + sigma * eps))
    return x0, x, torch.full((len(x),), sigma, dtype=torch.float32, device=run.device)


def _warned(message: str) -> tuple[str, ...]:
    warnings.warn(message, stacklevel=4)
    return (message,)
