"""One evaluation, from sets of images to a report: prepare the reference, load or draw, measure, build the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memgen_eval.adapters.model import Guests
from memgen_eval.build_report import Found, Ran, build_report
from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.meanwhile import meanwhile
from memgen_eval.compute.resources import unforked_threads
from memgen_eval.controls import Controls, measured_copying, with_repetition
from memgen_eval.copying.baseline import Scale
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.copying.memorization import copying, search
from memgen_eval.copying.same_pictures import same_pictures
from memgen_eval.data.images import ImageSet
from memgen_eval.data.samplers import SampleSource
from memgen_eval.distributed import Ranks, joined
from memgen_eval.embedding.embedder import Embedder, Opened, opened_extractor
from memgen_eval.embedding.placing import fidelity_in_space, novelty_in_space, structure_in_pixels
from memgen_eval.errors import InputError, RankError, check_count
from memgen_eval.features.spaces import Features
from memgen_eval.keeping.places import Keeping, Places, determining
from memgen_eval.metrics.denoiser import measure_denoiser
from memgen_eval.metrics.gaussian_denoiser import measure_gaussian_curves
from memgen_eval.metrics.gaussian_samples import with_sample_figures
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.options import NOT_ASKED, Options
from memgen_eval.reference import Prepared, Reference, for_denoisers, in_unit_range
from memgen_eval.report import Report
from memgen_eval.resemblance import cautions
from memgen_eval.results import Fidelity, Gaussian, Memorization, Novelty, Verdict
from memgen_eval.runtime import Stages, foreign

if TYPE_CHECKING:  # its module imports torch
    from memgen_eval.diffusion.measurements import Probe

DATA_ALONE = "or ask for denoiser in metrics for what the data alone tells"
NO_VERDICT = "it rests on the memorization family, which was not asked for"
FAMILIES = ("memorization", "verdict", "novelty", "fidelity", "denoiser", "gaussian")  # in the order of `skipped`
THE_OTHERS = "novelty, fidelity, Gaussian structure"  # the stage that waits for those measured beside memorization

log = logging.getLogger("memgen_eval")
Measured = TypeVar("Measured")


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
            run = _Run(samples, known, options, stages, ranks, source, *model, extractor, places)
            ranks.same(run.determining | {"reference": f"{known.num_kept} kept results"})
            found = _measure(run)
        ran = Ran(stages.seconds, device, ranks.size, source.batch_size, source.drawn, met.account)
        return build_report(found, samples, known, options, ran)


@dataclass(eq=False)
class _Run:
    """One evaluation: its samples, where they came from, what is known of train and test, and how all is measured.

    `skipped` holds, by family, why it was not measured.
    """

    samples: ImageSet
    known: Prepared
    options: Options
    stages: Stages
    ranks: Ranks
    source: SampleSource
    denoiser: Callable[..., Any] | None
    no_denoiser: str  # why there is none
    extractor: Opened
    places: Places
    skipped: dict[str, str] = field(default_factory=dict)

    def bind(self, references: References) -> Index:
        """An index of rows with the budget, the ranks and the engine of this evaluation."""
        return Index(references, self.options.memory_budget, self.ranks, self.options.engine, self.places.results)

    @cached_property
    def index(self) -> Index:
        """The training images."""
        return self.bind(self.known.references)

    @cached_property
    def scale(self) -> Scale:
        """From distances between images to the units of a report."""
        return Scale.of(self.index.rows)

    @cached_property
    def rules(self) -> CopyRules:
        """What counts as a copy: the duplicate tolerance is the one given, or the training set's own."""
        options, given = self.options, self.options.duplicate_tolerance
        with self.stages.stage("duplicate tolerance"):
            tolerance = self.known.tolerance(self.index) if given is None else given / self.scale.unit
        return CopyRules(options.threshold, tolerance, options.flip)

    @cached_property
    def embedder(self) -> Embedder:
        """Samples, train and test in the space of the features."""
        kept, results = self.places.features(self.extractor), self.places.results
        given = (self.samples, self.known, self.extractor, self.options, self.bind, self.ranks, self.stages)
        return Embedder(*given, kept=kept, kept_samples=results if self.source.drawn else kept)

    @cached_property
    def determining(self) -> dict[str, str]:
        """What determines the figures, as text; of a denoiser whether there is one."""
        sets = {"samples": self.samples, "train": self.known.train, "test": self.known.test}
        with self.stages.stage("checksums"):
            return determining(sets, self.options, self.extractor, denoiser=self.denoiser)

    def kept(self, kind: type[Measured], measure: Callable[[], Measured]) -> Measured:
        """A family that rests on the sets and the settings, measured or read."""
        given: dict[str, Any] = {"extractor": self.extractor, "train": self.known.train, "ranks": self.ranks}
        return self.places.figures(kind, measure, self.determining, **given)

    @property
    def measures_beside(self) -> bool:
        """Whether other families are measured beside memorization, on a thread of their own.

        Not where ranks work in step, blocks are kept, or a network embeds: it runs where the caller's settings of torch
        hold.
        """
        return self.ranks.size == 1 and not self.places.results.active and self.options.features == "pixels"


