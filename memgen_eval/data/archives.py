"""Folders and zip archives of image files: listed in code-point order, surveyed by their headers, decoded in blocks."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data import pictures
from memgen_eval.data.files import members_of, stamp_of
from memgen_eval.data.images import Expected, Images, Shape
from memgen_eval.errors import InputError, listed, place, quoted, reading, shape_text

LARGEST_MEMBER = 2**27  # bytes of an unpacked image file: what claims more is a bomb


@dataclass(frozen=True, eq=False)
class Store:
    """A folder of image files, or a zip archive of them: how they are opened, and what messages call them."""

    path: Path
    argument: str
    bytes_of: Callable[[str], IO[bytes]]

    def label(self, name: str) -> str:
        """What messages about the file of this relative path begin with."""
        return place(self.argument, f"{self.path}/{name}")

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """The file of this relative path; whatever is raised while it is read becomes an InputError that names it."""
        named = reading(self.label(name), "cannot be decoded", "replace the file or leave it out")
        with named, self.bytes_of(name) as file:
            yield file


@dataclass(frozen=True, eq=False)
class Pictures:
    """Image files as rows, decoded when they are read: (N, H, W) if all are grey, else (N, H, W, 3)."""

    store: Store
    files: Sequence[str]
    shape: tuple[int, ...]
    dtype = np.dtype(np.uint8)

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        files = [self.files[i] for i in np.arange(len(self.files))[key]]
        block = np.empty((len(files), *self.shape[1:]), dtype=np.uint8)
        with pictures.strict_pillow():
            for row, name in zip(block, files, strict=True):
                image = self._decode(name)
                row[...] = image[..., None] if image.ndim < row.ndim else image
        return block

    def _decode(self, name: str) -> NDArray[np.uint8]:
        label = self.store.label(name)
        with self.store.open(name) as file:
            image = pictures.decode(file, label)
        if image.shape[:2] != self.shape[1:3] or image.ndim >= len(self.shape):
            raise InputError(f"{label}: changed while it was being read; try again")
        return image


def read_folder(path: Path, expected: Expected) -> Images:
    """The images below a folder, class folders included; hidden files and folders are passed over.

    FIFOs, sockets and devices are never opened: they count among the files that are not images.
    """
    store = Store(path, expected.argument, lambda name: _opened(path / name))
    found = _walk(path)
    files, notes = _sort_out(store, found.files, found.special, found.hidden)
    if found.outside:
        notes = (*notes, f"{found.outside} files lie outside the folder, by links")
    stamp = stamp_of(place(expected.argument, path), path, files)
    return replace(_read(store, files, notes, expected.like), form="folder", stamp=stamp)


def read_zip(path: Path, expected: Expected) -> Images:
    """The images inside a zip archive, under the same rules as those of a folder.

    Their paths serve as names alone, nothing is unpacked to disk. A member is unpacked as a whole: its checksum is
    compared, and seeking back costs nothing.
    """
    archive = zipfile.ZipFile(path)
    store = Store(path, expected.argument, lambda name: BytesIO(archive.read(name)))
    members = members_of(archive, place(expected.argument, path))
    for info in members:
        if info.file_size > LARGEST_MEMBER:
            size = f"{info.file_size / 2**20:.0f} MiB"
            raise InputError(f"{store.label(info.filename)}: {size} unpacked; no image file is as large")
    visible = [info.filename for info in members if not any(map(_is_hidden, info.filename.split("/")))]
    files, notes = _sort_out(store, visible, [], len(members) - len(visible))
    return replace(_read(store, files, notes, expected.like), form="zip")


def _opened(path: Path) -> IO[bytes]:
    """A file of a folder.

    An empty one is not an image; one of the kernel's looks empty too, and reading it may wait for ever.
    """
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    return path.open("rb")


@dataclass
class _Found:
    """Relative paths of visible files and of what only looks like one; how many are hidden, and how many elsewhere."""

    files: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    hidden: int = 0
    outside: int = 0


def _walk(root: Path) -> _Found:
    """What lies below a folder.

    Links are followed, but never in circles. A folder that cannot be listed raises the system's error, which names it.
    """
    found, real = _Found(), os.path.realpath(root)
    entered: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        found.hidden += sum(_is_hidden(name) for name in (*folders, *files))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        below, is_outside = Path(folder).relative_to(root), _is_outside(folder, real)
        for name in (name for name in files if not _is_hidden(name)):
            path = Path(folder, name)
            (found.special if _is_special(path) else found.files).append((below / name).as_posix())
            found.outside += _is_outside(path, real) if path.is_symlink() else is_outside
    return found


def _is_outside(path: str | Path, root: str) -> bool:
    """Whether a path leads out of a folder by links."""
    real = os.path.realpath(path)
    return real != root and not real.startswith(root.rstrip(os.sep) + os.sep)


def _raise(error: OSError) -> None:
    raise error


def _is_special(path: Path) -> bool:
    """Whether it is a FIFO, a socket or a device, which nobody may open to see what it holds."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # the reader will say by name what is wrong with it


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name not in (".", "..")) or name == "__MACOSX"


