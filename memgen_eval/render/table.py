"""The report on a terminal or in a pipe: verdict, headlines each beside its control, readings, what was skipped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TextIO

from memgen_eval.errors import InputError
from memgen_eval.render import numbers
from memgen_eval.render.catalogue import FAMILY_TITLES, FIGURES, unit_of
from memgen_eval.render.headlines import accounts, at, evidence, headlines, skipped, summary
from memgen_eval.render.numbers import Shown, encodable, escape_markdown, visible
from memgen_eval.report import Curve, Denoiser, Estimate, Report

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[str, str, str, str]
HEADLINE_COLUMNS: Row = ("figure", "value", "95 % interval", "compare with")
FULL_COLUMNS: Row = ("figure", "value", "95 % interval", "count and notes")
GAP = "  "
NAMED = 2  # skipped figures named for each reason; the page names all
Place = Literal["nearer", "level", "farther", "undefined"]
WORDS: dict[Place, str] = {
    "level": "no clear difference at",
    "farther": "farther away at",
    "undefined": "not compared at",
}


def plain_table(report: Report, *, full: bool = False) -> str:
    """The report as plain text: no box characters, one line a figure, nothing cut; ASCII but for names given to us."""
    blocks = [*_cautions(report), _verdict(report), *_accounts(report)]
    blocks += [_align(columns, rows) for columns, rows in _tables(report, full=full) if rows]
    blocks += ["\n".join(map(visible, readings(report)))] if readings(report) else []
    return "\n\n".join([*blocks, _skipped(report)]) + "\n"


def print_table(report: Report, *, full: bool = False, file: TextIO | None = None) -> None:
    """Print the report to `file` (standard output): drawn on a terminal, plain in a pipe, in any encoding."""
    stream = sys.stdout if file is None else file
    if not stream.isatty():
        write_text(plain_table(report, full=full), stream)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, emoji=False, markup=False, highlight=False)
    with console.capture() as captured:
        for line in _cautions(report):
            console.print(Text(line, style="bold yellow"))
        console.print(Text(_verdict(report), style="bold"))
        for line in _accounts(report):
            console.print(Text(line, style="dim"))
        for columns, rows in _tables(report, full=full):
            if rows:
                console.print(_rich_table(columns, rows))
        for sentence in readings(report):
            console.print(Text(visible(sentence)))
        console.print(Text(_skipped(report), style="dim"))
    write_text(captured.get(), stream)


def write_text(text: str, stream: TextIO) -> None:
    """Write to a stream of any encoding: a character that it lacks is spelled out by its number.

    A reader that is gone has read what it wanted. Raises InputError where there is no room.
    """
    try:
        stream.write(encodable(text, getattr(stream, "encoding", None) or "utf-8"))
        stream.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise InputError(f"standard output cannot be written ({error.strerror}); free the disk") from None


def _cautions(report: Report) -> list[str]:
    return ["\n".join(visible(f"Caution: {caution}") for caution in report.cautions)] if report.cautions else []


def _accounts(report: Report) -> list[str]:
    lines = [visible(f"{name}: {account}") for name, account in accounts(report)]
    return ["\n".join(lines)] if lines else []


def _verdict(report: Report) -> str:
    sentence = visible(report.displayed_sentence)
    if report.verdict is None:
        return sentence
    label = report.verdict.label
    return f"Verdict: {sentence if sentence.lower().startswith(label) else f'{label}. {sentence}'}"


def _skipped(report: Report) -> str:
    if not report.skipped:
        return "Nothing was skipped."
    parts = []
    for names, why in skipped(report):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{', '.join(names[:NAMED])}{more} ({why})")
    return visible("Skipped: " + "; ".join(parts))


def _tables(report: Report, *, full: bool) -> list[tuple[Row, list[Row]]]:
    if not full:
        return [(HEADLINE_COLUMNS, _visible(_headline_rows(report)))]
    return [
        ((FAMILY_TITLES[family], *FULL_COLUMNS[1:]), _visible(_family_rows(report, family)))
        for family in FAMILY_TITLES
        if getattr(report, family) is not None
    ]


def _visible(rows: list[Row]) -> list[Row]:
    """No text of a report reaches the terminal as a command: names, notes and axes may come from a file."""
    return [(visible(a), visible(b), visible(c), visible(d)) for a, b, c, d in rows]


def _headline_rows(report: Report) -> list[Row]:
    return [
        (
            line.label,
            line.shown.value,
            line.shown.interval,
            line.control if line.reason is None else line.reason,
        )
        for line in headlines(report)
    ]


def _family_rows(report: Report, family: str) -> list[Row]:
    figures = [(path, figure) for path, figure in report.figures() if path.startswith(f"{family}.")]
    return [(FIGURES[path].label, *_shown(report, path, figure), _remarks(figure)) for path, figure in figures]


def _shown(report: Report, path: str, figure: Estimate | Curve) -> tuple[str, str]:
    unit = unit_of(path, report.settings.features)
    shown: Shown = summary(figure, unit) if isinstance(figure, Curve) else numbers.show(figure, unit)
    return shown.value, shown.interval


def _remarks(figure: Estimate | Curve) -> str:
    count = [] if figure.count is None else [f"{figure.count:,}"]
    return "; ".join([*count, *figure.notes])


def _align(columns: Row, rows: list[Row]) -> str:
    """Columns padded to their widest cell, the last one left free."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns) - 1)]
    lines = [
        GAP.join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in (columns, *rows)
    ]
    return "\n".join(lines)


