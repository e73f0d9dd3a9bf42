"""What was found, and how, put together to a report."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from memgen_eval.data.images import ImageSet
from memgen_eval.features import features_name
from memgen_eval.neighbours.engines import describe_engine
from memgen_eval.options import NOT_ASKED, Options
from memgen_eval.provenance import gallery, listed_names, provenance
from memgen_eval.report import (
    Curve,
    Denoiser,
    Estimate,
    Gaussian,
    Memorization,
    Novelty,
    Report,
    Settings,
    Verdict,
)
from memgen_eval.sets import Sets

Family = TypeVar("Family", Memorization, Novelty, Denoiser, Gaussian)


@dataclass(frozen=True)
class Found:
    """The families measured, the noise levels of the denoiser's, what to be cautious of, and why others were not."""

    memorization: Memorization | None
    verdict: Verdict | None
    novelty: Novelty | None
    denoiser: Denoiser | None
    gaussian: Gaussian | None
    sigmas: tuple[float, ...] | None
    cautions: tuple[str, ...]
    skipped: dict[str, str]


def assemble(sets: Sets, found: Found, *, checksums: dict[str, str | None], batch_size: int, device: str) -> Report:
    """The report: figures that were not asked for are left out, undefined ones stand in `skipped` with their reason.

    Raises InputError if a file of a set has changed since it was opened.
    """
    sets.check_unchanged()
    options = sets.options
    named: dict[str, ImageSet | None] = {"samples": sets.samples, "train": sets.train, "test": sets.test}
    control = "train" if sets.test is None else "test"
    memorization = _asked(found.memorization, "memorization", options)
    report = Report(
        cautions=found.cautions,
        verdict=found.verdict,
        memorization=memorization,
        novelty=_asked(found.novelty, "novelty", options),
        fidelity=None,
        denoiser=_asked(found.denoiser, "denoiser", options),
        gaussian=_asked(found.gaussian, "gaussian", options),
        skipped={},
        settings=_settings(sets, found.sigmas, checksums),
        provenance=provenance(
            seconds=sets.stages.seconds,
            command=None,
            engine=describe_engine(sets.train.dtype, sets.train.num_values),
            device=device,
            ranks=sets.ranks.size,
            batch_size=batch_size,
            memory_budget=options.memory_budget,
            sets=named,
            names=listed_names(memorization, found.verdict, named, baseline=control),
        ),
        gallery=None
        if memorization is None
        else gallery(memorization, samples=sets.samples, train=sets.train, baseline=named[control]),
        samples=sets.samples.array() if sets.drawn else None,
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


def _settings(sets: Sets, sigmas: tuple[float, ...] | None, checksums: dict[str, str | None]) -> Settings:
    options, held = sets.options, sets.held_out
    return Settings(
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
        sigmas=sigmas,
        num_denoiser_images=options.num_denoiser_images,
        num_draws=options.num_draws,
        denoiser_batch_size=options.denoiser_batch_size,
        checksums=checksums,
    )
