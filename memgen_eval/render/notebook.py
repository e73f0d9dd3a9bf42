"""The report as the value of a notebook cell: a summary without a style sheet, which would restyle the notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable

from memgen_eval.render.headlines import accounts, headlines, skipped
from memgen_eval.render.numbers import visible
from memgen_eval.render.table import readings
from memgen_eval.report import Report

COLUMNS = ("figure", "value", "95 % interval", "compare with")
CELL = 'style="text-align: left; vertical-align: top"'
MORE = "The whole report, with pictures and charts: report.save('report.html')."


def render_summary(report: Report) -> str:
    """Cautions, the verdict, the headlines beside their controls, each set's account, what was skipped."""
    label = "no verdict" if report.verdict is None else report.verdict.label
    skips = [f"Not measured: {', '.join(names)} ({why})" for names, why in skipped(report)]
    rows = [
        (line.label, line.shown.value, line.shown.interval, line.reason or line.control) for line in headlines(report)
    ]
    parts = [
        f"<p><strong>memgen-eval: {_text(label)}</strong></p>",
        _list(f"Caution: {caution}" for caution in report.cautions),
        f"<p>{_text(report.displayed_sentence)}</p>",
        _table(rows),
        _list([*(f"{name}: {account}" for name, account in accounts(report)), *readings(report), *skips]),
        f"<p>{_text(MORE)}</p>",
    ]
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = [_row("th", COLUMNS), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag} {CELL}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _text(text: str) -> str:
    return html.escape(visible(text))