def _rich_table(columns: Row, rows: list[Row]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, justify in zip(columns, ("left", "right", "left", "left"), strict=True):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def render_markdown(report: Report, *, full: bool = False) -> str:
    """The verdict with its evidence, the headlines beside their controls, what curves say, what was skipped.

    All figures too if `full`.
    """
    label = "no verdict" if report.verdict is None else report.verdict.label
    blocks = [f"## memgen-eval: {label}", _list(f"Caution: {caution}" for caution in report.cautions)]
    blocks += [escape_markdown(report.displayed_sentence)]
    blocks += [_list(f"{name}: {account}" for name, account in accounts(report))]
    blocks += [_list(f"{name}: {found}" for name, found in evidence(report)), _headlines(report)]
    blocks += [_list(readings(report))]
    if full:
        blocks += [_family(report, family) for family in FAMILY_TITLES if getattr(report, family) is not None]
    lines = [f"{', '.join(names)}: {why}" for names, why in skipped(report)]
    blocks += ["### Skipped", _list(lines or ["nothing"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [columns, ("---",) * len(columns), *(tuple(map(escape_markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _headlines(report: Report) -> str:
    rows = [
        (line.label, line.shown.value, line.shown.interval, line.reason or line.control) for line in headlines(report)
    ]
    return _table(("figure", "value", "95 % interval", "compare with"), rows)


def _family(report: Report, family: str) -> str:
    figures = [(path, figure) for path, figure in report.figures() if path.startswith(f"{family}.")]
    rows = [_row(report, path, figure) for path, figure in figures]
    table = _table(("figure", "value", "95 % interval", "count", "notes"), rows)
    return f"### {FAMILY_TITLES[family]}\n\n{table}"


def _row(report: Report, path: str, figure: Estimate | Curve) -> tuple[str, ...]:
    unit = unit_of(path, report.settings.features)
    shown = summary(figure, unit) if isinstance(figure, Curve) else numbers.show(figure, unit)
    count = "" if figure.count is None else f"{figure.count:,}"
    return (FIGURES[path].label, shown.value, shown.interval, count, "; ".join(figure.notes))


def readings(report: Report) -> list[str]:
    """Sentences on the charts of the denoiser; none without one."""
    if report.denoiser is None:
        return []
    curve, label = report.denoiser.error_train, FIGURES["denoiser.error_train"].label
    oddities = [f"{label[0].upper()}{label[1:]}: {note}." for note in curve.notes if curve.value is not None]
    sentence = against_gaussian(report.denoiser)
    return oddities if sentence is None else [sentence, *oddities]


def against_gaussian(family: Denoiser) -> str | None:
    """At which sigma the model beats the Wiener denoiser D_G, on test images, or training ones without a test set.

    It does where the interval of the relative error lies below 1, and does not where it lies above; where it holds 1
    there is no clear difference. None where the relative error was not measured at all.
    """
    on_test = family.relative_error_test.value is not None
    curve = family.relative_error_test if on_test else family.relative_error_train
    if curve.x is None or not any(value is not None for value in curve.value or ()):
        return None
    places = [_place(curve, index) for index in range(len(curve.x.values))]
    where = {place: _ranges(places, place, curve.x.values) for place in places}
    nearer = where.get("nearer")
    than = "nearer to the clean image than D_G (mean and covariance only)"
    if nearer is None:
        first = f"nowhere {than}"
    else:
        first = f"{than} at {'every sigma' if len(where) == 1 else f'sigma {nearer}'}"
    others = [f"{words} {where[place]}" for place, words in WORDS.items() if place in where]
    images = "test images" if on_test else "training images (there is no test set)"
    return f"On noised {images} the model is {'; '.join([first, *others])}."


def _place(curve: Curve, index: int) -> Place:
    point = at(curve, index)
    if point.value is None:
        return "undefined"
    if point.high is not None and point.high < 1:
        return "nearer"
    return "farther" if point.low is not None and point.low > 1 else "level"


def _ranges(places: list[Place], wanted: Place, sigmas: tuple[float, ...]) -> str:
    """The sigmas of a kind: neighbours of the grid as a range."""
    runs = [
        [sigma for _, sigma in run]
        for place, run in groupby(zip(places, sigmas, strict=True), lambda pair: pair[0])
        if place == wanted
    ]
    ends = [[f"{sigma:.3g}" for sigma in (run[0], run[-1])[: len(run)]] for run in runs]
    *before, last = [" to ".join(pair) for pair in ends]
    return f"{', '.join(before)} and {last}" if before else last
