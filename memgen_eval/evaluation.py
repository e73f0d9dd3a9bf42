"""One evaluation, from sets of images to a report: load, search, measure, assemble."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from memgen_eval import families
from memgen_eval.build_report import Found, assemble
from memgen_eval.compute.resources import unforked_threads
from memgen_eval.data.samplers import draw_samples
from memgen_eval.data.sources import load_images
from memgen_eval.diffusion.inputs import check_sigmas
from memgen_eval.diffusion.measurements import Probe
from memgen_eval.distributed import Ranks, joined
from memgen_eval.errors import InputError, RankError, check_count
from memgen_eval.features import features_name
from memgen_eval.options import NOT_ASKED, NOT_BUILT, NUM_SAMPLES, Options, check_options, chosen_metrics
from memgen_eval.reference import Reference
from memgen_eval.report import Report
from memgen_eval.resemblance import cautions
from memgen_eval.runtime import Stages, check_denoiser, foreign, is_module, report_progress
from memgen_eval.sets import Sets, search

NO_DENOISER = "needs a denoiser: pass denoiser="
DATA_ALONE = f"{NO_DENOISER}, or ask for denoiser in metrics for what the data alone tells"
log = logging.getLogger("memgen_eval")
Found_ = TypeVar("Found_")


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

    Where a `torch.distributed` group of several processes is initialised, every rank calls it with the same arguments,
    does its share and gets the report of one process; an error in one is raised in all. Each needs the whole model, and
    the module inside a DistributedDataParallel: ranks do not call it in step.

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
        How many images to ask of a sampler (10,000 by default), or to take of the images given (all by default).
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
        Noise levels, images, noise draws an image, batch and device for the denoiser. Without a denoiser its family is
        measured only if `metrics` names it: what the data alone tells.
    seed : int
        Of everything drawn.
    memory_budget : str or int
        Bytes for blocks of the search, such as "512MiB"; it never changes a figure.
    data_dir : path, optional
        Where named sets lie; by default the environment's MEMGEN_DATA.

    Returns
    -------
    Report
        Every figure with its interval and its baseline's; what could not be measured is in `skipped`.

    Raises
    ------
    InputError
        For an argument, file, array or sampler that cannot be used: one line with what, where and what to do.
    RankError
        If another process of the group is gone, or at something else.
    """
    options = check_options(
        Options(
            metrics=chosen_metrics(metrics),
            features=features,
            threshold=threshold,
            duplicate_tolerance=duplicate_tolerance,
            flip=flip,
            quantize=quantize,
            sigmas=None if sigmas is None else tuple(check_sigmas(sigmas).tolist()),
            num_denoiser_images=num_denoiser_images,
            num_draws=num_draws,
            denoiser_batch_size=denoiser_batch_size,
            seed=seed,
            memory_budget=memory_budget,
        )
    )
    check_denoiser(denoiser)
    count = None if num_samples is None else check_count("num_samples", num_samples)
    reference, stages = _reference(train, test, data_dir), Stages()
    request = _Request(samples, count, check_count("batch_size", batch_size), value_range, data_dir)
    model = _Model(denoiser, samples, device)
    with joined() as ranks:
        with foreign(samples, denoiser, features, reference.train, reference.test), unforked_threads():
            sets = _load(request, reference, model, options, stages, ranks)
            checksums = families.checksums(sets)
            ranks.same(_determining(sets, checksums, denoiser))
            found = _measure(sets, model)
        device = families.device_name(denoiser, device)
        return assemble(sets, found, checksums=checksums, batch_size=request.batch_size, device=device)


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
    train.renew()
    return train


def _load(
    request: _Request, reference: Reference, model: _Model, options: Options, stages: Stages, ranks: Ranks
) -> Sets:
    quantize, num_samples = options.quantize, request.num_samples
    with stages.stage("reading the training set"):
        train = reference.train_set(quantize=quantize)
        test = reference.test_set(quantize=quantize)
    if model.denoiser is not None and (options.wants("denoiser") or options.wants("gaussian")):
        with ranks.together():  # before samples are drawn, which may take hours
            families.try_denoiser(train, model.denoiser, model.device, options)
    if is_sampler(request.source):
        with stages.stage("drawing samples"):
            samples = draw_samples(
                request.source,
                num_samples=num_samples or NUM_SAMPLES,
                batch_size=request.batch_size,
                seed=options.seed,
                value_range=request.value_range or _own_range(request.source),
                like=train.shape,
                quantize=quantize,
                on_progress=report_progress,
                device=model.device,
                ranks=ranks,
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
                num_images=num_samples,
            )
    return Sets(samples, train, test, reference, options, stages, ranks, is_sampler(request.source))


