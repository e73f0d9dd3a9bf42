"""The page of a study: readable without scripts, light and dark; all of it comes from `Results`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from memgen_eval.render import numbers
from memgen_eval.render.html import render_source
from memgen_eval.render.numbers import Shown
from memgen_eval.results import Estimate, Unit
from memgen_eval.trajectory.onsets import EarlyStopping, Onset
from reference_models.study.outcomes import ONSETS, Outcome, bracket_of
from reference_models.study.pages.charts import curve_drawings, halves_drawings, onset_drawings, taught_drawings
from reference_models.study.results import Results

NONE = "none"
RUN_COLUMNS = (
    "run",
    "begins to copy",
    "test loss leaves",
    "more per doubling",
    "best distance before",
    "when to stop",
    "flagged at the end",
)
FIT_COLUMNS = ("onset", "exponent", "published")
COLLAPSE_COLUMNS = ("onset", "spread in steps", "spread in T", "share")
HALVES_COLUMNS = ("pair", "cosine of the pair", "to training images", "alike", "apart", "from D*")
TAUGHT_COLUMNS = ("run", "generalization error", "memorization error")


def study_page(results: Results) -> str:
    """The page as HTML in one piece; the same results give the same text."""
    template = files("reference_models.study.pages").joinpath("study.html.j2").read_text(encoding="utf-8")
    context = {
        "num_runs": len(results.outcomes) + len(results.failed),
        "sentences": list(_sentences(results)),
        "failed": list(results.failed.items()),
        "onset_drawings": onset_drawings(results),
        "fits": _table("Exponents of the onsets", FIT_COLUMNS, list(_fit_rows(results))),
        "collapse": _table("Spread of the onsets", COLLAPSE_COLUMNS, list(_collapse_rows(results))),
        "curve_drawings": curve_drawings(results),
        "halves": _table("Pairs of models", HALVES_COLUMNS, list(_halves_rows(results))),
        "halves_drawings": halves_drawings(results),
        "taught": _table("Students", TAUGHT_COLUMNS, list(_taught_rows(results))),
        "taught_drawings": taught_drawings(results),
        "runs": _table("Runs", RUN_COLUMNS, [_run_row(outcome) for outcome in results.outcomes]),
        "commands": [outcome.command for outcome in results.outcomes],
        "settings": list(_settings(results)),
        "contents": list(_contents(results)),
    }
    return render_source(template, context)


def _contents(results: Results) -> Iterator[tuple[str, str]]:
    yield from (("content", "The answer"), ("onsets", "Onsets"), ("curves", "Curves"))
    if results.halves:
        yield "halves", "Disjoint halves"
    if results.taught:
        yield "teacher", "Known teacher"
    yield from (("runs", "Runs"), ("sweep", "The sweep"))


def _sentences(results: Results) -> Iterator[str]:
    """How many runs copy, and how the onset of copying depends on each factor."""
    brackets = [outcome.bracket("onset_copy") for outcome in results.outcomes]
    num_copying = sum(bracket is not None and bracket.seen for bracket in brackets)
    yield f"{num_copying} of {len(results.outcomes)} finished runs began to copy their training images."
    for fit in results.fits:
        if fit.onset != "onset_copy":
            continue
        if fit.exponent.value is None:
            yield f"How the onset depends on {fit.factor} cannot be said: {numbers.reason(fit.exponent)}."
            continue
        shown = numbers.show(fit.exponent, "number")
        published = "" if fit.published is None else f" Published: {fit.published.exponent:g} ({fit.published.source})."
        interval = f" (95 % interval {shown.interval})" if shown.interval else ""
        yield f"The onset of copying scales as {fit.factor} to the power {shown.value}{interval}.{published}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Shown]]) -> dict[str, Any]:
    return {"title": title, "columns": columns, "rows": rows}


def _fit_rows(results: Results) -> Iterator[list[Shown]]:
    for fit in results.fits:
        notes = fit.exponent.notes[0] if fit.exponent.value is not None and fit.exponent.notes else ""
        published = Shown(NONE)
        if fit.published is not None:
            published = Shown(f"{fit.published.exponent:g}", fit.published.source)
        yield [Shown(f"{ONSETS[fit.onset]}, in {fit.factor}", notes), _shown(fit.exponent), published]


def _collapse_rows(results: Results) -> Iterator[list[Shown]]:
    for found in results.collapses:
        figures = (found.in_steps, found.in_time, found.share)
        yield [Shown(ONSETS[found.onset]), *(_shown(figure) for figure in figures)]


def _halves_rows(results: Results) -> Iterator[list[Shown]]:
    for pair in results.halves:
        yield [
            Shown(pair.names[0], pair.names[1]),
            _beside(pair.cosine, pair.unrelated_cosine),
            _beside(pair.nearest_cosine, pair.test_nearest_cosine),
            _shown(pair.reproducibility, "share"),
            _shown(pair.distance),
            _shown(pair.optimal_distance),
        ]


def _taught_rows(results: Results) -> Iterator[list[Shown]]:
    for one in results.taught:
        yield [Shown(one.name), _shown(one.generalization_error), _shown(one.memorization_error)]


def _run_row(outcome: Outcome) -> list[Shown]:
    return [
        Shown(outcome.run.name),
        _onset(outcome.onsets.onset_copy),
        _onset(outcome.onsets.onset_loss),
        _shown(outcome.onsets.memorization_rate, "share"),
        _shown(outcome.onsets.peak_fidelity),
        _window(outcome.onsets.early_stopping),
        _shown(outcome.final_ratio, "share"),
    ]


def _shown(figure: Estimate, unit: Unit = "number") -> Shown:
    return numbers.show(figure, unit)


def _beside(figure: Estimate, control: Estimate) -> Shown:
    """A figure, and the same figure of unseen images."""
    shown = numbers.show(figure, "number")
    return Shown(shown.value, f"{shown.interval}; unseen images: {numbers.show(control, 'number').value}")


def _onset(onset: Onset) -> Shown:
    bracket = bracket_of(onset)
    if bracket is None:
        return _shown(onset.step)
    if bracket.high is None:
        return Shown("not seen", f"until step {bracket.low:,.0f}")
    return Shown(f"by step {bracket.high:,.0f}", f"after step {bracket.low:,.0f}")


def _window(window: EarlyStopping) -> Shown:
    if window.first is None or window.last is None:
        return Shown(NONE, reason=" ".join(window.notes))
    return Shown(f"steps {window.first:,.0f} to {window.last:,.0f}")


def _settings(results: Results) -> Iterator[tuple[str, str]]:
    sweep = results.sweep
    yield from ((name, ", ".join(map(str, values))) for name, values in sweep.factors.items())
    yield from ((name, str(value)) for name, value in sweep.fixed.items())
    if sweep.teacher is not None:
        yield "teacher", sweep.teacher
