"""Arrays in files: npz, npy, pt, safetensors. Mapped from disk where the format allows it; nothing is unpickled."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.data.canonical import layouts
from memgen_eval.data.images import IN_MEMORY, Images
from memgen_eval.data.messages import listed, one_line, place
from memgen_eval.data.scratch import scratch
from memgen_eval.data.tensors import TensorRows
from memgen_eval.errors import InputError

USUAL_NAMES = ("arr_0", "images", "samples")
STATISTICS = frozenset(("mu", "sigma", "mu_s", "sigma_s"))
CHUNK = 2**22


@dataclass(frozen=True)
class Entry:
    """An array of a file by its header: its shape, its type in words, and how to read it."""

    shape: tuple[int, ...]
    dtype: str
    is_object: bool
    read: Callable[[], Any]

    @property
    def is_image_shaped(self) -> bool:
        """Whether it could be a set of images."""
        return not self.is_object and 0 not in self.shape and bool(layouts(self.shape))


def read_npy(path: Path, *, argument: str) -> Images:
    """An array file, mapped: none of it is read until its images are."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OverflowError) as error:
        if "Python objects" in str(error):
            raise InputError(
                f"{place(argument, path)}: holds Python objects, which are never unpickled; save an array of numbers"
            ) from error
        raise InputError(f"{place(argument, path)}: no readable .npy file ({one_line(error)})") from error
    return Images(array, form="npy", path=str(path))


def read_npz(path: Path, *, argument: str) -> Images:
    """The images of an npz archive: `arr_0`, or the only array of an image's shape. Members of objects are left alone.

    What `numpy.savez` wrote is mapped from disk after its checksum was found right; what `savez_compressed` wrote is
    unpacked into memory, or beyond 512 MiB into a temporary file.
    """
    label = place(argument, path)
    with _readable(label, "npz archive"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        entries = {info.filename.removesuffix(".npy"): _npz_entry(path, archive, info, label) for info in members}
        name, notes = choose(entries, label)
        array = entries[name].read()
    return Images(array, form="npz", path=str(path), notes=notes)


def read_pt(path: Path, *, argument: str) -> Images:
    """A tensor saved by torch, or the images among several; read with ``weights_only=True``, which runs no code."""
    import pickle
    import warnings

    import torch

    label = place(argument, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols and storage types: the file is what it is
            mapped = zipfile.is_zipfile(path)
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{label}: holds more than tensors, and is not unpickled; save the tensor of images alone (torch.save)"
        ) from error
    except (RuntimeError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError, OSError) as error:
        raise InputError(f"{label}: no readable file of torch.save ({one_line(error)})") from error
    if not isinstance(found, Mapping | list | tuple):
        found = {"the tensor": found}
    items = found.items() if isinstance(found, Mapping) else enumerate(found)
    entries = {str(name): _tensor_entry(value) for name, value in items if isinstance(value, torch.Tensor)}
    name, notes = choose(entries, label)
    return Images(entries[name].read(), form="pt", path=str(path), notes=notes)


def read_safetensors(path: Path, *, argument: str) -> Images:
    """The images of a safetensors file: `arr_0`, `images` or `samples`, or the only tensor of an image's shape."""
    from safetensors import SafetensorError, safe_open

    label = place(argument, path)
    try:
        with safe_open(path, framework="pt") as file:
            entries = {}
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                header = file.get_slice(name)
                shape, dtype = tuple(header.get_shape()), str(header.get_dtype())
                entries[name] = Entry(shape, dtype, False, partial(file.get_tensor, name))
            name, notes = choose(entries, label)
            tensor = entries[name].read()
    except SafetensorError as error:
        raise InputError(f"{label}: no readable safetensors file ({one_line(error)})") from error
    return Images(TensorRows(tensor), form="safetensors", path=str(path), notes=notes)


def choose(entries: Mapping[str, Entry], label: str) -> tuple[str, tuple[str, ...]]:
    """Which of the arrays of a file holds the images, and a note if it had to be found.

    Raises
    ------
    InputError
        If none can, or several could; the message lists names and shapes.
    """
    contents = listed([f"{name} {entry.dtype} {entry.shape}" for name, entry in entries.items()]) or "nothing"
    if not entries.keys() - STATISTICS and "mu" in entries:
        raise InputError(f"{label}: holds statistics alone ({contents}); expected the images themselves")
    candidates = [name for name, entry in entries.items() if entry.is_image_shaped]
    if len(entries) == 1 or ("arr_0" in entries and not entries["arr_0"].is_object):
        only = "arr_0" if "arr_0" in entries else next(iter(entries))
        if entries[only].is_object:
            raise InputError(f"{label}: holds Python objects ({contents}), which are never unpickled; save an array")
        if only in candidates:
            return only, ()
        candidates = []
    usual = [name for name in candidates if name in USUAL_NAMES]
    found = candidates if len(candidates) == 1 else usual
    if len(found) != 1:
        problem = "several arrays could be the images" if candidates else "no set of images"
        raise InputError(
            f"{label}: {problem} ({contents}); expected arr_0 or one array of (N, H, W), (N, C, H, W) or (N, H, W, C) "
            "with C = 1 or 3"
        )
    others = listed([name for name in entries if name != found[0]])
    return found[0], (f"read {found[0]}, not {others}",)


@contextmanager
def _readable(label: str, what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError) as error:
        raise InputError(f"{label}: no readable {what} ({one_line(error)}); it may be cut: write it again") from error
    except RuntimeError as error:  # what zipfile raises for a password
        raise InputError(f"{label}: no readable {what} ({one_line(error)})") from error


def _npz_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Entry:
    with archive.open(info) as member:
        shape, fortran, dtype = _npy_header(member)
        start = member.tell()
    is_object = dtype.hasobject
    num_bytes = prod(shape) * dtype.itemsize
    if not is_object and start + num_bytes != info.file_size:
        raise InputError(
            f"{label}: {info.filename} promises {num_bytes} bytes and holds {info.file_size - start}; write it again"
        )

    def read() -> NDArray[Any]:
        if info.compress_type == zipfile.ZIP_STORED and num_bytes:
            return _mapped(path, archive, info, start, dtype, shape, "F" if fortran else "C")
        if num_bytes > IN_MEMORY:
            flat = _unpacked(archive, info, start, dtype, num_bytes, label)
            return flat.reshape(shape, order="F" if fortran else "C")
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    return Entry(shape, str(dtype), is_object, read)


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def _mapped(
    path: Path,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    start: int,
    dtype: np.dtype[Any],
    shape: Sequence[int],
    order: Any,
) -> NDArray[Any]:
    with archive.open(info) as member:  # to its end: zipfile compares the checksum there
        while member.read(CHUNK):
            pass
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    offset = info.header_offset + 30 + name_length + extra_length + start
    return np.memmap(path, mode="r", dtype=dtype, shape=tuple(shape), order=order, offset=offset)


def _unpacked(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, start: int, dtype: np.dtype[Any], num_bytes: int, label: str
) -> NDArray[Any]:
    """The values of a large compressed member, flat, unpacked piece by piece to a temporary file."""
    whole = scratch((num_bytes,), np.dtype(np.uint8), label=f"{label}: {info.filename}")
    filled = 0
    with archive.open(info) as member:
        member.read(start)
        while piece := member.read(CHUNK):
            whole[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
            filled += len(piece)
    return whole.view(dtype)


def _tensor_entry(tensor: Any) -> Entry:
    return Entry(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), False, lambda: TensorRows(tensor))
