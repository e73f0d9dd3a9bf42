"""Each family of figures from the three sets: search, then measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval import tables
from memgen_eval.data.images import ImageSet
from memgen_eval.diffusion.measurements import Probe
from memgen_eval.diffusion.moments import MAX_DIMENSION, TOO_LARGE, Moments, moments
from memgen_eval.features import embed
from memgen_eval.metrics.copy_rules import Copying
from memgen_eval.metrics.data_copying import partition
from memgen_eval.metrics.denoiser import measure_denoiser
from memgen_eval.metrics.gaussian_denoiser import GaussianCurves, measure_gaussian_curves
from memgen_eval.metrics.gaussian_samples import MatchedSets, SampleFigures, measure_gaussian
from memgen_eval.metrics.memorization import Extras, measure_memorization
from memgen_eval.metrics.novelty import Distances, measure_novelty, with_notes
from memgen_eval.metrics.statistics import permutation
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.table import Neighbours
from memgen_eval.options import NOT_ASKED, Options
from memgen_eval.results import Denoiser, Estimate, Gaussian, Memorization, Novelty, Verdict
from memgen_eval.sets import GREY_LEVELS, Searched, Sets

NO_BASELINE = "needs a test set, or two training images without an exact duplicate to leave one out"
NO_OTHERS = "needs another training image beside the nearest"
REPEATS_LEFT_OUT = "{:,} samples that repeat another sample exactly are left out"


def memorization(sets: Sets, searched: Searched, cautions: tuple[str, ...]) -> tuple[Memorization, Verdict]:
    """The memorization family and the verdict, in pixels; with `cautions` nothing is acquitted."""
    options, held = sets.options, sets.held_out
    with sets.stages.stage("duplicate tolerance"):
        tolerance = sets.tolerance

    def copying(plain: Neighbours, repeats: NDArray[np.bool_] | None = None) -> Copying:
        return tables.copying(
            plain,
            sets.references,
            repeats=repeats,
            flip=options.flip,
            tolerance=tolerance,
            memory_budget=options.memory_budget,
            ranks=sets.ranks,
        )

    with sets.stages.stage("copies among samples"):
        known = copying(searched.samples, sets.samples.survey.repeats)
    base, plain = None, searched.baseline
    if held is not None and plain is not None:
        with sets.stages.stage("copies among the baseline"):
            base = tables.baseline(held, sets.keep("copying", lambda: copying(plain), key=(options.flip, tolerance)))
    with sets.stages.stage("patches and repetition"):
        extras = _extras(sets, known, held)
    return measure_memorization(
        known,
        base,
        extras,
        threshold=options.threshold,
        tolerance=tolerance,
        scale=sets.scale,
        cautions=cautions,
        reason=NO_BASELINE,
    )


def _extras(sets: Sets, known: Copying, held: tables.HeldOut | None) -> Extras:
    options, samples = sets.options, sets.samples.array()
    undefined = Estimate.undefined(NO_BASELINE)
    repetition, test_repetition = undefined, undefined
    if held is not None:
        repetition, test_repetition = tables.repetition(
            samples,
            held.images,
            originals=sets.samples.survey.originals,
            threshold=options.threshold,
            flip=options.flip,
            seed=options.seed,
            memory_budget=options.memory_budget,
            ranks=sets.ranks,
        )
    tolerance, ranks = sets.tolerance, sets.ranks
    return Extras(
        carlini_patch=tables.patch_share(known, sets.train, tolerance=tolerance, flip=options.flip, ranks=ranks),
        repetition=repetition,
        test_repetition=test_repetition,
    )


def novelty(sets: Sets, searched: Searched | None) -> Novelty:
    """The novelty family: in pixels with the searches made already, else in the space of the features."""
    options = sets.options
    if callable(options.features):
        with sets.stages.stage("features"):
            space = _embedded(sets, options.features)
    else:
        assert searched is not None
        unit = sets.scale.unit
        plain = None if searched.baseline is None else searched.baseline.scaled(unit)
        space = _Space(sets.references, Searched(searched.samples.scaled(unit), plain))
    with sets.stages.stage("novelty"):
        repeats, held = sets.samples.survey.repeats, sets.held_out
        distinct = tables.some(space.searched.samples, ~repeats) if repeats.any() else space.searched.samples
        samples, baseline = _distances(sets, space.train, [distinct, space.searched.baseline])
        found = measure_novelty(samples, baseline, reason=NO_BASELINE, seed=options.seed)
        left_out = (REPEATS_LEFT_OUT.format(np.count_nonzero(repeats)),) * bool(repeats.any())
        return with_notes(found, samples=left_out, baseline=() if held is None else held.notes)


@dataclass(frozen=True, eq=False)
class _Space:
    """The training set in the space of the features, (n, ...), and the searches made there."""

    train: References
    searched: Searched


def _embedded(sets: Sets, features: Callable[..., Any]) -> _Space:
    held, budget, ranks = sets.held_out, sets.options.memory_budget, sets.ranks

    def embedded() -> References:
        return References(embed(sets.train, features, argument="train", ranks=ranks))

    train = sets.keep("features", embedded, bound_to=sets.extractor)
    k = min(2, len(train.rows))
    own = embed(sets.samples, features, argument="samples", ranks=ranks)
    samples = tables.shared_neighbours(own, train, k, memory_budget=budget, ranks=ranks)
    if held is None:
        return _Space(train, Searched(samples, None))

    def baseline() -> Neighbours:
        if held.excluded is None:
            assert sets.test is not None
            test = embed(sets.test, features, argument="test", ranks=ranks)[held.rows]
            return tables.shared_neighbours(test, train, k, memory_budget=budget, ranks=ranks)
        images, others = train.rows[held.rows], min(2, len(train.rows) - 1)
        return tables.shared_neighbours(images, train, others, exclude=held.excluded, memory_budget=budget, ranks=ranks)

    return _Space(train, Searched(samples, sets.keep("feature neighbours", baseline, bound_to=sets.extractor)))


def _distances(sets: Sets, train: References, searched: list[Neighbours | None]) -> tuple[Distances, Distances | None]:
    """What the family needs to know of samples and baseline, searched among the training images of this space."""
    tables_ = [table for table in searched if table is not None]
    own: list[NDArray[np.float64]] | list[str] = [NO_OTHERS] * len(tables_)
    if not _wants_any(sets, "authenticity", "test_authenticity"):
        own = [NOT_ASKED] * len(tables_)
    elif len(train.rows) >= 2 + any(table.excluded is not None for table in tables_):
        budget, ranks = sets.options.memory_budget, sets.ranks
        own = tables.own_distances(tables_, train, memory_budget=budget, ranks=ranks)
    cells = _cells(sets, train, tables_)
    known = [Distances(tables_[i], own[i], cells[i]) for i in range(len(tables_))]
    return known[0], known[1] if len(known) > 1 else None


def _wants_any(sets: Sets, *names: str) -> bool:
    return any(sets.options.wants_figure(f"novelty.{name}") for name in names)


def _cells(sets: Sets, train: References, searched: list[Neighbours]) -> list[NDArray[np.int64]] | list[str]:
    if not _wants_any(sets, "ct", "relative_ct"):
        return [NOT_ASKED] * len(searched)
    if int(np.prod(train.rows.shape[1:])) > MAX_DIMENSION:
        return [TOO_LARGE] * len(searched)
    features, seed = sets.options.features, sets.options.seed
    known = pixel_moments(sets) if features == "pixels" else None
    divided = sets.keep(
        "partition", lambda: partition(train.rows, seed=seed, reference_moments=known), bound_to=sets.extractor
    )
    queries = [table.queries for table in searched]
    return [divided.assign(images) for images in queries if images is not None]


def pixel_moments(sets: Sets) -> Moments:
    """Mean and covariance of the training images."""
    return sets.keep("moments", lambda: moments(sets.train.array()))


def probed(sets: Sets, model: Callable[..., Any] | None, sampler: object, device: str | None) -> Probe:
    """The denoiser beside D* and D_G of the training set, or the data alone."""
    from memgen_eval.diffusion.gaussian import GaussianDenoiser
    from memgen_eval.diffusion.optimal import OptimalDenoiser
    from memgen_eval.diffusion.probe import probe
    from memgen_eval.diffusion.sampling import Sampler

    options, train = sets.options, for_denoisers(sets.train)
    with sets.stages.stage("denoiser"):
        small = sets.train.num_values <= MAX_DIMENSION
        return probe(
            model,
            optimal=sets.keep("D*", lambda: OptimalDenoiser(train)),
            gaussian=sets.keep("D_G", lambda: GaussianDenoiser(train)) if small else None,
            test=None if sets.test is None else for_denoisers(sets.test),
            sampler=sampler if isinstance(sampler, Sampler) and model is not None else None,
            sigmas=options.sigmas,
            num_images=options.num_denoiser_images,
            num_draws=options.num_draws,
            batch_size=options.denoiser_batch_size,
            seed=options.seed,
            device=device,
            ranks=sets.ranks,
        )


def try_denoiser(train: ImageSet, model: Callable[..., Any], device: str | None, options: Options) -> None:
    """Call a denoiser on a training image. Raises InputError if it fails, or returns anything but such an image."""
    from memgen_eval.diffusion.probe import rehearse

    image = train.read(0, 1).astype(np.float32) / np.float32(GREY_LEVELS / 2) - np.float32(1)
    rehearse(model, image, sigmas=options.sigmas, batch_size=options.denoiser_batch_size, device=device)


def for_denoisers(images: ImageSet) -> NDArray[Any]:
    """Images as denoisers are given them: uint8, or float32 in [-1, 1]."""
    array = images.array()
    return array if array.dtype == np.uint8 else array / np.float32(GREY_LEVELS / 2) - np.float32(1)


def checksums(sets: Sets) -> dict[str, str | None]:
    """Of the canonical pixels of each set."""
    named = {"samples": sets.samples, "train": sets.train, "test": sets.test}
    with sets.stages.stage("checksums"):
        return {name: None if images is None else images.checksum for name, images in named.items()}


def device_name(model: Callable[..., Any] | None, device: str | None) -> str:
    """Where the denoiser is called."""
    if model is None:
        return device or "cpu"
    from memgen_eval.diffusion.calling import device_of

    return str(device_of(model, device))


def denoiser(sets: Sets, found: Probe) -> Denoiser:
    """The denoiser family."""
    return measure_denoiser(found, seed=sets.options.seed)


def gaussian(sets: Sets, found: Probe | None, why: str) -> Gaussian:
    """The Gaussian family; `why` says why there is no probe. Raises InputError for images that are too large."""
    samples = _of_samples(sets)
    seed = sets.options.seed
    curves = GaussianCurves.undefined(why) if found is None else measure_gaussian_curves(found, seed=seed)
    return Gaussian(**vars(curves), **vars(samples))


def _of_samples(sets: Sets) -> SampleFigures:
    seed, num_train = sets.options.seed, len(sets.train)
    samples = np.flatnonzero(~sets.samples.survey.repeats)
    test = np.arange(num_train) if sets.test is None else np.flatnonzero(~sets.test.survey.repeats)
    size = min(len(samples), len(test), num_train // 2)
    if size < 2:
        return SampleFigures.undefined("needs two samples, two test images and four training images")
    with sets.stages.stage("gaussian structure"):
        halves = permutation(num_train, seed=seed)
        matched = MatchedSets(
            samples=sets.samples.take(samples[permutation(len(samples), seed=seed)[:size]]),
            test=None if sets.test is None else sets.test.take(test[permutation(len(test), seed=seed)[:size]]),
            train=sets.train.take(halves[:size]),
            other_train=sets.train.take(halves[size : 2 * size]),
        )
        notes = (REPEATS_LEFT_OUT.format(len(sets.samples) - len(samples)),) * (len(samples) < len(sets.samples))
        return measure_gaussian(
            matched, train_moments=pixel_moments(sets), grey_levels=GREY_LEVELS, seed=seed, notes=notes
        )
