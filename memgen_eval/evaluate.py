"""One evaluation, from sets of images to a report: load, search, measure, assemble."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from memgen_eval import families
from memgen_eval.data.images import ImageSet
from memgen_eval.data.samplers import draw_samples
from memgen_eval.data.sources import load_images
from memgen_eval.errors import InputError
from memgen_eval.families import Sets
from memgen_eval.features import features_name
from memgen_eval.guests import guests, is_module
from memgen_eval.neighbours.engines import describe_engine
from memgen_eval.options import NOT_ASKED, NUM_SAMPLES, Options, check_count, check_options, chosen_metrics
from memgen_eval.provenance import gallery, listed_names, provenance
from memgen_eval.reference import Reference
from memgen_eval.report import (
    Curve,
    Estimate,
    Gaussian,
    Memorization,
    Novelty,
    Report,
    Settings,
    Verdict,
)
from memgen_eval.stages import Stages, report_progress

NOT_BUILT = "this version does not measure it"
NO_DENOISER = "needs a denoiser: pass denoiser="

log = logging.getLogger("memgen_eval")

Family = TypeVar("Family", Memorization, Novelty, Gaussian)


def evaluate(
    samples: object,
    *,
    train: object,
    test: object | None = None,
    denoiser: Callable[..., Any] | None = None,
    metrics: str | Sequence[str] | None = None,
    features: str | Callable[..., Any] = "pixels",
    num_samples: int | None = None,
    batch_size: int = 64,
    value_range: tuple[float, float] | None = None,
    threshold: float = 1 / 3,
    duplicate_tolerance: float | None = None,
    flip: bool = True,
    quantize: bool = True,
    sigmas: Sequence[float] | None = None,
    num_denoiser_images: int = 256,
    num_draws: int = 2,
    denoiser_batch_size: int = 64,
    seed: int = 0,
    device: str | None = None,
    memory_budget: str | int = "512MiB",
    data_dir: str | Path | None = None,
) -> Report:
    """Measure whether samples copy the training set, how novel they are, and how much of them its moments explain.

    Parameters
    ----------
    samples : callable, array, tensor, Images, Dataset, iterable of batches, or path
        A sampler, called as ``sampler(n)``, with ``generator=`` (a seeded `torch.Generator`) or ``seeds=`` (n integers,
        one per image) where its signature has such a parameter; or images: (N, H, W), (N, C, H, W) or (N, H, W, C) with
        C = 1 or 3. uint8, or floats in a known range.
    train : the same but no sampler, a known name ("cifar10", "digits"), or a Reference
        The whole training set: never a part of it.
    test : the same, optional
        Images that the model has not seen; a known name of `train` brings its own. Without one, training images left
        out of train one at a time serve as the baseline.
    denoiser : callable, optional
        ``denoiser(x, sigma)``, an estimate of ``E[x0 | x0 + sigma * epsilon = x]``.
    metrics : str or sequence of str, optional
        Families or figures, such as "memorization" or "novelty.auc"; all by default.
    features : "pixels" or callable
        The space of novelty: from a uint8 tensor (B, C, H, W) to features (B, F).
    num_samples : int, optional
        How many images are asked of a sampler (10,000 by default); of images given, the first so many (all by default).
    batch_size : int
        The most images that are asked of a sampler at once.
    value_range : (float, float), optional
        The values of black and white in float samples; unasked, only floats in [-1, 1] are accepted.
    threshold : float
        The c of the ratio rule ``d1 / d2 < c``.
    duplicate_tolerance : float, optional
        The root mean square difference per value, on [0, 1], within which training images are duplicates. By default a
        quarter of the median distance of a training image to its fifth nearest other one.
    flip : bool
        Whether mirrored training images count as copied too.
    quantize : bool
        Whether floats are rounded to 256 grey levels first; False compares them as they are, in float64.
    sigmas, num_denoiser_images, num_draws, denoiser_batch_size, device
        Noise levels, images, noise draws an image, batch and device for the denoiser.
    seed : int
        Of everything drawn.
    memory_budget : str or int
        Bytes for blocks of the search, such as "512MiB"; it never changes a figure.
    data_dir : path, optional
        Where named sets lie; by default the environment's MEMGEN_DATA.

    Returns
    -------
    Report
        Every figure with its interval and beside its baseline; what could not be measured is in `skipped`.

    Raises
    ------
    InputError
        For an argument, file, array or sampler that cannot be used: one line with what, where and what to do.
    """
    options = check_options(
        Options(
            metrics=chosen_metrics(metrics),
            features=features,
            threshold=threshold,
            duplicate_tolerance=duplicate_tolerance,
            flip=flip,
            quantize=quantize,
            sigmas=None if sigmas is None else tuple(float(sigma) for sigma in sigmas),
            num_denoiser_images=num_denoiser_images,
            num_draws=num_draws,
            denoiser_batch_size=denoiser_batch_size,
            seed=seed,
            memory_budget=memory_budget,
        )
    )
    reference, stages = _reference(train, test, data_dir), Stages()
    request = _Request(samples, num_samples, check_count("batch_size", batch_size), value_range, data_dir)
    with guests(samples, denoiser, features):
        sets = _load(request, reference, options, stages)
        found = _measure(sets, has_denoiser=denoiser is not None)
    return _assemble(sets, found, batch_size=batch_size, device=device or "cpu")


@dataclass(frozen=True)
class _Request:
    """Where the samples come from."""

    source: object
    num_samples: int | None
    batch_size: int
    value_range: tuple[float, float] | None
    data_dir: str | Path | None


def _reference(train: object, test: object | None, data_dir: str | Path | None) -> Reference:
    if not isinstance(train, Reference):
        return Reference(train, test, data_dir)
    if test is not None:
        raise InputError("test was given beside a Reference; give it to the Reference: Reference(train, test)")
    return train


def _load(request: _Request, reference: Reference, options: Options, stages: Stages) -> Sets:
    quantize = options.quantize
    with stages.stage("reading the training set"):
        train = reference.train_set(quantize=quantize)
        test = reference.test_set(quantize=quantize)
    if request.num_samples is not None:
        check_count("num_samples", request.num_samples)
    if is_sampler(request.source):
        with stages.stage("drawing samples"):
            samples = draw_samples(
                request.source,
                num_samples=request.num_samples or NUM_SAMPLES,
                batch_size=request.batch_size,
                seed=options.seed,
                value_range=request.value_range,
                like=train.shape,
                quantize=quantize,
                on_progress=report_progress,
            )
    else:
        with stages.stage("reading the samples"):
            samples = load_images(
                request.source,
                argument="samples",
                value_range=request.value_range,
                like=train.shape,
                quantize=quantize,
                data_dir=request.data_dir,
                num_images=request.num_samples,
            )
    return Sets(samples, train, test, reference, options, stages)


def is_sampler(source: object) -> TypeGuard[Callable[..., object]]:
    """Whether samples are to be drawn by calling it: a module, or callable and no collection of images."""
    is_collection = hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    return is_module(source) or (callable(source) and not is_collection)  # an nn.Sequential iterates


@dataclass(frozen=True)
class _Found:
    """The families measured, and why others were not."""

    memorization: Memorization | None
    verdict: Verdict | None
    novelty: Novelty | None
    gaussian: Gaussian | None
    skipped: dict[str, str]


def _measure(sets: Sets, *, has_denoiser: bool) -> _Found:
    options = sets.options
    skipped = {
        "fidelity": NOT_BUILT if options.wants("fidelity") else NOT_ASKED,
        "denoiser": (NOT_BUILT if has_denoiser else NO_DENOISER) if options.wants("denoiser") else NOT_ASKED,
    }
    in_pixels = options.wants("memorization") or (options.wants("novelty") and options.features == "pixels")
    searched = families.search(sets) if in_pixels else None
    memorization, verdict = None, None
    if options.wants("memorization"):
        assert searched is not None
        memorization, verdict = families.memorization(sets, searched)
    else:
        skipped |= {
            "memorization": NOT_ASKED,
            "verdict": "it rests on the memorization family, which was not asked for",
        }
    novelty = _attempt("novelty", options, lambda: families.novelty(sets, searched), skipped)
    gaussian = _attempt("gaussian", options, lambda: families.gaussian(sets), skipped)
    return _Found(memorization, verdict, novelty, gaussian, skipped)


def _attempt(name: str, options: Options, measure: Callable[[], Family], skipped: dict[str, str]) -> Family | None:
    """The family, or None with the reason in `skipped`: a failure here does not lose what was found before."""
    if not options.wants(name):
        skipped[name] = NOT_ASKED
        return None
    try:
        return measure()
    except Exception as error:
        if options.named(name):
            raise
        if not isinstance(error, InputError):
            log.exception("%s could not be measured", name)
        skipped[name] = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
        return None


def _assemble(sets: Sets, found: _Found, *, batch_size: int, device: str) -> Report:
    options, held = sets.options, sets.held_out
    named: dict[str, ImageSet | None] = {"samples": sets.samples, "train": sets.train, "test": sets.test}
    control = "train" if sets.test is None else "test"
    settings = Settings(
        seed=options.seed,
        metrics=options.metrics,
        features=features_name(options.features),
        threshold=options.threshold,
        duplicate_tolerance=sets.tolerance * sets.scale.unit if options.wants("memorization") else None,
        flip=options.flip,
        quantize=options.quantize,
        image_shape=sets.train.shape,
        num_samples=len(sets.samples),
        num_train=len(sets.train),
        num_test=None if sets.test is None else len(sets.test),
        baseline="none" if held is None else held.setting,
        num_baseline=0 if held is None else len(held.rows),
        sigmas=options.sigmas,
        num_denoiser_images=options.num_denoiser_images,
        num_draws=options.num_draws,
        denoiser_batch_size=options.denoiser_batch_size,
        checksums={name: None if images is None else images.checksum for name, images in named.items()},
    )
    memorization = _asked(found.memorization, "memorization", options)
    novelty, gaussian = _asked(found.novelty, "novelty", options), _asked(found.gaussian, "gaussian", options)
    report = Report(
        verdict=found.verdict,
        memorization=memorization,
        novelty=novelty,
        fidelity=None,
        denoiser=None,
        gaussian=gaussian,
        skipped={},
        settings=settings,
        provenance=provenance(
            seconds=sets.stages.seconds,
            command=None,
            engine=describe_engine(sets.train.dtype),
            device=device,
            batch_size=batch_size,
            memory_budget=options.memory_budget,
            sets=named,
            names=listed_names(memorization, found.verdict, named, baseline=control),
        ),
        gallery=None
        if memorization is None
        else gallery(memorization, samples=sets.samples, train=sets.train, baseline=named[control]),
    )
    undefined = {path: figure.notes[0] for path, figure in report.figures() if figure.value is None}
    asked = {path: reason for path, reason in undefined.items() if options.wants_figure(path)}
    return replace(report, skipped=found.skipped | asked)


def _asked(family: Family | None, name: str, options: Options) -> Family | None:
    """The family with the figures that were not asked for left out."""
    if family is None:
        return None
    blank: dict[str, Any] = {}
    for entry in fields(family):
        if not options.wants_figure(f"{name}.{entry.name}"):
            figure = getattr(family, entry.name)
            if isinstance(figure, Estimate | Curve):
                blank[entry.name] = type(figure).undefined(NOT_ASKED)
    return replace(family, **blank)
