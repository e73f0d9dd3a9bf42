"""D, D* and D_G on the same noisy inputs, block by block: everything that the denoiser's figures rest on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memgen_eval.diffusion.calling import device_of
from memgen_eval.diffusion.collapse import collapse_sigmas
from memgen_eval.diffusion.denoiser import ConvertedDenoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import NoisedImages, as_images, check_sigmas, draw_noise, draw_order, sigma_grid
from memgen_eval.diffusion.measurements import (
    AgainstGaussian,
    AgainstOptimal,
    Floats,
    Index,
    Linearity,
    NoisedSet,
    Path,
    Probe,
    Projections,
    Run,
    Structure,
    as_rows,
    cosine,
    dot,
)
from memgen_eval.diffusion.moments import MAX_DIMENSION, TOO_LARGE
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.plausible import note_variance, odd_error, odd_sigma
from memgen_eval.diffusion.sampling import Sampler
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, check_count
from memgen_eval.runtime import foreign

BLOCK_VALUES = 2**24  # values of D* held at once, over its sigmas: 128 MiB
NUM_PATHS = 64

PER_INPUT = ("optimal_error", "effective_neighbours", "own_weight")
OF_MODEL = ("error", "gap", "residual", "residual_variance", "energy")
OF_GAUSSIAN = ("projection", "span", "departure", "gaussian_error", "cosine", "gaussian_energy")
OF_MATCHED = ("matched_projection", "matched_span")

Arrays = dict[str, Floats]


def probe(
    denoiser: Any,
    *,
    optimal: OptimalDenoiser,
    gaussian: GaussianDenoiser | None,
    test: Any = None,
    sampler: Sampler | None = None,
    sigmas: Any = None,
    num_images: int = 256,
    num_draws: int = 2,
    batch_size: int = 64,
    seed: int = 0,
    device: Any = None,
    ranks: Ranks = ALONE,
) -> Probe:
    """Measure a denoiser against D* and D_G of a training set, on noised training and test images.

    Runs without gradients, with modules in eval mode; modes, random states and inputs are left as they were.

    Parameters
    ----------
    denoiser : Denoiser or None
        ``D(x, sigma)``; None measures the data alone.
    optimal, gaussian : OptimalDenoiser, GaussianDenoiser or None
        Of the training set; without a GaussianDenoiser what needs D_G is left out.
    test : uint8 or float in [-1, 1], (M, ...), optional
        Images that the denoiser has not seen.
    sampler : Sampler, optional
        Ours, whose path is measured too.
    sigmas : (S,), optional
        Positive, increasing; `sigma_grid` if not given.
    num_images, num_draws : int
        Images of each set, drawn with the seed, and noise draws of each; all images where a set has fewer.
    batch_size : int
        Images to a call of the denoiser, always as many.
    seed : int
        Of images and noise.
    device : torch.device or str, optional
        Where the denoiser is called; its parameters' device otherwise.
    ranks : Ranks
        They share the chunks of inputs.

    Raises
    ------
    InputError
        For unusable sigmas or images, or a denoiser that returns anything but finite images of the shape of x.
    """
    num_images, num_draws = check_count("num_images", num_images), check_count("num_draws", num_draws)
    batch_size = check_count("batch_size", batch_size)
    grid, notes = _grid(denoiser) if sigmas is None else (check_sigmas(sigmas), ())
    # denoisers are told sigma in float32: the noise has to be of that very size
    levels = grid.astype(np.float32).astype(np.float64)
    run = Run(denoiser, optimal, gaussian, levels, batch_size, device_of(denoiser, device), ranks)
    order = draw_order(len(optimal.train), seed=seed, name="train")
    train = NoisedImages(optimal.train, order[:num_images], num_draws, seed, "train")
    unseen, matched, test_matched = _test_side(run, test, order, num_images, num_draws, seed)
    with foreign(denoiser, sampler):
        notes += note_variance(run, train)
        odd = odd_sigma(run, train)
        found, linearity, projections = _measure(run, train, matched, with_structure=True)
        other = None if unseen is None else _measure(run, unseen, test_matched, with_structure=False)[0]
        path = None if sampler is None else _measure_path(sampler, optimal, ranks)
        own_weight = found["own_weight"][:, : len(train.indices)]
        collapse = collapse_sigmas(optimal, train, levels, own_weight, ranks=ranks)
        if denoiser is not None:
            notes += odd or odd_error(run, train, found["error"])
    return Probe(
        sigmas=grid,
        num_train=len(optimal.train),
        num_draws=num_draws,
        train=_averaged(found, train),
        test=None if other is None or unseen is None else _averaged(other, unseen),
        num_matched=None if matched is None else len(matched.train),
        collapse=collapse,
        spectrum=None if gaussian is None else gaussian.spectrum.values,
        linearity=linearity,
        projections=projections,
        path=path,
        no_gaussian=None if gaussian is not None else _why_no_gaussian(optimal),
        notes=notes,
    )


def rehearse(
    denoiser: Any, image: NDArray[np.float32], *, sigmas: Any = None, batch_size: int = 64, device: Any = None
) -> None:
    """Call a denoiser as `probe` will, on one image (1, ...) in [-1, 1] at the smallest and the largest sigma.

    Raises
    ------
    InputError
        If it fails, or returns anything but finite images of the shape of x.
    """
    grid = _grid(denoiser)[0] if sigmas is None else check_sigmas(sigmas)
    run = Run(denoiser, OptimalDenoiser(image), None, grid, batch_size, device_of(denoiser, device))
    noise = draw_noise(image.shape[1:], seed=0, name="train", index=0).reshape(1, -1)
    for sigma in (float(grid[0]), float(grid[-1])):
        run.denoise(as_rows(torch.from_numpy(image)) + sigma * noise, sigma)


def _grid(denoiser: Any) -> tuple[Floats, tuple[str, ...]]:
    """The usual noise levels, those outside the schedule of a converted denoiser left out; and a note if any are."""
    grid = sigma_grid()
    schedule = denoiser.schedule if isinstance(denoiser, ConvertedDenoiser) else None
    if schedule is None:
        return grid, ()
    low, high = schedule.sigma_range
    inside = grid[(grid >= low) & (grid <= high)]
    if len(inside) == len(grid):
        return grid, ()
    if not len(inside):
        raise InputError(
            f"the model's schedule, {low:.4g} to {high:.4g}, holds no usual noise level: give sigmas there"
        )
    usual = f"{grid[0]:.4g} to {grid[-1]:.4g}"
    return inside, (f"the model's schedule, {low:.4g} to {high:.4g}, is narrower than the usual noise levels, {usual}",)


def _test_side(
    run: Run, test: Any, order: NDArray[np.int64], num_images: int, num_draws: int, seed: int
) -> tuple[NoisedImages | None, OptimalDenoiser | None, OptimalDenoiser | None]:
    """Noised test images, and two D* of one size: of a draw of train that holds the noised images, and of test."""
    if test is None:
        return None, None, None
    images = as_images(test, "test")
    if images.shape[1:] != run.optimal.shape:
        raise InputError(
            f"test holds images of shape {images.shape[1:]}, train of shape {run.optimal.shape}: give one shape"
        )
    test_order = draw_order(len(images), seed=seed, name="test")
    unseen = NoisedImages(images, test_order[:num_images], num_draws, seed, "test")
    if run.denoiser is None or run.gaussian is None:
        return unseen, None, None
    size = min(len(images), len(run.optimal.train))
    first, second = np.sort(order[:size]), np.sort(test_order[:size])
    train = run.optimal.train
    return unseen, OptimalDenoiser(train[first]), OptimalDenoiser(images[second])


def _why_no_gaussian(optimal: OptimalDenoiser) -> str:
    return TOO_LARGE if math.prod(optimal.shape) > MAX_DIMENSION else "needs the Gaussian denoiser of the training set"


def _measure(
    run: Run, inputs: NoisedImages, matched: OptimalDenoiser | None, *, with_structure: bool
) -> tuple[Arrays, Linearity | None, Projections | None]:
    """Every figure of every input, (S, T); with structure also linearity and projections."""
    with_gaussian = run.denoiser is not None and run.gaussian is not None
    names = PER_INPUT + OF_MODEL * (run.denoiser is not None) + OF_GAUSSIAN * with_gaussian
    names += OF_MATCHED * (with_gaussian and matched is not None)
    found: Arrays = {name: np.empty((len(run.sigmas), len(inputs))) for name in names}
    structure = Structure.of(run, inputs) if with_structure and with_gaussian else None
    at_once = max(1, BLOCK_VALUES // (run.chunk * math.prod(run.optimal.shape)))  # sigmas
    mine = run.ranks.share(len(inputs), run.chunk)
    for start in range(mine.start, mine.stop, run.chunk):
        at = slice(start, min(start + run.chunk, mine.stop))
        x0, eps = inputs.take(np.arange(at.start, at.stop))
        clean, noise = inputs.in_model_units(x0), eps.reshape(len(eps), -1).astype(np.float64)
        given = torch.from_numpy(x0).to(run.device)
        for low in range(0, len(run.sigmas), at_once):
            part = run.sigmas[low : low + at_once]
            best = run.optimal.posterior(given, eps, part)
            match = None if matched is None else matched.posterior(given, eps, part).mean
            assert best.mean is not None and best.variance is not None
            for k, sigma in enumerate(part.tolist()):
                place = (low + k, at)
                found["effective_neighbours"][place] = best.effective_neighbours[k]
                found["own_weight"][place] = best.own_weight[k]
                optimum, x = best.mean[k], clean + sigma * noise
                found["optimal_error"][place] = dot(optimum - clean, optimum - clean)
                if run.denoiser is None:
                    continue
                model = run.denoise(x, sigma)
                variance = best.variance[k]
                _compare(found, place, model, clean, optimum, variance)
                if with_gaussian:
                    wiener = run.wiener(x, sigma)
                    _compare_gaussian(found, place, model, wiener, clean, optimum, run)
                    if match is not None:
                        _compare_matched(found, place, model, wiener, match[k])
                    if structure is not None:
                        structure.add(run, place, x, model, wiener)
    found = {name: run.ranks.gather(values[:, mine], axis=1) for name, values in found.items()}
    return found, *((None, None) if structure is None else structure.result(run.ranks, mine))


def _compare(
    found: Arrays, place: tuple[int, slice], model: Floats, clean: Floats, optimum: Floats, variance: Floats
) -> None:
    found["error"][place] = dot(model - clean, model - clean)
    found["gap"][place] = dot(model - optimum, model - optimum)
    residual, missed = 2 * dot(model - optimum, optimum - clean), dot(optimum - clean, optimum - clean)
    found["residual"][place] = residual
    share = np.divide(variance, missed, out=np.ones(len(missed)), where=missed > 0)
    found["residual_variance"][place] = residual**2 * np.maximum(share, 1)
    found["energy"][place] = dot(model, model)


def _compare_gaussian(
    found: Arrays,
    place: tuple[int, slice],
    model: Floats,
    wiener: Floats,
    clean: Floats,
    optimum: Floats,
    run: Run,
) -> None:
    assert run.gaussian is not None
    mean = run.gaussian.spectrum.mean
    found["projection"][place] = dot(model - wiener, optimum - wiener)
    found["span"][place] = dot(optimum - wiener, optimum - wiener)
    found["departure"][place] = dot(model - wiener, model - wiener)
    found["gaussian_error"][place] = dot(wiener - clean, wiener - clean)
    found["cosine"][place] = cosine(model - mean, wiener - mean)
    found["gaussian_energy"][place] = dot(wiener - mean, wiener - mean)


def _compare_matched(found: Arrays, place: tuple[int, slice], model: Floats, wiener: Floats, optimum: Floats) -> None:
    found["matched_projection"][place] = dot(model - wiener, optimum - wiener)
    found["matched_span"][place] = dot(optimum - wiener, optimum - wiener)


def _averaged(found: Arrays, inputs: NoisedImages) -> NoisedSet:
    """Means over the draws of each image, (S, T) -> (S, N)."""
    over = {name: values.reshape(len(values), inputs.num_draws, -1).mean(axis=1) for name, values in found.items()}
    model = None
    if "error" in over:
        variance = over["residual_variance"] / inputs.num_draws  # of the mean of the draws
        model = AgainstOptimal(over["error"], over["gap"], over["residual"], variance)
    gaussian = None
    if "span" in over:
        matched = Index(over["matched_projection"], over["matched_span"]) if "matched_span" in over else None
        gaussian = AgainstGaussian(
            Index(over["projection"], over["span"]),
            matched,
            over["departure"],
            over["gaussian_error"],
            over["energy"],
            over["cosine"],
            over["gaussian_energy"],
        )
    return NoisedSet(over["optimal_error"], over["effective_neighbours"], model, gaussian)


def _measure_path(sampler: Sampler, optimal: OptimalDenoiser, ranks: Ranks) -> Path:
    """The gap at every noise level that the sampler visits, on its first samples; ranks share the noise levels."""
    device = device_of(sampler.denoiser, sampler.device)
    if tuple(sampler.shape) != optimal.shape:
        raise InputError(
            f"the sampler draws images of shape {tuple(sampler.shape)}, train holds {optimal.shape}: give one shape"
        )
    batches = []
    mine = ranks.share(len(sampler.sigmas))
    for start in range(0, NUM_PATHS, sampler.batch_size):
        seeds = range(start, min(start + sampler.batch_size, NUM_PATHS))
        gaps = np.empty((len(sampler.sigmas), len(seeds)))
        for number, step in enumerate(sampler.path(seeds, device)):
            if mine.start <= number < mine.stop:
                best = optimal(step.x.float(), float(np.float32(step.sigma)))  # as the denoiser is told
                difference = as_rows(step.clean) - as_rows(best)
                gaps[number] = dot(difference, difference)
        batches.append(ranks.gather(gaps[mine])[::-1])
    return Path(sampler.sigmas[::-1].copy(), np.concatenate(batches, axis=1))
