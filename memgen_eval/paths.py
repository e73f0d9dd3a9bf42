"""Paths that a user names: ~ expanded, files written whole or not at all, and no output over an input."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

from memgen_eval.errors import InputError

TEMPORARY = ".memgen-eval-{}.tmp"


def as_path(path: str | os.PathLike[str]) -> Path:
    """The path with a leading ~ expanded, where it names a user's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user: the name of a file may begin with ~
        return Path(path)


def is_stream(path: Path) -> bool:
    """Whether this is a pipe or a device, such as /dev/null: written into, where a file is replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_outputs(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Find out, before any work, whether files can be written without destroying others that are named beside them.

    Parameters
    ----------
    outputs : mapping of str to Path
        By the argument that names each.
    inputs : mapping of str to Path
        The same; they need not exist.

    Raises
    ------
    InputError
        If an output cannot be written, is an input, or is another output, links resolved.
    """
    for name, path in outputs.items():
        check_writable(path)
        for other, given in inputs.items():
            if _is_same_file(path, given) or _is_image_in(path, given):
                raise InputError(f"{name} {path}: would overwrite {other} ({given}); give another path")
    for (name, path), (other, same) in combinations(outputs.items(), 2):
        if _is_same_file(path, same):
            raise InputError(f"{name} and {other} name one file ({path}); give each its own")


def _is_same_file(first: Path, second: Path) -> bool:
    if is_stream(first):
        return False
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    return first.exists() and second.exists() and first.samefile(second)


def _is_image_in(path: Path, folder: Path) -> bool:
    """Whether an existing file may be one of a folder's inputs: batches of CIFAR-10 have no suffix either."""
    inside = folder.is_dir() and Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
    return inside and path.is_file() and not path.suffix


def check_writable(path: Path) -> None:
    """Find out whether a file could be written at `path`, without touching what is there.

    Raises
    ------
    InputError
        If the folder is missing, is not a folder or cannot be written, or `path` is not a place for a file.
    """
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write; add a file name to it")
    if is_stream(path):
        return
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; give the path of a file to write")
    if not folder.exists():
        raise InputError(f"{path}: the folder {folder} does not exist; create it or give another path")
    if not folder.is_dir():
        raise InputError(f"{path}: {folder} is not a folder; give a path inside a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"the folder {folder} cannot be written ({error.strerror})"
        raise InputError(f"{path}: {why}; change its permissions or give another path") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, down to the disk, then rename: a kill or a full disk leaves what was there before.

    Into a pipe or a device the content is written directly; a reader that is gone is no error. What killed processes
    have left in the folder is removed.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    check_writable(path)
    try:
        if is_stream(path):
            with suppress(BrokenPipeError):
                path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))  # a link stays a link to the file that it names
        remove_leftovers(target.parent)
        with _temporary_in(target.parent) as (beside, file):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            beside.replace(target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free the disk or give another path") from None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder; those being written are locked."""
    for path in folder.glob(TEMPORARY.format("*")):
        with suppress(OSError), path.open("rb") as file:
            if locked(file.fileno()):
                path.unlink()


@contextmanager
def _temporary_in(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file, locked while it is written, and removed at the end unless it was renamed."""
    while True:
        path = folder / TEMPORARY.format(secrets.token_hex(6))
        with path.open("xb") as file:
            try:
                if locked(file.fileno()) is False or os.fstat(file.fileno()).st_nlink == 0:
                    continue  # another process took it for a leftover before it was locked
                yield path, file
                return
            finally:
                path.unlink(missing_ok=True)


def locked(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed: False if another process has, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
