"""Whether a source still holds what it held: a checksum of its content that costs little beside reading it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from memgen_eval.data import batches
from memgen_eval.data.datasets import is_known
from memgen_eval.data.images import Images
from memgen_eval.data.tensors import TensorRows, is_tensor, to_numpy

ROWS_AT_ONCE = 4096


def content_of(source: object) -> str:
    """A checksum that changes with the content of a set of images.

    Of an array or tensor all values; of files size, time and inode; of a Dataset, or the one in a DataLoader, a few
    dozen items. Sets with a name never change, and what is read once, such as a generator, cannot.
    """
    digest = hashlib.sha256()
    _add(digest, source)
    return digest.hexdigest()


def _add(digest: Any, source: Any) -> None:
    if isinstance(source, Images):
        digest.update(str(source.value_range).encode())
        source = source.array
    if isinstance(source, str | os.PathLike):
        _add_files(digest, source)
    elif batches.is_array(source):
        rows: Any = TensorRows(source) if is_tensor(source) else to_numpy(source, label="array")
        digest.update(f"{rows.shape} {rows.dtype.str}".encode())
        for start in range(0, rows.shape[0] if rows.shape else 0, ROWS_AT_ONCE):
            digest.update(np.ascontiguousarray(rows[start : start + ROWS_AT_ONCE]).reshape(-1).view(np.uint8).data)
    else:
        found = batches.items_of(source, label="Dataset")
        read, num_items = found or (lambda _: np.empty(0), 0)
        for i in batches.few_items(num_items):
            digest.update(batches.value_bytes(read(i)))
        digest.update(str(num_items).encode())


def _add_files(digest: Any, text: str | os.PathLike[str]) -> None:
    path = Path(text)
    if is_known(text) or not path.exists():
        digest.update(os.fsencode(path))
        return
    inside = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else []
    for entry in [path, *sorted(inside)]:
        state = entry.stat()
        digest.update(f"{os.fspath(entry)!r} {state.st_size} {state.st_mtime_ns} {state.st_ino}".encode())
