"""Tensors in files: what torch.save and safetensors write. No code of a file is run."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from memgen_eval.data import pickles
from memgen_eval.data.arrays import Entry, read_images
from memgen_eval.data.images import IN_MEMORY, Images, Rows
from memgen_eval.data.messages import place, quoted
from memgen_eval.data.stamps import stamp_of_file
from memgen_eval.data.tensors import TensorRows
from memgen_eval.data.zips import check_member, members_of
from memgen_eval.errors import InputError

ZIP_START = b"PK\x03\x04"  # by these bytes torch tells its newer files from its older ones
OLDER_PICKLES = 5  # at the beginning of an older file: a magic number, a version, the system, the object, its storages
LONGEST_HEADER = 2**24  # bytes of JSON in a safetensors file


def read_pt(path: Path, *, argument: str) -> Images:
    """A tensor saved by torch, or the images among several; read with ``weights_only=True``, which runs no code.

    Raises
    ------
    InputError
        If the file holds more than tensors, or if a checksum in it is wrong.
    """
    import torch

    label = place(argument, path)
    stamp = stamp_of_file(label, path)
    num_bytes = path.stat().st_size
    try:
        is_zip = _check_pickles(path, label)
        mapped = is_zip and num_bytes > IN_MEMORY
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols and storage types: the file is what it is
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{label}: holds more than tensors, and is not unpickled; save the tensor of images alone (torch.save)"
        ) from error
    entries = {name: _tensor_entry(tensor, num_bytes, label) for name, tensor in _tensors(found)}
    rows, notes = read_images(entries, label)
    stamp.check()
    return Images(rows, form="pt", path=str(path), notes=notes, stamp=stamp if mapped else None)


def read_safetensors(path: Path, *, argument: str) -> Images:
    """The images of a safetensors file: `arr_0`, `images` or `samples`, or the only tensor of an image's shape."""
    from safetensors import safe_open

    label = place(argument, path)
    stamp = stamp_of_file(label, path)
    num_bytes = path.stat().st_size
    check_header(path)
    in_memory = num_bytes <= IN_MEMORY

    def read(file: Any, name: str) -> Rows:
        tensor = file.get_tensor(name)
        return TensorRows(tensor.clone() if in_memory else tensor)

    with safe_open(path, framework="pt") as file:
        entries = {}
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            header = file.get_slice(name)
            shape, dtype = tuple(header.get_shape()), str(header.get_dtype())
            entries[name] = Entry(shape, dtype, False, partial(read, file, name))
        rows, notes = read_images(entries, label)
    stamp.check()
    return Images(rows, form="safetensors", path=str(path), notes=notes, stamp=None if in_memory else stamp)


def check_header(path: Path) -> None:
    """Raise ValueError if a safetensors file gives its header a length that it does not have, or an absurd one."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > min(LONGEST_HEADER, path.stat().st_size - 8):
        raise ValueError(f"a header of {length} bytes")


def _check_pickles(path: Path, label: str) -> bool:
    """Whether a file is of torch's newer form, a zip; its checksums and its pickles are looked at first."""
    with path.open("rb") as file:
        start = file.read(OLDER_PICKLES * pickles.LARGEST)
    if not start.startswith(ZIP_START):
        stream = BytesIO(start)
        for _ in range(OLDER_PICKLES):
            pickles.check_pickle(stream)
        return False
    with zipfile.ZipFile(path) as archive:
        for info in members_of(archive, label):
            if info.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"{label}: {quoted(info.filename)} is compressed; save it again with torch.save")
            check_member(archive, info)
            if info.filename.endswith("/data.pkl"):
                pickles.check_pickle(BytesIO(archive.read(info)))
    return True


def _tensors(found: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of what was saved, by name, or by their place in a list."""
    import torch

    if not isinstance(found, Mapping | list | tuple):
        found = {"the tensor": found}
    for name, value in found.items() if isinstance(found, Mapping) else enumerate(found):
        if isinstance(value, torch.Tensor):
            yield str(name), value


def _tensor_entry(tensor: Any, num_bytes: int, label: str) -> Entry:
    shape = tuple(tensor.shape)
    if tensor.numel() * tensor.element_size() > num_bytes:
        raise InputError(
            f"{label}: a tensor of shape {shape} in a file of {num_bytes} bytes: it repeats itself; save its "
            "contiguous() form"
        )
    return Entry(shape, str(tensor.dtype).removeprefix("torch."), False, lambda: TensorRows(tensor))
