"""Features kept on disk: one .npy file for each set of images and network, mapped and never held as a whole."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.datasets import cache_folder
from memgen_eval.data.files import scratch
from memgen_eval.errors import InputError, one_line, quoted

log = logging.getLogger("memgen_eval")
HELD_BYTES = 2**26  # larger features lie in a temporary file
FORMAT = 1  # counts up when the same images, network and preparation give other features
Rows = NDArray[np.float32]


def feature_folder() -> Path:
    """Where features are kept: the environment's MEMGEN_CACHE, or `features` in the user's cache of this library."""
    named = os.environ.get("MEMGEN_CACHE")
    return Path(named) if named else cache_folder() / "features"


@dataclass(frozen=True)
class FeatureFile:
    """The file of one set's features, whether it exists or not."""

    path: Path

    @classmethod
    def of(cls, images_checksum: str, extractor_identity: str) -> FeatureFile:
        """The file for images and an extractor, by their checksums."""
        key = hashlib.sha256(f"{FORMAT} {images_checksum} {extractor_identity}".encode()).hexdigest()
        return cls(feature_folder() / f"{key}.npy")

    def read(self, num_images: int) -> Rows | None:
        """The features, mapped read-only; None where there are none, or where the file was damaged."""
        try:
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, EOFError) as error:
            log.warning("%s cannot be used (%s): features are computed again", quoted(self.path), one_line(error))
            return None
        whole = isinstance(rows, np.ndarray) and rows.ndim == 2 and len(rows) == num_images
        return np.asanyarray(rows, np.float32) if whole and rows.dtype == np.float32 and rows.shape[1] else None


class Sink:
    """Features on their way: into a file that appears when it is whole, into memory, or into a temporary file.

    Use it as a context: a file that was not finished is removed.
    """

    def __init__(self, kept: FeatureFile | None) -> None:
        self._kept = kept
        self._part: Path | None = None
        self._rows: Rows | None = None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *error: object) -> None:
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def write(self, start: int, rows: Rows, num_images: int) -> None:
        """Enter features (B, F) of the images from `start` on, of `num_images` in all."""
        if self._rows is None:
            self._rows = self._room((num_images, rows.shape[1]))
        self._rows[start : start + len(rows)] = rows

    def finish(self) -> Rows:
        """All features, (N, F), their file under its name."""
        assert self._rows is not None
        if self._kept is not None and self._part is not None:
            try:
                self._part.replace(self._kept.path)
            except OSError as error:
                log.warning("features are not kept in %s: %s", quoted(self._kept.path), one_line(error))
        return self._rows

    def _room(self, shape: tuple[int, int]) -> Rows:
        if self._kept is not None and _takes_files(self._kept.path.parent):
            try:
                return self._new_file(self._kept.path, shape)
            except OSError as error:
                log.warning("features are not kept in %s: %s", quoted(self._kept.path.parent), one_line(error))
                self._kept = None
        return feature_room(shape)

    def _new_file(self, path: Path, shape: tuple[int, int]) -> Rows:
        """A memory map of a hidden file beside `path`, all of its blocks taken: a full disk shows here, not later."""
        with NamedTemporaryFile(dir=path.parent, prefix=".memgen-eval-", suffix=".tmp", delete=False) as file:
            self._part = Path(file.name)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            offset = file.tell()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, offset + 4 * prod(shape))
            else:
                file.truncate(offset + 4 * prod(shape))
        return np.memmap(self._part, dtype=np.float32, mode="r+", offset=offset, shape=shape)


def feature_room(shape: tuple[int, ...]) -> Rows:
    """An array to be filled: in memory up to 64 MiB, beyond in a temporary file. Raises InputError if it has none."""
    if prod(shape) * 4 <= HELD_BYTES:
        return np.empty(shape, dtype=np.float32)
    try:
        return scratch(shape, np.dtype(np.float32), label="features")
    except InputError as error:
        size = f"features of {shape[0]:,} images take {prod(shape) * 4 / 2**30:.1f} GiB"
        raise InputError(f"{size}, which no temporary file could hold; set TMPDIR to a folder with room") from error


@cache
def _takes_files(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made too; warns once where they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return True
    except OSError as error:
        warnings.warn(
            f"features cannot be kept in {quoted(folder)} ({one_line(error)}); they are computed anew each time, "
            "set MEMGEN_CACHE to a folder that can be written to",
            stacklevel=2,
        )
        return False
