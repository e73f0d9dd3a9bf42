"""Numpy's files, npy and npz, read up to 512 MiB and mapped beyond; and which array of a file is the images.

Nothing is unpickled.
"""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.canonical import layouts
from memgen_eval.data.files import MEMBER_PIECE, Stamp, check_member, members_of
from memgen_eval.data.images import IN_MEMORY, Images, Rows, room
from memgen_eval.errors import InputError, listed, quoted

USUAL_NAMES = ("arr_0", "images", "samples")
STATISTICS = frozenset(("mu", "sigma", "mu_s", "sigma_s"))
NUMBERED = re.compile(r"(?:arr_)?(\d+)", re.ASCII)  # what numpy.savez and the items of a list are called
PREFIX = 8  # bytes before the length of a header: the magic string and the version
LONGEST_ARRAY_HEADER = 2**16  # bytes; numpy itself parses no more than 10,000


@dataclass(frozen=True)
class Entry:
    """An array of a file by its header: its shape, its type in words, and how to read it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Rows]
    is_object: bool = False


def read_images(entries: Mapping[str, Entry], label: str) -> tuple[Rows, tuple[str, ...]]:
    """The images among the arrays of a file, and a note if they had to be found or are joined.

    `arr_0` or the only array; else the one with a usual name or with the shape of images. Numbered arrays of one kind,
    as ``numpy.savez(file, *batches)`` and lists of tensors have them, are all of them images.

    Raises
    ------
    InputError
        If none can be the images, or several could; the message lists names and shapes.
    """
    contents = listed([f"{name} {entry.dtype} {entry.shape}" for name, entry in entries.items()]) or "nothing"
    if not entries.keys() - STATISTICS and "mu" in entries:
        raise InputError(f"{label}: holds statistics alone ({contents}); expected the images themselves")
    filled = [name for name, entry in entries.items() if 0 not in entry.shape and not entry.is_object]
    candidates = [name for name in filled if layouts(entries[name].shape)]
    numbered = [name for name in candidates if NUMBERED.fullmatch(name)]
    only = _only(entries)
    if only is None:
        found = [name for name in candidates if name in USUAL_NAMES] or candidates
    elif entries[only].is_object:
        raise InputError(f"{label}: holds Python objects ({contents}), which are never unpickled; save an array")
    else:
        found = numbered if only in numbered else [name for name in candidates if name == only]
    if len(found) == 1:
        others = listed([name for name in entries if name != found[0]])
        return entries[found[0]].read(), () if found[0] == only else (f"read {found[0]}, not {others}",)
    if found and set(found) <= set(numbered) and _are_alike([entries[name] for name in found]):
        found.sort(key=lambda name: int(name.removeprefix("arr_")))
        note = f"joined {found[0]} to {found[-1]}: {len(found)} arrays"
        return _joined([entries[name] for name in found], label), (note,)
    problem = "several arrays could be the images" if found else "holds no array of images"
    raise InputError(
        f"{label}: {problem} ({contents}); expected arr_0 or one array of (N, H, W), (N, C, H, W) or (N, H, W, C) "
        "with C = 1 or 3"
    )


def _only(entries: Mapping[str, Entry]) -> str | None:
    """The array that is read whatever others there are."""
    if "arr_0" in entries and (len(entries) == 1 or not entries["arr_0"].is_object):
        return "arr_0"
    return next(iter(entries)) if len(entries) == 1 else None


def _are_alike(entries: Sequence[Entry]) -> bool:
    """Whether arrays are batches of one set: one type, one shape of image, and none that could be a single image."""
    kinds = {(entry.dtype, entry.shape[1:]) for entry in entries}
    single = (len(entry.shape) == 3 and {entry.shape[0], entry.shape[2]} & {1, 3} for entry in entries)
    return len(kinds) == 1 and not any(single)


def _joined(entries: Sequence[Entry], label: str) -> NDArray[Any]:
    """The images of all arrays in one."""
    whole: NDArray[Any] = np.empty(0)
    filled = 0
    for entry in entries:
        rows = np.asarray(entry.read()[:])
        if not filled:
            whole = room((sum(entry.shape[0] for entry in entries), *rows.shape[1:]), rows.dtype, label=label)
        whole[filled : filled + len(rows)] = rows
        filled += len(rows)
    return whole


def read_npy(path: Path, stamp: Stamp) -> Images:
    """An array file. Raises InputError if it holds objects, or fewer or more bytes than its header says."""
    label = stamp.label
    with path.open("rb") as file:
        header = _header(file, path.stat().st_size, label)
        if header.dtype.hasobject:
            raise InputError(f"{label}: holds Python objects, which are never unpickled; save an array of numbers")
        if header.num_bytes > IN_MEMORY:
            return Images(_mapped(path, header), form="npy", stamp=stamp)
        return Images(_filled(file, header, label), form="npy")


def read_npz(path: Path, stamp: Stamp) -> Images:
    """The images of an npz archive: `arr_0`, or the only array of an image's shape. Members of objects are left alone.

    Each array is compared with its checksum. Beyond 512 MiB, what `numpy.savez` wrote is mapped from disk, and what
    `savez_compressed` wrote is unpacked once.
    """
    with zipfile.ZipFile(path) as archive:
        members = [info for info in members_of(archive, stamp.label) if info.filename.endswith(".npy")]
        entries = {info.filename.removesuffix(".npy"): _npz_entry(path, archive, info, stamp.label) for info in members}
        array, notes = read_images(entries, stamp.label)
    is_mapped = isinstance(array, np.memmap) and array.filename is not None
    return Images(array, form="npz", notes=notes, stamp=stamp if is_mapped else None)


@dataclass(frozen=True)
class ArrayHeader:
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int  # the position of the first value

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return prod(self.shape) * self.dtype.itemsize


def _header(file: IO[bytes], size: int, label: str) -> ArrayHeader:
    """The header at the beginning of a file of this many bytes: its length is looked at before it is read.

    Raises InputError if the file has fewer or more bytes than the header says; of objects it cannot say how many.
    """
    start = file.read(PREFIX)
    version = np.lib.format.read_magic(BytesIO(start))
    form = "<H" if version == (1, 0) else "<I"
    length = file.read(struct.calcsize(form))
    (num_bytes,) = struct.unpack(form, length)
    if num_bytes > LONGEST_ARRAY_HEADER:
        raise ValueError(f"a header of {num_bytes} bytes")
    text = BytesIO(length + file.read(num_bytes))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote: they are read right
        shape, fortran, dtype = read(text)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    header = ArrayHeader(shape, fortran, dtype, PREFIX + len(length) + num_bytes)
    if header.start + header.num_bytes != size and not dtype.hasobject:
        raise InputError(
            f"{label}: the header says {header.num_bytes} bytes of values, the file holds {size - header.start}; "
            "write it again"
        )
    return header


def _npz_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Entry:
    named = f"{label}, {quoted(info.filename)}"
    with archive.open(info) as member:
        header = _header(member, info.file_size, named)

    def read() -> NDArray[Any]:
        if info.compress_type == zipfile.ZIP_STORED and header.num_bytes > IN_MEMORY:
            check_member(archive, info)
            return _mapped(path, header, _position(path, info))
        with archive.open(info) as member:
            member.read(header.start)
            return _filled(member, header, named)

    return Entry(header.shape, str(header.dtype), read, header.dtype.hasobject)


def _filled(file: IO[bytes], header: ArrayHeader, label: str) -> NDArray[Any]:
    """The values that follow a header, read to the end of the file: zipfile compares the checksum there."""
    flat = room((header.num_bytes,), np.dtype(np.uint8), label=label)
    filled = 0
    while piece := file.read(MEMBER_PIECE):
        flat[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if filled != header.num_bytes:
        raise InputError(f"{label}: ended {header.num_bytes - filled} bytes early; write it again")
    if not filled:
        return np.empty(header.shape, header.dtype)
    return flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _mapped(path: Path, header: ArrayHeader, offset: int = 0) -> NDArray[Any]:
    order: Any = "F" if header.fortran else "C"
    return np.memmap(path, mode="r", dtype=header.dtype, shape=header.shape, order=order, offset=offset + header.start)


def _position(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name_length) + int(extra_length)
