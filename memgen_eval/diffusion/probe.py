"""D, D* and D_G on the same noisy inputs, block by block: everything that the denoiser's figures rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memgen_eval.compute.kept import NOWHERE, Arrays, Kept, as_fact
from memgen_eval.diffusion.calling import device_of
from memgen_eval.diffusion.denoiser import ConvertedDenoiser, LimitedDenoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser, with_kept_spectrum
from memgen_eval.diffusion.inputs import (
    NoisedImages,
    as_images,
    as_told,
    check_sigmas,
    draw_noise,
    draw_order,
    sigma_grid,
)
from memgen_eval.diffusion.measurements import (
    Denoised,
    Floats,
    NoisedSet,
    Path,
    Probe,
    Run,
    Structure,
    dot,
    float64_rows,
    measure_inputs,
)
from memgen_eval.diffusion.moments import MAX_DIMENSION, TOO_LARGE
from memgen_eval.diffusion.optimal import OptimalDenoiser, collapse_sigmas
from memgen_eval.diffusion.plausible import note_variance, odd_error, odd_sigma
from memgen_eval.diffusion.posterior import Posterior
from memgen_eval.diffusion.sampling import Sampler
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError, check_count
from memgen_eval.runtime import fingerprint, foreign

HELD_VALUES = 2**24  # values of D* held at once, over its sigmas: 128 MiB
NUM_PATHS = 64
NUM_STRUCTURE = 3  # arrays that `Structure` measures
DENOISER = "denoiser"  # what chunks are kept as


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
    kept: Kept = NOWHERE,
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
    kept : Kept
        Where what was measured is kept, for a key that holds the images of both sets.

    Raises
    ------
    InputError
        For unusable sigmas or images, or a denoiser that returns anything but finite images of the shape of x.
    """
    num_images, num_draws = check_count("num_images", num_images), check_count("num_draws", num_draws)
    batch_size = check_count("batch_size", batch_size)
    grid, notes = _grid(denoiser) if sigmas is None else (check_sigmas(sigmas), ())
    run = Run(denoiser, optimal, gaussian, as_told(grid), batch_size, device_of(denoiser, device), ranks)
    train = _noised(optimal.train, "train", num_images, num_draws, seed)
    unseen = None if test is None else _noised(_check_test(test, optimal), "test", num_images, num_draws, seed)
    compared = None if denoiser is None or gaussian is None else unseen
    matched, test_matched = (None, None) if compared is None else _matched_pair(train, compared)
    with foreign(denoiser, sampler):
        run = replace(run, kept=_kept_of(run, train, kept))
        notes += note_variance(run, train)
        odd = odd_sigma(run, train)
        structure = None if denoiser is None or gaussian is None else Structure(run, train)
        found = _measure_set(run, train, matched, structure)
        linearity, projections = (None, None) if structure is None else structure.result()
        other = None if unseen is None else _measure_set(run, unseen, test_matched, None)
        path = None if sampler is None else _measure_path(sampler, optimal, ranks, run.kept)
        collapse = collapse_sigmas(optimal, train, run.sigmas, found.own_weight, ranks=ranks, kept=run.kept)
        notes += () if found.error is None else odd or odd_error(run, train, found.error)
    return Probe(
        sigmas=grid,
        num_train=len(optimal.train),
        num_draws=num_draws,
        train=_averaged(found, num_draws),
        test=None if other is None else _averaged(other, num_draws),
        num_matched=None if matched is None else len(matched.train),
        collapse=collapse,
        spectrum=None if gaussian is None else gaussian.spectrum.values,
        linearity=linearity,
        projections=projections,
        path=path,
        no_gaussian=None if gaussian is not None else _missing_gaussian(optimal),
        notes=notes,
    )


