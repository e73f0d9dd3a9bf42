"""The report on a terminal, in a pipe and in markdown: verdict, headlines beside their controls, what was skipped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from memgen_eval.errors import InputError
from memgen_eval.render.answer import evidence
from memgen_eval.render.contents import (
    FAMILY_TITLES,
    FigureRow,
    accounts,
    figure_rows,
    readings,
    skipped,
    verdict_label,
)
from memgen_eval.render.headlines import HEADLINE_COLUMNS, headlines
from memgen_eval.render.numbers import encodable, escape_markdown, visible
from memgen_eval.render.several.since import SINCE_COLUMNS, moved_rows, since_sentences
from memgen_eval.report import Report
from memgen_eval.terminal.layout import VERDICT_STYLES, draw_table, draw_text

if TYPE_CHECKING:
    from memgen_eval.comparison.changes import Changes

TextRow = tuple[str, ...]
TextTable = tuple[TextRow, list[TextRow]]  # the columns' names, and the rows
FULL_COLUMNS = ("figure", "value", "95 % interval", "count", "notes")
COLUMN_GAP = "  "
NAMED = 2  # skipped figures named for each reason; the page names all


def plain_table(report: Report, *, full: bool = False, since: Changes | None = None) -> str:
    """The report as plain text: no box characters, one line a figure, nothing cut; ASCII but for names from outside."""
    parts = _texts_and_tables(report, full=full, since=since)
    blocks = [part if isinstance(part, str) else aligned(*part) for _, part in parts]
    return "\n\n".join(blocks) + "\n"


def print_table(
    report: Report, *, full: bool = False, since: Changes | None = None, file: TextIO | None = None
) -> None:
    """Print the report to `file` (standard output): drawn on a terminal, plain in a pipe, in any encoding.

    `since` is what moved since an earlier report.
    """
    stream = sys.stdout if file is None else file
    if not stream.isatty():
        write_text(plain_table(report, full=full, since=since), stream)
        return
    from rich.console import Console

    console = Console(file=stream, emoji=False, markup=False, highlight=False)
    families = {line.label: FAMILY_TITLES[line.path.partition(".")[0]] for line in headlines(report)}
    with console.capture() as captured:
        for style, part in _texts_and_tables(report, full=full, since=since):
            if isinstance(part, str):
                draw_text(console, part, style)
            else:
                draw_table(console, *part, groups=families if part[0] == HEADLINE_COLUMNS else {})
    write_text(captured.get(), stream)


def print_verdict(report: Report, file: TextIO | None = None) -> None:
    """Print the verdict alone, in one line."""
    write_text(visible(_verdict_line(report)) + "\n", sys.stdout if file is None else file)


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


def _texts_and_tables(report: Report, *, full: bool, since: Changes | None) -> list[tuple[str, str | TextTable]]:
    """Texts and tables from top to bottom, each with its style on a terminal."""

    def text(style: str, lines: Sequence[str]) -> list[tuple[str, str | TextTable]]:
        return [(style, "\n".join(map(visible, lines)))] if lines else []

    return [
        *text("bold yellow", [f"Caution: {caution}" for caution in report.cautions]),
        *text(VERDICT_STYLES.get(verdict_label(report), "bold"), [_verdict_line(report)]),
        *text("dim", [f"{name}: {account}" for name, account in accounts(report)]),
        *(("", table) for table in _tables(report, full=full)),
        *text("bold", [] if since is None else since_sentences(since)),
        *(("", table) for table in _since_tables(since)),
        *text("", readings(report)),
        *text("dim", [_skipped(report)]),
    ]


def _verdict_line(report: Report) -> str:
    sentence = report.displayed_sentence
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
    return "Skipped: " + "; ".join(parts)


def _tables(report: Report, *, full: bool) -> list[TextTable]:
    """The tables that have rows. No text of a report reaches the terminal as a command: names may come from a file."""
    tables: list[TextTable] = [(HEADLINE_COLUMNS, [line.cells for line in headlines(report)])]
    if full:
        tables = [
            ((title, *FULL_COLUMNS[1:3], "count and notes"), [_full_row(row) for row in figure_rows(report, family)])
            for family, title in FAMILY_TITLES.items()
        ]
    return [(columns, [tuple(map(visible, row)) for row in rows]) for columns, rows in tables if rows]


def _since_tables(since: Changes | None) -> list[TextTable]:
    rows = [] if since is None else [tuple(map(visible, row.cells)) for row in moved_rows(since)]
    return [(SINCE_COLUMNS, rows)] if rows else []


def _full_row(row: FigureRow) -> TextRow:
    remarks = [row.count, *row.notes] if row.count else row.notes
    return row.label, row.shown.value, row.shown.interval, "; ".join(remarks)


def aligned(columns: TextRow, rows: list[TextRow]) -> str:
    """Columns padded to their widest cell, the last one left free."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns) - 1)]
    lines = [
        COLUMN_GAP.join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in (columns, *rows)
    ]
    return "\n".join(lines)


def render_markdown(report: Report, *, full: bool = False, since: Changes | None = None) -> str:
    """The verdict with its evidence, the headlines beside their controls, what curves say, what was skipped.

    All figures too if `full`; what moved since an earlier report if `since` is given.
    """
    families = [family for family in FAMILY_TITLES if full and getattr(report, family) is not None]
    skips = [f"{', '.join(names)}: {why}" for names, why in skipped(report)]
    blocks = [
        f"## memgen-eval: {verdict_label(report)}",
        _markdown_list(f"Caution: {caution}" for caution in report.cautions),
        escape_markdown(report.displayed_sentence),
        _markdown_list(f"{name}: {account}" for name, account in accounts(report)),
        _markdown_list(f"{name}: {found}" for name, found in evidence(report)),
        _markdown_table(HEADLINE_COLUMNS, [line.cells for line in headlines(report)]),
        *([] if since is None else _markdown_since(since)),
        _markdown_list(readings(report)),
        *(_markdown_family(report, family) for family in families),
        "### Skipped",
        _markdown_list(skips or ["nothing"]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_since(since: Changes) -> list[str]:
    table = _markdown_table(SINCE_COLUMNS, [row.cells for row in moved_rows(since)])
    return ["### Since the earlier report", _markdown_list(since_sentences(since)), table]


def _markdown_list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _markdown_table(columns: TextRow, rows: Sequence[TextRow]) -> str:
    if not rows:
        return ""
    lines = [columns, ("---",) * len(columns), *(tuple(map(escape_markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_family(report: Report, family: str) -> str:
    rows = [
        (row.label, row.shown.value, row.shown.interval, row.count, "; ".join(row.notes))
        for row in figure_rows(report, family)
    ]
    return f"### {FAMILY_TITLES[family]}\n\n{_markdown_table(FULL_COLUMNS, rows)}"
