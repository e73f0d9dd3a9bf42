"""One evaluation, from sets of images to a report: prepare the reference, load or draw, measure, build the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memgen_eval.adapters.model import Guests
from memgen_eval.build_report import Ran, build_report
from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.resources import unforked_threads
from memgen_eval.data.images import ImageSet
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import joined
from memgen_eval.embedding.embedder import opened_extractor
from memgen_eval.errors import check_count
from memgen_eval.evaluation.families import measured
from memgen_eval.evaluation.run import Evaluation
from memgen_eval.features.spaces import Features
from memgen_eval.keeping.places import Keeping
from memgen_eval.options import Options
from memgen_eval.reference import Reference, in_unit_range
from memgen_eval.report import Report
from memgen_eval.runtime import Stages, foreign


def evaluate(
    samples: object,
    *,
    train: object,
    test: object | None = None,
    denoiser: object | None = None,
    metrics: str | Sequence[str] | None = None,
    features: Features = Options.features,
    num_samples: int | None = None,
    batch_size: int = 64,
    value_range: tuple[float, float] | None = None,
    threshold: float = Options.threshold,
    duplicate_tolerance: float | None = Options.duplicate_tolerance,
    flip: bool = Options.flip,
    quantize: bool = Options.quantize,
    sigmas: Sequence[float] | None = None,
    num_denoiser_images: int = Options.num_denoiser_images,
    num_draws: int = Options.num_draws,
    denoiser_batch_size: int = Options.denoiser_batch_size,
    seed: int = Options.seed,
    device: str | None = None,
    memory_budget: str | int = Options.memory_budget,
    engine: EngineName | None = Options.engine,
    data_dir: str | Path | None = None,
    resume: str | Path | None = None,
    cache_size: str | int | None = None,
) -> Report:
    """Measure whether samples copy the training set, how novel they are, and how much of them its moments explain.

    Where a `torch.distributed` group of several processes is initialised, every rank calls it with the same arguments,
    does its share and gets the report of one process; an error in one is raised in all. Each needs the whole model, and
    the module inside a DistributedDataParallel: ranks do not call it in step.

    Parameters
    ----------
    samples : callable, model, array, tensor, Images, Dataset, iterable of batches, or path
        A sampler, called as ``sampler(n)``, with ``generator=`` (a seeded `torch.Generator`) or ``seeds=`` (n integers,
        one per image) where its signature has such a parameter; or images: (N, H, W), (N, C, H, W) or (N, H, W, C) with
        C = 1 or 3. uint8, or floats in a known range. Or a model in which a sampler and a denoiser are found: a
        diffusers pipeline, a tuple (network, scheduler), an EDM network, a denoiser of k-diffusion; see `Model`.
    train : the same but no sampler, a known name ("cifar10", "digits"), or a Reference
        The whole training set: never a part of it.
    test : the same, optional
        Images that the model has not seen; a known name of `train` brings its own. Without one, training images left
        out of train one at a time serve as the baseline.
    denoiser : callable or model, optional
        ``denoiser(x, sigma)``, an estimate of ``E[x0 | x0 + sigma * epsilon = x]``, or a model as in `samples`; it is
        used instead of the one found there.
    metrics : str or sequence of str, optional
        Families or figures, such as "memorization" or "novelty.auc"; all by default.
    features : "pixels", "inception", "sscd", "dinov2", "clip", FeatureNet, path of a .pt or .onnx file, or callable
        The space of novelty, fidelity and feature similarity. A callable makes features (B, F) of a uint8 tensor
        (B, C, H, W).
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
    engine : {"auto", "numkong", "torch", "faiss", "numpy", "cuda"}, optional
        What searches for neighbours, see `nearest_neighbours`; it never changes a figure. By default the environment's
        MEMGEN_ENGINE, else "auto", which takes a GPU for large searches where there is one.
    data_dir : path, optional
        Where named sets lie; by default the environment's MEMGEN_DATA.
    resume : path, optional
        A folder of this evaluation's own, made if need be, where finished blocks of its work are kept: after a kill the
        same call goes on from there, and its report is the same to the byte, times aside. Of a sampler and a denoiser
        code and weights are compared, as far as they can be seen; see docs/long-runs.md.
    cache_size : str or int, optional
        Bytes that the folder, and that of the features, may take, such as "10GiB": what was not used for longest goes
        first, never what this evaluation uses. Without bounds by default.

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
    options = Options(
        metrics=metrics,
        features=features,
        threshold=threshold,
        duplicate_tolerance=duplicate_tolerance,
        flip=flip,
        quantize=quantize,
        sigmas=sigmas,
        num_denoiser_images=num_denoiser_images,
        num_draws=num_draws,
        denoiser_batch_size=denoiser_batch_size,
        seed=seed,
        memory_budget=memory_budget,
        engine=engine,
    )
    count = None if num_samples is None else check_count("num_samples", num_samples)
    source = SampleSource(samples, count, check_count("batch_size", batch_size), value_range, data_dir, device)
    keeping = Keeping.of(resume, cache_size)
    return _evaluate(source, Reference.of(train, test, data_dir), Guests.of(samples, denoiser), options, keeping)


def _evaluate(source: SampleSource, reference: Reference, guests: Guests, options: Options, keeping: Keeping) -> Report:
    """Prepare the reference, load or draw the samples, measure family by family, build the report."""
    stages, theirs = Stages(), (guests, options.features, reference.train, reference.test)
    with joined() as ranks:
        with foreign(*theirs), unforked_threads():
            with stages.stage("reading the training set"):
                known = reference.prepared(quantize=options.quantize, seed=options.seed)
            with ranks.together():  # before samples are drawn, which may take hours
                met = guests.met(known.train.shape, reference.train)
                device = _rehearse(met.denoiser, known.train, options, source.device)
                extractor = opened_extractor(options, source.device, ranks)
            source = replace(source, source=met.samples)
            places = keeping.opened(source, known, options)
            given: dict[str, Any] = {"seed": options.seed, "ranks": ranks, "kept": places.samples}
            with stages.stage("drawing samples" if source.drawn else "reading the samples"):
                samples = source.load(known.train.shape, quantize=options.quantize, **given)
            model = met.denoiser, met.no_denoiser
            run = Evaluation(samples, known, options, stages, ranks, source, *model, extractor, places)
            ranks.same(run.determining | {"reference": f"{known.num_kept} kept results"})
            found = measured(run)
        ran = Ran(stages.seconds, device, ranks.size, source.batch_size, source.drawn, met.account)
        return build_report(found, samples, known, options, ran)


def _rehearse(denoiser: Callable[..., Any] | None, train: ImageSet, options: Options, device: str | None) -> str:
    """Call a denoiser that will be measured on a training image, and give back the name of its device.

    Raises InputError if it fails, or returns anything but such an image.
    """
    if denoiser is None:
        return device or "cpu"
    from memgen_eval.diffusion.calling import device_of
    from memgen_eval.diffusion.probe import rehearse

    if options.wants("denoiser") or options.wants("gaussian"):
        image = in_unit_range(train.read(0, 1))
        rehearse(denoiser, image, sigmas=options.sigmas, batch_size=options.denoiser_batch_size, device=device)
    return str(device_of(denoiser, device))