def _kept_of(run: Run, inputs: NoisedImages, kept: Kept) -> Kept:
    """Where this denoiser is kept: known by its code and weights, and by what it makes of a few inputs."""
    if not kept.active:
        return kept
    if run.gaussian is not None:
        with_kept_spectrum(run.gaussian, kept)
    grid, settings = as_fact(run.sigmas), (len(inputs), inputs.num_draws, inputs.seed, run.batch_size)
    kept = kept.under(torch.__version__, str(run.device), grid, *settings, run.gaussian is not None)
    if run.denoiser is None:
        return kept
    x0, eps = inputs.take(np.arange(min(run.batch_size, len(inputs))))
    clean, noise = inputs.in_model_units(x0), eps.reshape(len(eps), -1)
    seen = (run.denoise(clean + sigma * noise, sigma) for sigma in run.sigmas[[0, -1]].tolist())
    return kept.under(fingerprint(run.denoiser), *seen)


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
        run.denoise(float64_rows(torch.from_numpy(image)) + sigma * noise, sigma)


def _grid(denoiser: Any) -> tuple[Floats, tuple[str, ...]]:
    """The usual noise levels, those that a denoiser of ours does not know left out; and a note if any are."""
    grid = sigma_grid()
    limits = denoiser.sigma_range if isinstance(denoiser, ConvertedDenoiser | LimitedDenoiser) else None
    if limits is None:
        return grid, ()
    low, high = limits
    inside = grid[(grid >= low) & (grid <= high)]
    if len(inside) == len(grid):
        return grid, ()
    if not len(inside):
        raise InputError(
            f"the model's schedule, {low:.4g} to {high:.4g}, holds no usual noise level: give sigmas there"
        )
    usual = f"{grid[0]:.4g} to {grid[-1]:.4g}"
    return inside, (f"the model's schedule, {low:.4g} to {high:.4g}, is narrower than the usual noise levels, {usual}",)


def _check_test(test: Any, optimal: OptimalDenoiser) -> NDArray[Any]:
    images = as_images(test, "test")
    if images.shape[1:] != optimal.shape:
        raise InputError(
            f"test holds images of shape {images.shape[1:]}, train of shape {optimal.shape}: give one shape"
        )
    return images


def _noised(images: NDArray[Any], name: str, num_images: int, num_draws: int, seed: int) -> NoisedImages:
    order = draw_order(len(images), seed=seed, name=name)
    return NoisedImages(images, order[:num_images], num_draws, seed, name)


def _matched_pair(train: NoisedImages, test: NoisedImages) -> tuple[OptimalDenoiser, OptimalDenoiser]:
    """D* of as many images of either set, drawn so that they hold the noised ones where these are not more."""
    size = min(len(train.images), len(test.images))
    orders = (draw_order(len(inputs.images), seed=inputs.seed, name=inputs.name) for inputs in (train, test))
    rows, test_rows = (np.sort(order[:size]) for order in orders)
    return OptimalDenoiser(train.images[rows]), OptimalDenoiser(test.images[test_rows])


def _missing_gaussian(optimal: OptimalDenoiser) -> str:
    return TOO_LARGE if math.prod(optimal.shape) > MAX_DIMENSION else "needs the Gaussian denoiser of the training set"


def _measure_set(
    run: Run, inputs: NoisedImages, matched: OptimalDenoiser | None, structure: Structure | None
) -> NoisedSet:
    """Every figure of every input, (S, T); linearity and projections are added to `structure`."""
    mine, parts = run.ranks.shard(len(inputs), run.chunk), []
    for start in range(mine.start, mine.stop, run.chunk):
        at = slice(start, min(start + run.chunk, mine.stop))
        parts.append(NoisedSet.combined(list(_measured(run, inputs, at, matched, structure)), np.stack))
    everyones = [part for theirs in run.ranks.exchange("measurements", parts) for part in theirs]
    return NoisedSet.combined(everyones, partial(np.concatenate, axis=1))


