"""The report on a terminal or in a pipe: verdict, headlines each beside its control, readings, what was skipped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from memgen_eval.errors import InputError
from memgen_eval.render import numbers
from memgen_eval.render.accounts import accounts
from memgen_eval.render.catalogue import FAMILY_TITLES, FIGURES, unit_of
from memgen_eval.render.headlines import headlines, skipped, summary
from memgen_eval.render.numbers import Shown
from memgen_eval.render.readings import readings
from memgen_eval.render.text import encodable, visible
from memgen_eval.report import Curve, Estimate, Report

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[str, str, str, str]
HEADLINE_COLUMNS: Row = ("figure", "value", "95 % interval", "compare with")
FULL_COLUMNS: Row = ("figure", "value", "95 % interval", "count and notes")
GAP = "  "
NAMED = 2  # skipped figures named for each reason; the page names all


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
