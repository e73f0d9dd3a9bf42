"""The report as the value of a notebook cell: a summary without a style sheet, which would restyle the notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable

from memgen_eval.render.contents import accounts, readings, skipped, verdict_label
from memgen_eval.render.headlines import HEADLINE_COLUMNS, headlines
from memgen_eval.render.numbers import visible
from memgen_eval.report import Report

CELL = 'style="text-align: left; vertical-align: top"'
MORE = "The whole report, with pictures and charts: report.save('report.html')."


def render_summary(report: Report) -> str:
    """Cautions, the verdict, the headlines beside their controls, each set's account, what was skipped."""
    skips = [f"Not measured: {', '.join(names)} ({why})" for names, why in skipped(report)]
    parts = [
        f"<p><strong>memgen-eval: {_escaped(verdict_label(report))}</strong></p>",
        _list(f"Caution: {caution}" for caution in report.cautions),
        f"<p>{_escaped(report.displayed_sentence)}</p>",
        _table(line.cells for line in headlines(report)),
        _list([*(f"{name}: {account}" for name, account in accounts(report)), *readings(report), *skips]),
        f"<p>{_escaped(MORE)}</p>",
    ]
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = [_row("th", HEADLINE_COLUMNS), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag} {CELL}>{_escaped(cell)}</{tag}>' for cell in cells)}</tr>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_escaped(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _escaped(text: str) -> str:
    return html.escape(visible(text))
