"""Reports to files: whole or not at all, and never over a file that was there unless the new one is complete."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from memgen_eval.errors import InputError
from memgen_eval.render.text import encodable
from memgen_eval.serialise import dumps

if TYPE_CHECKING:
    from memgen_eval.report import Report

ENCODING = "utf-8"


def save_report(report: Report, path: Path, *, images: bool = True) -> None:
    """Write `report` as .json, .html (or .htm) or .md, whichever the suffix of `path` says.

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
    if suffix == ".json":
        return dumps(report.to_dict())
    if suffix in (".html", ".htm"):
        from memgen_eval.render.html import render_html

        return render_html(report, images=images)
    if suffix == ".md":
        from memgen_eval.render.markdown import render_markdown

        return render_markdown(report)
    raise InputError(f"{path}: a report is written as .json, .html, .htm or .md; give a name that ends in one of them")


def write_file(path: Path, text: str) -> None:
    """Write UTF-8 `text` beside `path`, then rename it there. Raises InputError if the place cannot be written."""
    check_writable(path)
    target = Path(os.path.realpath(path))  # a link stays a link to the file that it names
    beside = target.with_name(f".memgen-eval-{secrets.token_hex(6)}.tmp")
    try:
        _write_through(beside, encodable(text, ENCODING).encode(ENCODING))
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free the disk or give another path") from None
    finally:
        beside.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    """Write a new file down to the disk, so that the rename after it never shows an empty one."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def check_writable(path: Path) -> None:
    """Find out whether a file could be written at `path`, without touching what is there.

    Raises
    ------
    InputError
        If the folder is missing, is no folder or cannot be written, or `path` is no place for a file.
    """
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write; add a file name to it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file; give the path of a file to write")
    if not folder.exists():
        raise InputError(f"{path}: the folder {folder} does not exist; create it or give another path")
    if not folder.is_dir():
        raise InputError(f"{path}: {folder} is no folder; give a path inside a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"the folder {folder} cannot be written ({error.strerror})"
        raise InputError(f"{path}: {why}; change its permissions or give another path") from None
