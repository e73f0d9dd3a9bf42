"""The charts of a study's page, each with its caption and its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from memgen_eval.render import numbers
from memgen_eval.results import Estimate
from reference_models.study.analysis import numeric_factors, time_factors
from reference_models.study.outcomes import ONSETS, OnsetName, Outcome
from reference_models.study.pages.drawing import Series, Track, onset_chart, series_chart, tracks_chart
from reference_models.study.results import Results

ONSET_CAPTION = (
    "Bars reach from the last checkpoint before the onset to the first one after it. Triangles are runs that ended "
    "before. Solid and dashed lines are the fits; the dotted line has the published exponent."
)
STEPS_CAPTION = "Share of samples that are flagged as copies, at every checkpoint of every run. Numbers name {leading}."
TIME_CAPTION = (
    "The same in normalised time. If it is the right unit of time, all curves rise at the same place. Numbers name "
    "{leading}."
)
PATH_CAPTION = (
    "Each run from its first checkpoint to its last, which has a ring. Good samples lie at the upper right: as novel "
    "as unseen images, and like the data. Copies lie at the upper left. Numbers name {leading}."
)
COSINE_CAPTION = (
    "Cosines about the mean image. Where the models agree more than unseen images do, and are no nearer to their "
    "training images than unseen images are, both have learned the distribution."
)
DISTANCE_CAPTION = (
    "Root mean square distance of samples from the same noise, data in [-1, 1]. Near 0 from D*: the model memorizes."
)
TAUGHT_CAPTION = "Near 0: the student is its teacher (generalization), or D* of its images (memorization)."


def onset_drawings(results: Results) -> list[dict[str, Any]]:
    """Onsets against each numeric factor."""
    return [_onset_drawing(results, factor) for factor in numeric_factors(results.outcomes)]


def _onset_drawing(results: Results, factor: str) -> dict[str, Any]:
    from markupsafe import Markup

    places = [float(one.run.factors[factor]) for one in results.outcomes]
    onsets = {
        name: [(x, found) for x, one in zip(places, results.outcomes, strict=True) if (found := one.bracket(name))]
        for name in ONSETS
    }
    fits = [fit for fit in results.fits if fit.factor == factor]
    rows = [(one.run.name, *(_onset_words(one, name) for name in ONSETS)) for one in results.outcomes]
    return {
        "title": f"Onsets against {factor}",
        "svg": Markup(onset_chart(factor, onsets, fits)),
        "caption": ONSET_CAPTION,
        "table": {"unit": "after step, by step", "columns": ("run", *ONSETS.values()), "rows": rows},
    }


def _onset_words(outcome: Outcome, name: OnsetName) -> str:
    onset = outcome.bracket(name)
    if onset is None:
        return numbers.NOT_MEASURED
    return f"{onset.low:,.0f}, {'not seen' if onset.high is None else f'{onset.high:,.0f}'}"


def curve_drawings(results: Results) -> list[dict[str, Any]]:
    """The ratio against steps and against normalised time, and the paths in the plane of novelty and fidelity."""
    factors = time_factors(results.outcomes)
    drawn = [_ratio_drawing(results, [1.0] * len(factors), "Copies over training", "step", STEPS_CAPTION)]
    if len(set(factors)) > 1:
        drawn.append(_ratio_drawing(results, factors, "Copies over normalised time", "T", TIME_CAPTION))
    return [*drawn, *_path_drawings(results)]


def _ratio_drawing(results: Results, factors: Sequence[float], title: str, axis: str, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    tracks, rows = [], []
    for one, factor in zip(results.outcomes, factors, strict=True):
        steps = [step * factor for step in one.course.steps]
        pairs = zip(steps, one.course.ratio, strict=True)
        points = [(x, figure.value) for x, figure in pairs if figure.value is not None]
        tracks.append(_track([(x, 100 * value) for x, value in points], results, one))
        rows += [(one.run.name, numbers.number(x), f"{100 * value:.1f}") for x, value in points]
    svg = tracks_chart(title, tracks, x_label=f"{axis} (log scale)", y_label="flagged samples, %", log_x=True)
    table = {"unit": "shares in per cent", "columns": ("run", axis, "flagged"), "rows": rows}
    return {"title": title, "svg": Markup(svg), "caption": _with_leading(caption, results), "table": table}


def _path_drawings(results: Results) -> Iterator[dict[str, Any]]:
    from markupsafe import Markup

    tracks, rows = [], []
    for one in results.outcomes:
        places = zip(one.course.steps, one.course.novelty, one.course.fidelity, strict=True)
        points = [(step, x.value, y.value) for step, x, y in places if x.value is not None and y.value is not None]
        tracks.append(_track([(x, y) for _, x, y in points], results, one))
        rows += [(one.run.name, f"{step:,}", numbers.number(x), numbers.number(y)) for step, x, y in points]
    if rows:
        title = "Novelty and fidelity over training"
        labels = {"x_label": "novelty: median distance to train over that of unseen images", "y_label": "precision"}
        table = {"unit": "", "columns": ("run", "step", "novelty", "fidelity"), "rows": rows}
        svg = tracks_chart(title, tracks, log_x=False, **labels)
        yield {"title": title, "svg": Markup(svg), "caption": _with_leading(PATH_CAPTION, results), "table": table}


def _with_leading(caption: str, results: Results) -> str:
    """The caption with the name of the first factor, whose values the legend shows."""
    return caption.format(leading=next(iter(results.sweep.factors)))


def _track(points: Sequence[tuple[float, float]], results: Results, outcome: Outcome) -> Track:
    leading = next(iter(results.sweep.factors))
    return Track(tuple(x for x, _ in points), tuple(y for _, y in points), str(outcome.run.factors[leading]))


def halves_drawings(results: Results) -> list[dict[str, Any]]:
    """What pairs of models have in common, over the leading factor."""
    places = _places(results, [pair.names[0] for pair in results.halves])
    cosines = {"both models": "cosine", "two unseen images": "unrelated_cosine"}
    cosines |= {"nearest in train": "nearest_cosine", "unseen, in train": "test_nearest_cosine"}
    distances = {"both models": "distance", "from D* of the images": "optimal_distance"}
    pairs = results.halves
    return [
        *_series_drawing("Likeness from the same noise", pairs, cosines, places, "cosine", COSINE_CAPTION),
        *_series_drawing("Distances from the same noise", pairs, distances, places, "distance", DISTANCE_CAPTION),
    ]


def taught_drawings(results: Results) -> list[dict[str, Any]]:
    """Both errors of the students, over the leading factor."""
    places = _places(results, [one.name for one in results.taught])
    errors = {"generalization error": "generalization_error", "memorization error": "memorization_error"}
    return _series_drawing("Errors of the students", results.taught, errors, places, "distance", TAUGHT_CAPTION)


Places = tuple[str, list[float]]


def _places(results: Results, names: Sequence[str]) -> Places | None:
    """The first numeric factor, and where runs lie on it; None where no factor is numeric."""
    factors = numeric_factors(results.outcomes)
    if not factors:
        return None
    runs = {one.run.name: one.run for one in results.outcomes}
    return factors[0], [float(runs[name].factors[factors[0]]) for name in names]


def _series_drawing(
    title: str, held: Sequence[object], lines: dict[str, str], places: Places | None, y_label: str, caption: str
) -> list[dict[str, Any]]:
    from markupsafe import Markup

    if places is None or not held:
        return []
    factor, at = places
    estimate: Callable[[object, str], Estimate] = getattr
    series = [
        Series(label, tuple((x, estimate(one, name)) for x, one in zip(at, held, strict=True)))
        for label, name in lines.items()
    ]
    rows = [
        (numbers.number(x), *(numbers.show(estimate(one, name), "number").value for name in lines.values()))
        for x, one in zip(at, held, strict=True)
    ]
    svg = series_chart(title, series, x_label=factor, y_label=y_label)
    table = {"unit": "", "columns": (factor, *lines), "rows": rows}
    return [{"title": title, "svg": Markup(svg), "caption": caption, "table": table}]
