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
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError, one_line, quoted

logger = logging.getLogger(__name__)
MEMBER_PIECE, DOWNLOAD_PIECE = 2**22, 2**18  # bytes read at once
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte


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


class _WrongChecksum(Exception):
    pass


def fetch(url: str, target: Path, *, md5: str, attempts: int = 3, pause: float = 1.0) -> None:
    """Download `url` to `target`, whose folder exists; `target` appears when it is whole and its MD5 is right.

    Tried `attempts` times, `pause` seconds apart, doubling; a refusal by the server (4xx) is final.

    Raises
    ------
    InputError
        If it cannot be had: the message says why.
    """
    logger.warning("downloading %s to %s", url, target)
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _attempt(url, target, md5)
        except (OSError, http.client.HTTPException, _WrongChecksum) as error:
            logger.info("attempt %d of %d failed: %s", attempt + 1, attempts, one_line(error))
            last: Exception = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code < 500:
                    break
        else:
            return
    raise InputError(f"{url}: cannot be downloaded ({one_line(last)})") from last


def _attempt(url: str, target: Path, md5: str) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
        whole = Path(part.name)
        try:
            found = _receive(url, part)
            part.close()
            if found != md5:
                raise _WrongChecksum(f"MD5 {found}, expected {md5}")
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)


def _receive(url: str, part: IO[bytes]) -> str:
    """Write what the server sends; its MD5."""
    digest, received, told = hashlib.md5(usedforsecurity=False), 0, 0
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(DOWNLOAD_PIECE):
            part.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            if total and received * 10 // total > told:
                told = received * 10 // total
                logger.info("%d %% of %.0f MiB", told * 10, total / 2**20)
    return digest.hexdigest()