def _measured(
    run: Run, inputs: NoisedImages, at: slice, matched: OptimalDenoiser | None, structure: Structure | None
) -> Iterator[NoisedSet]:
    """Yield every figure of a chunk of inputs at every sigma in turn; what was kept is not computed again."""
    at_once = max(1, HELD_VALUES // (run.chunk * math.prod(run.optimal.shape)))
    kept = run.kept.under(inputs.name, at.start, at.stop, structure is not None, matched is not None)
    for low in range(0, len(run.sigmas), at_once):
        chunk = Chunk(run, inputs, at, slice(low, min(low + at_once, len(run.sigmas))), matched)
        for number in range(chunk.levels.start, chunk.levels.stop):
            found = kept.block(partial(_as_arrays, chunk, number, structure), DENOISER, number)
            if structure is not None:
                structure.add(at, number, found[-NUM_STRUCTURE:])
            yield NoisedSet(*found[:-NUM_STRUCTURE])  # type: ignore[arg-type]


def _as_arrays(chunk: Chunk, number: int, structure: Structure | None) -> Arrays:
    """What is measured of a chunk at one sigma: the fields of a NoisedSet, and those of the structure."""
    run, found = chunk.run, chunk.denoised(number)
    mean = None if run.gaussian is None else run.gaussian.spectrum.mean
    of_structure = (None,) * NUM_STRUCTURE if structure is None else structure.measure(chunk.at, found)
    return *vars(measure_inputs(found, mean)).values(), *of_structure


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk of inputs at a few sigmas: D* of all these sigmas is computed at once, when it is first needed."""

    run: Run
    inputs: NoisedImages
    at: slice
    levels: slice
    matched: OptimalDenoiser | None

    @cached_property
    def _given(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        return self.inputs.take(np.arange(self.at.start, self.at.stop))

    @cached_property
    def _posterior(self) -> Posterior:
        return self.run.optimal.posterior(*self._given, self.run.sigmas[self.levels])

    @cached_property
    def _matched_mean(self) -> Floats | None:
        return None if self.matched is None else self.matched.posterior(*self._given, self.run.sigmas[self.levels]).mean

    def denoised(self, number: int) -> Denoised:
        """The inputs at the sigma of this number in the grid, and what the denoisers make of them."""
        (x0, eps), run, k = self._given, self.run, number - self.levels.start
        sigma, clean = float(run.sigmas[number]), self.inputs.in_model_units(x0)
        x = clean + sigma * eps.reshape(len(eps), -1).astype(np.float64)
        assert self._posterior.mean is not None
        return Denoised(
            number=number,
            posterior=self._posterior.at(k),
            clean=clean,
            x=x,
            optimal=self._posterior.mean[k],
            model=None if run.denoiser is None else run.denoise(x, sigma),
            gaussian=None if run.denoiser is None or run.gaussian is None else run.denoise_gaussian(x, sigma),
            matched=None if self._matched_mean is None else self._matched_mean[k],
        )


def _averaged(found: NoisedSet, num_draws: int) -> NoisedSet:
    """Means over the draws of each image, (S, T) -> (S, N)."""
    over = NoisedSet.combined([found], lambda only: only[0].reshape(len(only[0]), num_draws, -1).mean(axis=1))
    if over.residual_variance is None:
        return over
    return replace(over, residual_variance=over.residual_variance / num_draws)  # of the mean of the draws


def _measure_path(sampler: Sampler, optimal: OptimalDenoiser, ranks: Ranks, kept: Kept) -> Path:
    """The gap at every noise level that the sampler visits, on its first samples; ranks share the noise levels."""
    device = device_of(sampler.denoiser, sampler.device)
    if tuple(sampler.shape) != optimal.shape:
        raise InputError(
            f"the sampler draws images of shape {tuple(sampler.shape)}, train holds {optimal.shape}: give one shape"
        )
    batches = []
    mine = ranks.shard(len(sampler.sigmas))

    def measure(start: int) -> Arrays:
        seeds = range(start, min(start + sampler.batch_size, NUM_PATHS))
        gaps = np.empty((len(sampler.sigmas), len(seeds)))
        for number, step in enumerate(sampler.path(seeds, device)):
            if mine.start <= number < mine.stop:
                best = optimal(step.x.float(), float(np.float32(step.sigma)))  # as the denoiser is told
                difference = float64_rows(step.clean) - float64_rows(best)
                gaps[number] = dot(difference, difference)
        return (gaps[mine],)

    for start in range(0, NUM_PATHS, sampler.batch_size):
        (gaps,) = kept.block(partial(measure, start), "path of the sampler", fingerprint(sampler), start, mine.start)
        batches.append(ranks.gather(gaps)[::-1])
    return Path(sampler.sigmas[::-1].copy(), np.concatenate(batches, axis=1))
