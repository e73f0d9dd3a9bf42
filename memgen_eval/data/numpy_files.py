"""Numpy's own files, npy and npz: read into memory up to 512 MiB, mapped beyond. Nothing is unpickled."""

from __future__ import annotations

import struct
import warnings
import zipfile
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.arrays import Entry, read_images
from memgen_eval.data.images import IN_MEMORY, Images, room
from memgen_eval.data.messages import place, quoted
from memgen_eval.data.stamps import stamp_of_file
from memgen_eval.data.zips import CHUNK, check_member, members_of
from memgen_eval.errors import InputError

PREFIX = 8  # bytes before the length of a header: the magic string and the version
LONGEST_HEADER = 2**16  # bytes; numpy itself parses no more than 10,000


def read_npy(path: Path, *, argument: str) -> Images:
    """An array file. Raises InputError if it holds objects, or fewer or more bytes than its header says."""
    label = place(argument, path)
    stamp = stamp_of_file(label, path)
    with path.open("rb") as file:
        header = _header(file)
        if header.dtype.hasobject:
            raise InputError(f"{label}: holds Python objects, which are never unpickled; save an array of numbers")
        _check_size(header, path.stat().st_size, label)
        mapped = header.num_bytes > IN_MEMORY
        array = _mapped(path, header, offset=0) if mapped else _filled(file, header, label)
    stamp.check()
    return Images(array, form="npy", path=str(path), stamp=stamp if mapped else None)


def read_npz(path: Path, *, argument: str) -> Images:
    """The images of an npz archive: `arr_0`, or the only array of an image's shape. Members of objects are left alone.

    Each array is compared with its checksum. Beyond 512 MiB, what `numpy.savez` wrote is mapped from disk, and what
    `savez_compressed` wrote is unpacked into a temporary file.
    """
    label = place(argument, path)
    stamp = stamp_of_file(label, path)
    with zipfile.ZipFile(path) as archive:
        members = [info for info in members_of(archive, label) if info.filename.endswith(".npy")]
        entries = {info.filename.removesuffix(".npy"): _npz_entry(path, archive, info, label) for info in members}
        array, notes = read_images(entries, label)
    stamp.check()
    return Images(array, form="npz", path=str(path), notes=notes, stamp=stamp if _is_mapped(array) else None)


@dataclass(frozen=True)
class Header:
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int  # the position of the first value

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return prod(self.shape) * self.dtype.itemsize


def _header(file: IO[bytes]) -> Header:
    """The header at the beginning of a file: its length is looked at before it is read."""
    start = file.read(PREFIX)
    version = np.lib.format.read_magic(BytesIO(start))
    form = "<H" if version == (1, 0) else "<I"
    length = file.read(struct.calcsize(form))
    (num_bytes,) = struct.unpack(form, length)
    if num_bytes > LONGEST_HEADER:
        raise ValueError(f"a header of {num_bytes} bytes")
    text = BytesIO(length + file.read(num_bytes))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote: they are read right
        shape, fortran, dtype = read(text)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return Header(shape, fortran, dtype, PREFIX + len(length) + num_bytes)


def _check_size(header: Header, file_size: int, label: str) -> None:
    if header.start + header.num_bytes != file_size:
        raise InputError(
            f"{label}: the header says {header.num_bytes} bytes of values, the file holds {file_size - header.start}; "
            "write it again"
        )


def _npz_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Entry:
    named = f"{label}, {quoted(info.filename)}"
    with archive.open(info) as member:
        header = _header(member)
    is_object = header.dtype.hasobject
    if not is_object:
        _check_size(header, info.file_size, named)

    def read() -> NDArray[Any]:
        if info.compress_type == zipfile.ZIP_STORED and header.num_bytes > IN_MEMORY:
            check_member(archive, info)
            return _mapped(path, header, offset=_position(path, info))
        with archive.open(info) as member:
            member.read(header.start)
            return _filled(member, header, named)

    return Entry(header.shape, str(header.dtype), is_object, read)


def _filled(file: IO[bytes], header: Header, label: str) -> NDArray[Any]:
    """The values that follow a header, read to the end of the file: zipfile compares the checksum there."""
    flat = room((header.num_bytes,), np.dtype(np.uint8), label=label)
    filled = 0
    while piece := file.read(CHUNK):
        flat[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if filled != header.num_bytes:
        raise InputError(f"{label}: ended {header.num_bytes - filled} bytes early; write it again")
    if not filled:
        return np.empty(header.shape, header.dtype)
    return flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _mapped(path: Path, header: Header, *, offset: int) -> NDArray[Any]:
    order: Any = "F" if header.fortran else "C"
    return np.memmap(path, mode="r", dtype=header.dtype, shape=header.shape, order=order, offset=offset + header.start)


def _position(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name_length) + int(extra_length)


def _is_mapped(array: Any) -> bool:
    return isinstance(array, np.memmap) and array.filename is not None