def _measure(run: _Run) -> Found:
    """Family by family; why one was not measured is noted in `run.skipped`."""
    options, known, skipped = run.options, run.known, run.skipped
    with run.stages.stage("comparing the sets"):
        own = cautions.appearance_of(run.samples)
        warned = cautions.of_sets(run.samples, known.test, known.train, own=own, of_train=known.appearance)
    plain = memorization = verdict = None
    if options.wants("memorization") or (options.wants("novelty") and options.features == "pixels"):
        with run.stages.stage("neighbours of samples"):
            plain = search(run.samples.array(), run.index)
        with run.stages.stage("neighbours of the baseline"):
            baseline = known.baseline_neighbours(run.index)
        warned += cautions.of_distances(plain, baseline)
    others = partial(_others, run, plain)
    if plain is not None and options.wants("memorization"):
        with meanwhile(others) if run.measures_beside else nullcontext(others) as found_others:
            with run.stages.stage("other readings of the samples"):
                warned += cautions.of_other_readings(
                    run.samples, plain, baseline, run.index, run.rules, own=own, of_train=known.appearance
                )
            memorization, verdict = _memorization(run, plain, warned)
            with run.stages.stage(THE_OTHERS) if run.measures_beside else nullcontext():
                novelty, fidelity, structure = found_others()
    else:
        skipped |= {"memorization": NOT_ASKED, "verdict": NO_VERDICT}
        novelty, fidelity, structure = others()
    probed = _probe(run)
    gaussian = None
    if structure is not None:
        gaussian = _attempt("gaussian", run, lambda: with_sample_figures(_curves(run, probed), structure))
    return Found(
        memorization=memorization,
        verdict=verdict,
        novelty=novelty,
        fidelity=fidelity,
        denoiser=measure_denoiser(probed, seed=options.seed) if probed and options.wants("denoiser") else None,
        gaussian=gaussian,
        sigmas=options.sigmas if probed is None else tuple(probed.sigmas.tolist()),
        tolerance=run.rules.tolerance * run.scale.unit if options.wants("memorization") else None,
        extractor=run.extractor,
        cautions=warned,
        skipped={family: skipped[family] for family in FAMILIES if family in skipped},
    )


def _others(run: _Run, plain: Neighbours | None) -> tuple[Novelty | None, Fidelity | None, Gaussian | None]:
    """Novelty, fidelity and the Gaussian structure of the samples."""
    embedder, index = run.embedder, run.index
    novelty = _attempt("novelty", run, partial(run.kept, Novelty, partial(novelty_in_space, embedder, plain, index)))
    fidelity = _attempt("fidelity", run, partial(run.kept, Fidelity, partial(fidelity_in_space, embedder, index)))
    structure = _attempt("gaussian", run, partial(run.kept, Gaussian, partial(structure_in_pixels, embedder)))
    return novelty, fidelity, structure


def _memorization(run: _Run, plain: Neighbours, warned: tuple[str, ...]) -> tuple[Memorization, Verdict]:
    """The memorization family and the verdict; with cautions nothing is acquitted."""
    index, rules, survey, images = run.index, run.rules, run.samples.survey, run.samples.array()
    with run.stages.stage("copies among samples"):
        repeats = same_pictures(images, survey.repeats, index, rules)
        found, controls = copying(plain, index, rules, repeats=repeats), Controls(run.known, index, rules, run.bind)
    with run.stages.stage("copies among the baseline"):
        controls.baseline()
    ratings = run.embedder.ratings()
    with run.stages.stage("altered copies"):
        family, verdict = measured_copying(images, found, controls, run.scale, cautions=warned, features=ratings)
    with run.stages.stage("patches and repetition"):
        family = with_repetition(family, images, found, controls, originals=survey.originals)
    return run.embedder.with_similarity(family), verdict


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


def _probe(run: _Run) -> Probe | None:
    """The denoiser compared with D* and D_G, for two families; the data alone where there is no denoiser."""
    options, given = run.options, run.denoiser is not None
    if not options.wants("denoiser"):
        run.skipped["denoiser"] = NOT_ASKED
        if not (given and options.wants("gaussian")):
            return None
    elif not given and not options.named("denoiser"):  # D* of a large set takes minutes
        run.skipped["denoiser"] = f"{run.no_denoiser}, {DATA_ALONE}"
        return None
    return _attempt("denoiser", run, lambda: _probed(run))


def _probed(run: _Run) -> Probe:
    from memgen_eval.diffusion.probe import probe
    from memgen_eval.diffusion.sampling import Sampler

    options, known, sampler = run.options, run.known, run.source.source
    with run.stages.stage("denoiser"):
        return probe(
            run.denoiser,
            optimal=known.optimal,
            gaussian=known.gaussian,
            test=None if known.test is None else for_denoisers(known.test),
            sampler=sampler if isinstance(sampler, Sampler) and run.denoiser is not None else None,
            sigmas=options.sigmas,
            num_images=options.num_denoiser_images,
            num_draws=options.num_draws,
            batch_size=options.denoiser_batch_size,
            seed=options.seed,
            device=run.source.device,
            ranks=run.ranks,
            kept=run.places.results.under(None if known.test is None else known.test.checksum),
        )


def _curves(run: _Run, probed: Probe | None) -> Gaussian:
    """The Gaussian family of the denoiser."""
    if probed is None:
        return Gaussian.undefined(run.no_denoiser if run.denoiser is None else run.skipped.get("denoiser", ""))
    return measure_gaussian_curves(probed, seed=run.options.seed)


def _attempt(name: str, run: _Run, measure: Callable[[], Measured]) -> Measured | None:
    """What is measured, or None with the reason in `run.skipped`: a failure does not lose what was found before.

    A family that was asked for by name fails, and so does one whose model was given and cannot be used.
    """
    if not run.options.wants(name) and name != "denoiser":  # its probe serves the Gaussian family too
        run.skipped[name] = NOT_ASKED
        return None
    try:
        with run.ranks.together():
            return measure()
    except RankError:
        raise
    except Exception as error:
        is_input, model_given = isinstance(error, InputError), name == "denoiser" and run.denoiser is not None
        if run.options.named(name) or (is_input and model_given):
            raise
        if not is_input and run.ranks.rank == 0:
            log.exception("%s could not be measured", name)
        run.skipped[name] = str(error) if is_input else f"{type(error).__name__}: {error}"
        return None
