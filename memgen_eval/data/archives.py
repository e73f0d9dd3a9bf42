"""Folders and zip archives of image files: listed in code-point order, surveyed by their headers, decoded in blocks."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data import pictures
from memgen_eval.data.files import members_of, stamp_of, stamp_of_file
from memgen_eval.data.images import Images, Shape
from memgen_eval.errors import InputError, listed, place, quoted, reading

LARGEST_MEMBER = 2**27  # bytes of an unpacked image file: what claims more is a bomb


class Store(Protocol):
    """Where the bytes of image files lie."""

    def open(self, name: str) -> IO[bytes]:
        """The file of this relative path, to be read."""
        ...


@dataclass(frozen=True)
class Folder:
    """Image files below a folder."""

    root: Path

    def open(self, name: str) -> IO[bytes]:
        """The file of this relative path."""
        return (self.root / name).open("rb")


@dataclass(frozen=True)
class Zip:
    """Image files inside a zip archive; their paths serve as names alone, nothing is unpacked to disk."""

    archive: zipfile.ZipFile

    def open(self, name: str) -> IO[bytes]:
        """The member of this name, unpacked: its checksum is compared, and seeking back costs nothing."""
        return BytesIO(self.archive.read(name))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Image files as rows, decoded when they are read: (N, H, W) if all are grey, else (N, H, W, 3)."""

    store: Store
    files: Sequence[str]
    shape: tuple[int, ...]
    label: Callable[[str], str]
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
        with _decoding(self.label(name)), self.store.open(name) as file:
            image = pictures.decode(file, self.label(name))
        if image.shape[:2] != self.shape[1:3] or image.ndim >= len(self.shape):
            raise InputError(f"{self.label(name)}: changed while it was being read; try again")
        return image


