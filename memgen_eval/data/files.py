"""Files: whether they are still what they were when they were opened, zip members, temporary and downloaded ones."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError, one_line, quoted

logger = logging.getLogger(__name__)
MEMBER_PIECE, DOWNLOAD_PIECE = 2**22, 2**24  # bytes read at once
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS, PAUSE = 3, 1.0  # of a download, and the seconds before the second one


@dataclass(frozen=True)
class Stamp:
    """Size, time of change and inode of files below a folder, as they were when it was made."""

    label: str
    root: Path
    files: Sequence[str]
    digest: str

    def check(self) -> None:
        """Raise InputError if a file is another one now, longer, shorter, written to, or gone."""
        if _digest(self.root, self.files) != self.digest:
            raise InputError(f"{self.label}: changed while it was being read; evaluate again once nothing writes to it")


def stamp_of(label: str, root: Path, files: Sequence[str]) -> Stamp:
    """The stamp of these files, to be compared later; `label` is what messages begin with."""
    return Stamp(label, root, files, _digest(root, files))


def _digest(root: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        try:
            found = (root / name).stat()
        except OSError:
            return f"{name} is gone"
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_dev} {found.st_ino}\n".encode())
    return digest.hexdigest()


def scratch(shape: tuple[int, ...], dtype: np.dtype[Any], *, label: str) -> NDArray[Any]:
    """An array of zeros in a temporary file without a name, which the system removes however the process ends.

    Its pages are the file's: memory that the system takes back when it needs it.

    Raises
    ------
    InputError
        If there is no room for it, or nowhere to write.
    """
    num_bytes = prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(prefix="memgen-eval-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would otherwise kill the process when a page is written
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"{label}: unpacked it takes {num_bytes / 2**30:.1f} GiB, which no temporary file could hold "
            f"({one_line(error)}); set TMPDIR to a folder with room, or give the images as one .npy file of uint8"
        ) from error


def members_of(archive: zipfile.ZipFile, label: str) -> list[zipfile.ZipInfo]:
    """The members that are files, in their order.

    Raises
    ------
    InputError
        For members without a name, or with a name that another one has.
    """
    seen: set[str] = set()
    for info in archive.infolist():
        if not info.filename:
            raise InputError(f"{label}: holds a member without a name; write the archive again")
        if info.filename in seen:
            raise InputError(f"{label}: holds {quoted(info.filename)} more than once; write the archive again")
        seen.add(info.filename)
    return [info for info in archive.infolist() if not info.is_dir()]


def check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read a member to its end, where zipfile compares its checksum."""
    with archive.open(info) as member:
        while member.read(MEMBER_PIECE):
            pass


def fetch(url: str, target: Path, *, md5: str) -> None:
    """Download `url` to `target`, whose folder exists; `target` appears when it is whole and its MD5 is right.

    Tried a few times, with a pause that doubles; a refusal by the server (4xx) is final.

    Raises
    ------
    InputError
        If it cannot be had: the message says why.
    """
    logger.warning("downloading %s to %s", url, target)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _attempt(url, target, md5)
        except (OSError, http.client.HTTPException) as error:
            logger.info("attempt %d of %d failed: %s", attempt + 1, ATTEMPTS, one_line(error))
            last: Exception = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code < 500:
                    break
    raise InputError(f"{url}: cannot be downloaded ({one_line(last)})") from last


def _attempt(url: str, target: Path, md5: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
        whole = Path(part.name)
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer:
                total = int(answer.headers.get("Content-Length") or 0)
                while piece := answer.read(DOWNLOAD_PIECE):
                    part.write(piece)
                    digest.update(piece)
                    if total:
                        logger.info("%d %% of %.0f MiB", 100 * part.tell() // total, total / 2**20)
            part.close()
            if digest.hexdigest() != md5:
                raise OSError(f"MD5 {digest.hexdigest()}, expected {md5}")
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)
