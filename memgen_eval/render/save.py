"""Reports to files: whole or not at all, and never over a file that was there unless the new one is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memgen_eval.errors import InputError
from memgen_eval.render.numbers import encodable
from memgen_eval.report import Report, dumps
from memgen_eval.shell import write_whole

if TYPE_CHECKING:
    from memgen_eval.comparison.changes import Changes

ENCODING = "utf-8"
SUFFIXES = {"html": (".html", ".htm"), "json": (".json",), "markdown": (".md", ".markdown")}  # of each form


def save_report(report: Report, path: Path, *, images: bool = True) -> None:
    """Write `report` in the form that the suffix of `path` says; an existing file is replaced by a complete one alone.

    Raises InputError if the suffix is that of no form, or the place cannot be written.
    """
    for form, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            write_file(path, as_text(report, form, images=images))
            return
    raise InputError(f"{path}: a report is written as .json, .html, .htm or .md; give a name that ends in one of them")


def as_text(report: Report, form: str, *, images: bool = True, full: bool = False, since: Changes | None = None) -> str:
    """The report in one of the forms: `images` is whether a page shows pictures, `full` makes markdown tell all.

    `since` is what moved since an earlier report; JSON is of this report alone.
    """
    if form == "html":
        from memgen_eval.render.html import render_html

        return render_html(report, images=images, since=since)
    if form == "markdown":
        from memgen_eval.render.table import render_markdown

        return render_markdown(report, full=full, since=since)
    return dumps(report.to_dict())


def write_file(path: Path, text: str) -> None:
    """Write UTF-8 `text`, whole or not at all. Raises InputError if the place cannot be written."""
    write_whole(path, encodable(text, ENCODING).encode(ENCODING))
