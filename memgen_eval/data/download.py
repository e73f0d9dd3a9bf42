"""One file from the web: with its checksum, with retries, and never left half-written under its own name."""

from __future__ import annotations

import hashlib
import http.client
import logging
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from memgen_eval.errors import InputError, one_line

logger = logging.getLogger(__name__)

CHUNK = 2**18
TIMEOUT = 30.0  # seconds without a byte


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
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(CHUNK):
            part.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            if total and received * 10 // total > told:
                told = received * 10 // total
                logger.info("%d %% of %.0f MiB", told * 10, total / 2**20)
    return digest.hexdigest()