def _sort_out(
    store: Store, found: Sequence[str], special: Sequence[str], hidden: int
) -> tuple[list[str], tuple[str, ...]]:
    """The images, in code-point order, by their suffix in any case or else by their first bytes; notes on the rest."""
    images: list[str] = []
    others = list(special)
    for name in sorted(found):
        suffix = PurePosixPath(name).suffix.lower()
        (images if suffix in pictures.PICTURE_SUFFIXES or (not suffix and _sniff(store, name)) else others).append(name)
    notes = [f"passed over: {hidden} hidden files or folders"] if hidden else []
    if others:
        shown = listed([quoted(name) for name in sorted(others)], 4)
        notes.append(f"passed over: {len(others)} files that are not images: {shown}")
    if not images:
        passed = "; ".join(notes) or "it is empty"
        where = place(store.argument, store.path)
        raise InputError(f"{where}: no image files ({passed}); expected .png, .jpg and the like")
    return images, tuple(notes)


def _sniff(store: Store, name: str) -> bool:
    try:
        with store.open(name) as file:
            return pictures.looks_like_picture(file.read(16))
    except InputError:
        return False  # not an image that could be read: it is counted among the files passed over


def _read(store: Store, files: Sequence[str], notes: tuple[str, ...], like: Shape | None) -> Images:
    headers: dict[str, pictures.Header] = {}
    with pictures.strict_pillow():
        for name in files:
            with store.open(name) as file:
                headers[name] = pictures.peek(file, store.label(name))
    usual = Counter(header.size for header in headers.values()).most_common(1)[0][0]
    height, width = usual if like is None else like[1:]
    for name, header in headers.items():
        if header.size != (height, width):
            raise InputError(
                f"{store.label(name)}: {shape_text(header.size)} pixels (H x W), expected {height} x {width} as "
                f"{'most files here' if like is None else 'the training set'}; resize it or leave it out"
            )
    coloured = [name for name, header in headers.items() if not header.grey]
    if coloured and like is not None and like[0] == 1:
        raise InputError(
            f"{store.label(coloured[0])}: a colour image, expected grey as the training set; convert it to grey"
        )
    grey = not coloured if like is None else like[0] == 1
    rows = Pictures(store, files, (len(files), height, width) if grey else (len(files), height, width, 3))
    for index, header in enumerate(headers.values()):
        if not header.whole:
            rows[index : index + 1]  # names it now, if it is cut, and not after hours
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in files]  # that can be shown
    return Images(rows, names=names, notes=(*notes, *_survey_notes(list(headers.values()), grey)))


def _survey_notes(headers: Sequence[pictures.Header], grey: bool) -> Iterator[str]:
    greys = sum(header.grey for header in headers)
    if not grey and greys:
        yield f"{greys} grey images read as RGB"
    if alphas := sum(header.alpha for header in headers):
        yield f"{alphas} images with an opaque alpha channel, which was dropped"
    if turned := sum(header.turned for header in headers):
        yield f"{turned} images read as stored, although their EXIF orientation asks viewers to turn them"
    if moving := sum(header.animated for header in headers):
        yield f"{moving} animated images or stacks, of which the first picture was read"
