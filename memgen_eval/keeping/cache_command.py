"""``memgen-eval cache``: what is kept on disk, listed or removed."""

from __future__ import annotations

import sys

from memgen_eval.compute.kept import clear, listing
from memgen_eval.errors import InputError
from memgen_eval.features.store import feature_folder
from memgen_eval.render.table import write_text
from memgen_eval.shell import DONE, Parser, as_path


def cache_parser() -> Parser:
    """The arguments of the command."""
    command = Parser(prog="memgen-eval cache", description="Show what is kept on disk, or remove it.")
    command.add_argument("folder", nargs="?", help="that of --resume (default: the features of networks)")
    command.add_argument("--clear", action="store_true", help="remove it; other files are left where they are")
    return command


def cache_command(typed: list[str]) -> int:
    """List what is kept on disk, or remove it."""
    given = cache_parser().parse_args(typed)
    folder = feature_folder() if given.folder is None else as_path(given.folder)
    if given.folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the one that was given to --resume")
    lines = [f"removed {clear(folder):,} blocks from {folder}"] if given.clear else listing(folder)
    write_text("\n".join(lines) + "\n", sys.stdout)
    return DONE
