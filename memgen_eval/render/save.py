"""Reports to files: whole or not at all, and never over a file that was there unless the new one is complete."""

from __future__ import annotations

from pathlib import Path

from memgen_eval.errors import InputError
from memgen_eval.render.numbers import encodable
from memgen_eval.report import Report, dumps
from memgen_eval.shell import write_whole

ENCODING = "utf-8"
JSON, PAGE, MARKDOWN_SUFFIXES = (".json",), (".html", ".htm"), (".md", ".markdown")


def save_report(report: Report, path: Path, *, images: bool = True) -> None:
    """Write `report` as .json, .html (or .htm) or .md (or .markdown), whichever the suffix of `path` says.

    Parameters
    ----------
    report : Report
        What to write.
    path : Path
        Where; an existing file is replaced once the new one is complete, and kept if that fails.
    images : bool
        Whether a page shows pictures; JSON and markdown never hold any.

    Raises
    ------
    InputError
        If the suffix is none of these, or the place cannot be written.
    """
    write_file(path, _content(report, path, images=images))


def _content(report: Report, path: Path, *, images: bool) -> str:
    suffix = path.suffix.lower()
    if suffix in JSON:
        return dumps(report.to_dict())
    if suffix in PAGE:
        from memgen_eval.render.html import render_html

        return render_html(report, images=images)
    if suffix in MARKDOWN_SUFFIXES:
        from memgen_eval.render.table import render_markdown

        return render_markdown(report)
    raise InputError(f"{path}: a report is written as .json, .html, .htm or .md; give a name that ends in one of them")


def write_file(path: Path, text: str) -> None:
    """Write UTF-8 `text`, whole or not at all. Raises InputError if the place cannot be written."""
    write_whole(path, encodable(text, ENCODING).encode(ENCODING))