def _determining(sets: Sets, checksums: dict[str, str | None], denoiser: object) -> dict[str, str]:
    """What every rank must have alike, as text."""
    chosen = {f.name: str(getattr(sets.options, f.name)) for f in fields(Options)} | {
        "features": features_name(sets.options.features),
        "denoiser": "none" if denoiser is None else "one",
        "reference": f"{sets.reference.num_kept} kept results",
    }
    return chosen | {name: checksum or "none" for name, checksum in checksums.items()}


def _own_range(sampler: object) -> tuple[float, float] | None:
    """[-1, 1] for samplers of this library, whose excursions are clipped; None for others."""
    own = sys.modules.get("memgen_eval.diffusion.sampling")  # imported by whoever made one
    return (-1.0, 1.0) if own is not None and isinstance(sampler, own.Sampler) else None


def is_sampler(source: object) -> TypeGuard[Callable[..., object]]:
    """Whether samples are to be drawn by calling it: a module, or callable and no collection of images."""
    kind = type(source)  # of which Python asks too: an instance may answer for any name
    is_collection = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return is_module(source) or (callable(source) and not is_collection)  # an nn.Sequential iterates


@dataclass(frozen=True, eq=False)
class _Model:
    """What is known of the model, its samples apart."""

    denoiser: Callable[..., Any] | None
    sampler: object
    device: str | None


def _measure(sets: Sets, model: _Model) -> Found:
    options = sets.options
    skipped = {"fidelity": NOT_BUILT if options.wants("fidelity") else NOT_ASKED}
    in_pixels = options.wants("memorization") or (options.wants("novelty") and options.features == "pixels")
    with sets.stages.stage("comparing the sets"):
        warned = cautions.of_sets(sets)
    searched = search(sets) if in_pixels else None
    if searched is not None:
        warned += cautions.of_distances(searched)
    memorization, verdict = None, None
    if options.wants("memorization"):
        assert searched is not None
        with sets.stages.stage("other readings of the samples"):
            warned += cautions.of_other_readings(sets, searched)
        memorization, verdict = families.memorization(sets, searched, warned)
    else:
        skipped |= {
            "memorization": NOT_ASKED,
            "verdict": "it rests on the memorization family, which was not asked for",
        }
    novelty = _attempt("novelty", sets, lambda: families.novelty(sets, searched), skipped)
    probed = _probe(sets, model, skipped)
    why = NO_DENOISER if model.denoiser is None else skipped.get("denoiser", "")
    return Found(
        memorization=memorization,
        verdict=verdict,
        novelty=novelty,
        denoiser=None if probed is None or not options.wants("denoiser") else families.denoiser(sets, probed),
        gaussian=_attempt("gaussian", sets, lambda: families.gaussian(sets, probed, why), skipped),
        sigmas=options.sigmas if probed is None else tuple(probed.sigmas.tolist()),
        cautions=warned,
        skipped=skipped,
    )


def _probe(sets: Sets, model: _Model, skipped: dict[str, str]) -> Probe | None:
    """The denoiser compared with D* and D_G, for two families; the data alone where there is no denoiser."""
    options = sets.options
    if not options.wants("denoiser") and (model.denoiser is None or not options.wants("gaussian")):
        skipped["denoiser"] = NOT_ASKED
        return None
    if model.denoiser is None and not options.named("denoiser"):  # D* of a large set takes minutes
        skipped["denoiser"] = DATA_ALONE
        return None
    measure = lambda: families.probed(sets, model.denoiser, model.sampler, model.device)  # noqa: E731
    found = _attempt("denoiser", sets, measure, skipped, is_given=model.denoiser is not None)
    if found is not None and not options.wants("denoiser"):
        skipped["denoiser"] = NOT_ASKED
    return found


def _attempt(
    name: str, sets: Sets, measure: Callable[[], Found_], skipped: dict[str, str], *, is_given: bool = False
) -> Found_ | None:
    """What is measured, or None with the reason in `skipped`: a failure here does not lose what was found before.

    A family that was asked for by name fails, and so does one whose model was given (`is_given`) and cannot be used.
    """
    options, ranks = sets.options, sets.ranks
    if not options.wants(name) and name != "denoiser":  # its probe serves the Gaussian family too
        skipped[name] = NOT_ASKED
        return None
    try:
        with ranks.together():
            return measure()
    except Exception as error:
        if options.named(name) or isinstance(error, RankError) or (is_given and isinstance(error, InputError)):
            raise
        if not isinstance(error, InputError) and ranks.rank == 0:
            log.exception("%s could not be measured", name)
        skipped[name] = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
        return None
