"""The families of one evaluation: memorization with the verdict, and the others, on a second thread where that pays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from memgen_eval.build_report import Found
from memgen_eval.compute.meanwhile import meanwhile
from memgen_eval.controls import Controls, measured_copying, with_repetition
from memgen_eval.copying.memorization import copying, search
from memgen_eval.copying.same_pictures import same_pictures
from memgen_eval.embedding.placing import fidelity_in_space, novelty_in_space, structure_in_pixels
from memgen_eval.errors import InputError, RankError
from memgen_eval.evaluation.run import Evaluation
from memgen_eval.metrics.denoiser import measure_denoiser
from memgen_eval.metrics.gaussian_denoiser import measure_gaussian_curves
from memgen_eval.metrics.gaussian_samples import with_sample_figures
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.options import NOT_ASKED
from memgen_eval.reference import for_denoisers
from memgen_eval.resemblance import cautions
from memgen_eval.results import Fidelity, Gaussian, Memorization, Novelty, Verdict

if TYPE_CHECKING:  # its module imports torch
    from memgen_eval.diffusion.measurements import Probe

DATA_ALONE = "or ask for denoiser in metrics for what the data alone tells"
NO_VERDICT = "it rests on the memorization family, which was not asked for"
FAMILIES = ("memorization", "verdict", "novelty", "fidelity", "denoiser", "gaussian")  # in the order of `skipped`
THE_OTHERS = "novelty, fidelity, Gaussian structure"  # the stage that waits for those measured beside memorization

log = logging.getLogger("memgen_eval")
Measured = TypeVar("Measured")


def measured(run: Evaluation) -> Found:
    """The figures of all families; why one was not measured is noted in `run.skipped`."""
    options, skipped = run.options, run.skipped
    searched: Future[Neighbours | None] = Future()
    others = partial(_others, run, searched.result)
    _ = run.index, run.embedder, run.known.baseline  # computed once, before two threads ask for them
    with meanwhile(others) if run.measures_beside else nullcontext(others) as found_others:
        try:
            memorization, verdict, warned = _compared(run, searched)
        except BaseException as error:
            if not searched.done():  # whoever waits for it would wait forever
                searched.set_exception(error)
            raise
        with run.stages.stage(THE_OTHERS) if run.measures_beside else nullcontext():
            novelty, fidelity, structure = found_others()
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


def _compared(
    run: Evaluation, searched: Future[Neighbours | None]
) -> tuple[Memorization | None, Verdict | None, tuple[str, ...]]:
    """Memorization, the verdict and the cautions; `searched` is told the neighbours of the samples."""
    options, known = run.options, run.known
    with run.stages.stage("comparing the sets"):
        own = cautions.appearance_of(run.samples)
        warned = cautions.of_sets(run.samples, known.test, known.train, own=own, of_train=known.appearance)
    plain = None
    if options.wants("memorization") or (options.wants("novelty") and options.features == "pixels"):
        with run.stages.stage("neighbours of samples"):
            plain = search(run.samples.array(), run.index)
        with run.stages.stage("neighbours of the baseline"):
            baseline = known.baseline_neighbours(run.index)
        warned += cautions.of_distances(plain, baseline)
    searched.set_result(plain)
    if plain is None or not options.wants("memorization"):
        run.skipped.update(memorization=NOT_ASKED, verdict=NO_VERDICT)
        return None, None, warned
    with run.stages.stage("other readings of the samples"):
        warned += cautions.of_other_readings(
            run.samples, plain, baseline, run.index, run.rules, own=own, of_train=known.appearance
        )
    return *_memorization(run, plain, warned), warned


def _others(
    run: Evaluation, searched: Callable[[], Neighbours | None]
) -> tuple[Novelty | None, Fidelity | None, Gaussian | None]:
    """Novelty, fidelity and the Gaussian structure of the samples, of which `searched` waits for their neighbours."""
    embedder, index = run.embedder, run.index
    structure = _attempt("gaussian", run, partial(run.kept, Gaussian, partial(structure_in_pixels, embedder)))
    plain = searched()
    novelty = _attempt("novelty", run, partial(run.kept, Novelty, partial(novelty_in_space, embedder, plain, index)))
    fidelity = _attempt("fidelity", run, partial(run.kept, Fidelity, partial(fidelity_in_space, embedder, index)))
    return novelty, fidelity, structure


def _memorization(run: Evaluation, plain: Neighbours, warned: tuple[str, ...]) -> tuple[Memorization, Verdict]:
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


def _probe(run: Evaluation) -> Probe | None:
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


def _probed(run: Evaluation) -> Probe:
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


def _curves(run: Evaluation, probed: Probe | None) -> Gaussian:
    """The Gaussian family of the denoiser."""
    if probed is None:
        return Gaussian.undefined(run.no_denoiser if run.denoiser is None else run.skipped.get("denoiser", ""))
    return measure_gaussian_curves(probed, seed=run.options.seed)


def _attempt(name: str, run: Evaluation, measure: Callable[[], Measured]) -> Measured | None:
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
