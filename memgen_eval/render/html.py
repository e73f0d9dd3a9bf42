"""The report as one page: no network, readable without scripts, light and dark; all of it comes from a `Report`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from memgen_eval.render import numbers
from memgen_eval.render.answer import (
    EvidenceLine,
    baseline_sentence,
    cannot_tell,
    compared,
    evidence_lines,
    how_sure,
    question,
)
from memgen_eval.render.charts import CHARTS, Chart
from memgen_eval.render.contents import (
    COMPARED,
    FAMILY_TITLES,
    accounts,
    chart_table,
    compare,
    figure_rows,
    of_denoiser,
    of_features,
    readings,
    skipped,
    verdict_label,
)
from memgen_eval.render.gallery import altered_pairs, glimpse, pairs
from memgen_eval.render.headlines import (
    HEADLINE_COLUMNS,
    baseline_words,
    columns,
    headlines,
)
from memgen_eval.render.numbers import visible
from memgen_eval.render.plots import draw
from memgen_eval.render.several.since import since_section
from memgen_eval.report import Report
from memgen_eval.results import GREY_LEVELS, Estimate

if TYPE_CHECKING:
    from jinja2 import Environment

    from memgen_eval.comparison.changes import Changes

SMALLEST_BAR = 1e-3  # the largest bar shows at least this share, so that no bar is of nothing


def render_html(report: Report, *, images: bool = True, since: Changes | None = None) -> str:
    """The page as text.

    Parameters
    ----------
    report : Report
        The only source of what the page shows.
    images : bool
        False leaves every picture out, so that the page can go where the images cannot.
    since : Changes, optional
        What moved since an earlier report.

    Returns
    -------
    str
        HTML in one piece, under 5 MB; the same report gives the same text.
    """
    label, found = verdict_label(report), evidence_lines(report)
    context = {
        "report": report,
        "label": label,
        "heading": "Copies found" if label == "copies" else label.capitalize(),
        "question": question(report),
        "compared": compared(report),
        "how_sure": how_sure(report),
        "cannot_tell": cannot_tell(report),
        "evidence": found,
        "largest_share": _largest_share(found),
        "accounts": accounts(report),
        "headlines": headlines(report),
        "baseline": baseline_words(report),
        "baseline_sentence": baseline_sentence(report),
        "first": glimpse(report, images=images),
        "galleries": pairs(report, images=images),
        "altered": altered_pairs(report, images=images),
        "unseen_aligned": _share(report, "memorization.test_aligned_ratio"),
        "images": images,
        "drawings": {family: drawings(charts, report) for family, charts in CHARTS.items()},
        "comparisons": {family: compare(report, family) for family in COMPARED},
        "columns": {family: columns(report, family) for family in COMPARED},
        "of_denoiser": of_denoiser(report),
        "of_features": of_features(report),
        "rows": {family: figure_rows(report, family) for family in FAMILY_TITLES},
        "skipped": [(", ".join(names), why) for names, why in skipped(report)],
        "titles": FAMILY_TITLES,
        "threshold": numbers.threshold(report.settings.threshold),
        "settings": _settings_rows(report),
        "provenance": _provenance_rows(report),
        "inputs": {name: _pairs_of(held) for name, held in report.provenance.inputs.items()},
        "not_measured": numbers.NOT_MEASURED,
        "since": None if since is None else since_section(since),
        "contents": _contents(report, since),
    }
    return render_template("report.html.j2", context)


def render_template(name: str, context: Mapping[str, Any]) -> str:
    """A template of this folder as text. Pages extend ``base.html.j2``, which needs `contents`: ids and titles."""
    return render_source(_read(name), context)


def render_source(source: str, context: Mapping[str, Any]) -> str:
    """The text of a template, which may extend and import those of this folder, with `context` filled in."""
    from markupsafe import Markup

    script = _read("figures.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    own = {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    return _templates().from_string(source).render({**context, **own}).lstrip()  # imports leave blank lines


def _read(name: str) -> str:
    """A file of this folder."""
    return files("memgen_eval.render").joinpath(name).read_text(encoding="utf-8")


def _contents(report: Report, since: Changes | None) -> list[tuple[str, str]]:
    """The sections of the page, by their ids."""
    families = [(family, title) for family, title in FAMILY_TITLES.items() if getattr(report, family) is not None]
    closest = [] if report.memorization is None else [("closest", "Closest images")]
    last = [("figures", "Every figure"), ("skipped", "Skipped"), ("made", "How it was made"), ("glossary", "Glossary")]
    changed = [] if since is None else [("since", "Since the earlier report")]
    return [("content", "The answer"), ("headlines", "Headlines"), *changed, *closest, *families, *last]


def _largest_share(found: Iterable[EvidenceLine]) -> float:
    """What the longest bar of the evidence stands for."""
    shares = [tallied.share for one in found if one.samples and one.others for tallied in (one.samples, one.others)]
    return max([SMALLEST_BAR, *shares])


def render_summary(report: Report) -> str:
    """Cautions, the verdict, the headlines beside their controls, each set's account, what was skipped."""
    remarks = [f"{name}: {account}" for name, account in accounts(report)] + readings(report)
    remarks += [f"Not measured: {', '.join(names)} ({why})" for names, why in skipped(report)]
    context = {
        "report": report,
        "label": verdict_label(report),
        "columns": HEADLINE_COLUMNS,
        "headlines": headlines(report),
        "remarks": remarks,
    }
    return render_template("summary.html.j2", context)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        finalize=_shown_safely,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown_safely(value: Any) -> Any:
    """Spell out the control characters of text; markup that the library made stays as it is."""
    return visible(value) if type(value) is str else value


