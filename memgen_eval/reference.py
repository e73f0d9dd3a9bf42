"""The training set and its held-out images, and what can be kept of them over many evaluations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from memgen_eval.data import batches
from memgen_eval.data.datasets import is_known, test_split
from memgen_eval.data.images import Images, ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.data.tensors import TensorRows, is_tensor, to_numpy

Kept = TypeVar("Kept")
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Reference:
    """A training set and its test set, kept over many evaluations.

    Pass it as ``train=`` instead of the set itself: what rests on the training set alone (its reading, the baseline's
    neighbours, moments, cells) is then computed once. Everything is computed anew once the images have changed
    (`memgen_eval.reference`), and features once the extractor has.

    Parameters
    ----------
    train : path, known name, array, Images, Dataset or iterable
        The training images, all of them.
    test : the same, or None
        Held-out images; a known name of `train` brings its own.
    data_dir : path, optional
        Where named sets lie.
    """

    train: object
    test: object | None = None
    data_dir: str | Path | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def keep(self, key: Hashable, compute: Callable[[], Kept], *, bound_to: Hashable = None) -> Kept:
        """The value kept under `key`, computed the first time, and again where it was bound to something else."""
        if key not in self._kept or self._kept[key][0] != bound_to:
            self._kept[key] = bound_to, compute()
        value: Kept = self._kept[key][1]
        return value

    def renew(self) -> None:
        """Forget everything if the training or test images have changed since."""
        content = content_of(self.train), content_of(self.test)
        if self._kept.setdefault("content", (None, content))[1] != content:
            self._kept.clear()
        self._kept["content"] = None, content

    @property
    def num_kept(self) -> int:
        """How many things are kept by now."""
        return len(self._kept)

    def train_set(self, *, quantize: bool) -> ImageSet:
        """The training images in canonical form."""
        return self.keep(
            ("train", quantize),
            lambda: load_images(self.train, argument="train", quantize=quantize, data_dir=self.data_dir),
        )

    def test_set(self, *, quantize: bool) -> ImageSet | None:
        """The test images in canonical form, of the training images' shape; None without any."""
        source = self.test if self.test is not None else _own_test_split(self.train)
        if source is None:
            return None
        like = self.train_set(quantize=quantize).shape
        return self.keep(
            ("test", quantize),
            lambda: load_images(source, argument="test", like=like, quantize=quantize, data_dir=self.data_dir),
        )


def _own_test_split(train: object) -> str | None:
    return test_split(train) if isinstance(train, str) and is_known(train) else None


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