@dataclass(frozen=True)
class Listing:
    """The image files found, in code-point order, and what was passed over."""

    files: Sequence[str]
    hidden: int
    others: Sequence[str]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over, as notes."""
        notes = []
        if self.hidden:
            notes.append(f"passed over: {self.hidden} hidden files or folders")
        if self.others:
            shown = listed([quoted(name) for name in self.others], 4)
            notes.append(f"passed over: {len(self.others)} files that are not images: {shown}")
        return tuple(notes)


def read_folder(path: Path, *, argument: str, like: Shape | None) -> Images:
    """The images below a folder, class folders included; hidden files and folders are passed over.

    FIFOs, sockets and devices are never opened: they count among the files that are not images.
    """
    files, special, hidden = _walk(path)
    store = Folder(path)
    listing = _sort_out(files, special, hidden, store)
    stamp = stamp_of(place(argument, path), path, listing.files)
    return replace(_read(store, listing, path, argument=argument, like=like, form="folder"), stamp=stamp)


def read_zip(path: Path, *, argument: str, like: Shape | None) -> Images:
    """The images inside a zip archive, under the same rules as those of a folder."""
    label = place(argument, path)
    stamp = stamp_of_file(label, path)
    archive = zipfile.ZipFile(path)
    members = members_of(archive, label)
    for info in members:
        if info.file_size > LARGEST_MEMBER:
            size = f"{info.file_size / 2**20:.0f} MiB"
            raise InputError(f"{_inside(argument, path, info.filename)}: {size} unpacked; no image file is as large")
    visible = [info.filename for info in members if not any(map(_is_hidden, info.filename.split("/")))]
    store = Zip(archive)
    listing = _sort_out(visible, [], len(members) - len(visible), store)
    return replace(_read(store, listing, path, argument=argument, like=like, form="zip"), stamp=stamp)


def _inside(argument: str, path: Path, name: str) -> str:
    return place(argument, f"{path}/{name}")


def _decoding(label: str) -> AbstractContextManager[None]:
    return reading(label, "cannot be decoded", "replace the file or leave it out")


def _walk(root: Path) -> tuple[list[str], list[str], int]:
    """Relative paths of the visible files and of what only looks like one, and the number of hidden entries.

    Links are followed, but never in circles. A folder that cannot be listed raises the system's error, which names it.
    """
    found: list[str] = []
    special: list[str] = []
    hidden = 0
    entered: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        hidden += sum(_is_hidden(name) for name in (*folders, *files))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        below = Path(folder).relative_to(root)
        for name in (name for name in files if not _is_hidden(name)):
            (special if _is_special(Path(folder, name)) else found).append((below / name).as_posix())
    return found, special, hidden


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


def _sort_out(files: Iterable[str], special: Iterable[str], hidden: int, store: Store) -> Listing:
    """Images by their suffix, in any case; files without one by their first bytes."""
    images: list[str] = []
    others = list(special)
    for name in sorted(files):
        suffix = PurePosixPath(name).suffix.lower()
        (images if suffix in pictures.PICTURE_SUFFIXES or (not suffix and _sniff(store, name)) else others).append(name)
    return Listing(images, hidden, sorted(others))


def _sniff(store: Store, name: str) -> bool:
    try:
        with _decoding(name), store.open(name) as file:
            return pictures.looks_like_picture(file.read(16))
    except InputError:
        return False  # not an image that could be read: it is counted among the files passed over


def _read(store: Store, listing: Listing, path: Path, *, argument: str, like: Shape | None, form: str) -> Images:
    def label(name: str) -> str:
        return _inside(argument, path, name)

    if not listing.files:
        passed = "; ".join(listing.notes) or "it is empty"
        raise InputError(f"{place(argument, path)}: no image files ({passed}); expected .png, .jpg and the like")
    headers = _survey(store, listing.files, label)
    height, width = like[1:] if like is not None else _usual_size(headers)
    for name, header in zip(listing.files, headers, strict=True):
        if (header.height, header.width) != (height, width):
            raise InputError(
                f"{label(name)}: {header.height} x {header.width} pixels (H x W), expected {height} x {width} as "
                f"{'the training set' if like is not None else 'most files here'}; resize it or leave it out"
            )
    grey = _all_grey(headers, listing.files, label, like)
    shape = (len(headers), height, width) if grey else (len(headers), height, width, 3)
    rows = Pictures(store, listing.files, shape, label)
    for index, header in enumerate(headers):
        if not header.whole:
            rows[index : index + 1]  # names it now, if it is cut, and not after hours
    return Images(
        rows,
        names=[_printable(name) for name in listing.files],
        form=form,
        path=str(path),
        notes=(*listing.notes, *_survey_notes(headers, grey)),
    )


def _survey(store: Store, files: Sequence[str], label: Callable[[str], str]) -> list[pictures.Header]:
    headers = []
    with pictures.strict_pillow():
        for name in files:
            with _decoding(label(name)), store.open(name) as file:
                headers.append(pictures.peek(file, label(name)))
    return headers


def _usual_size(headers: Sequence[pictures.Header]) -> tuple[int, int]:
    return Counter((header.height, header.width) for header in headers).most_common(1)[0][0]


def _all_grey(
    headers: Sequence[pictures.Header], files: Sequence[str], label: Callable[[str], str], like: Shape | None
) -> bool:
    """Whether the set is read as grey: if every file is, unless the training set has colours."""
    coloured = next((name for name, header in zip(files, headers, strict=True) if not header.grey), None)
    if like is None:
        return coloured is None
    if like[0] == 1 and coloured is not None:
        raise InputError(f"{label(coloured)}: a colour image, expected grey as the training set; convert it to grey")
    return like[0] == 1


def _survey_notes(headers: Sequence[pictures.Header], grey: bool) -> Iterable[str]:
    greys = sum(header.grey for header in headers)
    if not grey and greys:
        yield f"{greys} grey images read as RGB"
    if alphas := sum(header.alpha for header in headers):
        yield f"{alphas} images with an opaque alpha channel, which was dropped"
    if turned := sum(header.turned for header in headers):
        yield f"{turned} images read as stored, although their EXIF orientation asks viewers to turn them"
    if moving := sum(header.animated for header in headers):
        yield f"{moving} animated images or stacks, of which the first picture was read"


def _printable(name: str) -> str:
    """The name as text that UTF-8 can hold, whatever bytes the file system gave."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