def _share(report: Report, path: str) -> str:
    """A figure as a share, in words."""
    figure = report.figure(path)
    return numbers.show(figure, "share").value if isinstance(figure, Estimate) else numbers.NOT_MEASURED


def drawings(charts: Iterable[Chart], report: Report) -> list[dict[str, Any]]:
    """Charts, drawn, with their captions and tables; without those of which nothing was measured."""
    from markupsafe import Markup

    words = {"baseline": baseline_words(report), "threshold": numbers.threshold(report.settings.threshold)}
    drawn = [(chart, svg) for chart in charts if (svg := draw(chart, report)) is not None]
    return [
        {
            "title": chart.title,
            "svg": Markup(svg),
            "caption": chart.caption.format(**words),
            "table": chart_table(chart, report),
        }
        for chart, svg in drawn
    ]


def _settings_rows(report: Report) -> list[tuple[str, str]]:
    """Every setting under its own name, tolerance in grey levels too."""
    rows = [(f.name, getattr(report.settings, f.name)) for f in fields(report.settings) if f.name != "checksums"]
    written = {name: _words(value) for name, value in rows}
    tolerance = report.settings.duplicate_tolerance
    if tolerance is not None:
        written["duplicate_tolerance"] += f" ({numbers.number(tolerance * GREY_LEVELS)} grey levels)"
    written["metrics"] = _words(report.settings.metrics or "all")
    written["threshold"] = numbers.threshold(report.settings.threshold)
    checksums = [(f"checksum of {name}", _words(value)) for name, value in report.settings.checksums.items()]
    return [*written.items(), *checksums]


def _provenance_rows(report: Report) -> list[tuple[str, str]]:
    """Where, when, with what and for how long the report was made."""
    held = report.provenance
    names = ("created", "engine", "device", "threads", "ranks", "batch_size", "memory_budget")
    rows = [(name, _words(getattr(held, name))) for name in names]
    seconds = [(f"seconds: {name}", f"{value:.2f}") for name, value in held.seconds.items()]
    return [*rows, *_pairs_of(held.host), *_pairs_of(held.versions), *seconds]


def _pairs_of(held: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _words(value)) for name, value in held.items()]


def _words(value: Any) -> str:
    """A JSON value as words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or "none"
    return str(value)
